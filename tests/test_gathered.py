"""Few positions and many filters, whose windows are gathered: against the definition."""

import numpy as np
import pytest

from fconv.engine import compiled, plans, reference
from fconv.engine.cpu.filters import is_laid_out, laid_out
from tests.convolutions import channels_last
from tests.test_adjoint_sweep import geometry_of

pytestmark = pytest.mark.skipif(not compiled.wished(), reason="nothing is compiled")

FEW = [
    ((1, 128, 8, 8), (256, 128, 2, 2), {"stride": 3}),
    ((2, 64, 7, 6), (384, 64, 3, 3), {"padding": 1, "dilation": 3, "stride": 2}),
    ((1, 96, 6, 5, 6), (64, 48, 3, 3, 3), {"groups": 2, "padding": 1, "dilation": 2}),
    ((3, 300, 20), (90, 300, 5), {"stride": 4}),
    ((16, 256, 1, 1), (200, 256, 1, 1), {}),
    ((1, 64, 5, 5), (400, 64, 3, 3), {"padding": 1, "dilation": 3}),  # one position
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", range(len(FEW)))
def test_convolutions_of_few_positions_are_the_definition(case, dtype):
    geometry = geometry_of(*FEW[case])
    plan = plans.plan(geometry, dtype)
    rng = np.random.default_rng(case)
    x, weight, biases, g = (
        rng.integers(-3, 4, shape).astype(dtype)
        for shape in (geometry.in_shape, geometry.weight_shape, 2 * geometry.out_channels, geometry.out_shape)
    )
    y, dw = reference.convolve(x, weight, geometry), reference.weight_gradient(g, x, geometry)
    dx = reference.input_gradient(g, weight, geometry)
    bias = biases[::2]
    with_bias = y + bias.reshape(-1, *[1] * (x.ndim - 2))
    for xs, gs in ((x, g), (channels_last(x), channels_last(g)), (x[:, ::-1][:, ::-1], g)):
        for weights in (weight, channels_last(weight), laid_out(weight), np.asfortranarray(weight)):
            np.testing.assert_array_equal(plan.convolve(xs, weights, None), y)
            np.testing.assert_array_equal(plan.convolve(xs, weights, bias), with_bias)
            np.testing.assert_array_equal(plan.weight_gradient(gs, xs, weights), dw)
            np.testing.assert_array_equal(plan.input_gradient(gs, weights), dx)
        for weights in (np.broadcast_to(weight[:1], weight.shape), np.broadcast_to(bias[0], weight.shape)):
            np.testing.assert_array_equal(plan.weight_gradient(gs, xs, weights), dw)


@pytest.mark.parametrize("seed", range(60))
def test_gathered_windows_of_any_shape_are_the_definition(seed):
    from fconv.engine.compiled.gathered import Gathered

    rng = np.random.default_rng(seed)
    ndim, dtype = 1 + seed % 3, ("float32", "float64")[seed // 3 % 2]
    groups, inner, outer, images = (
        int(rng.choice(sizes)) for sizes in ([1, 1, 3], [1, 2, 37], [1, 17, 40], [1, 2])
    )
    options = {
        name: tuple(map(int, rng.integers(*limits, ndim)))
        for name, limits in (("stride", (1, 4)), ("padding", (0, 3)), ("dilation", (1, 4)))
    } | {"groups": groups}
    kernel, out = rng.integers(1, 5, ndim), rng.integers(1, (8, 3, 2)[ndim - 1] + 1, ndim)
    reach = np.array(options["dilation"]) * (kernel - 1) + 1 + (out - 1) * options["stride"]
    size = np.maximum(1, reach - 2 * np.array(options["padding"]) + rng.integers(0, 2, ndim))
    geometry = geometry_of(
        (images, groups * inner, *map(int, size)), (groups * outer, inner, *map(int, kernel)), options
    )
    x, weight, bias, g = (
        rng.integers(-3, 4, shape).astype(dtype)
        for shape in (geometry.in_shape, geometry.weight_shape, geometry.out_channels, geometry.out_shape)
    )
    plan = plans.plan(geometry, dtype)

    def deep(a):
        return a.reshape(*a.shape[:2], *[1] * (5 - a.ndim), *a.shape[2:])

    gathered = Gathered(plan.shape, dtype)
    expected = reference.convolve(x, weight, geometry) + bias.reshape(-1, *[1] * ndim)
    for weights in (weight, laid_out(weight)):
        y = gathered.convolve(deep(x), weights.reshape(plan.weight_shape), bias).reshape(geometry.out_shape)
        dw = gathered.run(deep(g), deep(x), deep(weights)).reshape(geometry.weight_shape)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(dw, reference.weight_gradient(g, x, geometry))


def test_gradients_of_filters_take_the_order_of_layers():
    from fconv.engine.compiled.gathered import Gathered

    geometry = geometry_of((2, 24, 3, 3), (40, 24, 3, 3), {"padding": 1, "stride": 2})
    rng = np.random.default_rng(0)
    g, x = (rng.standard_normal(s, np.float32) for s in (geometry.out_shape, geometry.in_shape))
    weight = laid_out(np.empty(geometry.weight_shape, np.float32))
    gathered = Gathered(plans.plan(geometry, "float32").shape, "float32")
    dw = gathered.run(g[:, :, None], x[:, :, None], weight[:, :, None])[:, :, 0]
    assert is_laid_out(dw)
    np.testing.assert_allclose(dw, reference.weight_gradient(g, x, geometry), rtol=1e-5, atol=1e-5)


def test_sums_over_long_filters_keep_their_digits():
    from fconv.engine.compiled.gathered import Gathered

    geometry = geometry_of((1, 512, 8, 8), (40, 512, 5, 5), {})
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(s, np.float32) for s in (geometry.in_shape, geometry.weight_shape))
    exact = reference.convolve(x.astype(np.float64), weight.astype(np.float64), geometry)
    gathered = Gathered(plans.plan(geometry, "float32").shape, "float32")
    for weights in (weight, laid_out(weight)):
        found = gathered.convolve(x[:, :, None], weights[None, :, :, None], None)[:, :, 0]
        assert np.linalg.norm(found - exact) <= 1e-6 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "options"),
    [
        ((1, 600, 3, 3), (40, 600, 3, 3), {"padding": 1, "stride": 2}),
        ((2, 18, 9, 8), (48, 9, 7, 6), {"groups": 2, "stride": 3}),
    ],
)
def test_the_bits_do_not_depend_on_how_filters_lie(x_shape, weight_shape, options):
    """A network that is loaded, whose filters lie in C order, goes on bit for bit."""
    from fconv.engine.compiled.columns import Columns
    from fconv.engine.compiled.gathered import Gathered

    geometry = geometry_of(x_shape, weight_shape, options)
    rng = np.random.default_rng(0)
    x, weight, g, bias = (
        rng.standard_normal(s, np.float32)
        for s in (x_shape, weight_shape, geometry.out_shape, geometry.out_channels)
    )
    plan = plans.plan(geometry, "float32")
    gathered = Gathered(plan.shape, "float32")
    columns = Columns(plan.shape, "float32", gathered)
    found = []
    for weights in (weight, laid_out(weight), channels_last(weight)):
        filters = weights.reshape(plan.weight_shape)
        y = gathered.convolve(x[:, :, None], filters, bias)
        dw = gathered.run(g[:, :, None], x[:, :, None], weights[:, :, None])
        found.append(
            [np.ascontiguousarray(a).tobytes() for a in (y, dw, columns.run(g[:, :, None], filters))]
        )
    assert found[0] == found[1] == found[2]
