"""Compiled pooling: what NumPy's passes give, forward and backward; of maxima the same bits."""

import itertools

import numpy as np
import pytest

import fconv as fc
import fconv.functional as F
from fconv.engine import compiled
from fconv.functional import pooling_avg, pooling_max

pytestmark = pytest.mark.skipif(
    not compiled.wished() or compiled.problem() is not None, reason=f"no kernels: {compiled.problem()}"
)

ORDERS = {
    "channels-first": lambda x: x,
    "channels-last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "gaps": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
}
OPTIONS = [
    (2, {}), (3, {"stride": 2, "padding": 1}), (3, {"stride": 1, "padding": 1}), (2, {"stride": 3}),
    (3, {"stride": 2, "ceil_mode": True}), (3, {"stride": 2, "padding": 1, "dilation": 2}),
    (1, {"stride": 2}), (5, {"stride": 2, "padding": 2}), (2, {"stride": 1, "dilation": 3}),
    (5, {"stride": 1, "ceil_mode": True}),
]  # fmt: skip


MAX_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


def drawn(shape, seed, dtype=np.float32):
    return fc.random.normal(fc.random.key(seed), shape, dtype)


def both(monkeypatch, function, x, kernel, options, g_order):
    """Value and gradient, compiled and by NumPy."""
    kept = x.copy()
    y, pull = function.forward(x, kernel, **options)
    g = g_order(drawn(y.shape, 9, x.dtype))
    yield y, pull(g)
    np.testing.assert_array_equal(x, kept)
    with monkeypatch.context() as patch:
        for module in (pooling_max, pooling_avg):
            patch.setattr(module, "formulas_serve", lambda *arrays: False)
        y, pull = function.forward(x, kernel, **options)
        yield y, pull(g)


def same(monkeypatch, function, x, kernel, options, g_order=lambda g: g):
    found, expected = both(monkeypatch, function, x, kernel, options, g_order)
    if function in MAX_POOLS:
        np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    # Entries that several windows share are sums, and may be added up in another order.
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-6)
    assert found[1].shape == x.shape
    assert found[1].dtype == x.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kernel", "options"), OPTIONS, ids=str)
@pytest.mark.parametrize("order", ORDERS)
def test_two_axes(order, kernel, options, dtype, monkeypatch):
    for shape in ((2, 5, 13, 45), (1, 37, 9, 11), (3, 1, 12, 7), (2, 16, 12, 12), (1, 1, 5, 5)):
        same(monkeypatch, F.max_pool2d, ORDERS[order](drawn(shape, 0, dtype)), kernel, options)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [*(o for o in OPTIONS if "dilation" not in o[1]), (3, {"padding": 1, "count_include_pad": False}),
     (3, {"stride": 2, "padding": 1, "ceil_mode": True, "divisor_override": 5})],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("order", ORDERS)
def test_averages(order, kernel, options, monkeypatch):
    for shape in ((2, 5, 13, 45), (1, 37, 9, 11), (3, 1, 12, 7), (2, 16, 12, 12)):
        same(monkeypatch, F.avg_pool2d, ORDERS[order](drawn(shape, 0)), kernel, options)


@pytest.mark.parametrize("order", ORDERS)
def test_averages_over_one_and_three_axes(order, monkeypatch):
    same(monkeypatch, F.avg_pool1d, ORDERS[order](drawn((3, 20, 77), 0, np.float64)), 4, {"stride": 2})
    same(monkeypatch, F.avg_pool3d, ORDERS[order](drawn((2, 3, 5, 7, 39), 0)), 3, {"stride": 2})


@pytest.mark.parametrize("order", ORDERS)
def test_one_and_three_axes(order, monkeypatch):
    same(monkeypatch, F.max_pool1d, ORDERS[order](drawn((3, 20, 77), 0)), 3, {"stride": 2, "padding": 1})
    same(monkeypatch, F.max_pool3d, ORDERS[order](drawn((2, 3, 5, 7, 39), 0)), 3, {"stride": 2, "padding": 1})
    same(monkeypatch, F.max_pool3d, ORDERS[order](drawn((1, 18, 4, 6, 8), 0)), (1, 2, 2), {})


@pytest.mark.parametrize(("x_order", "g_order"), list(itertools.product(ORDERS, ORDERS)))
def test_gradients_in_another_memory_order(x_order, g_order, monkeypatch):
    x = ORDERS[x_order](drawn((2, 18, 9, 40), 0))
    same(monkeypatch, F.max_pool2d, x, 3, {"stride": 2, "padding": 1}, ORDERS[g_order])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("kernel", "options"), OPTIONS, ids=str)
def test_ties_nan_and_infinities(order, kernel, options, monkeypatch):
    x = np.round(drawn((2, 18, 11, 37), 0))  # many ties
    x[0, :, 2:5, 3:9], x[1, ::2, 4, ::5], x[0, 1::2, 7:, 20:] = -np.inf, np.nan, np.inf
    same(monkeypatch, F.max_pool2d, ORDERS[order](x), kernel, options)


@pytest.mark.parametrize("order", ORDERS)
def test_the_same_bits_with_any_number_of_threads(order):
    x = ORDERS[order](drawn((5, 40, 21, 33), 0))
    threads, found = fc.get_num_threads(), set()
    try:
        for n in range(1, 8):
            fc.set_num_threads(n)
            y, pull = F.max_pool2d.forward(x, 3, stride=2, padding=1)
            found.add(y.tobytes() + pull(y).tobytes())
    finally:
        fc.set_num_threads(threads)
    assert len(found) == 1


def test_nothing_is_touched_outside():
    """Guards around the input and its gradient's reading; the gradient has zeros where no window reaches."""
    around = np.full((1, 3, 9, 41), np.nan, np.float32)
    x = around[:, :, 1:8, 1:40]
    x[...] = drawn(x.shape, 0)
    y, pull = F.max_pool2d.forward(x, 2, stride=2)
    assert np.isfinite(y).all()
    dx = pull(np.ones_like(y))
    assert dx.sum() == y.size
    assert not dx[:, :, 6:].any()
    assert not dx[..., 38:].any()
    assert np.isnan(around[:, :, 0]).all()


def test_no_samples():
    x = np.zeros((0, 3, 8, 8), np.float32)
    y, pull = F.max_pool2d.forward(x, 2)
    assert pull(y).shape == x.shape


@pytest.mark.parametrize(("kernel", "options"), OPTIONS[:2], ids=str)
@pytest.mark.parametrize("order", ORDERS)
def test_tangents_are_picked_where_the_maxima_are(order, kernel, options, monkeypatch):
    for shape in ((2, 5, 13, 45), (1, 37, 9, 11)):
        x, t = ORDERS[order](drawn(shape, 0)), drawn(shape, 1)
        x.flat[::7] = np.nan
        found = F.max_pool2d_jvp(t, x, kernel, **options)
        with monkeypatch.context() as patch:
            patch.setattr(pooling_max, "formulas_serve", lambda *arrays: False)
            np.testing.assert_array_equal(found, F.max_pool2d_jvp(t, x, kernel, **options))
