"""Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications of a 3x3 convolution.

A 6x6 piece d of the input gives 4x4 outputs ``A^T [(G w G^T) * (B^T d B)] A``, summed over the channels in
between, which makes 36 products of pieces by channels. A task transforms some pieces, in registers; what
they become stays in the L2 cache for the products and the transform back. The weight gradient takes the
same pieces and those of the gradient, ``G^T [(B^T d B)^T (A g A^T)] G`` summed over the pieces.

References
----------
Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
Barabasz, Anderson, Soodhalter and Gregg, "Error analysis and improving the accuracy of Winograd
convolution for deep neural networks", 2020, on how the points decide the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.filters import FilterBlocks
from fconv.engine.compiled.llvm import INT, Function, Module, Value, itemsize_of
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
from fconv.engine.compiled.transforms import transform
from fconv.engine.compiled.weights import into_weight
from fconv.engine.winograd_matrices import FILTER, IN, OUT, SIDE, STEP

PRODUCTS = SIDE * SIDE
LEAST_PIECES = 14
"""Pieces of a task that are worth reading the transformed filters once more."""
LEAST_TASKS = 8
LINE = 64
LONGEST_SUM = 256
"""Pieces that are summed up one after another in a register, before rounding errors would grow."""
SHARE_BYTES = 8 << 20
"""Most bytes of a weight gradient's transformed pieces at once."""


FIELDS = (
    "x", "w", "start", "y", "sums", "begin", "x_image", "x_h", "x_w", "y_image", "y_h", "y_w", "in_h",
    "in_w", "low_h",
    "low_w", "out_h", "out_w", "high", "wide", "total", "chunk", "inner", "outer", "inner_row", "outer_row",
    "sum_row", "blocks", "table", "parts", "zeros", "width", *MICRO, "pack", "scratch_size",
    "scratch",
)  # fmt: skip


def apart(row: int) -> int:
    """Return the bytes from row to row: rows at steps of a KiB would share a few sets of the L1 cache."""
    return row + LINE if row % 1024 == 0 else row


def pieces_of(shape: Shape) -> int:
    """Return how many pieces the output consists of."""
    return shape.images * prod(-(-n // STEP) for n in shape.out_size[1:])


def pieces_in_cache(shape: Shape, dtype: str) -> int:
    """Return how many pieces stay in the L2 cache, transformed, before and after the products."""
    return machine().l2_bytes * 3 // 4 // (PRODUCTS * itemsize_of(dtype) * (shape.inner + shape.outer))


class Pieces:
    """Emits what the kernels share: where pieces lie, and how they are transformed."""

    def __init__(self, module: Module, dtype: str, *, back: bool = False) -> None:
        self.itemsize = itemsize_of(dtype)
        self.to_input = transform(module, dtype, IN, ends="load")
        if back:
            self.to_output = transform(module, dtype, OUT, ends="store", shifted=True)

    def corner(self, a: Fields, q: Value) -> tuple[Value, Value, Value]:
        """Return picture, row and column of a piece's output."""
        rest = q % (a.high * a.wide)
        return q // (a.high * a.wide), rest // a.wide * STEP, rest % a.wide * STEP

    def part(
        self,
        f: Function,
        a: Fields,
        base: Value,
        strides: Sequence[Value],
        place: Sequence[Value],
        size: int,
        full: Sequence[Value],
        channels: Value,
        room: Value,
        use: Any,
    ) -> None:
        """Call `use` with the address and steps of a piece, in the picture or copied with zeros around."""
        h, w = place
        inside = f.all_of(
            f.all_of(h > -1, h + (size - 1) < full[0]), f.all_of(w > -1, w + (size - 1) < full[1])
        )
        one, nought = f.constant(1, INT), f.constant(0, INT)
        pixel = channels * self.itemsize
        with f.when(inside):
            use(base + h * strides[0] + w * strides[1], strides[0], strides[1])
        with f.when(f.negation(inside)):
            edge = f.constant(size, INT)
            f.call_address(
                a.pack, room, base, one, edge, edge, nought, h, w, one, full[0], full[1], channels,
                f.constant(self.itemsize, INT), nought, strides[0], strides[1],
            )  # fmt: skip
            use(room, pixel * size, pixel)

    def spread(self, f: Function, a: Fields, first: Value, count: Value, u: Value, room: Value) -> None:
        """Transform the input of `count` pieces into ``u[36][chunk][inner_row]``."""
        step = a.chunk * a.inner_row
        with f.loop(count) as t:
            image, i, j = self.corner(a, first + t)

            def use(source: Value, row: Value, column: Value) -> None:
                target = u + t * a.inner_row
                f.call(self.to_input, source, row, column, target, step * SIDE, step, a.inner, u)

            base = a.pointer("x") + image * a.x_image
            self.part(
                f,
                a,
                base,
                (a.x_h, a.x_w),
                (i + a.low_h, j + a.low_w),
                SIDE,
                (a.in_h, a.in_w),
                a.inner,
                room,
                use,
            )

    def gather(
        self,
        f: Function,
        a: Fields,
        first: Value | int,
        count: Value,
        products: Value,
        steps: Sequence[Value],
        place: Value,
        channels: Value,
        start: Value,
        room: Value,
    ) -> None:
        """Transform products back into y; `steps` are the bytes from product to product, piece to piece."""
        step, each = steps
        pixel = channels * self.itemsize
        with f.loop(count) as t:
            image, i, j = self.corner(a, t + first)
            source = products + t * each
            target = place + image * a.y_image + i * a.y_h + j * a.y_w
            whole = f.all_of(i + (STEP - 1) < a.out_h, j + (STEP - 1) < a.out_w)
            with f.when(whole):
                f.call(self.to_output, source, step * SIDE, step, target, a.y_h, a.y_w, channels, start)
            with f.when(f.negation(whole)):
                f.call(self.to_output, source, step * SIDE, step, room, pixel * STEP, pixel, channels, start)
                with f.loop(f.least(a.out_h - i, STEP)) as k, f.loop(f.least(a.out_w - j, STEP)) as m:
                    packing.copy(f, target + k * a.y_h + m * a.y_w, room + (k * STEP + m) * pixel, pixel)


@lru_cache(maxsize=4)
def _forward(dtype: str) -> int:
    module = Module()
    pieces = Pieces(module, dtype, back=True)
    item = pieces.itemsize
    f, task, address, worker = kernel_of(module)
    a = Fields(f, address, FIELDS)
    u = a.pointer("scratch") + worker * a.scratch_size
    p = u + a.chunk * a.inner_row * PRODUCTS
    room = p + a.chunk * a.outer_row * PRODUCTS
    first = task * a.chunk
    count = f.least(a.total - first, a.chunk)
    pieces.spread(f, a, first, count, u, room)
    row = a.width * item
    with f.loop(PRODUCTS) as i, f.loop(a.blocks) as b:
        x, y = u + i * a.chunk * a.inner_row, p + i * a.chunk * a.outer_row + b * row
        weights = a.pointer("w") + (i * a.blocks + b) * a.inner * row
        rest = (weights, a.pointer("table"), 1, a.inner, a.pointer("zeros"), a.width, 0)
        contract(f, a, count, x, y, rest, (item, a.inner_row, row, a.outer_row))
    steps = (a.chunk * a.outer_row, a.outer_row)
    pieces.gather(f, a, first, count, p, steps, a.pointer("y"), a.outer, a.pointer("start"), room)
    f.finish()
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def _filter_transform(dtype: str) -> int:
    """Compile ``G w G^T`` of filters (blocks, 9, inner, width); a task takes some inner channels."""
    module = Module()
    of_filters = transform(module, dtype, FILTER, ends="none")
    f, task, address, _ = kernel_of(module)
    a = Fields(f, address, ("w", "laid", "blocks", "inner", "pieces", "width"))
    row = a.width * itemsize_of(dtype)
    b, piece = task // a.pieces, task % a.pieces
    step = a.blocks * a.inner * row
    with f.loop((piece + 1) * a.inner // a.pieces, piece * a.inner // a.pieces) as c:
        source = a.pointer("laid") + (b * 9 * a.inner + c) * row
        target = a.pointer("w") + (b * a.inner + c) * row
        f.call(
            of_filters, source, a.inner * row * 3, a.inner * row, target, step * SIDE, step,
            a.width, source,
        )  # fmt: skip
    f.finish()
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def _spread(dtype: str) -> int:
    """Compile the transforms of pieces and of their gradients into memory that all threads share."""
    module = Module()
    pieces = Pieces(module, dtype)
    to_gradient = transform(module, dtype, OUT.T, ends="load")
    f, task, address, worker = kernel_of(module)
    a = Fields(f, address, FIELDS)
    room = a.pointer("scratch") + worker * a.scratch_size
    first, last = task * a.chunk // a.parts, (task + 1) * a.chunk // a.parts
    last = f.least(last, a.total - a.begin)
    with f.when(last > first):
        u, q = a.pointer("w") + first * a.inner_row, a.pointer("start") + first * a.outer_row
        pieces.spread(f, a, a.begin + first, last - first, u, room)
        step = a.chunk * a.outer_row
        with f.loop(last - first) as t:
            image, i, j = pieces.corner(a, a.begin + first + t)

            def use(source: Value, row: Value, column: Value, t: Value = t) -> None:
                f.call(to_gradient, source, row, column, q + t * a.outer_row, step * SIDE, step, a.outer, q)

            base = a.pointer("y") + image * a.y_image
            pieces.part(f, a, base, (a.y_h, a.y_w), (i, j), STEP, (a.out_h, a.out_w), a.outer, room, use)
    f.finish()
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def _multiply(dtype: str) -> int:
    """Compile the products of pieces that `_spread` transformed: a task is one product of one block."""
    f, task, address, _ = kernel_of(Module())
    a, item = Fields(f, address, FIELDS), itemsize_of(dtype)
    i, row = task // a.blocks, a.width * item
    across = task % a.blocks * row
    x, g = a.pointer("w") + i * a.chunk * a.inner_row, a.pointer("start") + i * a.chunk * a.outer_row + across
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
    """Compile ``G^T S G``: a task takes some input channels."""
    module = Module()
    of_sums = transform(module, dtype, FILTER.T, ends="none")
    f, task, address, _ = kernel_of(module)
    a, item = Fields(f, address, ("sums", "dw", "inner", "sum_row", "pieces")), itemsize_of(dtype)
    step = a.inner * a.sum_row
    with f.loop((task + 1) * a.inner // a.pieces, task * a.inner // a.pieces) as c:
        source = a.pointer("sums") + c * a.sum_row
        f.call(
            of_sums, source, step * SIDE, step, a.pointer("dw") + c * a.sum_row, step * 3, step,
            a.sum_row // item, source,
        )  # fmt: skip
    f.finish()
    return machine().compile(module)[0]


class Winograd:
    """A 3x3 correlation at stride 1 by Winograd's algorithm, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        self.shape, self.dtype = shape, dtype
        self.itemsize = itemsize_of(dtype)
        self.lanes = machine().vector_bytes // self.itemsize
        self.filters = FilterBlocks(shape, dtype, shape.taps)
        self.vectors = self.filters.vectors
        self.width, self.blocks = self.filters.width, self.filters.blocks
        s = shape
        self.high, self.wide = (-(-n // STEP) for n in s.out_size[1:])
        self.total = pieces_of(shape)
        self.inner_row = apart(-(-s.inner // self.lanes) * self.lanes * self.itemsize)
        self.sum_row = self.blocks * self.width * self.itemsize
        self.outer_row = apart(self.sum_row)
        fits = max(LEAST_PIECES, pieces_in_cache(shape, dtype))
        self.chunk = even(self.total, max(1, min(fits, -(-self.total // LEAST_TASKS))))
        self.size = PRODUCTS * (
            self.chunk * (self.inner_row + self.outer_row) + max(self.inner_row, self.outer_row)
        )
        self.size = aligned(self.size)
        self.part = PRODUCTS * s.inner * self.sum_row
        fits = SHARE_BYTES // (PRODUCTS * (self.inner_row + self.outer_row))
        self.share = even(self.total, max(1, fits))
        self._launches: dict[tuple[int, ...], Launch] = {}
        pieces = max(1, min(s.inner // 8, 8 // self.blocks))
        self._filters = Launch(
            _filter_transform(self.dtype),
            (0, 0, self.blocks, s.inner, pieces, self.width),
            self.blocks * pieces,
            cost=self.part / BYTES,
        )

    @cached_property
    def _sums(self) -> Launch:
        pieces = max(1, min(8, self.shape.inner // 4))
        arguments = (0, 0, self.shape.inner, self.sum_row, pieces)
        return Launch(_back(self.dtype), arguments, pieces, cost=self.part / BYTES)

    def transformed(self, laid: Any) -> Any:
        """Transform filters that `FilterBlocks.lay` laid out."""
        w = scratch.array(PRODUCTS * self.blocks * self.shape.inner * self.width, laid.dtype)
        pool().run(self._filters, (w, laid))
        return w

    def _planned(self, kind: str, x: Any, y: Any) -> Launch:
        """Plan a kernel, for arrays of these strides."""
        key = (kind, len(x), *x.strides, *y.strides)
        if key in self._launches:
            return self._launches[key]
        total = len(x) * self.high * self.wide
        s, table, zeros = self.shape, np.zeros(2, np.int64), np.zeros(self.width, self.dtype)
        compile, chunk, parts, tasks = {
            "forward": (_forward, self.chunk, 1, -(-total // self.chunk)),
            "spread": (
                _spread,
                self.share,
                min(self.share, 4 * LEAST_TASKS),
                min(self.share, 4 * LEAST_TASKS),
            ),
            "multiply": (_multiply, self.share, 1, PRODUCTS * self.blocks),
        }[kind]
        length = chunk if kind == "forward" else s.inner
        rest = length if kind != "forward" else total - (total - 1) // length * length
        rows = even(length, min(most_rows(self.vectors), length))
        arguments = (
            *(0,) * 6, x.strides[0], *x.strides[3:], y.strides[0], *y.strides[3:], *s.in_size[1:], *s.low[1:],
            *s.out_size[1:], self.high, self.wide, total, chunk, s.inner, s.outer, self.inner_row,
            self.outer_row, self.sum_row, self.blocks, address(table), parts, address(zeros), self.width,
            *micro(self.dtype, rows, self.vectors, (length, rest)), packing.compiled_box(self.dtype),
            self.size, 0,
        )  # fmt: skip
        cost = total * PRODUCTS * s.inner * s.outer / MULTIPLY_ADDS
        launch = Launch(compile(self.dtype), arguments, tasks, self.size, (table, zeros), cost)
        self._launches[key] = launch
        return launch

    def run(self, x: Any, w: Any, start: Any, y: Any) -> None:
        """Correlate channels-last `x` (N, C, 1, H, W) into channels-last `y` (N, O, 1, H', W').

        They may be a run of the pictures that this is planned for.
        """
        pool().run(self._planned("forward", x, y), (x, w, start, y))

    def weight_gradient(self, g: Any, x: Any, like: Any) -> Any:
        """Return the gradient of the weight (O, C, 1, 3, 3) from channels-last g and x."""
        s = self.shape
        sizes = (self.part, PRODUCTS * self.share * self.inner_row, PRODUCTS * self.share * self.outer_row)
        sums, u, q = (scratch.array(size // self.itemsize, x.dtype) for size in sizes)
        for begin in range(0, self.total, self.share):
            for kind in ("spread", "multiply"):
                pool().run(self._planned(kind, x, g), (x, u, q, g, sums), begin)
        rows = scratch.array(9 * self.part // PRODUCTS // self.itemsize, x.dtype)
        pool().run(self._sums, (sums, rows))
        dw = np.empty_like(like)
        if not into_weight(rows, 0, 1, dw, s, self.dtype, self.width):
            found = rows.reshape(3, 3, s.inner, -1)[..., : s.outer]
            dw[...] = found.transpose(3, 2, 0, 1)[:, :, None]
        for memory in (sums, u, q, rows):
            scratch.give_back(memory)
        return dw
