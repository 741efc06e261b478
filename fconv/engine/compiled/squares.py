"""The 3x3 squares of taps that Winograd's algorithm serves, and the pictures that it sees.

The taps of a correlation over three axes are a square for each plane of the kernel, whose products are added
up: squares are more input channels. With a dilation of d, output positions of one remainder by d see input
positions of one remainder: each pair of remainders is a picture of its own, whose pixels lie d apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.packing import padded
from fconv.engine.compiled.shapes import Shape
from fconv.engine.winograd_matrices import STEP

OUTPUT, SQUARE = 3, 5
"""Integers of a picture's row of the table for its output, and for each square."""


@dataclass(frozen=True)
class Squares:
    """The squares of a correlation.

    Attributes
    ----------
    shape : Shape
        Of the correlation.
    planes : tuple of int
        The shift of each square along the first axis.
    dilation : tuple of int
        Between the taps of a square along the other two axes.
    """

    shape: Shape
    planes: tuple[int, ...]
    dilation: tuple[int, int]

    @property
    def inner(self) -> int:
        """Input channels of all squares."""
        return self.shape.inner * len(self.planes)

    @property
    def high_wide(self) -> tuple[int, int]:
        """Pieces of a picture along both axes."""
        high, wide = (
            -(-n // (d * STEP)) for n, d in zip(self.shape.out_size[1:], self.dilation, strict=True)
        )
        return high, wide

    @property
    def each(self) -> int:
        """Pieces of all pictures of one image."""
        return self.shape.out_size[0] * prod(self.dilation) * prod(self.high_wide)

    @property
    def pieces(self) -> int:
        """Pieces of all pictures."""
        return self.shape.images * self.each

    def worth_transforming(self, dtype: str) -> bool:
        """Return whether vectors of channels are full on both sides, of a type that is exact enough."""
        return dtype == "float32" and min(self.shape.inner, self.shape.outer) * 4 >= machine().vector_bytes

    def steps(self, strides: Sequence[int]) -> tuple[int, int]:
        """Return the bytes from row to row and from pixel to pixel of a picture of (N, C, D, H, W)."""
        return self.dilation[0] * strides[3], self.dilation[1] * strides[4]

    def table(self, images: int, x: Sequence[int], y: Sequence[int]) -> Any:
        """Return a row of integers for each picture.

        First the bytes to its output and the output's rows and columns; then, for each square, the bytes to
        its input, where the first piece begins in it, and the input's rows and columns: none for a plane
        outside of the volume.

        Parameters
        ----------
        images : int
            How many of them there are.
        x, y : sequence of int
            Strides of input and output, (N, C, D, H, W).
        """
        s, rows = self.shape, []
        for n, d, *phases in product(range(images), range(s.out_size[0]), *map(range, self.dilation)):
            sides = zip(phases, s.low[1:], self.dilation, s.out_size[1:], s.in_size[1:], strict=True)
            found = [(*divmod(phase + low, by), by, out - phase, full) for phase, low, by, out, full in sides]
            output = n * y[0] + d * y[2] + phases[0] * y[3] + phases[1] * y[4]
            row = [output, *(-(-out // by) for _, _, by, out, _ in found)]
            (first_h, rest_h, *_), (first_w, rest_w, *_) = found
            seen = [max(0, -(-(full - rest) // by)) for _, rest, by, _, full in found]
            for shift in self.planes:
                plane = d * s.step[0] + shift
                inside = 0 <= plane < s.in_size[0]
                place = n * x[0] + plane * x[2] + rest_h * x[3] + rest_w * x[4] if inside else 0
                row += [place, first_h, first_w, *(seen if inside else (0, 0))]
            rows.append(row)
        return padded(np.array(rows, np.int64).ravel())


@lru_cache(maxsize=256)
def squares_of(shape: Shape) -> Squares | None:
    """Return the squares that the taps of a correlation in one group are, if they are."""
    planes, *sides = (sorted({tap.shift[axis] for tap in shape.taps}) for axis in range(3))
    if (
        shape.groups > 1
        or shape.step[1:] != (1, 1)
        or len(shape.taps) != 9 * len(planes)
        or any(len(side) != 3 or side[1] - side[0] != side[2] - side[1] for side in sides)
    ):
        return None
    return Squares(shape, tuple(planes), (sides[0][1] - sides[0][0], sides[1][1] - sides[1][0]))
