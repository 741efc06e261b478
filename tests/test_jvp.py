"""Forward mode: every function against its vjp, which is its adjoint."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fconv import functional as F
from fconv import random
from fconv.testing import strategies as fst
from fconv.testing.purity import call_purely
from tests.cases import CASES

NAMES = sorted(CASES)


def tangents_of(function, args, options, key):
    """Draw a tangent for each array that has a gradient, and None for the others."""
    import inspect

    bound = inspect.signature(function).bind(*args, **options).arguments
    arrays = [bound.get(a) for a in function.arrays]
    keys = random.split(key, len(arrays))
    return tuple(
        random.normal(k, x.shape, x.dtype)
        if x is not None and a not in function.constants and x.dtype.kind == "f"
        else None
        for k, a, x in zip(keys, function.arrays, arrays, strict=True)
    )


def paired(grads, tangents):
    """Return the sum of the products of gradients and tangents, and of their sizes."""
    many = isinstance(grads, tuple)
    pairs = [
        (g, t)
        for g, t in zip(grads if many else (grads,), tangents, strict=True)
        if g is not None and t is not None
    ]
    return sum((g * t).sum() for g, t in pairs), sum(abs(g * t).sum() for g, t in pairs)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=settings().max_examples // 3)
@given(data=st.data(), key=fst.keys())
def test_jvp_is_the_adjoint_of_the_vjp(name, data, key):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    y = function(*args, **options)
    assume(np.isfinite(y).all())  # not the mean over nothing
    tangents = tangents_of(function, args, options, key)
    dy = call_purely(name, getattr(F, f"{name}_jvp"), tangents, *args, **options)
    assert dy.shape == y.shape
    assert dy.dtype == y.dtype
    g = random.normal(random.fold_in(key, 1), y.shape, np.float64)
    right, size = paired(getattr(F, f"{name}_vjp")(g, *args, **options), tangents)
    left, size = (g * dy).sum(), size + abs(g * dy).sum()
    assume(np.isfinite(left) and np.isfinite(right))
    # Derivatives that cancel are as exact as what they are the difference of.
    size += np.linalg.norm(g) * np.sqrt(sum((t * t).sum() for t in tangents if t is not None))
    assert abs(left - right) <= 1e-12 * size


def test_every_differentiable_function_has_a_jvp():
    for name in NAMES:
        function = getattr(F, name)
        assert getattr(F, f"{name}_jvp") is function.jvp
        assert function.jvp.__name__ == f"{name}_jvp"
        assert "tangents" in function.jvp.__doc__
    assert {name for name in F.__all__ if f"{name}_jvp" in F.__all__} == set(NAMES)


@pytest.mark.parametrize(
    "name", ["batch_norm", "conv2d", "cross_entropy", "gelu", "max_pool2d", "scaled_dot_product_attention"]
)
@settings(max_examples=settings().max_examples // 3)
@given(data=st.data(), key=fst.keys())
def test_jvp_is_the_slope_of_the_value(name, data, key):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    tangents = tangents_of(function, args, options, key)
    places = [list(inspect.signature(function).parameters).index(a) for a in function.arrays]

    def at(h):
        moved = list(args)
        for place, t in zip(places, tangents, strict=True):
            if t is not None and place < len(moved):
                moved[place] = moved[place] + h * t
        return function(*moved, **options)

    assume(all(place < len(args) for place, t in zip(places, tangents, strict=True) if t is not None))
    y, dy, h = at(0.0), function.jvp(tangents, *args, **options), 1e-6
    assume(np.isfinite(y).all())
    slopes = [(at(h) - y) / h, (y - at(-h)) / h]
    assume(np.allclose(*slopes, rtol=1e-3, atol=1e-3))  # no kink between
    np.testing.assert_allclose(
        dy, (slopes[0] + slopes[1]) / 2, rtol=1e-5, atol=1e-5 * (1 + abs(dy).max(initial=0))
    )


@pytest.mark.parametrize("name", NAMES)
def test_value_and_jvp_share_one_definition(name):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # drawing one example outside of a test
        args, options = CASES[name].draw.example()
    function = getattr(F, name)
    narrow = [a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a for a in args]
    options = {
        k: v.astype(np.float32) if getattr(v, "dtype", None) == np.float64 else v for k, v in options.items()
    }
    tangents = tangents_of(function, narrow, options, random.key(3))
    y, dy = function.value_and_jvp(tangents, *narrow, **options)
    np.testing.assert_array_equal(y, function(*narrow, **options))
    np.testing.assert_array_equal(dy, function.jvp(tangents, *narrow, **options))
    assert dy.dtype == np.float32


ONES = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.relu_jvp(None, ONES), ValueError, "relu_jvp: expected a tangent of x, got None alone"),
        (lambda: F.relu_jvp(ONES[:1], ONES), ValueError, r"relu_jvp: expected a tangent of x of its shape \(2, 3\), got \(1, 3\)"),
        (lambda: F.relu_jvp((ONES, ONES), ONES), ValueError, "relu_jvp: expected tangents for x, None for those without, got 2"),
        (lambda: F.relu_jvp([1.0], ONES), TypeError, "relu_jvp: the tangent of x must be a NumPy or CuPy array, got float"),
        (lambda: F.relu_jvp(ONES.astype(int), ONES), TypeError, "relu_jvp: expected a tangent of x of float64, got"),
        (lambda: F.relu_jvp(ONES.astype("f4"), ONES), TypeError, "relu_jvp: expected a tangent of x of float64, got"),
        (lambda: F.relu_jvp(ONES, ONES.astype(int)), TypeError, "relu: x must be a real floating-point array"),
        (lambda: F.linear_jvp(ONES, ONES, ONES), TypeError, "linear_jvp: expected a tuple of tangents for x, weight, bias, got"),
        (lambda: F.linear_jvp((ONES,), ONES, ONES), ValueError, "linear_jvp: expected tangents for x, weight, bias, None for those without, got 1"),
        (lambda: F.linear_jvp((None, None, None), ONES, ONES), ValueError, "linear_jvp: expected a tangent of x, weight, bias, got None alone"),
        (lambda: F.linear_jvp((ONES, None, ONES[0]), ONES, ONES), ValueError, "linear_jvp: bias was not given; its tangent is None"),
        (lambda: F.nll_loss_jvp((ONES, ONES, None), ONES, np.zeros(2, int)), ValueError, "nll_loss_jvp: target has no gradient; its tangent is None"),
    ],
)  # fmt: skip
def test_tangents_that_do_not_fit_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_lone_tangent_and_a_tuple_of_one_are_the_same():
    np.testing.assert_array_equal(F.tanh_jvp(ONES, ONES), F.tanh_jvp((ONES,), ONES))
    np.testing.assert_array_equal(F.linear_jvp((ONES, None), ONES, ONES), F.linear(ONES, ONES))


def test_float16_is_worked_out_in_float32():
    x = np.full((1, 2, 16, 16), 4e4, np.float16)
    dy = F.avg_pool2d_jvp(x, x, 4)
    assert dy.dtype == np.float16
    assert (dy == x[:, :, :4, :4]).all()
