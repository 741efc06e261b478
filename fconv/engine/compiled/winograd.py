"""Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications of a 3x3 convolution.

A 6x6 piece d of the input gives 4x4 outputs ``A^T [(G w G^T) * (B^T d B)] A``, summed over the channels in
between, which makes 36 products of pieces by channels. A task transforms some pieces, in registers; what
they become stays in the L2 cache for the products and the transform back. The weight gradient, in
`winograd_weights.py`, takes the same pieces and those of the gradient: ``G^T [(B^T d B)^T (A g A^T)] G``
summed over the pieces.

References
----------
Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
Barabasz, Anderson, Soodhalter and Gregg, "Error analysis and improving the accuracy of Winograd
convolution for deep neural networks", 2020, on how the points decide the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.filters import FilterBlocks
from fconv.engine.compiled.launches import BYTES, MULTIPLY_ADDS, Launch
from fconv.engine.compiled.llvm import INT, Function, Module, Value, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, even, micro, most_rows
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, aligned, scratch
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.squares import OUTPUT, SQUARE, Squares, squares_of
from fconv.engine.compiled.transforms import transform
from fconv.engine.memory import LINE
from fconv.engine.winograd_matrices import FILTER, IN, OUT, SIDE, STEP

PRODUCTS = SIDE * SIDE
LEAST_PIECES = 14
"""Pieces of a task that are worth reading the transformed filters once more."""
LEAST_TASKS = 8


PLACES = ("pictures", "picture_bytes", "high", "wide")
"""Fields of a kernel that finds pieces: a table of pictures, bytes of its rows, pieces along both axes."""
READING = (*PLACES, "x_h", "x_w", "squares", "channels", "piece_bytes", "product_bytes")
"""Fields of a kernel that transforms pieces of the input: squares of a piece, channels of a square, and the
bytes of what they become from piece to piece and from product to product."""
FIELDS = (
    "x", "w", "start", "y", *READING, "y_h", "y_w", "total", "chunk", "inner", "outer", "outer_row", "blocks",
    "table", "zeros", "width", *MICRO, "scratch_size", "scratch",
)  # fmt: skip


def apart(row: int) -> int:
    """Return the bytes from row to row: rows at steps of a KiB would share a few sets of the L1 cache."""
    return row + LINE if row % 1024 == 0 else row


def pieces_in_cache(squares: Squares, dtype: str) -> int:
    """Return how many pieces stay in the L2 cache, transformed, before and after the products."""
    channels = squares.inner + squares.shape.outer
    return machine().l2_bytes * 3 // 4 // (PRODUCTS * itemsize_of(dtype) * channels)


class Read:
    """A transform of pieces of a picture, in the module of a kernel: `size` rows and columns of it."""

    def __init__(self, module: Module, dtype: str, matrix: Any) -> None:
        self.size, self._itemsize = matrix.shape[1], itemsize_of(dtype)
        self._whole = transform(module, dtype, matrix, ends="load")
        self._bounded = transform(module, dtype, matrix, ends="load", bounded=True)

    def __call__(
        self,
        f: Function,
        base: Value,
        strides: Sequence[Value],
        place: Sequence[Value],
        full: Sequence[Value],
        channels: Value,
        zeros: Value,
        target: Value,
        product: Value,
    ) -> None:
        """Transform the piece at `place` of a picture; `product` are the bytes from product to product."""
        (h, w), last = place, self.size - 1
        inside = f.all_of(f.all_of(h > -1, h + last < full[0]), f.all_of(w > -1, w + last < full[1]))
        source = base + h * strides[0] + w * strides[1]
        given = (source, *strides, target, product * SIDE, product, channels, zeros)
        with f.when(inside):
            f.call(self._whole, *given)
        with f.when(f.negation(inside)):
            f.call(self._bounded, *given, h, w, *full)


class Pieces:
    """Emits what the kernels share: where pieces lie, and how they are transformed."""

    def __init__(self, module: Module, dtype: str, *, back: bool = False) -> None:
        self.itemsize = itemsize_of(dtype)
        self.to_input = Read(module, dtype, IN)
        if back:
            self.to_output = transform(module, dtype, OUT, ends="store", shifted=True)

    def corner(self, a: Fields, q: Value) -> tuple[Value, Value, Value]:
        """Return the row of its picture in the table, and row and column of a piece's output."""
        rest = q % (a.high * a.wide)
        picture = a.pointer("pictures") + q // (a.high * a.wide) * a.picture_bytes
        return picture, rest // a.wide * STEP, rest % a.wide * STEP

    def spread(
        self,
        f: Function,
        a: Fields,
        first: Value,
        count: Value,
        u: Value,
        zeros: Value,
        block: Sequence[Value] | None = None,
    ) -> None:
        """Transform the input of `count` pieces into ``u[36][chunk][squares][channels]``.

        With `block`, a square, its first channel and how many they are, those alone. `zeros` is memory for a
        row of channels.
        """
        nought = f.constant(0, INT)
        start, channel, channels = block or (nought, nought, a.channels)
        packing.clear(f, zeros, channels * self.itemsize)
        with f.loop(count) as t:
            picture, i, j = self.corner(a, first + t)
            with f.loop(a.squares) as square:
                target = u + t * a.piece_bytes + square * channels * self.itemsize
                place, low_h, low_w, high, wide = (
                    packing.entry(f, picture, (start + square) * SQUARE + k)
                    for k in range(OUTPUT, OUTPUT + SQUARE)
                )
                base, corner = a.pointer("x") + place + channel * self.itemsize, (i + low_h, j + low_w)
                strides, full = (a.x_h, a.x_w), (high, wide)
                self.to_input(f, base, strides, corner, full, channels, zeros, target, a.product_bytes)

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
            picture, i, j = self.corner(a, t + first)
            output, high, wide = (packing.entry(f, picture, f.constant(k, INT)) for k in range(OUTPUT))
            source = products + t * each
            target = place + output + i * a.y_h + j * a.y_w
            whole = f.all_of(i + (STEP - 1) < high, j + (STEP - 1) < wide)
            with f.when(whole):
                f.call(self.to_output, source, step * SIDE, step, target, a.y_h, a.y_w, channels, start)
            with f.when(f.negation(whole)):
                f.call(self.to_output, source, step * SIDE, step, room, pixel * STEP, pixel, channels, start)
                with f.loop(f.least(high - i, STEP)) as k, f.loop(f.least(wide - j, STEP)) as m:
                    packing.copy(f, target + k * a.y_h + m * a.y_w, room + (k * STEP + m) * pixel, pixel)


@lru_cache(maxsize=4)
def _forward(dtype: str) -> int:
    module = Module()
    pieces = Pieces(module, dtype, back=True)
    item = pieces.itemsize
    f, task, address, worker = kernel_of(module)
    a = Fields(f, address, FIELDS)
    u = a.pointer("scratch") + worker * a.scratch_size
    p = u + a.product_bytes * PRODUCTS
    room = p + a.chunk * a.outer_row * PRODUCTS
    first = task * a.chunk
    count = f.least(a.total - first, a.chunk)
    pieces.spread(f, a, first, count, u, room)
    row = a.width * item
    with f.loop(PRODUCTS) as i, f.loop(a.blocks) as b:
        x, y = u + i * a.product_bytes, p + i * a.chunk * a.outer_row + b * row
        weights = a.pointer("w") + (i * a.blocks + b) * a.inner * row
        rest = (weights, a.pointer("table"), 1, a.inner, a.pointer("zeros"), a.width, 0)
        contract(f, a, count, x, y, rest, (item, a.piece_bytes, row, a.outer_row))
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


class Tiling:
    """The division of a correlation by 3x3 squares into pieces, and their places in memory."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        squares = squares_of(shape)
        assert squares is not None
        self.shape, self.dtype, self.squares = shape, dtype, squares
        self.itemsize = itemsize_of(dtype)
        self.filters = FilterBlocks(shape, dtype, shape.taps)
        self.vectors = self.filters.vectors
        self.width, self.blocks = self.filters.width, self.filters.blocks
        self.inner, self.total = squares.inner, squares.pieces
        self.lanes = machine().vector_bytes // self.itemsize
        self.inner_row = self.row_of(shape.inner, len(squares.planes))
        self.sum_row = self.blocks * self.width * self.itemsize
        self.outer_row = apart(self.sum_row)

    def row_of(self, channels: int, squares: int) -> int:
        """Return the bytes of a piece: the transform of a square's channels writes whole vectors."""
        whole = (squares - 1) * channels + -(-channels // self.lanes) * self.lanes
        return apart(-(-whole // self.lanes) * self.lanes * self.itemsize)

    def reading(
        self,
        images: int,
        x: Sequence[int],
        y: Sequence[int],
        chunk: int,
        row: int,
        read: tuple[int, int] | None = None,
    ) -> tuple[Any, tuple[int, ...]]:
        """Return the table of pictures, which a launch must keep, and the values of the fields `READING`.

        `read` are the squares and the channels of each that a task transforms, all if it is None.
        """
        table, count = self.squares.table(images, x, y), len(self.squares.planes)
        places = (address(table), 8 * (OUTPUT + SQUARE * count), *self.squares.high_wide)
        squares, channels = read or (count, self.shape.inner)
        return table, (*places, *self.squares.steps(x), squares, channels, row, chunk * row)


class Winograd(Tiling):
    """A correlation by 3x3 squares by Winograd's algorithm, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        super().__init__(shape, dtype)
        fits = max(LEAST_PIECES, pieces_in_cache(self.squares, dtype))
        self.chunk = even(self.total, max(1, min(fits, -(-self.total // LEAST_TASKS))))
        rows = self.inner_row + self.outer_row
        self.size = aligned(PRODUCTS * (self.chunk * rows + max(self.inner_row, self.outer_row)))
        self._launches: dict[tuple[int, ...], Launch] = {}
        pieces = max(1, min(shape.inner // 8, 8 // self.blocks))
        laid = self.blocks * len(self.squares.planes)  # what `lay` returns: blocks of squares of nine taps
        self._filters = Launch(
            _filter_transform(self.dtype),
            (0, 0, laid, shape.inner, pieces, self.width),
            laid * pieces,
            cost=PRODUCTS * self.inner * self.sum_row / BYTES,
        )

    def transformed(self, laid: Any) -> Any:
        """Transform filters that `FilterBlocks.lay` laid out."""
        w = scratch.array(PRODUCTS * self.blocks * self.inner * self.width, laid.dtype)
        pool().run(self._filters, (w, laid))
        return w

    def run(self, x: Any, w: Any, start: Any, y: Any) -> None:
        """Correlate channels-last `x` (N, C, D, H, W) into channels-last `y` (N, O, D', H', W').

        They may be a run of the images that this is planned for.
        """
        key = (len(x), *x.strides, *y.strides)
        if key not in self._launches:
            self._launches[key] = self._planned(*key)
        pool().run(self._launches[key], (x, w, start, y))

    def _planned(self, images: int, *strides: int) -> Launch:
        s, x, y = self.shape, strides[:5], strides[5:]
        total = images * self.squares.each
        table, zeros = np.zeros(2, np.int64), np.zeros(self.width, self.dtype)
        pictures, reading = self.reading(images, x, y, self.chunk, self.inner_row)
        rest = total - (total - 1) // self.chunk * self.chunk
        rows = even(self.chunk, min(most_rows(self.vectors), self.chunk))
        arguments = (
            0, 0, 0, 0, *reading, *self.squares.steps(y), total, self.chunk, self.inner, s.outer,
            self.outer_row, self.blocks, address(table), address(zeros), self.width,
            *micro(self.dtype, rows, self.vectors, (self.chunk, rest)), self.size, 0,
        )  # fmt: skip
        tasks, cost = -(-total // self.chunk), total * PRODUCTS * self.inner * s.outer / MULTIPLY_ADDS
        return Launch(_forward(self.dtype), arguments, tasks, self.size, (table, zeros, pictures), cost)
