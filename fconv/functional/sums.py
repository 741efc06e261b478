"""Sums and quotients that lose little, and gradients summed back to the shapes that were broadcast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from fconv.arrays import Array, Shape, narrowed, xp_of

T = TypeVar("T")


def accurate_sum(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Sum with float64 accumulators, in the dtype of `x`.

    NumPy adds along an outer axis one element after another in the array's own precision, which
    over a channels-last picture loses digits that a gradient needs.

    Examples
    --------
    >>> accurate_sum(np.full((10**6, 1), 0.1, np.float32), axis=0)
    array([100000.], dtype=float32)
    """
    total: Any = np.add.reduce if type(x) is np.ndarray else xp_of(x).sum  # the ufunc's own method is quicker
    return narrowed(total(x, axis=axis, keepdims=keepdims, dtype=np.float64), x.dtype)


def quotient(a: Array, b: Array | float) -> Array:
    """Divide in float64, 0 / 0 being NaN without a warning; the result has the dtype of `a`."""
    if type(b) is int and b and isinstance(a, (np.ndarray, np.generic)) and a.ndim == 0:
        return narrowed(np.float64(a) / b, a.dtype)
    xp = xp_of(a)
    with np.errstate(divide="ignore", invalid="ignore"):
        return narrowed(xp.asarray(a, dtype=np.float64) / xp.asarray(b, dtype=np.float64), a.dtype)


def quietly(compute: Callable[[], T]) -> T:
    """Compute without warnings where infinities and NaN are the defined result, as of log(0)."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        return compute()


def broadcast_shape(name: str, shapes: Sequence[Shape]) -> Shape:
    """Return the shape that all of `shapes` are stretched to: aligned at the end, 1 fits any size.

    Examples
    --------
    >>> broadcast_shape("add", [(8, 1, 4), (3, 1)])
    (8, 3, 4)
    """
    out = []
    for back in range(max(map(len, shapes)), 0, -1):
        sizes = {shape[-back] for shape in shapes if len(shape) >= back} - {1}
        if len(sizes) > 1:
            listed = " and ".join(map(str, shapes))
            raise ValueError(f"{name}: expected shapes that are equal or 1 along each axis, got {listed}")
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)


def sum_to(g: Array, shape: Shape) -> Array:
    """Sum a gradient over the axes along which an array of `shape` was stretched to that of `g`."""
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    stretched = [lead + i for i, size in enumerate(shape) if size == 1 and g.shape[lead + i] != 1]
    return accurate_sum(g, axis=(*range(lead), *stretched)).reshape(shape)
