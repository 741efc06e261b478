"""Convolutions that take every path of the CPU engines, for the tests of several files."""

from contextlib import contextmanager

import numpy as np
import pytest

import fconv as fc
from fconv.engine import compiled, threads

CASES = {
    "direct": ((4, 24, 40, 40), (32, 24, 5, 5), {"padding": 2}),  # of several tiles, as the next
    "strided": ((4, 24, 81, 80), (64, 24, 3, 3), {"padding": 1, "stride": 2}),
    "winograd": ((6, 64, 30, 30), (64, 64, 3, 3), {"padding": 1}),
    "depthwise": ((4, 24, 30, 30), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
    "grouped": ((4, 24, 30, 30), (24, 4, 3, 3), {"padding": 1, "groups": 6}),
    "pointwise": ((4, 24, 30, 30), (16, 24, 1, 1), {}),
    "planar": ((4, 3, 30, 30), (16, 3, 5, 5), {"padding": 2, "stride": 2}),
    "planar to few": ((1, 2, 90, 80), (3, 2, 3, 3), {"padding": 1}),
    "multiplied": ((2, 6, 14, 12), (12, 1, 3, 3), {"padding": 1, "groups": 6}),
    "adding": ((3, 20, 20, 18), (2, 20, 3, 3), {"padding": 1}),
    "heavy": ((3, 160, 5, 4), (160, 160, 3, 3), {"padding": 1}),
    "heavy at the border": ((1, 176, 7, 6), (150, 176, 3, 3), {}),
    "heavy strided": ((2, 144, 8, 7), (200, 144, 3, 3), {"padding": 1, "stride": 2}),
    "heavy pointwise": ((4, 448, 3, 3), (512, 448, 1, 1), {}),
    "columns": ((4, 3, 41, 40), (64, 3, 5, 5), {"padding": 1, "stride": 2}),
    "gathered": ((2, 64, 8, 8), (90, 64, 3, 3), {"stride": 3}),
    "small pictures": ((6, 40, 2, 2), (72, 40, 3, 3), {"padding": 1}),
}


def channels_last(x):
    """Copy (N, C, ...) to memory in which channels are neighbours."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def arrays(x_shape, weight_shape, mean=0.0):
    key = fc.random.key(1)
    x = mean + fc.random.normal(key, x_shape)
    return x, fc.random.normal(fc.random.fold_in(key, 1), weight_shape) / 10


@pytest.fixture(autouse=True)
def _the_number_of_threads_stays():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@contextmanager
def computing(engine):
    """Compute with one of the engines for the CPU, "compiled" or "numpy"."""
    if engine == "compiled" and compiled.problem():
        pytest.skip(compiled.problem())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "wished", lambda: engine == "compiled")
        yield engine


@pytest.fixture(params=["compiled", "numpy"], scope="module", autouse=True)
def engine(request):
    """Compute with each of the engines."""
    with computing(request.param) as engine:
        yield engine
