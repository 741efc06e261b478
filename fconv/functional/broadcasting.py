"""Broadcast shapes to each other, and sum gradients back."""

from __future__ import annotations

from collections.abc import Sequence

from fconv.arrays import Array, Shape
from fconv.functional.reduction import accurate_sum


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
