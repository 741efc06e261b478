"""Linear functions of drawn sizes and options: their definition, their adjoint, their forward derivative."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fconv import functional as F
from fconv import random
from fconv.testing.layouts import LAYOUTS, laid_out
from tests.cases import CASES
from tests.convolutions import computing
from tests.test_adjoint import ENGINES, EXACT

LINEAR: dict[str, set[int]] = {}
"""Names, and the positions of arguments in which they are linear."""
for _name, _, _, _places, _ in EXACT:
    LINEAR.setdefault(_name, set()).update(_places)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", LINEAR)
@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_drawn_calls_of_linear_functions_have_adjoints(name, engine, data):
    args, options = data.draw(CASES[name].draw)
    layout = data.draw(st.sampled_from(LAYOUTS))
    args = [laid_out(a, layout) if isinstance(a, np.ndarray) else a for a in args]
    function, names = getattr(F, name), list(inspect.signature(getattr(F, name)).parameters)
    with computing(engine):
        y, pullback = function.forward(*args, **options)
        if not np.isfinite(y).all():  # the mean over nothing
            return
        np.testing.assert_allclose(y, CASES[name].naive(*args, **options), rtol=1e-10, atol=1e-8)
        g = laid_out(random.normal(random.key(y.size), y.shape, np.float64), layout)
        grads = pullback(g)
        grads = dict(zip(function.arrays, grads if isinstance(grads, tuple) else (grads,), strict=True))
        for place in LINEAR[name] & set(range(len(args))):
            x, grad = args[place], grads[names[place]]
            if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
                assert grad is None
                continue
            assert grad.shape == x.shape
            moved = y - function(*args[:place], 0 * x, *args[place + 1 :], **options)
            scale = 1e-10 * (abs(g * y).sum() + abs(grad * x).sum() + 1e-300)
            assert abs((g * moved).sum() - (grad * x).sum()) <= scale
            tangents = tuple(x if each == names[place] else None for each in function.arrays)
            along = function.jvp(tangents, *args, **options)
            np.testing.assert_allclose(along, moved, rtol=0, atol=1e-10 * (1 + abs(y).max(initial=0)))
