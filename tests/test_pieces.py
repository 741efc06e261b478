"""Large arrays are computed piece by piece: the results are those of the whole, in every memory order."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import fconv as fc
import fconv.functional as F
from fconv.functional import pieces
from fconv.functional.selecting import positive_part, where
from tests.convolutions import engine  # noqa: F401  (each test under both)

ORDERS = {
    "C": lambda x: x,
    "F": np.asfortranarray,
    "channels-last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "gaps": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "reversed": lambda x: x[:, :, ::-1],
}
FUNCTIONS = {
    "relu": F.relu,
    "sigmoid": F.sigmoid,
    "gelu": F.gelu,
    "elu": lambda x: F.elu(x, 0.5),
    "hardtanh": F.hardtanh,
    "power": lambda x: F.power(x, exponent=2.0),
}
GRADIENTS = {
    "relu": F.relu_vjp,
    "sigmoid": F.sigmoid_vjp,
    "gelu": F.gelu_vjp,
    "elu": lambda g, x: F.elu_vjp(g, x, 0.5),
    "hardtanh": F.hardtanh_vjp,
    "power": lambda g, x: F.power_vjp(g, x, exponent=2.0),
}


def drawn(*shape):
    return fc.random.normal(fc.random.key(7), shape)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pieces_give_what_small_arrays_give(name, order):
    """An array of 3 MB is divided; its samples, of 0.6 MB, are not."""
    x, g = ORDERS[order](drawn(5, 3, 250, 200)), drawn(5, 3, 250, 200)
    x[0, 0, 0, :3] = [np.nan, np.inf, -np.inf]
    samples = [slice(i, i + 1) for i in range(len(x))]
    y, dx = FUNCTIONS[name](x), GRADIENTS[name](g, x)
    assert y.strides == np.empty_like(x).strides
    np.testing.assert_array_equal(y, np.concatenate([FUNCTIONS[name](x[i]) for i in samples]))
    np.testing.assert_array_equal(dx, np.concatenate([GRADIENTS[name](g[i], x[i]) for i in samples]))
    np.testing.assert_array_equal(GRADIENTS[name](ORDERS["F"](g), x), dx)


def test_an_array_is_divided_where_it_is_large_and_has_no_gaps():
    x = drawn(40, 6, 50, 60)
    parts = pieces.Pieces(x).of(x)
    assert len(parts) > 1
    assert sum(part.size for part in parts) == x.size
    assert len(pieces.Pieces(x[:1, :1]).of(x[:1, :1])) == 1
    gaps = x[:, ::2]
    assert pieces.Pieces(gaps).of(gaps)[0] is gaps


def test_float16_is_computed_in_float32_piece_by_piece():
    x = drawn(1_500_000).astype(np.float16)
    expected = F.sigmoid(x.astype(np.float64))
    np.testing.assert_allclose(F.sigmoid(x), expected, rtol=1e-3)
    np.testing.assert_allclose(
        F.sigmoid_vjp(np.ones_like(x), x), expected * (1 - expected), rtol=2e-3, atol=1e-3
    )


def test_an_error_in_a_piece_reaches_the_caller():
    x = drawn(1_000_000)
    with pytest.raises(ZeroDivisionError):  # in the second
        pieces.Pieces(x).joined(lambda i: x[: 1 << 18] * (4 // (1 - i)))
    np.testing.assert_array_equal(F.relu(x), np.maximum(x, 0))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "longdouble"])
def test_where_is_numpys(dtype):
    a = np.array([1.0, -0.0, np.nan, np.inf, -2.0, 0.0]).astype(dtype)
    b = a[::-1].copy()
    mask = np.array([True, False, True, False, False, True])
    for first, second in ((a, b), (a, 0.0), (0.0, b), (a, 1.5), (-0.0, b), (a[:, None], b), (2, b)):
        found = where(mask, first, second)
        expected = np.where(mask, first, second)
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype.newbyteorder("=") or found.dtype == a.dtype
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    np.testing.assert_array_equal(where(np.array(True), a, 0.0), a)
    assert where(np.True_, a[0], 0.0) == 1


def test_where_of_two_types_is_numpys():
    mask, a, b = np.array([True, False]), np.array([0.1, 0.2], np.float32), np.array([0.3, 0.4])
    for first, second in ((a, b), (b, a)):
        found, expected = where(mask, first, second), np.where(mask, first, second)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_the_positive_part_is_numpys():
    for x in (np.array([-1.0, -0.0, 0.0, np.nan, np.inf, -np.inf]), drawn(2, 3), drawn(300_000)):
        np.testing.assert_array_equal(positive_part(x), np.maximum(x, 0))


@pytest.mark.parametrize("order", ["C", "channels-last"])
@pytest.mark.parametrize(
    ("pool", "options"),
    [
        (F.max_pool2d, {"kernel_size": 2}),
        (F.max_pool2d, {"kernel_size": 3, "stride": 1, "padding": 1}),
        (F.max_pool2d, {"kernel_size": 2, "stride": 3, "ceil_mode": True}),
        (F.avg_pool2d, {"kernel_size": 2}),
        (F.avg_pool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    ],
)
@pytest.mark.parametrize("odd", [None, np.nan, -np.inf])
def test_pooling_in_runs_of_samples(pool, options, order, odd):
    x = ORDERS[order](np.round(drawn(9, 3, 181, 170)))  # 3.3 MB, with many ties
    if odd is not None:
        x[2, 1, :4, :4] = odd
    y, pullback = pool.forward(x, **options)
    g = drawn(*y.shape)
    dx = pullback(g)
    for i in range(len(x)):
        found, pullback = pool.forward(x[i : i + 1], **options)
        np.testing.assert_array_equal(found, y[i : i + 1])
        np.testing.assert_array_equal(pullback(g[i : i + 1]), dx[i : i + 1])


@pytest.mark.parametrize("function", [F.relu, F.sigmoid, F.tanh, F.hardtanh, F.relu6, F.exp])
@pytest.mark.parametrize("size", [100, 600_000])
def test_what_follows_from_the_value_does_not_keep_its_input(function, size):
    x = drawn(size)
    gone = weakref.ref(x)
    y, pullback = function.forward(x)
    del x
    assert gone() is None
    assert pullback(y).shape == y.shape
