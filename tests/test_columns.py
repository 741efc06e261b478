"""Input gradients of few channels or positions by columns that are added up, against the definition."""

import tracemalloc

import numpy as np
import pytest

import fconv.functional as F
from fconv.engine import compiled, plans, reference
from fconv.engine.cpu.filters import laid_out
from tests.convolutions import channels_last
from tests.test_adjoint_sweep import geometry_of

pytestmark = pytest.mark.skipif(not compiled.wished(), reason="nothing is compiled")

FEW = [
    ((2, 1, 31, 33), (48, 1, 3, 3), {"stride": 3, "padding": 1, "dilation": 2}),
    ((1, 2, 56, 40), (64, 2, 5, 5), {"stride": 3, "padding": 1}),
    ((1, 3, 12, 16), (192, 3, 7, 1), {}),
    ((2, 8, 12, 12), (256, 2, 7, 7), {"groups": 4}),
    ((3, 4, 100), (256, 4, 3), {"stride": 2, "padding": 2}),
    ((1, 1, 9, 8, 10), (64, 1, 3, 3, 3), {"stride": 2, "padding": 1}),
    ((40, 3, 50, 50), (200, 3, 4, 4), {"stride": 2}),  # more columns than are held at once
]


def planned(x_shape, weight_shape, options, dtype):
    geometry = geometry_of(x_shape, weight_shape, options)
    return geometry, plans.plan(geometry, dtype, algorithm="direct")  # exact with integers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", range(len(FEW)))
def test_input_gradients_of_few_channels_are_the_definition(case, dtype):
    from fconv.engine.compiled.columns import Columns
    from fconv.engine.compiled.gathered import Gathered

    x_shape, weight_shape, options = FEW[case]
    geometry, plan = planned(x_shape, weight_shape, options, dtype)
    rng = np.random.default_rng(case)
    g, weight = (rng.integers(-3, 4, shape).astype(dtype) for shape in (geometry.out_shape, weight_shape))
    expected = reference.input_gradient(g, weight, geometry)
    for gs in (g, channels_last(g), channels_last(np.concatenate([g, g], 1))[:, : g.shape[1]]):
        for weights in (weight, channels_last(weight), np.asfortranarray(weight)):
            np.testing.assert_array_equal(plan.input_gradient(gs, weights), expected)
            # Whichever way that was, as it depends on the processor.
            deep = gs.reshape(*gs.shape[:2], *[1] * (5 - gs.ndim), *gs.shape[2:])
            for in_place in (False, True):
                columns = Columns(plan.shape, dtype, Gathered(plan.shape, dtype) if in_place else None)
                found = columns.run(deep, weights.reshape(plan.weight_shape))
                np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_columns_of_any_shape_are_the_definition(seed, in_place):
    from fconv.engine.compiled.columns import Columns
    from fconv.engine.compiled.gathered import Gathered

    rng = np.random.default_rng(seed)
    ndim, dtype = 1 + seed % 3, ("float32", "float64")[seed // 3 % 2]
    groups, inner, outer = (int(rng.choice(sizes)) for sizes in ([1, 1, 3], [1, 2, 5, 21], [1, 17, 40]))
    options = {
        name: tuple(map(int, rng.integers(*limits, ndim)))
        for name, limits in (("stride", (1, 4)), ("padding", (0, 5)), ("dilation", (1, 4)))
    } | {"groups": groups}
    kernel = rng.integers(1, 6, ndim)
    size = np.array(options["dilation"]) * (kernel - 1) + 1 + rng.integers(0, (30, 12, 5)[ndim - 1], ndim)
    shapes = (2, groups * inner, *map(int, size)), (groups * outer, inner, *map(int, kernel))
    geometry, plan = planned(*shapes, options, dtype)
    g, weight = (
        rng.integers(-3, 4, shape).astype(dtype) for shape in (geometry.out_shape, geometry.weight_shape)
    )
    deep = g.reshape(*g.shape[:2], *[1] * (3 - ndim), *g.shape[2:])
    expected = reference.input_gradient(g, weight, geometry)
    for weights in (weight, channels_last(weight), laid_out(weight)):
        columns = Columns(plan.shape, dtype, Gathered(plan.shape, dtype) if in_place else None)
        found = columns.run(deep, weights.reshape(plan.weight_shape))
        np.testing.assert_array_equal(found.reshape(geometry.in_shape), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("size", [(3, 3), (2, 4), (1, 5), (4, 4)])
def test_few_positions_take_filters_in_the_order_of_layers(size, groups, dtype):
    from fconv.engine.compiled.columns import Columns
    from fconv.engine.compiled.gathered import Gathered

    rng = np.random.default_rng(0)
    options = {"padding": 1, "groups": groups, "stride": (1, 2)}
    geometry, plan = planned((1, 19 * groups, *size), (40 * groups, 19, 3, 3), options, dtype)
    g, weight = (
        rng.integers(-3, 4, shape).astype(dtype) for shape in (geometry.out_shape, geometry.weight_shape)
    )
    found = Columns(plan.shape, dtype, Gathered(plan.shape, dtype)).run(
        g[:, :, None], laid_out(weight).reshape(plan.weight_shape)
    )
    expected = reference.input_gradient(g, weight, geometry)
    np.testing.assert_array_equal(found.reshape(geometry.in_shape), expected)


@pytest.mark.parametrize("in_place", [False, True])
def test_the_bits_are_the_same_with_any_number_of_threads_and_pictures(in_place):
    import fconv as fc
    from fconv.engine.compiled.columns import Columns
    from fconv.engine.compiled.gathered import Gathered

    x_shape, weight_shape, options = FEW[-1]
    rng = np.random.default_rng(0)
    g_shape = geometry_of(x_shape, weight_shape, options).out_shape
    g, weight = (rng.standard_normal(shape, np.float32) for shape in (g_shape, weight_shape))

    def gradient(some):
        plan = planned((len(some), *x_shape[1:]), weight_shape, options, "float32")[1]
        filters = weight.reshape(plan.weight_shape)
        gathered = Gathered(plan.shape, "float32") if in_place else None
        return Columns(plan.shape, "float32", gathered).run(some[:, :, None], filters)

    before = fc.get_num_threads()
    try:
        found = []
        for n in (1, 2, 5):
            fc.set_num_threads(n)
            found.append(gradient(g))
    finally:
        fc.set_num_threads(before)
    found.append(np.concatenate([gradient(g[:7]), found[0][7:]]))
    for each in found[1:]:
        np.testing.assert_array_equal(each, found[0])


def test_filters_that_no_output_meets_may_be_infinite():
    x, weight = np.zeros((1, 1, 7, 7), np.float32), np.ones((64, 1, 9, 3), np.float32)
    weight[:, :, 0] = np.inf  # meets the padding alone
    g = np.ones((1, 64, 1, 3), np.float32)
    (dx,) = F.conv2d_vjp(g, x, weight, stride=(4, 2), padding=(1, 0), wrt="x")[:1]
    assert np.isfinite(dx).all()
    assert dx[0, 0, 0].tolist() == [64, 64, 128, 64, 128, 64, 64]


def test_the_columns_of_a_large_picture_are_not_kept():
    from fconv.engine.compiled.columns import Columns

    x, weight = np.zeros((1, 4, 387, 387), np.float32), np.zeros((320, 4, 5, 5), np.float32)
    g = np.zeros((1, 320, 387, 387), np.float32)
    shape = planned(x.shape, weight.shape, {"padding": 2}, "float32")[1].shape
    assert not Columns.pays(shape, 50 * [shape], "float32")  # all columns take 60 MB
    for gradient in (True, False):
        tracemalloc.start()
        if gradient:
            made, *_ = F.conv2d_vjp(g, x, weight, padding=2, wrt="x")
        else:
            made = F.conv2d(g, weight.swapaxes(0, 1), padding=2)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < made.nbytes + 40e6
