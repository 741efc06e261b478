"""Convolutions where kernels take another way: half precision, single positions in any order, rounding."""

from __future__ import annotations

import random as draws

import numpy as np
import pytest

from fconv import functional as F
from fconv.engine import plans
from fconv.testing.layouts import LAYOUTS, laid_out
from tests.convolutions import computing
from tests.test_adjoint import GEOMETRIES
from tests.test_adjoint_sweep import LIMITS, integers


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
    ((2, 3, 4, 5, 20), (1, 3, 2, 2, 3), {}),
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


# Channels-last pictures that are read where they lie, divided along each of their axes.
IN_PLACE = [
    ((2, 24, 60, 50), (20, 24, 3, 3)),
    ((1, 600, 3, 150), (20, 600, 2, 3)),
    ((2, 16, 6, 20, 30), (20, 16, 2, 3, 3)),
]


@pytest.mark.parametrize("case", IN_PLACE, ids=["high", "wide", "deep"])
def test_convolutions_of_channels_last_pictures_are_the_definition(case, engine):
    rng, name = np.random.default_rng(4), f"conv{len(case[0]) - 2}d"
    x, weight = (integers(rng, *shape).astype(np.float32) for shape in case)
    function, vjp = getattr(F, name), getattr(F, f"{name}_vjp")
    y = function(x, weight, algorithm="reference")
    g = integers(rng, *y.shape).astype(np.float32)
    dx, dweight, _ = vjp(g, x, weight, algorithm="reference")
    g, x = laid_out(g, "channels_last"), laid_out(x, "channels_last")
    np.testing.assert_array_equal(function(x, weight, algorithm="direct"), y)
    found = vjp(g, x, weight, algorithm="direct")
    np.testing.assert_array_equal(found[0], dx)
    np.testing.assert_array_equal(found[1], dweight)


# The first is one that Winograd's algorithm serves; the compiled engine's serves dilations and groups, too.
LIKE_3X3 = [
    ((4, 64, 30, 30), (64, 64, 3, 3), {"padding": 1}),
    ((4, 64, 30, 30), (64, 64, 3, 3), {"dilation": 2}),
    ((4, 64, 30, 30), (64, 64, 3, 3), {"stride": 2}),
    ((4, 128, 20, 20), (128, 64, 3, 3), {"groups": 2}),
    ((4, 64, 30, 30), (64, 64, 3, 4), {}),
    ((4, 64, 30, 30), (64, 64, 5, 5), {"padding": 2}),
    ((1, 64, 12, 12, 12), (64, 64, 3, 3, 1), {}),
    ((1, 64, 14, 14), (64, 32, 3, 3), {"padding": 1, "groups": 2}),  # too small to go one after another
    ((2, 96, 14, 14), (96, 32, 3, 3), {"padding": 1, "groups": 3}),
]


@pytest.mark.parametrize("case", range(len(LIKE_3X3)))
def test_convolutions_by_the_algorithm_of_their_own_choice_are_the_definition(case, engine):
    x_shape, weight_shape, options = LIKE_3X3[case]
    rng, name = np.random.default_rng(case), f"conv{len(x_shape) - 2}d"
    x, weight = (integers(rng, *shape).astype(np.float32) for shape in (x_shape, weight_shape))
    function, vjp = getattr(F, name), getattr(F, f"{name}_vjp")
    y = function(x, weight, **options, algorithm="reference")
    g = integers(rng, *y.shape).astype(np.float32)
    expected = y, *vjp(g, x, weight, **options, algorithm="reference")[:2]
    found = function(x, weight, **options), *vjp(g, x, weight, **options)[:2]
    chosen = plans.algorithm_for(x_shape, weight_shape, **options)
    winograd = case in ((0, 1, 3) if engine == "compiled" else (0,))
    assert chosen == f"{'winograd' if winograd else 'direct'} ({engine})"
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=0.5 if winograd else 0)


def test_convolutions_by_winograd_of_rows_of_a_kib_are_the_definition(engine):
    """Rows at such steps would share a few sets of the cache, and are kept apart."""
    rng = np.random.default_rng(9)
    for channels, dtype in ((256, np.float32), (128, np.float64)):
        x, weight = integers(rng, 2, channels, 9, 10), integers(rng, channels, channels, 3, 3)
        y = F.conv2d(x, weight, algorithm="reference")
        g = integers(rng, *y.shape)
        expected = y, *F.conv2d_vjp(g, x, weight, algorithm="reference")[:2]
        g, x, weight = (a.astype(dtype) for a in (g, x, weight))
        found = (
            F.conv2d(x, weight, algorithm="winograd"),
            *F.conv2d_vjp(g, x, weight, algorithm="winograd")[:2],
        )
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=0.5 if dtype == np.float32 else 1e-8)


@pytest.mark.parametrize("name", ["pixel_shuffle", "pixel_unshuffle"])
def test_rearranged_arrays_keep_the_memory_order(name, engine):
    x = laid_out(np.arange(768.0).reshape(2, 4, 8, 12), "channels_last")
    y = getattr(F, name)(x, 2)
    assert y.strides[1] == y.itemsize
    np.testing.assert_array_equal(y, getattr(F, name)(np.ascontiguousarray(x), 2))


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


def test_convolutions_by_the_definition_take_large_batches_in_runs(engine):
    """The windows of the batch take 340 MB, so that they are not computed at once."""
    rng = np.random.default_rng(10)
    x, weight = integers(rng, 64, 8, 40, 40), integers(rng, 2, 4, 32, 32)
    g = integers(rng, 64, 2, 9, 9)
    ways = [
        (
            F.conv2d(x, weight, groups=2, algorithm=each),
            *F.conv2d_vjp(g, x, weight, groups=2, algorithm=each)[:2],
        )
        for each in ("reference", "direct")
    ]
    for a, b in zip(*ways, strict=True):
        np.testing.assert_array_equal(a, b)


INFINITE = [
    *GEOMETRIES[1:],
    *(case for name, case in LIMITS.items() if name.startswith(("few", "windows", "depth", "one", "group"))),
]


@pytest.mark.parametrize("case", range(len(INFINITE)))
def test_convolutions_keep_an_infinity_where_the_definition_has_it(case, engine):
    """Zeros that kernels add to rows, and what they read beyond a channel, must not spread it."""
    (shape, weight_shape, options), rng = INFINITE[case], np.random.default_rng(case)
    name, layouts = f"conv{len(shape) - 2}d", draws.Random(case)
    function, vjp = getattr(F, name), getattr(F, f"{name}_vjp")
    x, weight = integers(rng, *shape), integers(rng, *weight_shape)
    g = integers(rng, *function(x, weight, **options, algorithm="reference").shape)
    x[(-1, rng.integers(shape[1]), *(rng.integers(size) for size in shape[2:]))] = np.inf
    with np.errstate(invalid="ignore"):  # from BLAS
        y = function(x, weight, **options, algorithm="reference")
        dweight = vjp(g, x, weight, **options, algorithm="reference")[1]
        for dtype in (np.float32, np.float64):
            laid = [laid_out(a.astype(dtype), layouts.choice(LAYOUTS)) for a in (g, x, weight)]
            np.testing.assert_array_equal(function(*laid[1:], **options, algorithm="direct"), y)
            found = vjp(*laid, **options, algorithm="direct", wrt=("weight",))[1]
            np.testing.assert_array_equal(found, dweight)
