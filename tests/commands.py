"""Parts that the tests of the command share."""

from __future__ import annotations

import numpy as np


def weights(dtype=np.float32):
    return {"module.a.weight": np.arange(6, dtype=dtype).reshape(2, 3), "module.a.bias": np.ones(2, dtype)}
