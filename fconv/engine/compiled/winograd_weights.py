"""The weight gradient of a correlation by 3x3 squares, by Winograd's algorithm.

    dw = G^T [sum over the pieces of (B^T x B)^T (A g A^T)] G

A task takes a block of input by a block of output channels, whose sums of all 36 products fit into the L2
cache, and a part of the pieces: it transforms some of them at a time and adds up their products. Pieces are
transformed again for each block, which takes less time than to read from memory what they become.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.adding import into_weight
from fconv.engine.compiled.heavy import ending, gradient_like, outweighs, put_piece
from fconv.engine.compiled.launches import BYTES, MULTIPLY_ADDS, Launch
from fconv.engine.compiled.llvm import INT, POINTER, Module
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, even, micro, most_rows
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, aligned, scratch
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.squares import OUTPUT, squares_of
from fconv.engine.compiled.transforms import transform
from fconv.engine.compiled.vectors import Numbers
from fconv.engine.compiled.weights import PART_BYTES
from fconv.engine.compiled.winograd import LEAST_TASKS, PRODUCTS, READING, Pieces, Read, Tiling
from fconv.engine.winograd_matrices import FILTER, OUT, SIDE

LONGEST_SUM = 256
"""Pieces that are summed up one after another in a register, before rounding errors would grow."""
RUN_BYTES = 32 << 20
"""Most bytes of input and gradient at once: contiguous ones are copied to channels-last."""
SUMS = 3 / 8
"""Part of the L2 cache for the sums of a task; three quarters hold sums and pieces."""

FIELDS = (
    "x", "g", "dw", *READING, "g_h", "g_w", "total", "chunk", "parts", "part_bytes", "inner", "block",
    "x_blocks", "all_blocks", "outer", "width", "sum_row", "sums_row", "sums_product", "table", "zeros",
    "dw_outer", "dw_inner", "tap_count", "places", "collect", *MICRO, "scratch_size", "scratch",
)  # fmt: skip
"""`x_blocks` are those of the input channels of a square; `dw` are sums where `tap_count` is 0."""
BACK_FIELDS = ("sums", "dw", "part_bytes", "parts", "inner", "channels", "sum_row", "pieces")


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    """Compile the sums: a task takes a part of the pieces and a block of channels on both sides."""
    module = Module()
    pieces = Pieces(module, dtype)
    to_gradient = Read(module, dtype, OUT.T)
    of_sums = transform(module, dtype, FILTER.T, ends="none")
    f, task, arguments, worker = kernel_of(module)
    a, item = Fields(f, arguments, FIELDS), pieces.itemsize
    part, c, b = task % a.parts, task // a.parts % a.all_blocks, task // a.parts // a.all_blocks
    square, first_channel = c // a.x_blocks, c % a.x_blocks * a.channels
    channels, there = f.least(a.inner - first_channel, a.channels), f.least(a.outer - b * a.width, a.width)
    row = a.width * item
    u = a.pointer("scratch") + worker * a.scratch_size
    q = u + a.product_bytes * PRODUCTS
    zeros = q + a.chunk * row * PRODUCTS
    own = zeros + f.most(a.channels * item, row)
    sums = f.variable(POINTER, own)
    with f.when(a.tap_count.equals(0)):
        place = a.pointer("dw") + part * a.part_bytes
        sums.set(place + (square * a.inner + first_channel) * a.sum_row + b * row)
    first, last = part * a.total // a.parts, (part + 1) * a.total // a.parts
    with f.loop(last, first, step=a.chunk) as begin:
        count = f.least(last - begin, a.chunk)
        pieces.spread(f, a, begin, count, u, zeros, (square, first_channel, channels))
        packing.clear(f, zeros, row)
        with f.loop(count) as t:
            picture, i, j = pieces.corner(a, begin + t)
            place, *full = (packing.entry(f, picture, f.constant(k, INT)) for k in range(OUTPUT))
            base, target, step = a.pointer("g") + place + b * row, q + t * row, a.chunk * row
            to_gradient(f, base, (a.g_h, a.g_w), (i, j), full, there, zeros, target, step)
        with f.loop(PRODUCTS) as i:
            x, g, y = u + i * a.product_bytes, q + i * a.chunk * row, sums.get() + i * a.sums_product
            operands = (g, a.pointer("table"), 1, count, a.pointer("zeros"), a.width, begin - first)
            steps = (a.piece_bytes, item, row, a.sums_row)
            contract(f, a, channels * a.squares, x, y, operands, steps)
    with f.when(a.tap_count > 0):
        step = a.block * row
        piece = own + step * PRODUCTS
        with f.loop(channels) as k:
            source, target = own + k * row, piece + k * row
            f.call(of_sums, source, step * SIDE, step, target, step * 3, step, a.width, source)
        put_piece(f, a, dtype, piece, b, c, channels)
    f.finish()
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def _back(dtype: str) -> int:
    """Compile the sum S of the parts and ``G^T S G``: a task takes some input channels of all squares."""
    module = Module()
    of_sums = transform(module, dtype, FILTER.T, ends="none")
    f, task, arguments, _ = kernel_of(module)
    a, n = Fields(f, arguments, BACK_FIELDS), Numbers(f, dtype)
    step, tap = a.inner * a.sum_row, a.channels * a.sum_row
    with f.loop((task + 1) * a.inner // a.pieces, task * a.inner // a.pieces) as c:
        source, square = a.pointer("sums") + c * a.sum_row, c // a.channels
        with f.when(a.parts > 1), f.loop(PRODUCTS) as i, f.loop(a.sum_row, step=n.bytes) as v:
            place = source + i * step + v
            total = f.variable(n.vector, n.load(place))
            with f.loop(a.parts, 1) as p:
                total.set(total.get() + n.load(place + p * a.part_bytes))
            n.store(total.get(), place)
        target = a.pointer("dw") + square * tap * 9 + (c - square * a.channels) * a.sum_row
        f.call(of_sums, source, step * SIDE, step, target, tap * 3, tap, a.sum_row // n.itemsize, source)
    f.finish()
    return machine().compile(module)[0]


class WinogradWeights(Tiling):
    """The weight gradient of a correlation by 3x3 squares by Winograd's algorithm, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        super().__init__(shape, dtype)
        row, planes, l2 = self.width * self.itemsize, len(self.squares.planes), machine().l2_bytes
        most = max(1, int(l2 * SUMS) // (PRODUCTS * row))
        self.task_squares = planes if self.inner <= most else 1
        self.channels = shape.inner if self.inner <= most else even(shape.inner, most)
        self.block = self.channels * self.task_squares
        self.x_blocks = -(-shape.inner // self.channels)
        self.all_blocks = self.x_blocks * planes // self.task_squares
        self.part = PRODUCTS * self.inner * self.sum_row
        pixels = shape.inner * prod(shape.in_size) + shape.outer * prod(shape.out_size)
        images = even(shape.images, max(1, RUN_BYTES // (pixels * self.itemsize)))
        self.runs = [slice(i, i + images) for i in range(0, shape.images, images)]
        self.total = images * self.squares.each
        last = (shape.images - self.runs[-1].start) * self.squares.each
        tasks = self.blocks * self.all_blocks
        self.parts = max(1, min(last, -(-LEAST_TASKS // tasks), PART_BYTES // self.part))
        self.at_once = self.parts == planes == 1
        self.piece_row = self.row_of(self.channels, self.task_squares)
        fits = (l2 * 3 // 4 - PRODUCTS * self.block * row) // (PRODUCTS * (self.piece_row + row))
        self.chunk = even(-(-self.total // self.parts), max(1, min(fits, LONGEST_SUM)))
        self._table, self._zeros = np.zeros(2, np.int64), np.zeros(self.width, dtype)
        self._launches: dict[tuple[Any, ...], Launch] = {}
        self._back: Launch | None = None

    @staticmethod
    def pays(shape: Shape, dtype: str) -> bool:
        """Compare what the two ways cost, in multiplications.

        The constants are fitted to measured times, docs/design/convolution.md: sums that are written to
        memory, and those that are transformed back, cost as much as some multiplications.
        """
        squares = squares_of(shape)
        if squares is None or not squares.worth_transforming(dtype):
            return False
        plan = WinogradWeights(shape, dtype)
        sums = plan.inner * shape.outer
        transforms = plan.inner * plan.blocks + shape.outer * plan.all_blocks
        cost = squares.pieces * (1.25 * sums + 12 * transforms) + sums * (
            20 if plan.at_once else 28 + 44 * plan.parts
        )
        slower = 1.1 if outweighs(shape, dtype, weights=True) else 1.5
        return PRODUCTS * cost < shape.multiply_adds * slower

    def run(self, g: Any, x: Any, like: Any) -> Any:
        """Return the gradient of the weight (O, C, D, 3, 3) from one of the runs of channels-last g and x."""
        dw = gradient_like(like) if self.at_once else None
        key = (len(x), x.strides, g.strides, None if dw is None else dw.strides)
        if key not in self._launches:
            self._launches[key] = self._planned(*key)
        if dw is not None:
            pool().run(self._launches[key], (x, g, dw))
            return dw
        sums = scratch.array(self.parts * self.part // self.itemsize, x.dtype)
        pool().run(self._launches[key], (x, g, sums))
        dw = self._finished(sums, like)
        scratch.give_back(sums)
        return dw

    def _planned(
        self, images: int, x: tuple[int, ...], g: tuple[int, ...], dw: tuple[int, ...] | None
    ) -> Launch:
        s, row, total = self.shape, self.width * self.itemsize, images * self.squares.each
        read = self.task_squares, self.channels
        pictures, reading = self.reading(images, x, g, self.chunk, self.piece_row, read)
        size = PRODUCTS * self.chunk * (self.piece_row + row) + max(self.channels * self.itemsize, row)
        written: tuple[Any, tuple[int, ...]] = (None, (0,) * 5)
        steps = self.sum_row, self.inner * self.sum_row
        if dw is not None:
            places, fields = ending(dw, s.taps, self.block, row, self.dtype)
            written, steps = (places, (*dw[:2], len(s.taps), *fields)), (row, self.block * row)
            size += (PRODUCTS + 9) * self.block * row
        lengths = tuple({self.block, (s.inner - (self.x_blocks - 1) * self.channels) * self.task_squares})
        rows = even(self.block, min(most_rows(self.vectors), self.block))
        arguments = (
            0, 0, 0, *reading, *self.squares.steps(g), total, self.chunk, self.parts, self.part, s.inner,
            self.block, self.x_blocks, self.all_blocks, s.outer, self.width, self.sum_row, *steps,
            address(self._table), address(self._zeros), *written[1],
            *micro(self.dtype, rows, self.vectors, lengths), aligned(size), 0,
        )  # fmt: skip
        tasks, keep = self.parts * self.blocks * self.all_blocks, (pictures, written[0])
        cost = total * PRODUCTS * self.inner * s.outer / MULTIPLY_ADDS
        return Launch(_kernel(self.dtype), arguments, tasks, aligned(size), keep, cost)

    def _finished(self, sums: Any, like: Any) -> Any:
        """Add up the parts of the sums, and transform them back."""
        s = self.shape
        if self._back is None:
            pieces = max(1, min(8, self.inner // 4))
            arguments = (0, 0, self.part, self.parts, self.inner, s.inner, self.sum_row, pieces)
            cost = self.part * self.parts / BYTES
            self._back = Launch(_back(self.dtype), arguments, pieces, cost=cost)
        rows = scratch.array(9 * self.part // PRODUCTS // self.itemsize, sums.dtype)
        pool().run(self._back, (sums, rows))
        dw = np.empty_like(like)
        if not into_weight(rows, 0, 1, dw, s, self.dtype, self.width):
            found = rows.reshape(-1, 3, 3, s.inner, self.width * self.blocks)[..., : s.outer]
            dw[...] = found.transpose(4, 3, 0, 1, 2)
        scratch.give_back(rows)
        return dw
