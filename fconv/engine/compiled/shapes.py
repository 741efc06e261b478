"""The shape of a correlation: what decides how it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tap:
    """An element of the kernel: its place, and where it looks from the first input position of an output."""

    shift: tuple[int, int, int]
    place: tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """A correlation over three axes.

    Attributes
    ----------
    images, groups, inner, outer : int
        Pictures, groups, and channels of a group on either side.
    in_size, out_size, step : tuple of int
        Sizes, and input positions from one output to the next.
    taps : tuple of Tap
        The elements of the kernel that take part, sorted.
    """

    images: int
    groups: int
    inner: int
    outer: int
    in_size: tuple[int, int, int]
    out_size: tuple[int, int, int]
    step: tuple[int, int, int]
    taps: tuple[Tap, ...]

    def __hash__(self) -> int:
        """Hash the fields once: plans are looked up by shapes in every call."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, each.name) for each in fields(self)))

    @cached_property
    def low(self) -> tuple[int, int, int]:
        """The least shift along each axis."""
        return tuple(min(tap.shift[i] for tap in self.taps) for i in range(3))  # type: ignore[return-value]

    @cached_property
    def high(self) -> tuple[int, int, int]:
        """The largest shift along each axis."""
        return tuple(max(tap.shift[i] for tap in self.taps) for i in range(3))  # type: ignore[return-value]

    @property
    def box(self) -> tuple[int, int, int]:
        """The size of the input that all outputs of a picture see, zeros included."""
        sides = zip(self.low, self.high, self.out_size, self.step, strict=True)
        return tuple((n - 1) * step + hi - lo + 1 for lo, hi, n, step in sides)  # type: ignore[return-value]

    def offsets(self, taps: Sequence[Tap], pitch: Sequence[int]) -> Any:
        """Return the offsets of some taps, in bytes, from the first position of the window."""
        shifts = np.array([tap.shift for tap in taps], np.int64) - np.array(self.low, np.int64)
        return shifts @ np.array(pitch, np.int64)

    @property
    def hangs_over(self) -> bool:
        """Return whether a window leaves the picture."""
        sides = zip(self.low, self.high, self.in_size, self.out_size, self.step, strict=True)
        return any(lo < 0 or (out - 1) * step + hi >= size for lo, hi, size, out, step in sides)

    @property
    def elementwise(self) -> bool:
        """Return whether each channel is by itself on either side."""
        return self.inner == self.outer == 1 and self.groups > 1

    @property
    def multiply_adds(self) -> int:
        """Multiplications that the definition takes."""
        return self.images * prod(self.out_size) * len(self.taps) * self.groups * self.inner * self.outer


@lru_cache(maxsize=256)
def thinned(shape: Shape) -> tuple[Shape, tuple[slice, ...]]:
    """Leave out what no window sees: where all look at the same remainder of an axis, it has no stride.

    Returns
    -------
    tuple of Shape and tuple of slice
        The correlation, and the part of the input (N, C, D, H, W) that it is of.
    """
    in_size, step, seen = list(shape.in_size), list(shape.step), [slice(None)] * 5
    taps = [(list(tap.shift), tap.place) for tap in shape.taps]
    for axis, stride in enumerate(shape.step):
        remainders = {shift[axis] % stride for shift, _ in taps}
        first = min(remainders)
        size = len(range(first, shape.in_size[axis], stride))
        if stride > 1 and len(remainders) == 1 and size:
            in_size[axis], step[axis], seen[2 + axis] = size, 1, slice(first, None, stride)
            for shift, _ in taps:
                shift[axis] //= stride
    if step == list(shape.step):
        return shape, ()
    thinned = [Tap(tuple(shift), place) for shift, place in taps]  # type: ignore[arg-type]
    changed = {"in_size": tuple(in_size), "step": tuple(step), "taps": tuple(thinned)}
    return replace(shape, **changed), tuple(seen)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Phases:
    """Correlations of one input that write positions in turn, each with elements of the kernel of its own.

    Attributes
    ----------
    stride : tuple of int
        From a position that one of them writes to its next.
    parts : tuple of (tuple of int, tuple of Tap)
        The first position of each, and its elements, which follow each other among the filters.
    """

    stride: tuple[int, int, int]
    parts: tuple[tuple[tuple[int, int, int], tuple[Tap, ...]], ...]


PLANE, ROW, BOX = 1, 0.25, 0.2
"""Products of vectors that take as long as copying a number into planes, the same from contiguous rows, and
into a box.
"""


def costs(shape: Shape, lanes: int, plane: float = PLANE) -> tuple[float, float]:
    """Estimate a correlation whose vectors run over channels, and one whose vectors run along rows.

    Parameters
    ----------
    shape : Shape
        Of the correlation.
    lanes : int
        Of a vector.
    plane : float
        What copying a number into planes takes.

    Returns
    -------
    tuple of float
        Products of vectors, and what takes as long as so many.
    """
    seen = shape.images * shape.groups * shape.inner * prod(thinned(shape)[0].box)
    products = shape.images * prod(shape.out_size) * len(shape.taps)
    if not shape.elementwise:
        products *= shape.groups * shape.inner
    columns, outer = shape.out_size[2], shape.groups if shape.elementwise else shape.outer
    over_channels = products * -(-outer // lanes) + BOX * seen
    along_rows = products * outer * -(-columns // lanes) / columns + plane * seen
    return over_channels, along_rows


def few_channels(shape: Shape, lanes: int, plane: float = PLANE) -> bool:
    """Return whether vectors should run along rows of output positions, as lanes would be idle otherwise."""
    over_channels, along_rows = costs(shape, lanes, plane)
    outer = shape.groups if shape.elementwise else shape.outer
    return outer * 2 <= lanes and along_rows < over_channels
