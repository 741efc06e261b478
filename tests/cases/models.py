"""Parameters of large networks without the time to draw them."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc


def undrawn(net, shape, dtype=np.float32):
    """Return the parameters of a network with zeros, which take no memory, for what is drawn."""

    def nothing(key, shape=(), dtype=np.float32, *limits):
        return np.broadcast_to(np.zeros((), dtype), shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fc.random, "normal", nothing)
        patch.setattr(fc.random, "uniform", nothing)
        return net.init(fc.random.key(0), shape, dtype)
