"""Filters that outweigh the pictures, by pieces that stay in the L2 cache: where they are needed, or once.

Each task lays out the piece that it needs next. Filters of a network for inference are laid out once, piece
by piece, and read from there.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

from fconv.engine.compiled import packing
from fconv.engine.compiled.filters import FilterBlocks, filter_table
from fconv.engine.compiled.launches import Launch
from fconv.engine.compiled.llvm import Module
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address
from fconv.engine.compiled.shapes import Shape
from fconv.engine.memory import empty

PIECES = ("weight_outer", "weight_inner", "places", "length", "runs", "lay")
"""Fields of a kernel that reads pieces: strides of the weight, and what lays a piece out, or 0s."""

LAY_FIELDS = (
    "to", "weight", "to_inner", "weight_outer", "weight_inner", "inner", "block", "outer", "width", "taps",
    "places", "length", "runs", "lay",
)  # fmt: skip


@lru_cache(maxsize=4)
def _lay_kernel(dtype: str) -> int:
    """Compile the layout of all pieces, one after another; a task takes those of a block of outputs."""
    f, b, arguments, _ = kernel_of(Module())
    a = Fields(f, arguments, LAY_FIELDS)
    first = b * a.width
    with f.loop(a.inner, step=a.block) as c:
        to = a.pointer("to") + (b * a.inner + c) * a.to_inner
        weight = a.pointer("weight") + first * a.weight_outer + c * a.weight_inner
        f.call_address(
            a.lay, to, weight, a.weight_outer, f.least(a.outer - first, a.width), a.weight_inner,
            a.block, a.taps, a.width, a.pointer("places"), a.length, a.runs,
        )  # fmt: skip
    f.finish()
    return machine().compile(f.module)[0]


class HeavyFilters:
    """The pieces of filters that stay in the L2 cache: blocks of outputs and of channels, planned.

    Parameters
    ----------
    shape : Shape
        Of the correlation.
    filters : FilterBlocks
        Of its outputs.
    block : int
        Channels of a piece.
    """

    def __init__(self, shape: Shape, filters: FilterBlocks, block: int) -> None:
        self._shape, self._filters, self.block = shape, filters, block

    def bytes(self, weight: Any) -> int:
        """Return the bytes of a piece, with room for elements of the kernel that no output meets."""
        return self._inner(weight) * self.block

    def _inner(self, weight: Any) -> int:
        taps = len(self._shape.taps)
        return (taps + (prod(weight.shape[3:]) > taps)) * self._filters.row

    def fields(self, weight: Any) -> tuple[tuple[int, ...], Any]:
        """Return the fields from `weight_outer` to `lay`, and the table that a launch must keep.

        A weight (1, O, C, D, H, W) is laid out piece by piece, where it is needed; flat ones were laid out by
        `laid`, and `lay` is 0.
        """
        s = self._shape
        if weight.ndim == 1:
            inner = weight.size * weight.itemsize // (self._filters.blocks * s.inner)
            return (s.inner * inner // self._filters.width, inner, 0, 0, 0, 0), None
        _, outer, inner, *steps = weight.strides
        places, length, runs = filter_table(
            s.taps, weight.shape[3:], (outer, inner, *steps), self.block, self._filters.row, weight.itemsize
        )
        lay = packing.compiled_filters(self._filters.dtype)
        return (outer, inner, address(places), length, runs, lay), places

    def laid(self, weight: Any) -> Any:
        """Lay all pieces out, flat, for several calls."""
        s, filters, inner = self._shape, self._filters, self._inner(weight)
        to = empty((filters.blocks * s.inner * inner // weight.itemsize,), weight.dtype)
        (outer, step, *rest), places = self.fields(weight)
        arguments = (
            0, 0, inner, outer, step, s.inner, self.block, s.outer, filters.width, len(s.taps), *rest,
        )  # fmt: skip
        launch = Launch(_lay_kernel(filters.dtype), arguments, filters.blocks, keep=(places,))
        pool().run(launch, (to, weight))
        return to
