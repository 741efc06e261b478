"""NaN passes through everything: from an element to the value, and from its gradient back to the element."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fconv import functional as F
from tests.cases import CASES


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=15)
@given(data=st.data())
def test_a_nan_entry_has_a_nan_gradient_where_the_value_is_nan(name, data):
    """A mask that says where a gradient passes, not where it is 0, loses it: NaN compares as false."""
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    arrays = [i for i, a in enumerate(args) if a is None or isinstance(a, np.ndarray)]
    named = dict(zip(arrays, function.arrays, strict=False))
    usable = [i for i in arrays if named[i] not in function.constants and is_float(args[i])]
    if not usable or not np.isfinite(function(*args, **options)).all():
        return  # an empty batch, or the mean over nothing
    place = data.draw(st.sampled_from(usable))
    x = np.array(args[place])
    at = np.unravel_index(data.draw(st.integers(0, x.size - 1)), x.shape)
    x[at] = np.nan
    args = [*args[:place], x, *args[place + 1 :]]
    y, pullback = function.forward(*args, **options)
    if not np.isnan(y).any():
        return  # an element that nothing reads
    grads = pullback(np.where(np.isnan(y), np.nan, np.ones_like(y)))
    grad = grads[arrays.index(place)] if isinstance(grads, tuple) else grads
    assert np.isnan(grad[at])


def is_float(a):
    return a is not None and a.dtype.kind == "f" and a.size > 0


PIECEWISE = {
    "relu": {}, "relu6": {}, "hardtanh": {}, "leaky_relu": {}, "hardsigmoid": {}, "hardswish": {}, "abs": {},
    "softshrink": {}, "hardshrink": {}, "threshold": {"threshold": 0.1, "value": 20.0},
    "clamp": {"min": -1.0, "max": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("name", PIECEWISE)
def test_piecewise_functions(name, count, dtype):
    nan = np.full(count, np.nan, dtype)
    y, pullback = getattr(F, name).forward(nan, **PIECEWISE[name])
    assert np.isnan(y).all()
    assert np.isnan(pullback(nan)).all()


def test_the_largest_of_all_is_nan():
    x = np.array([1.0, np.nan, 3.0])
    assert np.isnan(F.amax_vjp(np.array(np.nan), x)).tolist() == [False, True, False]
    assert F.amax_jvp(np.array([np.nan, 2.0, np.nan]), x) == 2.0
    assert F.amax_vjp(np.array(2.0), x).tolist() == [0, 2, 0]
