"""The benchmarks' networks of torch.nn take the weights that fconv's begin with, and compute the same."""

import numpy as np
import pytest

import fconv as fc
from benchmarks import networks
from benchmarks.table import INFERENCE, SMALL_STEPS, STEPS

torch = pytest.importorskip("torch")

SHAPES = {case.network: (1, *case.shape[1:]) for case in [*STEPS, *SMALL_STEPS, *INFERENCE]}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_both_networks_of_a_benchmark_agree(name):
    shape = tuple(min(n, 64) if axis > 1 else n for axis, n in enumerate(SHAPES[name]))
    weights = networks.weights(name, shape)
    theirs = networks.in_torch(name, dropout=0.0).eval()
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=True)
    x = np.random.default_rng(0).random(shape, np.float32)
    ours = networks.in_fconv(name, dropout=0.0)
    params = fc.from_state_dict(ours.init(fc.random.key(0), shape), weights)
    with torch.inference_mode():
        np.testing.assert_allclose(ours.apply(params, x), theirs(torch.from_numpy(x)), rtol=1e-3, atol=1e-4)
