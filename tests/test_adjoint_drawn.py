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


ONE, TWO, THREE = np.ones(6), np.ones((2, 6)), np.ones((2, 6, 4))
REFUSED = [
    ("linear", [TWO, np.ones((3, 5))], {}),
    ("linear", [TWO, np.ones((3, 6)), np.ones(4)], {}),
    ("linear", [TWO, ONE], {}),
    ("bilinear", [TWO, TWO, np.ones((3, 6, 5))], {}),
    ("bilinear", [TWO, TWO, np.ones((3, 6, 6)), np.ones(2)], {}),
    ("bilinear", [TWO, np.ones((3, 6)), np.ones((3, 6, 6))], {}),
    ("embedding", [np.array([5]), np.ones((5, 2))], {}),
    ("embedding", [np.array([-6]), np.ones((5, 2))], {}),
    ("pad", [TWO], {"pad": (1,)}),
    ("pad", [TWO], {"pad": 1}),
    ("pad", [TWO], {"pad": (1,) * 6}),
    ("pad", [TWO], {"pad": (-4, -3)}),
    ("pad", [TWO], {"pad": (1, 1), "mode": "none"}),
    ("pad", [THREE], {"pad": (4, 0), "mode": "reflect"}),
    ("pad", [THREE], {"pad": (5, 0), "mode": "circular"}),
    ("pad", [THREE], {"pad": (1, 0), "mode": "reflect", "value": 1.0}),
    ("avg_pool2d", [THREE], {"kernel_size": 2, "divisor_override": 0}),
    ("avg_pool1d", [THREE], {"kernel_size": 5}),
    ("avg_pool1d", [THREE], {"kernel_size": 2, "padding": 2}),
    ("avg_pool1d", [TWO[0]], {"kernel_size": 2}),
    ("permute", [THREE], {"dims": (0, 1)}),
    ("permute", [THREE], {"dims": (0, 1, 1)}),
    ("permute", [THREE], {"dims": 2}),
    ("unsqueeze", [TWO], {"dim": 3}),
    ("unsqueeze", [TWO], {"dim": -4}),
    ("flatten", [THREE], {"start_dim": 2, "end_dim": 1}),
    ("reshape", [TWO], {"shape": (5, -1)}),
    ("reshape", [TWO], {"shape": (-1, -1)}),
    ("reshape", [TWO], {"shape": (3, 5)}),
    ("reshape", [TWO], {"shape": (-2, 6)}),
    ("unflatten", [TWO], {"dim": 1, "sizes": ()}),
    ("unflatten", [TWO], {"dim": 1, "sizes": (4, 2)}),
    ("expand", [TWO], {"sizes": (-2, 6)}),
    ("expand", [TWO], {"sizes": (-2, 2, 6)}),
    ("expand", [TWO], {"sizes": (3, 6)}),
    ("expand", [TWO], {"sizes": (6,)}),
    ("expand", [TWO], {"sizes": (-1, 2, 6)}),
    ("tile", [TWO], {"dims": (-1, 2)}),
    ("narrow", [TWO], {"dim": 1, "start": 4, "length": 3}),
    ("narrow", [TWO], {"dim": 1, "start": -7, "length": 1}),
    ("narrow", [TWO], {"dim": 1, "start": 0, "length": -1}),
    ("slice_along", [TWO], {"dim": 1, "start": 0, "end": 6, "step": 0}),
    ("select", [TWO], {"dim": 1, "index": 6}),
    ("select", [TWO], {"dim": 1, "index": -7}),
    ("fold", [np.ones((2, 6))], {"output_size": (3, 3), "kernel_size": 2}),
    ("fold", [np.ones((2, 7, 4))], {"output_size": (3, 3), "kernel_size": 2}),
    ("fold", [np.ones((2, 8, 5))], {"output_size": (3, 3), "kernel_size": 2}),
    ("pixel_shuffle", [np.ones((1, 6, 2, 2))], {"upscale_factor": 2}),
    ("pixel_shuffle", [TWO], {"upscale_factor": 1}),
    ("pixel_shuffle", [np.ones((1, 4, 2, 2))], {"upscale_factor": 0}),
    ("pixel_unshuffle", [np.ones((1, 1, 3, 4))], {"downscale_factor": 2}),
    ("pixel_unshuffle", [TWO], {"downscale_factor": 1}),
    ("pixel_unshuffle", [np.ones((1, 1, 4, 3))], {"downscale_factor": 2}),
    ("channel_shuffle", [THREE], {"groups": 4}),
    ("channel_shuffle", [THREE], {"groups": 0}),
    ("channel_shuffle", [ONE], {"groups": 1}),
    ("einsum", ["ij,jk->ik", TWO], {}),
    ("einsum", ["ij,jk->ik", TWO, TWO], {}),
    ("einsum", ["ij->ii", TWO], {}),
    ("einsum", ["ij->ik", TWO], {}),
    ("einsum", ["ijk->i", TWO], {}),
    ("einsum", [3, TWO], {}),
    ("einsum", ["ij,jk->ik", TWO, np.ones((6, 2), np.float32)], {}),
]


@pytest.mark.parametrize(
    ("name", "args", "options"), REFUSED, ids=[f"{i}-{case[0]}" for i, case in enumerate(REFUSED)]
)
def test_calls_that_do_not_fit_are_refused_by_name(name, args, options):
    with pytest.raises((ValueError, TypeError, IndexError), match=f"^{name}: "):
        getattr(F, name)(*args, **options)
