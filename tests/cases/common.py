"""Parts of the cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fconv.testing import strategies as fst

f64 = np.float64


@dataclass(frozen=True)
class Case:
    """Facts about a function that the tests need.

    Attributes
    ----------
    draw : strategy of (list, dict)
        Positional arguments (float64 arrays, labels, None) and options.
    naive : callable
        The definition as plain loops, ``naive(*args, **options)``; see `tests.naive`.
    linear : bool
        Linear in its first array, the others fixed: the adjoint identity is tested too.
    torch : callable, bool
        PyTorch's function; True for torch.nn.functional's (or torch's) of the same name, False
        for none.
    """

    draw: st.SearchStrategy[tuple[list[Any], dict[str, Any]]]
    naive: Callable[..., Any]
    linear: bool = False
    torch: Callable[..., Any] | bool = True


def elements(shape, **kwargs):
    """Draw a float64 array of a shape, in any memory layout."""
    return fst.arrays_like(shape, f64, **kwargs)


shapes = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)


@st.composite
def pointwise(draw, **options):
    """Draw an array of any shape, and options from the strategies given."""
    return [draw(elements(draw(shapes)))], {name: draw(strategy) for name, strategy in options.items()}


@st.composite
def along_axis(draw):
    """Draw an array and an axis of it."""
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple))
    return [draw(elements(shape))], {"dim": draw(st.integers(-len(shape), len(shape) - 1))}
