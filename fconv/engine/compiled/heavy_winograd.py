"""Winograd's algorithm for filters that outweigh the pictures: what they become never goes to memory.

Transformed filters are four times as large as they were, 38 MB for 512 by 512 channels. Here a task lays out
and transforms a piece of a block of filters in the L2 cache, multiplies all pieces of the pictures by it, and
sums up in the cache what is transformed back at the end.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.filters import filter_table
from fconv.engine.compiled.heavy import block_of
from fconv.engine.compiled.llvm import Module
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, even, micro, most_rows
from fconv.engine.compiled.pool import BYTES, Fields, Launch, address, aligned, kernel_of, pool, scratch
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.transforms import transform
from fconv.engine.compiled.winograd import PRODUCTS, Pieces, Winograd
from fconv.engine.winograd_matrices import FILTER, SIDE, STEP

MOST_BLOCK = 32
"""Channels of a piece of filters."""
MOST_PIECES = 64
"""Pieces of pictures whose products stay in the L2 cache beside the filters."""

SPREAD_FIELDS = (
    "x", "u", "x_image", "x_h", "x_w", "in_h", "in_w", "low_h", "low_w", "high", "wide", "total", "chunk",
    "inner", "inner_row", "parts", "pack", "scratch_size", "scratch",
)  # fmt: skip
FIELDS = (
    "u", "weight", "start", "y", "y_image", "y_h", "y_w", "out_h", "out_w", "high", "wide", "total", "inner",
    "inner_row", "block", "outer", "weight_outer", "weight_inner", "places", "length", "runs", "lay", "table",
    "zeros", "width", *MICRO, "scratch_size", "scratch",
)  # fmt: skip


@lru_cache(maxsize=4)
def _spread(dtype: str) -> int:
    """Compile the transform of pieces into memory that all threads share."""
    module = Module()
    pieces = Pieces(module, dtype)
    f, task, arguments, worker = kernel_of(module)
    a = Fields(f, arguments, SPREAD_FIELDS)
    first, last = task * a.total // a.parts, (task + 1) * a.total // a.parts
    room = a.pointer("scratch") + worker * a.scratch_size
    pieces.spread(f, a, first, last - first, a.pointer("u") + first * a.inner_row, room)
    f.finish()
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def _multiply(dtype: str) -> int:
    """Compile the rest: a task takes one block of filters."""
    module = Module()
    pieces = Pieces(module, dtype, back=True)
    of_filters = transform(module, dtype, FILTER, ends="none")
    f, task, arguments, worker = kernel_of(module)
    a, item = Fields(f, arguments, FIELDS), pieces.itemsize
    row = a.width * item
    first = task * a.width
    there = f.least(a.outer - first, a.width)
    laid = a.pointer("scratch") + worker * a.scratch_size
    step = a.block * row
    w = laid + step * 9
    products = w + step * PRODUCTS
    room = products + a.total * row * PRODUCTS
    with f.loop(a.inner, step=a.block) as c:
        weight = a.pointer("weight") + first * a.weight_outer + c * a.weight_inner
        f.call_address(
            a.lay, laid, weight, a.weight_outer, there, a.weight_inner, a.block, 9, a.width,
            a.pointer("places"), a.length, a.runs,
        )  # fmt: skip
        with f.loop(a.block) as k:
            target = w + k * row
            f.call(of_filters, laid + k * row, step * 3, step, target, step * SIDE, step, a.width, laid)
        with f.loop(PRODUCTS) as i:
            x, y = a.pointer("u") + i * a.total * a.inner_row + c * item, products + i * a.total * row
            operands = (w + i * step, a.pointer("table"), 1, a.block, a.pointer("zeros"), a.width, c)
            contract(f, a, a.total, x, y, operands, (item, a.inner_row, row, row))
    steps, place = (a.total * row, row), a.pointer("y") + first * item
    start = a.pointer("start") + first * item
    pieces.gather(f, a, 0, a.total, products, steps, place, there, start, room)
    f.finish()
    return machine().compile(module)[0]


class HeavyWinograd(Winograd):
    """A 3x3 correlation whose filters outweigh the pictures, by Winograd's algorithm, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        super().__init__(shape, dtype)
        self.block = block_of(shape.inner, MOST_BLOCK)
        self._both: dict[tuple[int, ...], tuple[Launch, Launch]] = {}

    @staticmethod
    def serves(shape: Shape) -> bool:
        """Return whether there are few pieces, and channels fall into blocks."""
        pieces = shape.images * prod(-(-n // STEP) for n in shape.out_size[1:])
        return pieces <= MOST_PIECES and block_of(shape.inner, MOST_BLOCK) >= 16

    def run(self, x: Any, weight: Any, start: Any, y: Any) -> None:
        """Correlate channels-last `x` with a weight (1, O, C, 1, 3, 3) into channels-last `y`."""
        key = (len(x), *x.strides, *weight.strides, *y.strides)
        total = len(x) * self.high * self.wide
        if key not in self._both:
            self._both[key] = self._spread(x.strides, total), self._multiply(weight, y.strides, total)
        spread, multiply = self._both[key]
        u = scratch.array(PRODUCTS * total * self.inner_row // self.itemsize, x.dtype)
        pool().run(spread, (x, u))
        pool().run(multiply, (u, weight, start, y))
        scratch.give_back(u)

    def _spread(self, x: tuple[int, ...], total: int) -> Launch:
        s, parts = self.shape, min(total, 16)
        size = aligned(PRODUCTS * self.inner_row)
        arguments = (
            0, 0, x[0], *x[3:], *s.in_size[1:], *s.low[1:], self.high, self.wide, total, total, s.inner,
            self.inner_row, parts, packing.compiled_box(self.dtype), size, 0,
        )  # fmt: skip
        cost = PRODUCTS * total * self.inner_row / BYTES
        return Launch(_spread(self.dtype), arguments, parts, size, cost=cost)

    def _multiply(self, weight: Any, y: tuple[int, ...], total: int) -> Launch:
        s, row = self.shape, self.filters.row
        _, outer, inner, *kernel = weight.strides
        places, length, runs = filter_table(
            s.taps, weight.shape[3:], (outer, inner, *kernel), self.block, row, self.itemsize
        )
        table, zeros = np.zeros(2, np.int64), np.zeros(self.width, self.dtype)
        rows = even(total, min(most_rows(self.vectors), total))
        size = aligned((self.block * (PRODUCTS + 9) + total * PRODUCTS + STEP * STEP) * row)
        arguments = (
            *(0,) * 4, y[0], *y[3:], *s.out_size[1:], self.high, self.wide, total, s.inner,
            self.inner_row, self.block, s.outer, outer, inner, address(places), length, runs,
            packing.compiled_filters(self.dtype), address(table), address(zeros), self.width,
            *micro(self.dtype, rows, self.vectors, (total,)), size, 0,
        )  # fmt: skip
        return Launch(_multiply(self.dtype), arguments, self.blocks, size, keep=(table, zeros, places))
