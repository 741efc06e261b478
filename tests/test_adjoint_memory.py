"""Convolutions touch nothing outside of their arguments and their work space, where a guarded page begins.

Vectors are wider than what is left of an array at its end, and the engine reads it with masks. A fault ends
the run with a segmentation fault, whose traceback names the test.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F
from fconv.engine.cpu import tiles
from fconv.functional.core import EACH
from tests.guarded import guarded, guarding, orders
from tests.test_adjoint_sweep import LIMITS, drawn, geometry_of, integers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pages are protected by mprotect")


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def engine(request):
    """Compute with each of the engines next to guarded pages."""
    with guarding(request.param) as engine:
        yield engine


# Few to many channels on either side, few and many positions; channels that fill no vector.
SHAPES = [
    *(drawn(seed) for seed in range(100, 124)),
    *(LIMITS[name] for name in ("few channels, columns", "windows padded", "depthwise, two columns")),
    ((2, 37, 10, 6), (19, 37, 3, 3), {}),
    ((2, 21, 8, 11), (41, 21, 3, 3), {"padding": 1}),
    ((5, 35, 6, 6), (35, 35, 1, 1), {}),
    ((40, 20, 3, 3), (24, 20, 3, 3), {"padding": 1}),
    ((2, 163, 5, 5), (167, 163, 3, 3), {"padding": 1}),
    ((2, 160, 5, 5), (172, 160, 3, 3), {"padding": 1}),
    ((16, 700, 3, 3), (36, 700, 3, 3), {}),
    ((2, 37, 9), (70, 37, 5), {"padding": 2}),
    ((2, 1, 31, 33), (50, 1, 3, 3), {"stride": 3, "padding": 1, "dilation": 2}),
    ((1, 6, 14, 9), (141, 2, 7, 5), {"groups": 3}),
    ((1, 3, 12, 16), (190, 3, 7, 1), {}),
    ((2, 131, 14, 13), (3, 131, 3, 3), {"padding": 1}),
    ((1, 67, 8, 8), (123, 67, 2, 2), {"stride": 3}),
    ((2, 74, 5, 4), (70, 37, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ((1, 48, 26, 4), (4, 48, 4, 3), {"stride": (1, 4), "padding": (2, 0)}),
    # Positions that a stride leaves out, thinned in registers, and channels that are divided.
    ((2, 21, 5, 34), (20, 21, 1, 1), {"stride": 2}),
    ((2, 21, 5, 35), (20, 21, 1, 1), {"stride": 3}),
    ((2, 19, 7, 50), (20, 19, 3, 1), {"stride": 3, "padding": 3}),
    ((1, 18, 70), (20, 18, 1), {"stride": 4}),
    ((1, 18, 67), (20, 18, 2), {"stride": 4, "dilation": 4, "padding": 4}),
    ((1, 516, 9, 40), (20, 516, 5, 5), {"padding": 2, "dilation": 2}),
    ((2, 5, 9, 21), (5, 1, 3, 3), {"padding": 1, "groups": 5}),
    *(((2, c, 9, 21), (c, 1, 3, 2), {"stride": 2, "padding": 1, "groups": c}) for c in (2, 4, 8)),
    ((2, 3, 9, 37), (3, 1, 3, 3), {"padding": 2, "stride": 3, "groups": 3}),
    # Positions whose rows share a set of the L1 cache.
    ((1, 1024, 2, 20), (8, 1024, 1, 3), {}),
    # Scaled channels, with padding, and few positions under filters that are read where they lie.
    ((2, 3, 9, 37), (3, 1, 1, 1), {"padding": 2, "groups": 3}),
    ((1, 20, 7, 40), (20, 1, 1, 1), {"padding": 1, "groups": 20, "stride": (2, 1)}),
    ((2, 2, 3, 5, 19), (2, 1, 1, 1, 1), {"padding": 1, "groups": 2}),
    ((1, 40, 6, 5), (131, 40, 2, 3), {"stride": 3, "padding": 1}),
    ((2, 66, 4, 4), (142, 33, 3, 3), {"groups": 2, "padding": 1, "stride": 2}),
    # Sums over channels, to few channels on either side.
    ((2, 37, 9, 10), (3, 37, 3, 3), {"stride": 3, "padding": 2}),
    ((2, 74, 9, 7), (4, 37, 3, 2), {"groups": 2, "stride": 2, "padding": 1}),
    ((2, 3, 9, 19), (37, 3, 3, 3), {"stride": 2, "padding": 1}),
    # Phases of input gradients that are written together: with few and many elements, channels that are
    # divided, rows of several pictures, and a size that one stride does not divide.
    ((2, 35, 12, 14), (41, 35, 4, 4), {"stride": 2, "padding": 1}),
    ((3, 34, 12, 9), (38, 17, 3, 2), {"stride": (2, 1), "padding": 1, "groups": 2}),
    ((3, 20, 16, 26), (33, 20, 3, 3), {"stride": 2, "padding": (1, 3), "dilation": (1, 3)}),
    ((9, 20, 14, 14), (33, 20, 2, 2), {"stride": 2}),
    ((1, 40, 18, 126), (516, 40, 3, 3), {"stride": 2, "padding": 1}),
    ((1, 18, 4, 6, 30), (20, 18, 2, 3, 3), {"stride": (1, 3, 2), "padding": 1}),
    ((2, 20, 70), (68, 20, 7), {"stride": 2, "padding": 3}),
    ((2, 35, 12, 13), (41, 35, 4, 4), {"stride": 2, "padding": 1}),
    ((2, 20, 1, 70), (20, 20, 1, 4), {"stride": 2, "padding": (0, 1)}),
]


@pytest.mark.parametrize("behind", [True, False], ids=["behind", "before"])
@pytest.mark.parametrize("case", range(len(SHAPES)))
def test_convolutions_touch_nothing_outside_of_their_memory(case, behind, engine):
    x_shape, weight_shape, options = SHAPES[case]
    rng, name = np.random.default_rng(case), f"conv{len(x_shape) - 2}d"
    x, weight, bias = (integers(rng, *s) for s in (x_shape, weight_shape, weight_shape[:1]))
    function, vjp = getattr(F, name), getattr(F, f"{name}_vjp")
    y = function(x, weight, bias, **options, algorithm="reference")
    g, dtype = integers(rng, *y.shape), np.dtype((np.float32, np.float64)[case % 2])
    expected = y, *vjp(g, x, weight, bias, **options, algorithm="reference")
    algorithms = ["direct", *["winograd"] * geometry_of(x_shape, weight_shape, options).is_3x3]
    for algorithm in algorithms:
        for order in orders(x.ndim):
            given = [
                guarded(a.astype(dtype), order if a.ndim > 1 else [0], behind=behind)
                for a in (g, x, weight, bias)
            ]
            near = 0 if algorithm == "direct" else 1e-6 if dtype == np.float64 else 0.1
            for call in (one_by_one, at_once) * 2:  # what lies as it did before takes a shorter way
                found = call(name, given, options, algorithm)
                for a, b in zip(found, expected, strict=True):
                    np.testing.assert_allclose(a, b, rtol=0, atol=near)
    pull = function.forward(*given[1:], **options)[1]
    each = pull(given[0], ("weight",), each=EACH)[1]
    assert len(each) == len(x)
    np.testing.assert_array_equal(each.sum(0), expected[2])


def one_by_one(name, given, options, algorithm):
    """Return the output and the gradients."""
    g, *rest = given
    y = getattr(F, name)(*rest, **options, algorithm=algorithm)
    return y, *getattr(F, f"{name}_vjp")(g, *rest, **options, algorithm=algorithm)


def at_once(name, given, options, algorithm):
    """Return the output and the gradients that the layer makes in one launch, if it can."""
    g, x, weight, bias = given
    layer = getattr(fc, name)(len(weight), weight.shape[2:], **options, algorithm=algorithm)
    y, _, pull = layer.forward({"weight": weight, "bias": bias}, x)
    pull(g)
    grads, dx = pull(g)
    return y, dx, grads["weight"], grads["bias"]


def test_convolutions_of_more_pieces_than_the_cache_holds_touch_nothing_outside(engine):
    """The last run of pieces, and the last pieces of a task, are fewer."""
    rng = np.random.default_rng(5)
    for x_shape, outer in (((5, 1248, 78, 6), 96), ((11, 32, 126, 14), 32)):
        x = integers(rng, *x_shape).astype(np.float32)
        weight = integers(rng, outer, x_shape[1], 3, 3).astype(np.float32)
        y = F.conv2d(x, weight, algorithm="direct")
        g = integers(rng, *y.shape, most=1).astype(np.float32)
        x_last, g_last = (guarded(a, [0, 2, 3, 1], behind=True) for a in (x, g))
        found = F.conv2d(x_last, weight, algorithm="winograd")
        np.testing.assert_allclose(found, y, rtol=0, atol=0.5)
        if outer == 32:
            expected = F.conv2d_vjp(g, x, weight, algorithm="direct", wrt=("weight",))[1]
            found = F.conv2d_vjp(g_last, x_last, weight, algorithm="winograd", wrt=("weight",))[1]
            np.testing.assert_allclose(found, expected, rtol=0, atol=0.5)


def test_convolutions_refuse_views_that_leave_their_array(engine):
    """Convolutions by NumPy read windows of memory of the caller."""
    x = np.zeros((4, 6))[:, :5]
    assert tiles.view(x, (2, 3), (96, 16)).shape == (2, 3)
    for shape, strides in (((5, 5), (48, 8)), ((2, 5), (152, 8)), ((2, 5), (-48, 8))):
        with pytest.raises(ValueError, match="leave an array"):
            tiles.view(x, shape, strides)
