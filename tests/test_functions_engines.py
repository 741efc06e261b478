"""Every function as compiled kernels compute it and as NumPy does where none are compiled."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fconv import functional as F
from fconv import random
from fconv.testing import strategies as fst
from fconv.testing.purity import call_purely, check_close
from tests.cases import CASES
from tests.convolutions import computing
from tests.test_jvp import tangents_of

CURVES = [name for name in CASES if hasattr(getattr(F, name), "second")]
LAYOUTS = {
    "as drawn": lambda x: x,
    "F": np.asfortranarray,
    "channels-last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "gaps": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
}


def derivatives(function, args, options, key):
    """Compute value, gradients by all arrays and by each alone, and tangent; NumPy's may warn no more."""
    y, pullback = function.forward(*args, **options)
    g = random.normal(key, np.shape(y), np.float64)
    grads = call_purely("vjp", function.vjp, g, *args, **options)
    found = {"value": y, "value alone": function(*args, **options)}
    for how, each in (("gradient", grads), ("pullback", pullback(g))):
        many = each if isinstance(each, tuple) else (each,)
        found |= {f"{how} {i}": dx for i, dx in enumerate(many) if dx is not None}
    for name, dx in zip(function.arrays, grads if isinstance(grads, tuple) else (grads,), strict=False):
        if dx is not None:
            alone = function.vjp(g, *args, wrt=name, **options)
            many = alone if isinstance(alone, tuple) else (alone,)
            found |= {f"gradient by {name}, {i}": dx for i, dx in enumerate(many) if dx is not None}
    tangents = tangents_of(function, args, options, random.fold_in(key, 1))
    return found | {"tangent": function.jvp(tangents, *args, **options)}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=settings().max_examples // 2)
@given(data=st.data(), key=fst.keys(), layout=st.sampled_from(sorted(LAYOUTS)))
def test_numpy_gives_what_compiled_kernels_give(name, data, key, layout):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    with computing("compiled"):
        assume(np.isfinite(function(*args, **options)).all())  # not the mean over nothing
        ours = derivatives(function, args, options, key)
    laid = [LAYOUTS[layout](a) if getattr(a, "ndim", 0) > 1 else a for a in args]
    with computing("numpy"):
        theirs = derivatives(function, laid, options, key)
    assert ours.keys() == theirs.keys()
    for what, array in ours.items():
        assert theirs[what].dtype == array.dtype, what
        check_close(name, f"compiled and NumPy's {what}", array, theirs[what], 1e-11, 1e-3)


@pytest.mark.parametrize("name", CURVES)
@settings(max_examples=settings().max_examples // 4)
@given(data=st.data())
def test_the_second_derivative_is_the_slope_of_the_first(name, data):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    bound = inspect.signature(function).bind(*args, **options).arguments
    x = np.append(bound.pop("x").ravel(), np.linspace(-7.3, 7.1, 37))
    ones, h = np.ones_like(x), 1e-5
    with np.errstate(all="ignore"):  # outside of the domain of a logarithm
        below, at, above = (function.vjp(ones, x + step, **bound) for step in (-h, 0.0, h))
        found = function.second(x, **bound)
    if found is None:
        return
    found = np.broadcast_to(found, x.shape)
    smooth = np.isfinite(below + above)
    with np.errstate(all="ignore"):
        kink = np.maximum(abs(above - 2 * at + below) * 1e3, abs(above - below)) > 1e-3 * (1 + abs(at))
    smooth &= ~kink
    np.testing.assert_allclose(
        found[smooth], ((above - below) / (2 * h))[smooth], rtol=1e-5, atol=1e-7, err_msg=name
    )
