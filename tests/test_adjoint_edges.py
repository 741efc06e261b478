"""Convolutions where kernels take another way: half precision, single positions in any order, rounding."""

from __future__ import annotations

import numpy as np
import pytest

from fconv import functional as F
from fconv.testing.layouts import LAYOUTS, laid_out
from tests.convolutions import computing
from tests.test_adjoint_sweep import integers


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def engine(request):
    """Compute with each of the engines for the CPU."""
    with computing(request.param) as engine:
        yield engine


@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_of_half_precision_are_the_definition(bias, engine):
    """The numbers are so small that float16 holds them all."""
    rng = np.random.default_rng(1)
    x, weight = integers(rng, 2, 5, 6, 7), integers(rng, 4, 5, 3, 2)
    bias = integers(rng, 4) if bias else None
    y = F.conv2d(x, weight, bias, algorithm="reference")
    g = integers(rng, *y.shape)
    given = [None if a is None else a.astype(np.float16) for a in (g, x, weight, bias)]
    found = F.conv2d(*given[1:]), *F.conv2d_vjp(*given)
    expected = y, *F.conv2d_vjp(g, x, weight, bias, algorithm="reference")
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == np.float16
            np.testing.assert_array_equal(a, b)


# Single positions, whose rows may be joined, and columns that are dealt out by their remainder.
FEW = [
    ((2, 3, 8, 7), (1, 3, 1, 1), {}),
    ((1, 3, 12, 5), (1, 3, 1, 1), {}),
    ((9, 3, 6, 40), (2, 3, 1, 1), {}),
    ((3, 2, 1, 9), (1, 2, 1, 1), {}),
    ((2, 2, 2, 3, 5), (1, 2, 1, 1, 1), {}),
    ((2, 2, 9, 125), (2, 2, 3, 4), {"stride": (2, 3), "padding": 1}),
    ((2, 2, 8, 150), (3, 2, 2, 5), {"stride": (1, 4)}),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", range(len(FEW)))
def test_convolutions_of_few_channels_are_the_definition_in_any_memory_order(case, layout, engine):
    shape, weight_shape, options = FEW[case]
    rng, name = np.random.default_rng(2), f"conv{len(shape) - 2}d"
    x, weight = integers(rng, *shape), integers(rng, *weight_shape)
    function, vjp = getattr(F, name), getattr(F, f"{name}_vjp")
    y = function(x, weight, **options, algorithm="reference")
    g = integers(rng, *y.shape)
    dx, dweight, _ = vjp(g, x, weight, **options, algorithm="reference")
    for k, dtype in enumerate((np.float32, np.float64), 1):
        laid = [laid_out(a.astype(dtype), layout) for a in (g, k * x, weight)]
        np.testing.assert_array_equal(function(*laid[1:], **options, algorithm="direct"), k * y)
        found = vjp(*laid, **options, algorithm="direct")
        np.testing.assert_array_equal(found[0], dx)
        np.testing.assert_array_equal(found[1], k * dweight)


def test_convolutions_by_winograd_round_as_little_as_documented(engine):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(4, 16, 16, 16)), rng.normal(size=(16, 16, 3, 3))
    y = F.conv2d(x, weight, padding=1, algorithm="reference")
    g = rng.normal(size=y.shape)
    expected = y, *F.conv2d_vjp(g, x, weight, padding=1, algorithm="reference")[:2]
    g, x, weight = (a.astype(np.float32) for a in (g, x, weight))
    found = (
        F.conv2d(x, weight, padding=1, algorithm="winograd"),
        *F.conv2d_vjp(g, x, weight, padding=1, algorithm="winograd")[:2],
    )
    for a, b, most in zip(found, expected, (9e-7, 9e-7, 1.2e-6), strict=True):
        assert np.linalg.norm(a - b) < most * np.linalg.norm(b)
