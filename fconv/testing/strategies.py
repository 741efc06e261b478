"""Hypothesis strategies for arrays, keys and the options of sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fconv import random
from fconv.arrays import Array, Shape
from fconv.testing.layouts import LAYOUTS, laid_out

__all__ = ["arrays_like", "keys", "laid_out", "shapes", "windows"]

_FILLS = ("normal", "normal", "tied", "constant", "zeros", "large")


def keys() -> st.SearchStrategy[Array]:
    """Draw keys of `fconv.random`."""
    return st.integers(0, 2**64 - 1).map(random.key)


@st.composite
def arrays_like(
    draw: st.DrawFn,
    shape: Shape | st.SearchStrategy[Shape],
    dtype: Any = np.float32,
    layouts: Sequence[str] = LAYOUTS,
    fills: Sequence[str] = _FILLS,
) -> Array:
    """Draw arrays of a shape, in any memory layout.

    Parameters
    ----------
    shape : tuple of int or strategy
        The shape.
    dtype : dtype
        A floating-point dtype.
    layouts : sequence of str
        The layouts to choose from; see `laid_out`.
    fills : sequence of str
        What to fill with: "normal" draws, "tied" (halves from -1 to 1, so with many equal
        elements), a "constant", "zeros", or "large" (normal around 100).

    Returns
    -------
    strategy of array
        The arrays.
    """
    size = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    fill = draw(st.sampled_from(list(fills)))
    normal = random.normal(draw(keys()), size, np.float64)
    makers: dict[str, Callable[[], Array]] = {
        "normal": lambda: normal,
        "tied": lambda: np.round(2 * np.tanh(normal)) / 2,
        "constant": lambda: np.full(size, 1.5),
        "zeros": lambda: np.zeros(size),
        "large": lambda: 100 + normal,
    }
    return laid_out(makers[fill]().astype(dtype), draw(st.sampled_from(list(layouts))))


@st.composite
def shapes(
    draw: st.DrawFn, /, *patterns: str, max_size: int = 5, **sizes: int | st.SearchStrategy[int]
) -> tuple[Shape, ...]:
    """Draw shapes that fit each other, from the names of their axes.

    Parameters
    ----------
    *patterns : str
        The axes of each shape: a name has the same size in all shapes, a number is a fixed size, and ``...``
        stands for none to two axes, the same in all shapes.
    max_size : int
        Largest size of a name.
    **sizes : int or strategy of int
        Sizes of single names.

    Returns
    -------
    strategy of tuple of tuple of int
        A shape for each pattern.

    Examples
    --------
    >>> from hypothesis import given
    >>> from fconv.testing import strategies as fst
    >>> @given(fst.shapes("n c length", "out c 3", length=7))
    ... def test(drawn):
    ...     (n, c, length), (out, c2, kernel) = drawn
    ...     assert (length, kernel) == (7, 3) and c == c2
    >>> test()
    """
    names = dict.fromkeys(name for pattern in patterns for name in pattern.split())
    wanted: dict[str, Any] = {name: sizes.get(name, st.integers(1, max_size)) for name in names}
    known: dict[str, tuple[int, ...]] = {}
    for name, size in wanted.items():
        if name == "...":
            known[name] = tuple(draw(st.lists(st.integers(1, max_size), max_size=2)))
        elif name.isdigit():
            known[name] = (int(name),)
        else:
            known[name] = (size if isinstance(size, int) else draw(size),)
    return tuple(tuple(n for name in pattern.split() for n in known[name]) for pattern in patterns)


@st.composite
def windows(draw: st.DrawFn, ndim: int, max_size: int = 9) -> dict[str, Any]:
    """Draw sizes and options of sliding windows that fit their input.

    Parameters
    ----------
    ndim : int
        Number of spatial axes.
    max_size : int
        Largest size along an axis.

    Returns
    -------
    strategy of dict
        ``size``, ``kernel``, ``stride``, ``padding`` and ``dilation``, tuples of `ndim`.
    """
    axes = []
    for _ in range(ndim):
        kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        padding = draw(st.integers(0, 2))
        span = dilation * (kernel - 1) + 1
        size = draw(st.integers(max(1, span - 2 * padding), max(span, max_size)))
        axes.append((size, kernel, draw(st.integers(1, 3)), padding, dilation))
    names = ("size", "kernel", "stride", "padding", "dilation")
    return dict(zip(names, map(tuple, zip(*axes, strict=True)), strict=True))
