"""Layers that put the arrays of a tuple side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape, namespace, xp_of
from fconv.engine.memory import empty_in_order
from fconv.layer import Layer, Step, Wiring
from fconv.networks.merge import Merged, listed, merge, named, one_shape


@constructor
def concat(dim: int = 1) -> Layer:
    """Concatenate the arrays of a tuple along an axis; channels by default.

    Examples
    --------
    >>> concat().out_shape(((2, 3, 8, 8), (2, 5, 8, 8)))
    (2, 8, 8, 8)
    """

    def joined(shapes: Sequence[Shape]) -> Shape:
        first = shapes[0]
        fits = all(len(s) == len(first) for s in shapes) and -len(first) <= dim < len(first)
        axis = dim % len(first) if fits else 0
        rests = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
        if not fits or len(rests) != 1:
            raise ValueError(
                f"concat: expected shapes that differ only along axis {dim}, got {listed(shapes)}"
            )
        return (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])

    def forward(xs: Sequence[Array]) -> Merged:
        xp = namespace("concat", **named(xs))
        axis = dim % xs[0].ndim

        def pull(g: Array) -> tuple[Array, ...]:
            parts, start = [], 0
            for x in xs:
                stop = start + x.shape[axis]
                parts.append(g[(slice(None),) * axis + (slice(start, stop),)])
                start = stop
            return tuple(parts)

        return _concatenated(xp, xs, axis), pull

    return merge("concat", forward, joined, {"dim": dim})


def _concatenated(xp: Any, xs: Sequence[Array], axis: int) -> Array:
    """Concatenate arrays in the memory order of the first, where all have one dtype."""
    x = xs[0]
    if xp is not np or any(each.dtype != x.dtype for each in xs):
        return xp.concatenate(xs, axis=axis)
    shape = list(x.shape)
    shape[axis] = sum(each.shape[axis] for each in xs)
    return np.concatenate(xs, axis=axis, out=empty_in_order(x, shape))


@constructor
def stack(dim: int = 0) -> Layer:
    """Stack the arrays of a tuple, which have one shape, along a new axis.

    Examples
    --------
    >>> stack(1).out_shape(((8, 4), (8, 4), (8, 4)))
    (8, 3, 4)
    """

    def place(shape: Shape) -> int:
        if not -len(shape) - 1 <= dim <= len(shape):
            raise ValueError(f"stack: expected a place among the axes of shape {shape}, got dim={dim}")
        return dim % (len(shape) + 1)

    def out_shape(shapes: Sequence[Shape]) -> Shape:
        shape = one_shape("stack", shapes)
        at = place(shape)
        return (*shape[:at], len(shapes), *shape[at:])

    def forward(xs: Sequence[Array]) -> Merged:
        at = place(xs[0].shape)
        return xp_of(xs[0]).stack(xs, axis=at), lambda g: tuple(
            g[(slice(None),) * at + (i,)] for i in range(len(xs))
        )

    return merge("stack", forward, out_shape, {"dim": dim})


@constructor
def concat_padded() -> Layer:
    """Put pictures one after another along the channels, each in the middle of the largest.

    The inputs are (N, C, H, W) or have another number of spatial axes. Where sizes differ, zeros
    surround the smaller picture, and an odd one out stands after it. In a U-Net a picture that was
    halved and doubled again meets the one it came from, which may have been larger by a row.

    Examples
    --------
    >>> concat_padded().out_shape(((2, 3, 9, 8), (2, 5, 8, 8)))
    (2, 8, 9, 8)
    """
    plain = concat()

    def joined(shapes: Sequence[Shape]) -> Shape:
        first = shapes[0]
        if len(first) < 3 or any(len(s) != len(first) or s[0] != first[0] for s in shapes):
            raise ValueError(
                "concat_padded: expected shapes (N, C, *spatial) that differ in channels and sizes "
                f"alone, got {listed(shapes)}"
            )
        return (first[0], sum(s[1] for s in shapes), *(max(sizes) for sizes in _spatial(shapes)))

    def places(shapes: Sequence[Shape], whole: Shape) -> list[tuple[slice, ...]]:
        found, channel = [], 0
        for shape in shapes:
            starts = [(wide - size) // 2 for wide, size in zip(whole[2:], shape[2:], strict=True)]
            spatial = (slice(start, start + size) for start, size in zip(starts, shape[2:], strict=True))
            found.append((slice(None), slice(channel, channel + shape[1]), *spatial))
            channel += shape[1]
        return found

    def forward(xs: Sequence[Array]) -> Merged:
        xp = namespace("concat_padded", **named(xs))
        shapes = [x.shape for x in xs]
        where = places(shapes, joined(shapes))
        if len({s[2:] for s in shapes}) == 1:
            y = _concatenated(xp, xs, 1)
        else:
            y = xp.zeros(joined(shapes), xp.result_type(*xs))
            for x, place in zip(xs, where, strict=True):
                y[place] = x
        return y, lambda g: tuple(g[place] for place in where)

    def wiring(shapes: Any) -> Wiring | None:
        # For pictures of one size it is `concat`, which other tools know.
        if shapes is None:
            raise ValueError("concat_padded: what it is made of depends on the sizes; give the input shape")
        if len({tuple(s[2:]) for s in shapes}) != 1:
            return None
        return Wiring((Step("concat", plain, ("input",), None),), ("input",), ("concat",))

    return replace(merge("concat_padded", forward, joined), wiring=wiring)


def _spatial(shapes: Sequence[Shape]) -> list[tuple[int, ...]]:
    return list(zip(*(s[2:] for s in shapes), strict=True))
