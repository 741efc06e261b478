"""Convolutions of drawn shapes, and of shapes at the engine's limits, are the definition, number for number.

Integers make float32 and float64 exact, so that every algorithm must give the definition's numbers: values,
gradients, gradients by each sample and forward derivatives, from arguments in any memory order.
"""

from __future__ import annotations

import inspect
import random as draws
from itertools import permutations, product
from math import prod

import numpy as np
import pytest

from fconv import functional as F
from fconv.engine import compiled, plans, runs
from fconv.engine.cpu import choosing
from fconv.functional.core import EACH as EACH_SAMPLE
from fconv.functional.core import NORMS
from fconv.functional.taps import Tap, gather, scatter
from fconv.geometry import conv_geometry
from fconv.testing import check_adjoint
from fconv.testing.layouts import LAYOUTS, laid_out
from tests.test_adjoint import EXACT, filled

CHANNELS = (1, 1, 2, 2, 3, 4, 5, 7, 8, 9, 16, 17, 20, 33)
LONGEST = {1: (70,), 2: (12, 40), 3: (4, 6, 20)}


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def engine(request, monkeypatch):
    """Compute with each of the engines for the CPU."""
    if request.param == "compiled" and compiled.problem():
        pytest.skip(compiled.problem())
    monkeypatch.setattr(compiled, "wished", lambda: request.param == "compiled")
    return request.param


def drawn(seed):
    """Draw shapes of x and weight, and options."""
    rng = draws.Random(seed)
    ndim = rng.choice((1, 2, 2, 2, 3))
    groups = rng.choice((1, 1, 1, 2, 3, 7))
    inner, outer = (rng.choice(CHANNELS if groups == 1 else CHANNELS[:8]) for _ in range(2))
    if groups > 1 and rng.random() < 0.5:
        inner, outer = 1, rng.choice((1, 1, 2, 3))
    kernel = tuple(rng.choice((1, 2, 3, 3, 4, 5)) for _ in range(ndim))
    if ndim == 2 and rng.random() < 0.3:
        kernel = (3, 3)
    if rng.random() < 0.15:
        kernel = (1,) * ndim
    plain = rng.random() < 0.4
    stride, dilation = (
        tuple(1 if plain else rng.choice((1, 1, 2, 3)) for _ in range(ndim)) for _ in range(2)
    )
    padding = tuple(rng.choice((0, 0, 1, 2, 4)) for _ in range(ndim))
    spans = ((k - 1) * d + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True))
    size = tuple(
        max(span, 1) + rng.choice((0, rng.randrange(most)))
        for span, most in zip(spans, LONGEST[ndim], strict=True)
    )
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (rng.randint(1, 4), groups * inner, *size), (groups * outer, inner, *kernel), options


def integers(rng, *shape, most=2):
    """Draw integers from -most to most, without 0, as float64."""
    return rng.integers(1, most + 1, shape) * rng.choice((-1.0, 1.0), shape)


def geometry_of(x_shape, weight_shape, options):
    given = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **options}
    return conv_geometry("conv", len(x_shape) - 2, x_shape, weight_shape, None, *given.values())


def squares(geometry):
    """Return whether the last two axes of the kernel are 3x3, which Winograd's algorithm may serve."""
    w = geometry.windows
    return w.kernel[-2:] == (3, 3) and w.stride[-2:] == (1, 1)


def check(x_shape, weight_shape, options, dtype, algorithms, seed=0):
    """Compare every algorithm with the definition; each has multiples of the same numbers.

    So none can find the result of another in memory that it does not write to.
    """
    rng, ndim = np.random.default_rng(seed), len(x_shape) - 2
    name, layouts = f"conv{ndim}d", draws.Random(seed)
    function, vjp = getattr(F, name), getattr(F, f"{name}_vjp")
    x, weight, bias = (integers(rng, *s) for s in (x_shape, weight_shape, weight_shape[:1]))
    y = function(x, weight, bias, **options, algorithm="reference")
    g = integers(rng, *y.shape)
    dx, dweight, dbias = vjp(g, x, weight, bias, **options, algorithm="reference")
    geometry = geometry_of(x_shape, weight_shape, options)
    assert plans.plan(geometry, "float64", "cpu", "reference").algorithm == "reference"
    for k, algorithm in enumerate(algorithms, 1):
        plan = plans.plan(geometry, np.dtype(dtype).name, "cpu", algorithm)
        assert plan.engine == ("compiled" if compiled.wished() else "numpy")
        if algorithm == "auto":
            chosen = plans.algorithm_for(x_shape, weight_shape, **options, dtype=dtype)
            assert chosen == f"{plan.algorithm} ({plan.engine})"
        else:  # NumPy's have no strides along dilated axes
            serves = compiled.wished() or choosing.serves(geometry)
            assert plan.algorithm == (algorithm if serves else "reference")
        given = [laid_out(a.astype(dtype), layouts.choice(LAYOUTS)) for a in (k * x, weight, k * bias, k * g)]
        found = (
            function(*given[:3], **options, algorithm=algorithm),
            *vjp(given[3], *given[:3], **options, algorithm=algorithm),
        )
        may_round = algorithm == "auto" and dtype == np.float32 and squares(geometry)
        rounds = algorithm == "winograd" or may_round
        for a, b in zip(found, (k * y, k * dx, k * k * dweight, k * dbias), strict=True):
            if rounds:
                assert abs(a - b).max(initial=0) < (0.1 if dtype == np.float32 else 1e-9)
            else:
                np.testing.assert_array_equal(a, b)
            assert a.dtype == dtype


@pytest.mark.parametrize("seed", range(64))
def test_convolutions_of_drawn_shapes_are_the_definition(seed, engine):
    x_shape, weight_shape, options = drawn(seed)
    algorithms = ["direct", "auto", *["winograd"] * geometry_of(x_shape, weight_shape, options).is_3x3]
    check(x_shape, weight_shape, options, (np.float32, np.float64)[seed % 2], algorithms, seed)


# Beyond what one task, box, piece or part takes, in each way that the compiled engine and NumPy's have.
LIMITS = {
    "wide rows of many channels": ((1, 512, 2, 149), (16, 512, 2, 2), {}),
    "wide rows, of which the last is one shorter": ((1, 512, 2, 168), (16, 512, 2, 2), {}),
    "wide rows of many filters": ((1, 16, 3, 150), (512, 16, 1, 3), {}),
    "rows of one position and many strips": ((1, 1500, 1, 528), (17, 1500, 1, 1), {}),
    "short rows of very many channels": ((1, 1600, 3, 32), (20, 1600, 1, 1), {}),
    "deep windows": ((1, 90, 5, 4, 60), (24, 90, 4, 1, 3), {"padding": (1, 0, 1)}),
    "long sums": ((1, 256, 6, 5), (48, 256, 3, 3), {"padding": 1}),
    "long sums that leave a rest": ((2, 203, 4, 4), (70, 203, 3, 3), {}),
    "many small pictures": ((50, 20, 3, 3), (24, 20, 3, 3), {"padding": 1}),
    "many small pictures, one strip shorter": ((115, 20, 3, 3), (24, 20, 3, 3), {"padding": 1}),
    "filters of primes": ((9, 257, 4, 3), (131, 257, 3, 3), {"padding": 1}),
    "large filters of primes": ((1, 601, 2, 2), (607, 601, 3, 3), {"padding": 1}),
    "grouped, many filters": ((3, 120, 4, 5), (480, 40, 3, 3), {"groups": 3}),
    "heavy, many rows": ((35, 160, 5, 5), (160, 160, 3, 3), {}),
    "heavy, seven positions": ((7, 160, 3, 3), (160, 160, 3, 3), {}),
    "heavy, twenty-one positions": ((21, 160, 3, 3), (160, 160, 3, 3), {}),
    "heavy, few filters": ((13, 600, 3, 3), (40, 600, 3, 3), {}),
    "heavy, one filter beyond a block": ((2, 256, 4, 4), (97, 256, 3, 3), {}),
    "heavy, a rest of filters": ((2, 160, 5, 5), (173, 160, 3, 3), {"stride": (2, 1), "padding": 1}),
    "heavy, wide rows": ((1, 300, 1, 1100), (700, 300, 1, 1), {}),
    "heavy groups": ((2, 320, 5, 4), (320, 160, 3, 3), {"groups": 2, "padding": 1}),
    "heavy in three axes": ((2, 64, 4, 3, 5), (128, 64, 3, 3, 3), {"padding": 1, "stride": (1, 2, 2)}),
    "heavy in three axes, inside": ((2, 64, 5, 6, 9), (128, 64, 3, 3, 3), {"stride": (1, 2, 2)}),
    "few filters, high": ((1, 16, 90, 130), (2, 16, 3, 2), {"padding": 1}),
    "few channels, large": ((2, 2, 150, 170), (2, 2, 3, 3), {"padding": 1}),
    "few channels, strided rows": ((3, 3, 90, 61), (2, 3, 3, 3), {"stride": (2, 1), "padding": 1}),
    "few channels, whole vectors": ((2, 2, 10, 16), (2, 2, 3, 3), {"padding": 1}),
    "few channels, deep": ((2, 2, 6, 30, 41), (3, 2, 3, 2, 3), {"stride": (2, 1, 1), "dilation": (1, 2, 1)}),
    "few channels, columns": ((2, 2, 30, 40), (2, 2, 5, 1), {}),
    "few grouped": ((2, 6, 40, 50), (9, 2, 3, 5), {"groups": 3, "dilation": (1, 2)}),
    "few channels, long rows of a kernel": ((2, 2, 9, 60), (3, 2, 2, 13), {"padding": (0, 6)}),
    "nine in a row": ((2, 17, 4, 20), (18, 17, 1, 9), {}),
    "nine in a column": ((2, 17, 20, 4), (18, 17, 9, 1), {}),
    "one position a row": ((40, 3, 30, 1), (5, 3, 3, 1), {}),
    "grouped to one on columns": ((2, 6, 9, 1), (3, 2, 3, 1), {"groups": 3}),
    "pointwise, strided": ((3, 3, 13, 20), (4, 3, 1, 1), {"stride": (3, 2)}),
    "dilated by the stride": ((2, 3, 15, 21), (2, 3, 2, 3), {"stride": 2, "dilation": 2, "padding": 1}),
    "windows as large as the picture": ((3, 4, 12, 11), (5, 4, 10, 9), {}),
    "windows of many pictures": ((70, 4, 5, 4), (5, 4, 5, 4), {"padding": 2}),
    "windows of very many pictures": ((131, 4, 5, 4), (5, 4, 5, 4), {"padding": 2}),
    "windows padded": ((2, 6, 14, 13), (4, 3, 11, 9), {"stride": (2, 3), "padding": (4, 3), "groups": 2}),
    "windows dilated": ((2, 3, 25, 19), (4, 3, 9, 8), {"dilation": (3, 2), "padding": (2, 1)}),
    "windows in the padding": ((2, 2, 3, 2), (3, 2, 2, 3), {"padding": (4, 5), "stride": (3, 4)}),
    "depthwise, large": ((3, 70, 40, 31), (70, 1, 3, 3), {"groups": 70, "padding": 1}),
    "depthwise, spread": ((2, 40, 20, 21), (40, 1, 2, 3), {"groups": 40, "dilation": (2, 3), "padding": 2}),
    "depthwise, two columns": ((2, 20, 9, 10), (20, 1, 3, 2), {"groups": 20}),
    "depthwise by columns": ((2, 20, 17, 9), (20, 1, 5, 1), {"groups": 20, "stride": (1, 2)}),
    "depthwise in three axes": ((2, 20, 5, 6, 9), (20, 1, 3, 2, 3), {"groups": 20, "padding": 1}),
    "depthwise in three axes, spread": (
        (2, 17, 6, 7, 9), (17, 1, 2, 3, 2), {"groups": 17, "dilation": (2, 1, 3), "stride": (1, 2, 1)},
    ),
    "depthwise, multiplied": ((2, 3, 9, 8), (60, 1, 3, 3), {"groups": 3}),
    "two groups of one": ((2, 2, 9, 8), (2, 1, 3, 3), {"groups": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_convolutions_beyond_every_limit_are_the_definition(name, engine):
    algorithms = ["auto", "direct"] if name.startswith("windows") else ["direct"]
    check(*LIMITS[name], np.float32 if engine == "compiled" else np.float64, algorithms)


@pytest.mark.parametrize("images", [1, 2, 5, 9, 17, 19, 25, 37])
def test_convolutions_by_winograd_of_any_number_of_pieces_are_the_definition(images, engine):
    check((images, 5, 4, 3), (6, 5, 3, 3), {"padding": 1}, np.float64, ["winograd"], images)


@pytest.mark.parametrize("kernel", [1, 2])
def test_convolutions_are_the_definition_in_every_order_of_equal_axes(kernel, engine):
    """All axes are equally long, so that their strides do not tell which is which."""
    rng = np.random.default_rng(kernel)
    x, weight = integers(rng, *(3,) * 5), integers(rng, 3, 3, *(kernel,) * 3)
    y = F.conv3d(x, weight, algorithm="reference")
    g = integers(rng, *y.shape)
    dx, dweight, _ = F.conv3d_vjp(g, x, weight, algorithm="reference")
    for i, order in enumerate(permutations(range(5))):
        back = np.argsort(order)
        k = 1 + i % 7  # so that no order finds what another has left in memory
        laid = [np.ascontiguousarray(a.transpose(order)).transpose(back) for a in (k * x, weight, g)]
        np.testing.assert_array_equal(F.conv3d(*laid[:2], algorithm="direct"), k * y)
        found = F.conv3d_vjp(laid[2], *laid[:2], algorithm="direct")
        np.testing.assert_array_equal(found[0], dx)
        np.testing.assert_array_equal(found[1], k * dweight)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolutions_take_filters_that_outweigh_pictures_in_any_memory_order(layout, engine):
    rng = np.random.default_rng(8)
    x, weight = integers(rng, 2, 256, 4, 4), integers(rng, 97, 256, 3, 3)
    y = F.conv2d(x, weight, algorithm="reference")
    dx, dweight, _ = F.conv2d_vjp(y, x, weight, algorithm="reference")
    laid, x32 = laid_out(weight.astype(np.float32), layout), x.astype(np.float32)
    found = F.conv2d_vjp(y.astype(np.float32), x32, laid, algorithm="direct")
    np.testing.assert_array_equal(F.conv2d(x32, laid, algorithm="direct"), y)
    np.testing.assert_array_equal(found[0], dx)
    np.testing.assert_array_equal(found[1], dweight)


@pytest.mark.parametrize("outer", [8, 16, 32, 48])
def test_convolutions_leave_weights_alone_that_lie_as_kernels_read_them(outer, engine):
    rng = np.random.default_rng(outer)
    for shape in ((outer, 32, 2, 2), (32, outer, 2, 2), (outer, outer, 1, 1)):
        for order in ((2, 3, 1, 0), (2, 3, 0, 1)):  # output or input channels are neighbours
            for dtype in (np.float32, np.float64):
                x, weight = integers(rng, 2, shape[1], 5, 5), integers(rng, *shape)
                laid = np.ascontiguousarray(weight.transpose(order), dtype).transpose(np.argsort(order))
                y = F.conv2d(x, weight, algorithm="reference")
                dx, dweight, _ = F.conv2d_vjp(y, x, weight, algorithm="reference")
                for _ in range(2):
                    found = F.conv2d(x.astype(dtype), laid, algorithm="direct")
                    grads = F.conv2d_vjp(y.astype(dtype), x.astype(dtype), laid, algorithm="direct")
                    np.testing.assert_array_equal(found, y)
                    np.testing.assert_array_equal(grads[0], dx)
                    np.testing.assert_array_equal(grads[1], dweight)
                    np.testing.assert_array_equal(laid, weight)


# More images than the gradients of one run, groups, rows that are read where they lie, and one position.
EACH = [
    ((5, 256, 2, 2), (500, 256, 3, 3), {"padding": 1}),
    ((3, 6, 7, 5), (8, 3, 3, 2), {"groups": 2, "stride": 2, "padding": 1}),
    ((4, 5, 6, 7), (5, 1, 3, 3), {"groups": 5}),
    ((2, 3, 20), (4, 3, 3), {"dilation": 2}),
    ((3, 64, 1), (80, 64, 1), {}),
    ((2, 2, 3, 4, 5), (3, 2, 2, 2, 1), {"padding": (1, 0, 0)}),
]


@pytest.mark.parametrize("case", EACH, ids=["x".join(map(str, case[1])) for case in EACH])
def test_gradients_of_convolutions_by_each_sample_are_those_of_its_own(case, engine):
    x_shape, weight_shape, options = case
    rng, name = np.random.default_rng(3), f"conv{len(x_shape) - 2}d"
    x, weight = integers(rng, *x_shape), integers(rng, *weight_shape)
    check_each(getattr(F, name), getattr(F, f"{name}_vjp"), rng, x, weight, options)
    if case is not EACH[0]:
        name = f"conv_transpose{len(x_shape) - 2}d"
        x = integers(rng, x_shape[0], weight_shape[0], *x_shape[2:])
        check_each(getattr(F, name), getattr(F, f"{name}_vjp"), rng, x, weight, options)


@pytest.mark.parametrize(
    "shapes", [((5, 3, 4), 6), ((4, 7), 3), ((9, 250), 200), ((10, 2, 200), 200), ((2, 2, 3, 4), 5)]
)
def test_gradients_of_linear_maps_by_each_sample_are_those_of_its_own(shapes, engine):
    """Several positions of a sample, one, and so many entries that threads share the samples."""
    (x_shape, outer), rng = shapes, np.random.default_rng(7)
    check_each(F.linear, F.linear_vjp, rng, integers(rng, *x_shape), integers(rng, outer, x_shape[-1]), {})


def check_each(function, vjp, rng, x, weight, options):
    """Compare gradients and norms by each sample with the gradients of batches of one."""
    g = integers(rng, *function(x, weight, None, **options).shape)
    expected = [
        vjp(g[i : i + 1], x[i : i + 1], weight, None, **options, wrt=("weight",))[1] for i in range(len(x))
    ]
    for dtype in (np.float32, np.float64):
        pull = function.forward(x.astype(dtype), weight.astype(dtype), None, **options)[1]
        np.testing.assert_array_equal(
            pull(g.astype(dtype), ("weight",), each=EACH_SAMPLE)[1], np.stack(expected)
        )
    norms = pull(g, ("weight",), each=NORMS)[1]
    assert norms.shape == (len(x), *(1,) * weight.ndim)
    np.testing.assert_array_equal(np.rint(norms.ravel() ** 2), [(dw**2).sum() for dw in expected])


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_convolutions_of_one_sample_are_those_of_a_batch_of_one(name, ndim, engine):
    function, rng = getattr(F, f"{name}{ndim}d"), np.random.default_rng(5)
    vjp = getattr(F, f"{name}{ndim}d_vjp")
    x, weight, bias = (integers(rng, *s) for s in ((1, 3, *(5,) * ndim), (3, 3, *(2,) * ndim), (3,)))
    y = function(x, weight, bias)
    g = integers(rng, *y.shape)
    np.testing.assert_array_equal(function(x[0], weight, bias), y[0])
    of_batch, of_one = vjp(g, x, weight, bias), vjp(g[0], x[0], weight, bias)
    for a, b in zip(of_one, (of_batch[0][0], *of_batch[1:]), strict=True):
        np.testing.assert_array_equal(a, b)


PRODUCTS = [
    ("linear", (2, 4), (3, 4)), ("linear", (2, 3, 4), (3, 4)),
    *((f"conv{n}d", (2, 3, *(5,) * n), (3, 3, *(2,) * n)) for n in (1, 2, 3)),
    *((f"conv_transpose{n}d", (2, 3, *(5,) * n), (3, 3, *(2,) * n)) for n in (1, 2, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "x_shape", "weight_shape"), PRODUCTS)
def test_the_forward_derivative_of_convolutions_and_linear_maps_follows_the_product_rule(
    name, x_shape, weight_shape, engine
):
    function, rng = getattr(F, name), np.random.default_rng(6)
    x, weight, bias = (integers(rng, *s) for s in (x_shape, weight_shape, weight_shape[:1]))
    t = [integers(rng, *a.shape) for a in (x, weight, bias)]
    parts = [function(t[0], weight), function(x, t[1])]
    along = (-1,) if name == "linear" else (-1, *(1,) * (len(x_shape) - 2))
    parts.append(np.broadcast_to(t[2].reshape(along), parts[0].shape))
    for wanted in list(product((0, 1), repeat=3))[1:]:
        tangents = tuple(a if some else None for a, some in zip(t, wanted, strict=True))
        expected = sum(part for part, some in zip(parts, wanted, strict=True) if some)
        np.testing.assert_array_equal(function.jvp(tangents, x, weight, bias), expected)


@pytest.mark.parametrize(
    ("name", "args", "options", "places", "how"),
    EXACT,
    ids=[f"{i}-{case[0]}" for i, case in enumerate(EXACT)],
)
def test_the_forward_derivative_of_a_linear_function_is_its_own(name, args, options, places, how, engine):
    function, args = getattr(F, name), filled(args)
    parameters = list(inspect.signature(function).parameters)
    for place in places:
        x = args[place] * how.get("scale", 1)
        zero, one = (function(*args[:place], a, *args[place + 1 :], **options) for a in (0 * x, x))
        tangents = tuple(x if a == parameters[place] else None for a in function.arrays)
        found = function.jvp(tangents, *args, **options)
        if how.get("exact", True):
            np.testing.assert_array_equal(found, one - zero)
        else:
            assert abs(found - (one - zero)).max() <= 1e-10 * abs(one).max()


def test_runs_of_convolutions_cover_the_batch_and_stay_under_the_limit():
    """A sample that is larger by itself is a run of its own."""
    x = np.zeros(0)
    for shape, weight in (
        ((7, 2, 9, 9), (2, 2, 3, 3)),
        ((5, 64, 70, 70), (2, 64, 9, 9)),
        ((3, 64, 400, 400), (2, 64, 9, 9)),
    ):
        geometry = geometry_of(shape, weight, {})
        found = runs.runs_of_samples(geometry, x)
        one = prod(geometry.weight_shape[1:]) * prod(geometry.windows.out_size) * x.itemsize
        assert np.concatenate([np.arange(shape[0])[run] for run in found]).tolist() == list(range(shape[0]))
        most = max(1, runs.WINDOW_BYTES // one)
        assert [run.stop - run.start for run in found[:-1]] == [most] * (len(found) - 1)
        assert len(found) == -(-shape[0] // most)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_adding_to_taps_is_the_adjoint_of_reading_them_and_leaves_the_input_alone(axis, engine):
    """Steps that are even, repeats, any order, targets of some, and weights."""
    reads = [[0, 2, 4], [0, 0, 1, 1, 2, 2], [3, 1, 4, 1], [2, 2, 2], [4], [1, 2, 3, 4]]
    weighted = [np.arange(1.0, len(each) + 1) for each in reads]
    tables = [
        (Tap(np.array(each), None, w if k % 2 else None),)
        for k in (0, 1)
        for each, w in zip(reads, weighted, strict=True)
    ]
    tables += [
        (
            Tap(np.array([0, 1, 2])),
            Tap(np.array([1, 2, 3])),
            Tap(np.array([4, 0]), np.array([0, 2]), np.array([3.0, 2.0])),
        )
    ]
    tables += [(Tap(np.array([4, 4, 1]), None, np.array([2.0, 1.0, 5.0])), Tap(np.array([2]), np.array([1])))]
    for taps in tables:
        shape = [2, 3, 4]
        shape[axis] = 5 if max(tap.sources.max() for tap in taps) > 2 else 3
        x = np.random.default_rng(1).integers(1, 9, shape).astype(np.float64)
        before, matrix = x.copy(), np.zeros((taps[0].sources.size, shape[axis]))
        for tap in taps:
            targets = range(tap.sources.size) if tap.targets is None else tap.targets
            for i, (target, source) in enumerate(zip(targets, tap.sources, strict=True)):
                matrix[target, source] += 1 if tap.weights is None else tap.weights[i]
        expected = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
        np.testing.assert_array_equal(gather(x, axis, taps), expected)
        np.testing.assert_array_equal(x, before)
        check_adjoint(
            lambda x, t=taps: gather(x, axis, t), lambda g, x, t=taps: scatter(g, axis, t, x.shape[axis]), [x]
        )
