"""Few output channels, whose sums have input channels in their lanes."""

import numpy as np
import pytest

import fconv.functional as F
from fconv.engine import compiled, plans, reference
from tests.convolutions import channels_last
from tests.test_adjoint_sweep import geometry_of

pytestmark = pytest.mark.skipif(not compiled.wished(), reason="nothing is compiled")


def case_of(seed):
    """Draw the shapes and the options of a convolution, and a dtype."""
    rng = np.random.default_rng(seed)
    ndim, dtype = 1 + seed % 3, ("float32", "float64")[seed // 3 % 2]
    groups, inner, outer = (
        int(rng.choice(sizes)) for sizes in ([1, 1, 2, 3], [1, 5, 16, 35], [1, 2, 3, 4, 5, 7])
    )
    options = {
        name: tuple(map(int, rng.integers(*limits, ndim)))
        for name, limits in (("stride", (1, 4)), ("padding", (0, 5)), ("dilation", (1, 4)))
    } | {"groups": groups}
    kernel = rng.integers(1, 5, ndim)
    size = np.array(options["dilation"]) * (kernel - 1) + 1 + rng.integers(0, (40, 16, 6)[ndim - 1], ndim)
    shapes = (2, groups * inner, *map(int, size)), (groups * outer, inner, *map(int, kernel))
    return *shapes, options, dtype


def drawn(rng, *shapes, dtype):
    return [rng.integers(-3, 4, shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("seed", range(90))
def test_any_shape_is_the_definition(seed):
    from fconv.engine.compiled.dots import Dots

    x_shape, weight_shape, options, dtype = case_of(seed)
    geometry = geometry_of(x_shape, weight_shape, options)
    plan = plans.plan(geometry, dtype)
    x, weight, bias = drawn(np.random.default_rng(seed), x_shape, weight_shape, weight_shape[:1], dtype=dtype)
    expected = reference.convolve(x, weight, geometry) + bias.reshape(-1, *[1] * (x.ndim - 2))
    deep = x.reshape(*x.shape[:2], *[1] * (5 - x.ndim), *x.shape[2:])
    twice = np.concatenate([deep, deep], 1)
    first = None
    for xs in (
        deep,
        channels_last(deep),
        channels_last(twice)[:, x.shape[1] :],
        channels_last(deep[..., ::-1])[..., ::-1],
    ):
        for order in ("C", "F"):
            y = np.full((*geometry.out_shape[:2], *plan.shape.out_size), np.nan, dtype, order)
            dots = Dots(plan.shape, dtype)
            dots.run(xs, dots.lay(weight.reshape(plan.weight_shape)), bias, y)
            np.testing.assert_array_equal(y.reshape(expected.shape), expected)
        # Not integers: the sums are the same in each memory order.
        dots.run(xs + xs.dtype.type(0.3), dots.lay(weight.reshape(plan.weight_shape)), bias, y)
        first = y.copy() if first is None else first
        np.testing.assert_array_equal(y, first)


SHAPES = [
    ((4, 384, 32, 32), (1, 384, 11, 11), {"stride": 3}),
    ((2, 130, 20, 14), (3, 130, 3, 3), {"padding": 2, "dilation": 2}),
    ((2, 256, 40), (4, 64, 5), {"groups": 4, "stride": 2, "padding": 2}),
    ((1, 48, 6, 7, 9), (2, 48, 2, 3, 2), {"padding": 1}),
    # Input gradients to few channels: of one, and of several phases, some of which meet nothing.
    ((2, 3, 20, 21), (64, 3, 3, 3), {"padding": 1}),
    ((2, 2, 30, 31), (48, 2, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 1, 30, 31), (48, 1, 1, 2), {"stride": 3}),
    ((2, 8, 12, 40), (192, 2, 3, 5), {"groups": 4, "stride": (1, 2)}),
]


@pytest.mark.parametrize("case", range(len(SHAPES)))
def test_convolutions_and_gradients_are_the_definition_in_each_memory_order(case):
    x_shape, weight_shape, options = SHAPES[case]
    rng = np.random.default_rng(case)
    geometry = geometry_of(x_shape, weight_shape, options)
    x, weight, g = drawn(rng, x_shape, weight_shape, geometry.out_shape, dtype="f4")
    f, vjp = (getattr(F, f"conv{x.ndim - 2}d{suffix}") for suffix in ("", "_vjp"))
    expected = f(x, weight, **options, algorithm="reference")
    for xs in (x, channels_last(x)):
        for ws in (weight, channels_last(weight)):
            np.testing.assert_array_equal(f(xs, ws, **options, algorithm="direct"), expected)
    for order in (np.asarray, channels_last):
        found = vjp(order(g), order(x), weight, **options, algorithm="direct")
        for a, b in zip(found[:2], vjp(g, x, weight, **options, algorithm="reference")[:2], strict=True):
            np.testing.assert_array_equal(a, b)


TO_FEW = [
    ((1, 192, 60, 50), (8, 192, 3, 3), {"padding": 1, "dilation": 3}),
    ((3, 300, 14, 14), (4, 150, 2, 2), {"groups": 2, "padding": 2, "dilation": 2}),
    ((2, 256, 28, 20), (3, 256, 3, 3), {"padding": 1}),
    ((8, 256, 200), (4, 256, 9), {"padding": 4}),
    ((1, 64, 10, 12, 11), (4, 64, 3, 3, 3), {}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", range(len(TO_FEW)))
def test_convolutions_to_few_channels_are_the_definition(case, dtype):
    x_shape, weight_shape, options = TO_FEW[case]
    geometry = geometry_of(x_shape, weight_shape, options)
    plan = plans.plan(geometry, dtype, algorithm="direct")  # exact with integers
    rng = np.random.default_rng(case)
    x, weight, biases = (
        rng.integers(-3, 4, shape).astype(dtype) for shape in (x_shape, weight_shape, 2 * weight_shape[0])
    )
    expected = reference.convolve(x, weight, geometry)
    for xs in (x, channels_last(x), channels_last(np.concatenate([x, x], 1))[:, : x.shape[1]]):
        np.testing.assert_array_equal(plan.convolve(xs, weight, None), expected)
    beside = expected + biases[::2].reshape(-1, *[1] * (x.ndim - 2))
    np.testing.assert_array_equal(plan.convolve(x, channels_last(weight), biases[::2]), beside)


def test_the_bits_are_the_same_with_any_number_of_threads():
    import fconv as fc

    rng = np.random.default_rng(0)
    x = channels_last(rng.standard_normal((3, 96, 40, 37), np.float32))
    weight = rng.standard_normal((3, 96, 3, 3), np.float32)
    before, found = fc.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            fc.set_num_threads(n)
            found.append(F.conv2d(x, weight, stride=2, padding=1))
    finally:
        fc.set_num_threads(before)
    assert all(np.array_equal(each, found[0]) for each in found[1:])
    np.testing.assert_array_equal(F.conv2d(x[1:], weight, stride=2, padding=1), found[0][1:])


def test_nan_stays_where_windows_see_it():
    x = np.zeros((1, 64, 9, 9), np.float32)
    x[0, 5, 4, 4] = np.nan
    y = F.conv2d(channels_last(x), np.ones((2, 64, 3, 3), np.float32), padding=1)
    seen = np.zeros((9, 9), bool)
    seen[3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(seen, y.shape))
