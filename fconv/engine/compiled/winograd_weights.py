"""The weight gradient of a correlation by 3x3 squares, by Winograd's algorithm.

Pieces of the input and of the output's gradient are transformed into memory that all threads share. Where all
of them fit into it at once, a task sums up the products of a block of input channels by a block of output
channels in the L2 cache, transforms the sums back there, and writes its part of the gradient. Larger batches
go run by run, and their sums lie in memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.filters import row_of
from fconv.engine.compiled.heavy import block_of, ending, gradient_like, put_piece
from fconv.engine.compiled.llvm import INT, Module, Value, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, even, micro, most_rows
from fconv.engine.compiled.pool import (
    BYTES,
    MULTIPLY_ADDS,
    Fields,
    Launch,
    address,
    aligned,
    kernel_of,
    pool,
    scratch,
)
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.squares import OUTPUT, Squares
from fconv.engine.compiled.transforms import transform
from fconv.engine.compiled.weights import into_weight
from fconv.engine.compiled.winograd import LEAST_TASKS, PRODUCTS, READING, Pieces, Tiling
from fconv.engine.winograd_matrices import FILTER, OUT, SIDE, STEP

LONGEST_SUM = 256
"""Pieces that are summed up one after another in a register, before rounding errors would grow."""
SHARE_BYTES = 8 << 20
"""Most bytes of transformed pieces at once, in runs."""
WHOLE_BYTES = 24 << 20
"""Most bytes of transformed pieces where all of them are summed up at once."""

SPREAD_FIELDS = (
    "x", "g", "u", "q", "begin", *READING, "g_h", "g_w", "total", "outer", "outer_row", "parts",
    "scratch_size", "scratch",
)  # fmt: skip
RUN_FIELDS = (
    "u", "q", "sums", "begin", "total", "chunk", "inner", "inner_row", "outer_row", "sum_row", "blocks",
    "table", "zeros", "width", *MICRO,
)  # fmt: skip
WHOLE_FIELDS = (
    "u", "q", "dw", "dw_outer", "dw_inner", "total", "inner_row", "outer_row", "block", "x_blocks", "outer",
    "width", "table", "zeros", "tap_count", "places", "collect", *MICRO, "scratch_size", "scratch",
)  # fmt: skip


@lru_cache(maxsize=4)
def _spread(dtype: str) -> int:
    """Compile the transforms of pieces and of their gradients into memory that all threads share."""
    module = Module()
    pieces = Pieces(module, dtype)
    to_gradient = transform(module, dtype, OUT.T, ends="load")
    f, task, arguments, worker = kernel_of(module)
    a = Fields(f, arguments, SPREAD_FIELDS)
    room = a.pointer("scratch") + worker * a.scratch_size
    first, last = task * a.chunk // a.parts, (task + 1) * a.chunk // a.parts
    last = f.least(last, a.total - a.begin)
    with f.when(last > first):
        u, q = a.pointer("u") + first * a.inner_row, a.pointer("q") + first * a.outer_row
        pieces.spread(f, a, a.begin + first, last - first, u, room)
        step = a.chunk * a.outer_row
        with f.loop(last - first) as t:
            picture, i, j = pieces.corner(a, a.begin + first + t)
            place, high, wide = (packing.entry(f, picture, f.constant(k, INT)) for k in range(OUTPUT))

            def use(source: Value, row: Value, column: Value, t: Value = t) -> None:
                f.call(to_gradient, source, row, column, q + t * a.outer_row, step * SIDE, step, a.outer, q)

            base, corner = a.pointer("g") + place, (i, j)
            pieces.part(f, a, base, (a.g_h, a.g_w), corner, STEP, (high, wide), a.outer, room, use)
    f.finish()
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def _whole(dtype: str) -> int:
    """Compile the sums of all pieces: a task takes a block of input by a block of output channels."""
    module = Module()
    of_sums = transform(module, dtype, FILTER.T, ends="none")
    f, task, arguments, worker = kernel_of(module)
    a, item = Fields(f, arguments, WHOLE_FIELDS), itemsize_of(dtype)
    b, c, row = task // a.x_blocks, task % a.x_blocks, a.width * item
    sums, step = a.pointer("scratch") + worker * a.scratch_size, a.block * row
    piece = sums + step * PRODUCTS
    with f.loop(PRODUCTS) as i, f.loop(a.total, step=LONGEST_SUM) as t:
        x = a.pointer("u") + (i * a.total + t) * a.inner_row + c * a.block * item
        g = a.pointer("q") + (i * a.total + t) * a.outer_row + b * row
        count = f.least(a.total - t, LONGEST_SUM)
        operands = (g, a.pointer("table"), 1, count, a.pointer("zeros"), a.width, t)
        contract(f, a, a.block, x, sums + i * step, operands, (a.inner_row, item, a.outer_row, row))
    with f.loop(a.block) as k:
        source, target = sums + k * row, piece + k * row
        f.call(of_sums, source, step * SIDE, step, target, step * 3, step, a.width, source)
    put_piece(f, a, dtype, piece, b, c)
    f.finish()
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def _run(dtype: str) -> int:
    """Compile the sums of a run of pieces: a task is one product of one block."""
    f, task, arguments, _ = kernel_of(Module())
    a, item = Fields(f, arguments, RUN_FIELDS), itemsize_of(dtype)
    i, row = task // a.blocks, a.width * item
    across = task % a.blocks * row
    x, g = a.pointer("u") + i * a.chunk * a.inner_row, a.pointer("q") + i * a.chunk * a.outer_row + across
    y = a.pointer("sums") + i * a.inner * a.sum_row + across
    steps = (a.inner_row, item, a.outer_row, a.sum_row)
    with f.loop(f.least(a.total - a.begin, a.chunk), step=LONGEST_SUM) as t:
        count, add = f.least(a.total - a.begin - t, f.least(a.chunk - t, LONGEST_SUM)), a.begin + t
        operands = (g + t * a.outer_row, a.pointer("table"), 1, count, a.pointer("zeros"), a.width, add)
        contract(f, a, a.inner, x + t * a.inner_row, y, operands, steps)
    f.finish()
    return machine().compile(f.module)[0]


@lru_cache(maxsize=4)
def _back(dtype: str) -> int:
    """Compile ``G^T S G``: a task takes some input channels of all squares."""
    module = Module()
    of_sums = transform(module, dtype, FILTER.T, ends="none")
    f, task, arguments, _ = kernel_of(module)
    item, fields = itemsize_of(dtype), ("sums", "dw", "inner", "channels", "sum_row", "pieces")
    a = Fields(f, arguments, fields)
    step, tap = a.inner * a.sum_row, a.channels * a.sum_row
    with f.loop((task + 1) * a.inner // a.pieces, task * a.inner // a.pieces) as c:
        source, square = a.pointer("sums") + c * a.sum_row, c // a.channels
        target = a.pointer("dw") + square * tap * 9 + (c - square * a.channels) * a.sum_row
        f.call(of_sums, source, step * SIDE, step, target, tap * 3, tap, a.sum_row // item, source)
    f.finish()
    return machine().compile(module)[0]


def _block(shape: Shape, dtype: str) -> int:
    """Choose the input channels of a task: their sums stay in the L2 cache, and there are enough tasks."""
    row = row_of(shape.outer, dtype)
    most = max(1, machine().l2_bytes * 5 // 16 // (PRODUCTS * row))
    blocks = -(-shape.outer * itemsize_of(dtype) // row)
    return block_of(shape.inner, min(most, max(1, shape.inner * blocks // LEAST_TASKS)))


def at_once(squares: Squares, dtype: str) -> bool:
    """Return whether all pieces are summed up at once: they fit into memory, but their sums not the cache."""
    shape, each = squares.shape, PRODUCTS * itemsize_of(dtype)
    outgrow = each * shape.inner * shape.outer > machine().l2_bytes // 2
    fit = squares.pieces * each * (shape.inner + shape.outer) <= WHOLE_BYTES
    return len(squares.planes) == 1 and outgrow and fit and _block(shape, dtype) >= 8


class WinogradWeights(Tiling):
    """The weight gradient of a correlation by 3x3 squares by Winograd's algorithm, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        super().__init__(shape, dtype)
        self.block = _block(shape, dtype)
        self.part = PRODUCTS * self.inner * self.sum_row
        self.at_once = at_once(self.squares, dtype)
        fits = SHARE_BYTES // (PRODUCTS * (self.inner_row + self.outer_row))
        self.share = self.total if self.at_once else even(self.total, max(1, fits))
        self._table, self._zeros = np.zeros(2, np.int64), np.zeros(self.width, dtype)
        self._spreads: dict[tuple[int, ...], Launch] = {}
        self._endings: dict[tuple[int, ...], Launch] = {}
        self._runs: tuple[Launch, Launch] | None = None

    def run(self, g: Any, x: Any, like: Any) -> Any:
        """Return the gradient of the weight (O, C, D, 3, 3) from channels-last g and x."""
        key = x.strides + g.strides
        if key not in self._spreads:
            self._spreads[key] = self._spread(x.strides, g.strides)
        rows = self.inner_row, self.outer_row
        u, q = (scratch.array(PRODUCTS * self.share * row // self.itemsize, x.dtype) for row in rows)
        if self.at_once:
            pool().run(self._spreads[key], (x, g, u, q), 0)
            dw = gradient_like(like)
            if dw.strides not in self._endings:
                self._endings[dw.strides] = self._whole(dw.strides)
            pool().run(self._endings[dw.strides], (u, q, dw))
        else:
            dw = self._by_runs(self._spreads[key], g, x, u, q, like)
        scratch.give_back(u)
        scratch.give_back(q)
        return dw

    def _by_runs(self, spread: Launch, g: Any, x: Any, u: Any, q: Any, like: Any) -> Any:
        if self._runs is None:
            self._runs = self._multiply(), self._back()
        multiply, back = self._runs
        s = self.shape
        sums = scratch.array(self.part // self.itemsize, x.dtype)
        rows = scratch.array(9 * self.part // PRODUCTS // self.itemsize, x.dtype)
        for begin in range(0, self.total, self.share):
            pool().run(spread, (x, g, u, q), begin)
            pool().run(multiply, (u, q, sums), begin)
        pool().run(back, (sums, rows))
        dw = np.empty_like(like)
        if not into_weight(rows, 0, 1, dw, s, self.dtype, self.width):
            found = rows.reshape(-1, 3, 3, s.inner, self.width * self.blocks)[..., : s.outer]
            dw[...] = found.transpose(4, 3, 0, 1, 2)
        scratch.give_back(sums)
        scratch.give_back(rows)
        return dw

    def _spread(self, x: tuple[int, ...], g: tuple[int, ...]) -> Launch:
        s, parts = self.shape, min(self.share, 4 * LEAST_TASKS)
        size = aligned(PRODUCTS * max(self.inner_row, self.outer_row))
        pictures, places = self.places(s.images, x, g)
        arguments = (
            *(0,) * 5, *self.reading(places, x, self.share), *self.squares.steps(g), self.total, s.outer,
            self.outer_row, parts, size, 0,
        )  # fmt: skip
        cost = self.share * PRODUCTS * (self.inner_row + self.outer_row) / BYTES
        return Launch(_spread(self.dtype), arguments, parts, size, (pictures,), cost)

    def _micro(self, length: int) -> tuple[int, ...]:
        rows = even(length, min(most_rows(self.vectors), length))
        return micro(self.dtype, rows, self.vectors, (length,))

    def _whole(self, dw: tuple[int, ...]) -> Launch:
        s, row = self.shape, self.width * self.itemsize
        places, written = ending(dw, s.taps, self.block, row, self.dtype)
        size = aligned((PRODUCTS + 9) * self.block * row)
        arguments = (
            0, 0, 0, *dw[:2], self.total, self.inner_row, self.outer_row, self.block, s.inner // self.block,
            s.outer, self.width, address(self._table), address(self._zeros), len(s.taps), *written,
            *self._micro(self.block), size, 0,
        )  # fmt: skip
        tasks = self.blocks * s.inner // self.block
        return Launch(_whole(self.dtype), arguments, tasks, size, (places,))

    def _multiply(self) -> Launch:
        s = self.shape
        arguments = (
            *(0,) * 4, self.total, self.share, self.inner, self.inner_row, self.outer_row, self.sum_row,
            self.blocks, address(self._table), address(self._zeros), self.width, *self._micro(self.inner),
        )  # fmt: skip
        cost = self.share * PRODUCTS * self.inner * s.outer / MULTIPLY_ADDS
        return Launch(_run(self.dtype), arguments, PRODUCTS * self.blocks, cost=cost)

    def _back(self) -> Launch:
        pieces = max(1, min(8, self.inner // 4))
        arguments = (0, 0, self.inner, self.shape.inner, self.sum_row, pieces)
        return Launch(_back(self.dtype), arguments, pieces, cost=self.part / BYTES)
