"""Data-parallel training on CuPy's arrays, which go through the host's memory where there is no NCCL."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv import distributed
from tests.distributed import runs
from tests.distributed.threads import on_ranks
from tests.test_device import device, here, is_there, there  # noqa: F401 - a fixture


@pytest.mark.parametrize("kind", ["all", "sync"])
def test_a_step_gives_what_the_cpu_gives(device, kind):  # noqa: F811
    net = runs.network(kind)
    x, target = runs.data(np.float64)
    x, target = x[:13], target[:13]
    params = net.init(fc.random.key(0), x.shape, np.float64)

    def step(comm, move):
        f = distributed.value_and_grad(
            net, fc.cross_entropy_loss(), comm, 4, metrics={"share": fc.metrics.accuracy}
        )
        return f(move(params), move(x), move(target), key=fc.random.key(5))

    loss, grads, refreshed, means = step(distributed.Communicator(), lambda tree: tree)
    (got, theirs, new, share), _ = on_ranks(2, lambda comm: step(comm, there))
    assert is_there(got)
    assert share == means
    np.testing.assert_allclose(float(here(got)), float(loss), rtol=1e-12)
    for before, after in ((grads, theirs), (refreshed, new)):
        for _, a, b in fc.trees.aligned(before, after):
            assert is_there(b)
            np.testing.assert_allclose(here(b), a, rtol=1e-9, atol=1e-12)
