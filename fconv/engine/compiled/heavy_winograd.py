"""Winograd's algorithm for filters that outweigh the pictures: what they become never goes to memory.

Transformed filters are four times as large as they were, 38 MB for 512 by 512 channels. Here a task lays out
and transforms a piece of a block of filters in the L2 cache, multiplies all pieces of the pictures by it, and
sums up in the cache what is transformed back at the end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine.compiled.filters import row_of
from fconv.engine.compiled.heavy import block_of, outweighs
from fconv.engine.compiled.heavy_filters import PIECES, HeavyFilters
from fconv.engine.compiled.launches import BYTES, Launch
from fconv.engine.compiled.llvm import Module
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, even, micro, most_rows
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, aligned, scratch
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.squares import squares_of
from fconv.engine.compiled.transforms import transform
from fconv.engine.compiled.winograd import (
    LEAST_PIECES,
    PLACES,
    PRODUCTS,
    READING,
    Pieces,
    Winograd,
    pieces_in_cache,
)
from fconv.engine.winograd_matrices import FILTER, SIDE, STEP

MOST_BLOCK = 32
"""Channels of a piece of filters."""
SPREAD_BYTES = 16 << 20
"""Most bytes of transformed pictures at once."""

SPREAD_FIELDS = ("x", "u", "begin", *READING, "total", "chunk", "parts", "scratch_size", "scratch")
FIELDS = (
    "u", "weight", "start", "y", "begin", *PLACES, "y_h", "y_w", "total", "chunk", "group", "inner",
    "inner_row", "block", "blocks", "outer", *PIECES, "table", "zeros", "width", *MICRO, "scratch_size",
    "scratch",
)  # fmt: skip


def _most_pieces(row: int) -> int:
    """Return how many pieces' products with a block of filters stay in the L2 cache beside the filters."""
    left = machine().l2_bytes * 7 // 8 - MOST_BLOCK * (PRODUCTS + 9) * row
    return max(LEAST_PIECES, left // (PRODUCTS * row))


@lru_cache(maxsize=4)
def _spread(dtype: str) -> int:
    """Compile the transform of pieces into memory that all threads share."""
    module = Module()
    pieces = Pieces(module, dtype)
    f, task, arguments, worker = kernel_of(module)
    a = Fields(f, arguments, SPREAD_FIELDS)
    count = f.least(a.total - a.begin, a.chunk)
    first, last = task * count // a.parts, (task + 1) * count // a.parts
    zeros = a.pointer("scratch") + worker * a.scratch_size
    pieces.spread(f, a, a.begin + first, last - first, a.pointer("u") + first * a.piece_bytes, zeros)
    f.finish()
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def _multiply(dtype: str) -> int:
    """Compile the rest: a task multiplies a group of pieces by one block of filters."""
    module = Module()
    pieces = Pieces(module, dtype, back=True)
    of_filters = transform(module, dtype, FILTER, ends="none")
    f, task, arguments, worker = kernel_of(module)
    a, item = Fields(f, arguments, FIELDS), pieces.itemsize
    row = a.width * item
    first, begin = task % a.blocks * a.width, task // a.blocks * a.group
    count = f.least(f.least(a.total - a.begin, a.chunk) - begin, a.group)
    there = f.least(a.outer - first, a.width)
    laid = a.pointer("scratch") + worker * a.scratch_size
    step = a.block * row
    w = laid + step * 9
    products = w + step * PRODUCTS
    room = products + a.group * row * PRODUCTS
    u = a.pointer("u") + begin * a.inner_row
    with f.when(count > 0), f.loop(a.inner, step=a.block) as c:
        weight = a.pointer("weight") + first * a.weight_outer + c * a.weight_inner
        with f.when(a.lay > 0):
            f.call_address(
                a.lay, laid, weight, a.weight_outer, there, a.weight_inner, a.block, 9, a.width,
                a.pointer("places"), a.length, a.runs,
            )  # fmt: skip
        piece = f.choose(a.lay > 0, laid, weight)
        with f.loop(a.block) as k:
            target = w + k * row
            f.call(of_filters, piece + k * row, step * 3, step, target, step * SIDE, step, a.width, laid)
        with f.loop(PRODUCTS) as i:
            x, y = u + i * a.chunk * a.inner_row + c * item, products + i * a.group * row
            operands = (w + i * step, a.pointer("table"), 1, a.block, a.pointer("zeros"), a.width, c)
            contract(f, a, count, x, y, operands, (item, a.inner_row, row, row))
    steps, place = (a.group * row, row), a.pointer("y") + first * item
    start = a.pointer("start") + first * item
    pieces.gather(f, a, a.begin + begin, count, products, steps, place, there, start, room)
    f.finish()
    return machine().compile(module)[0]


class HeavyWinograd(Winograd):
    """A 3x3 correlation whose filters outweigh the pictures, by Winograd's algorithm, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        super().__init__(shape, dtype)
        self.block = block_of(shape.inner, MOST_BLOCK)
        self.pieces = HeavyFilters(shape, self.filters, self.block)
        self._both: dict[tuple[int, ...], tuple[Launch, Launch, int]] = {}

    @staticmethod
    def serves(shape: Shape, dtype: str) -> bool:
        """Return whether filters outweigh pictures, or as many pieces as the cache holds."""
        squares = squares_of(shape)
        if squares is None or len(squares.planes) > 1 or block_of(shape.inner, MOST_BLOCK) < 16:
            return False
        few = squares.pieces <= _most_pieces(row_of(shape.outer, dtype)) and outweighs(shape, dtype)
        return few or pieces_in_cache(squares, dtype) < LEAST_PIECES

    def run(self, x: Any, weight: Any, start: Any, y: Any) -> None:
        """Correlate channels-last `x` with a weight (1, O, C, 1, 3, 3) into channels-last `y`.

        The weight may be laid out by `HeavyFilters.laid`.
        """
        key = (len(x), *x.strides, *weight.strides, *y.strides)
        if key not in self._both:
            self._both[key] = self._plan(len(x), x.strides, weight, y.strides)
        spread, multiply, chunk = self._both[key]
        u = scratch.array(PRODUCTS * chunk * self.inner_row // self.itemsize, x.dtype)
        for begin in range(0, len(x) * self.squares.each, chunk):
            pool().run(spread, (x, u), begin)
            pool().run(multiply, (u, weight, start, y), begin)
        scratch.give_back(u)

    def _plan(
        self, images: int, x: tuple[int, ...], weight: Any, y: tuple[int, ...]
    ) -> tuple[Launch, Launch, int]:
        """Plan both kernels, and how many pieces they take at once: some groups of the same size."""
        s, row, total = self.shape, self.filters.row, images * self.squares.each
        group = even(total, _most_pieces(row))
        groups = even(-(-total // group), max(1, SPREAD_BYTES // (PRODUCTS * group * self.inner_row)))
        chunk, parts = groups * group, min(total, 16)
        size = aligned(self.inner_row)
        pictures, reading = self.reading(images, x, y, chunk, self.inner_row)
        arguments = (0, 0, 0, *reading, total, chunk, parts, size, 0)
        cost = PRODUCTS * min(total, chunk) * self.inner_row / BYTES
        spread = Launch(_spread(self.dtype), arguments, parts, size, (pictures,), cost)
        fields, places = self.pieces.fields(weight)
        table, zeros = np.zeros(2, np.int64), np.zeros(self.width, self.dtype)
        last = total - (total - 1) // group * group
        rows = even(group, min(most_rows(self.vectors), group))
        size = aligned((self.block * (PRODUCTS + 9) + group * PRODUCTS + STEP * STEP) * row)
        arguments = (
            *(0,) * 5, *reading[: len(PLACES)], *self.squares.steps(y), total, chunk, group, s.inner,
            self.inner_row, self.block, self.blocks, s.outer, *fields, address(table), address(zeros),
            self.width, *micro(self.dtype, rows, self.vectors, (group, last)), size, 0,
        )  # fmt: skip
        keep = (table, zeros, places, pictures)
        return spread, Launch(_multiply(self.dtype), arguments, self.blocks * groups, size, keep), chunk
