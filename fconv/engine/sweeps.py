"""Sweeps over segments of an array: what is computed of a segment, and how an array is divided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Sweep(NamedTuple):
    """Computation on a segment, as a function of all that is known.

    The function takes an element of each array, one of each parameter, the numbers, and what earlier sweeps
    found. What becomes of its results, or its only one:

    - "sum", "mean", "max": they are reduced over the segment, sums in float64. With `stored` the first is
      also written to the first output.
    - "value": they are numbers of the segment; the function sees no elements.
    - "kept": like "value", and written to the outputs, which have one element for each segment.
    - "write": they are written to the outputs; those beyond are summed for each parameter's element.

    With `most`, a reduction takes about so many elements from a segment's beginning, if it has more.
    """

    kind: Literal["sum", "mean", "max", "value", "kept", "write"]
    function: Callable[..., Any]
    stored: bool = False
    most: int = 0


@dataclass(frozen=True, eq=False)
class Program:
    """Sweeps over segments, and how many arrays, parameters, numbers, outputs and sums they have."""

    sweeps: tuple[Sweep, ...]
    arrays: int = 1
    params: int = 0
    numbers: int = 0
    outputs: int = 1
    sums: int = 0


@dataclass(frozen=True)
class Layout:
    """Division of an array into segments, and how parameters are broadcast to it.

    Attributes
    ----------
    segments : int
        How many there are, or how many blocks of `inner` segments side by side.
    parts, width : int
        A segment has `parts` times `width` elements.
    inner : int
        Number of interleaved segments: the stride between two elements of one segment. 1 for contiguous
        segments.
    by : str
        "element": a parameter has an element for each of a segment's. "part": one for each part, counted
        through all segments and beginning again after `count`. Of segments side by side each is a part.
    count : int
        Entries of a parameter.
    """

    segments: int
    parts: int
    width: int
    inner: int = 1
    by: Literal["element", "part"] = "part"
    count: int = 1

    @property
    def size(self) -> int:
        """Entries of the array."""
        return self.segments * self.parts * self.width * self.inner
