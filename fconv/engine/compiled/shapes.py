"""The shape of a correlation: what decides how it is computed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from math import prod


@dataclass(frozen=True)
class Tap:
    """An entry of the kernel: its place, and where it looks from the first input position of an output."""

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
        The entries of the kernel that take part, sorted.
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


def few_channels(shape: Shape, lanes: int, products: int, columns: int, seen: int) -> bool:
    """Return whether vectors should run along rows of output positions, because they would have idle lanes.

    Parameters
    ----------
    shape : Shape
        Of the correlation.
    lanes : int
        Of a vector.
    products, columns, seen : int
        Of a picture and a channel: products of the correlation, output positions in a row, and input
        positions that are copied for it, zeros included.
    """
    wide = -(-columns // lanes)
    outer = shape.groups if shape.elementwise else shape.outer
    if outer * 2 > lanes or columns * lanes <= outer * wide * lanes:
        return False
    rows = products * outer * wide / columns + seen * PLANE
    return rows < products + seen * BOX


PLANE, BOX = 1, 0.2
"""Products of vectors that take as long as copying a number into planes, and into a box."""
