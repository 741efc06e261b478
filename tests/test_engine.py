"""The CPU engines: each path gives what the definition gives, with the same bits on any number of threads."""

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fconv as fc
import fconv.functional as F
from fconv.engine import plans, reference
from fconv.engine.cpu import direct, filters, tiles
from fconv.geometry import conv_geometry
from fconv.testing import strategies as fst
from tests.convolutions import CASES, _the_number_of_threads_stays, arrays, engine  # noqa: F401

f32 = np.float32


@st.composite
def convolutions(draw):
    """Draw a geometry with the arrays of a convolution in any memory order."""
    ndim = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    inner, outer = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    sizes = st.lists(st.integers(1, 13), min_size=ndim, max_size=ndim).map(tuple)
    small = st.lists(st.integers(1, 4), min_size=ndim, max_size=ndim).map(tuple)
    kernel = draw(small if ndim != 2 else small | st.just((3, 3)))
    stride, dilation = draw(small), draw(st.just((1,) * ndim) | small)
    if draw(st.booleans()):
        stride = (1,) * ndim
    padding = tuple(draw(st.integers(0, 4)) for _ in range(ndim))
    x_shape = (draw(st.integers(1, 4)), groups * inner, *draw(sizes))
    try:
        geometry = conv_geometry(
            "conv", ndim, x_shape, (groups * outer, inner, *kernel), None, stride, padding, dilation, groups
        )
    except ValueError:
        assume(False)
    arrays = [
        draw(fst.arrays_like(s, np.float64)) for s in (x_shape, geometry.weight_shape, geometry.out_shape)
    ]
    return geometry, *arrays


def close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * (1 + abs(expected).max(initial=0)))


@given(convolutions(), st.sampled_from(plans.ALGORITHMS))
def test_every_algorithm_is_the_definition(case, algorithm):
    geometry, x, weight, g = case
    assume(algorithm != "winograd" or geometry.is_3x3)
    plan = plans.plan(geometry, "float64", "cpu", algorithm)
    y = plan.convolve(x, weight, None)
    dx = plan.input_gradient(g, weight)
    dw = plan.weight_gradient(g, x, weight)
    close(y, reference.convolve(x, weight, geometry))
    close(dx, reference.input_gradient(g, weight, geometry))
    close(dw, reference.weight_gradient(g, x, geometry))


@given(convolutions())
def test_the_bias_is_added_to_every_position(case):
    geometry, x, weight, _ = case
    bias = np.arange(1.0, geometry.out_channels + 1)
    expected = reference.convolve(x, weight, geometry) + bias.reshape(-1, *(1,) * geometry.windows.ndim)
    close(plans.plan(geometry, "float64").convolve(x, weight, bias), expected)


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_with_any_number_of_threads(name):
    x_shape, weight_shape, options = CASES[name]
    x, weight = arrays(x_shape, weight_shape)
    y = F.conv2d(x, weight, **options)
    grads = F.conv2d_vjp(y, x, weight, **options)
    for n in (1, 2, 3, 7):
        fc.set_num_threads(n)
        np.testing.assert_array_equal(F.conv2d(x, weight, **options), y)
        for found, expected in zip(F.conv2d_vjp(y, x, weight, **options), grads, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "shapes",
    [
        ((7, 32, 57, 56), (48, 32, 3, 3)),
        ((24, 32, 57, 56), (48, 32, 3, 3)),
        ((2, 768, 28, 28), (96, 768, 3, 3)),
    ],
)
def test_the_same_bits_with_any_memory_order_of_many_pictures(shapes):
    x, weight = arrays(*shapes)  # some pictures are copied to channels-last at a time
    other = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y = F.conv2d(x, weight, padding=1)
    np.testing.assert_array_equal(F.conv2d(other, weight, padding=1), y)
    g = np.ascontiguousarray(y)
    for found, expected in zip(
        F.conv2d_vjp(g, x, weight, padding=1), F.conv2d_vjp(y, other, weight, padding=1), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", [*CASES, "one position", "one filter"])
def test_the_same_bits_with_any_memory_order_of_the_weight(name):
    more = {
        "one position": ((1, 40, 3, 3), (24, 40, 3, 3), {}),
        "one filter": ((2, 40, 9, 9), (1, 40, 3, 3), {}),
    }
    x_shape, weight_shape, options = {**CASES, **more}[name]
    x, weight = arrays(x_shape, weight_shape)
    laid = filters.laid_out(weight)
    assert filters.is_laid_out(laid)
    y = F.conv2d(x, weight, **options)
    g = fc.random.normal(fc.random.key(9), y.shape)
    np.testing.assert_array_equal(F.conv2d(x, laid, **options), y)
    grads = F.conv2d_vjp(g, x, weight, **options), F.conv2d_vjp(g, x, laid, **options)
    for found, expected in zip(*grads, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert grads[0][1].flags.c_contiguous


def test_layers_draw_weights_in_the_engines_memory_order_and_keep_it():
    net = fc.compose(fc.conv2d(4, 3), fc.conv_transpose2d(5, 3), fc.flatten(), fc.linear(2))
    params = net.init(fc.random.key(0), (2, 3, 8, 8))
    given = {name: np.ascontiguousarray(value) for name, value in fc.to_state_dict(params).items()}
    for tree in (params, fc.from_state_dict(params, given)):
        weights = [leaf for leaf in fc.trees.leaves(tree) if leaf.ndim == 4]
        assert len(weights) == 2
        assert all(filters.is_laid_out(weight) for weight in weights)


@pytest.mark.parametrize("algorithm", plans.ALGORITHMS)
@pytest.mark.parametrize("name", CASES)
def test_every_case_by_every_algorithm(name, algorithm):
    x_shape, weight_shape, options = CASES[name]
    x, weight = (a.astype(np.float64) for a in arrays(x_shape, weight_shape))
    g = fc.random.normal(fc.random.key(9), F.conv2d(x, weight, **options).shape, np.float64)
    try:
        found = F.conv2d(x, weight, algorithm=algorithm, **options)
    except ValueError as error:
        assert "needs" in str(error)  # noqa: PT017 - whether it serves the shape is not at issue here
        return
    close(found, F.conv2d(x, weight, algorithm="reference", **options))
    grads = (F.conv2d_vjp(g, x, weight, algorithm=each, **options) for each in (algorithm, "reference"))
    for a, b in zip(*grads, strict=True):
        if a is not None:
            close(a, b)


def test_the_table_chooses(engine):  # noqa: F811
    def chosen(name, dtype=f32):
        x_shape, weight_shape, options = CASES[name]
        return plans.algorithm_for(x_shape, weight_shape, dtype=dtype, **options)

    for name in CASES:
        assert chosen(name) == f"{'winograd' if name == 'winograd' else 'direct'} ({engine})"
    assert chosen("winograd", np.float64) == f"direct ({engine})"
    assert chosen("winograd", np.float16) == f"winograd ({engine})"  # computed in float32
    assert plans.algorithm_for((0, 3, 8, 8), (4, 3, 3, 3)) == "reference (numpy)"
    with pytest.raises(ValueError, match="kernel"):  # by default there is no padding
        plans.algorithm_for((1, 3, 8, 8), (4, 3, 9, 9))


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("direct", 1e-6),
        ("strided", 1e-6),
        ("winograd", 1e-5),
        ("depthwise", 1e-6),
        ("planar", 1e-6),
        ("planar to few", 1e-6),
        ("adding", 1e-6),
    ],
)
def test_float32_is_near_float64(name, bound, mean):
    x_shape, weight_shape, options = CASES[name]
    x, weight = arrays(x_shape, weight_shape, mean)
    g = fc.random.normal(fc.random.key(5), F.conv2d(x, weight, **options).shape)
    exact = [a.astype(np.float64) for a in (g, x, weight)]
    y = F.conv2d(*exact[1:], algorithm="reference", **options)
    pairs = [(F.conv2d(x, weight, **options), y)]
    dx, dw, _ = F.conv2d_vjp(g, x, weight, **options)
    pairs += zip((dx, dw), F.conv2d_vjp(*exact, algorithm="reference", **options), strict=False)
    for found, expected in pairs:
        assert np.linalg.norm(found - expected) < bound * np.linalg.norm(expected)


def test_direct_keeps_infinity_in_its_place():
    x, weight = arrays((1, 32, 16, 16), (32, 32, 3, 3))
    x[0, 0, 0, 0] = np.inf
    with np.errstate(invalid="ignore"):
        y = F.conv2d(x, weight, padding=1, algorithm="direct")
    assert np.isfinite(y[:, :, 2:, 2:]).all()


@pytest.mark.parametrize(("algorithm", "least", "most"), [("direct", 0, 2e-5), ("winograd", 1e-3, 1.0)])
def test_rounding_errors_of_a_large_entry(algorithm, least, most):
    """As documented, Winograd spreads them over outputs that do not see it, and direct does not."""
    x = fc.random.normal(fc.random.key(1), (1, 32, 16, 16))
    weight = fc.random.normal(fc.random.key(2), (32, 32, 3, 3)) / np.float32(np.sqrt(32 * 9))
    x[0, 0, 8, 8] = 1e6
    exact = F.conv2d(x.astype(np.float64), weight.astype(np.float64), padding=1)
    error = abs(F.conv2d(x, weight, padding=1, algorithm=algorithm) - exact).max(axis=(0, 1))
    error[7:10, 7:10] = 0  # those that see it
    assert least <= error.max() < most
    assert error[:4].max() < 2e-5  # blocks of outputs away


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_extra_memory_does_not_grow_with_the_batch(algorithm):
    """The windows of this batch take 75 MB; a thread's work space is at most about 8 MB, which it keeps."""
    x, weight = arrays((64, 32, 32, 32), (32, 32, 3, 3))
    fc.set_num_threads(2)
    tracemalloc.start()
    y = F.conv2d(x, weight, padding=1, algorithm=algorithm)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - y.nbytes < 2 * 9e6


@given(
    st.integers(1, 5), st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple), st.integers(1, 60),
    st.sampled_from([1, 4]),
)  # fmt: skip
def test_tiles_cover_everything_once(batch, size, target, multiple):
    count = np.zeros((batch, *size), int)
    for tile in tiles.tiles(batch, size, target, multiple):
        count[tile.index] += 1
        assert all(start % multiple == 0 for start in tile.start)
        assert tile.positions == count[tile.index].size
    assert (count == 1).all()


def test_windows_cannot_leave_their_memory():
    at = tiles.Correlation((4, 4), (4, 4), (3, 3), (1, 1), (1, 1), (0, 0))
    with pytest.raises((ValueError, TypeError)):
        tiles.windows(np.zeros((1, 4, 4, 2)), (4, 4), at)
    with pytest.raises(ValueError, match="leave an array of shape"):
        tiles.windows(np.zeros((1, 6, 6, 2))[:, :4, :4], (4, 4), at)


@pytest.mark.parametrize(
    ("algorithm", "options", "text"),
    [
        (
            "fast",
            {},
            "conv2d: expected an algorithm of auto, direct, winograd, reference, got 'fast'",
        ),
        ("winograd", {"stride": 2}, 'conv2d: algorithm "winograd" needs a 3x3 kernel with stride 1'),
    ],
)
def test_an_algorithm_that_cannot_be_is_refused(algorithm, options, text):
    x, weight = arrays((1, 4, 9, 9), (4, 4, 3, 3))
    with pytest.raises(ValueError, match=text):
        F.conv2d(x, weight, algorithm=algorithm, **options)


def test_tile_sizes_depend_on_the_shape_alone():
    assert direct.positions_of(576, 64, 4, 10**6) == 1365  # of 3 MB
    assert direct.positions_of(10**6, 64, 4, 10**6) == 256
    assert direct.positions_of(9, 1, 4, 10**6) == 8192
    assert direct.positions_of(9, 4, 4, 1000) == 8192  # too little to hand out
    assert direct.positions_of(1000, 188, 4, 1000) == 250


def test_a_layer_holds_its_algorithm():
    x = fc.random.normal(fc.random.key(0), (2, 16, 8, 8))
    layer = fc.conv2d(16, 3, padding=1, algorithm="reference")
    params = layer.init(fc.random.key(0), x.shape)
    np.testing.assert_array_equal(
        layer.apply(params, x), F.conv2d(x, **params, padding=1, algorithm="reference")
    )
    assert "algorithm='reference'" in repr(layer)
    assert "algorithm" not in repr(fc.conv2d(16, 3))
    with pytest.raises(ValueError, match='conv2d: algorithm "winograd" needs a 3x3 kernel'):
        fc.conv2d(16, 5, algorithm="winograd")
    with pytest.raises(ValueError, match="conv_transpose2d: expected an algorithm of auto, "):
        fc.conv_transpose2d(16, 5, algorithm="quick")


@pytest.mark.parametrize("case", CASES)
def test_infinities_make_no_warnings(case):
    x_shape, weight_shape, options = CASES[case]
    x, weight = arrays(x_shape, weight_shape)
    x[0, 0, 0, 0], x[-1, -1, -1, -1], weight[-1, :, 0, 0] = np.inf, -np.inf, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = F.conv2d(x, weight, **options)
        F.conv2d_vjp(np.where(np.isfinite(y), y, np.inf), x, weight, **options)
    assert not np.isfinite(y).all()
