"""Convolution whose filters outweigh the pictures: each block of them goes through the cache once.

With 512 channels on 7x7 the filters take 9 MB and a picture 100 kB. To lay the filters out first would send
them through memory twice more. Here a task lays out a piece of them in the L2 cache and contracts it with
all pictures, and for the weight gradient sums a piece up in the cache and writes it to where it belongs.
Both read copies of the pictures with their zeros, whose blocks of channels lie one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.adding import in_c_order
from fconv.engine.compiled.filters import FilterBlocks, row_of, vectors_for
from fconv.engine.compiled.heavy_filters import PIECES, HeavyFilters
from fconv.engine.compiled.launches import BYTES, Launch
from fconv.engine.compiled.llvm import Function, Module, Value, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, PAIR, contract, even, micro, most_rows
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, aligned, scratch
from fconv.engine.compiled.shapes import Shape, Tap
from fconv.engine.compiled.vectors import Numbers

LEAST_BYTES = 768 << 10
"""Filters of more bytes outgrow the L2 cache."""
MOST_BYTES = 8 << 20
"""Largest copy of the pictures."""
MOST_READ_AGAIN = 768 << 10
"""Most bytes of a block of channels, which each kernel element of a weight gradient reads again."""
PIECE_BYTES = 192 << 10
"""Largest piece of the filters."""
LEAST_BLOCK = 16
"""Fewest channels of a block that filters are divided into; a quarter where they are twice as large."""
LAID_ROWS = 36
"""Rows of a task, if there are two to four: each lays its filters out, which costs as much as 18 rows do."""
LONGEST_SUM = 1024

BLOCK_FIELDS = (
    "x", "to", "x_image", "x_channel", "x_d", "x_h", "x_w", "start_d", "start_h", "start_w", "in_d", "in_h",
    "in_w",
    "box_d", "box_h", "box_w", "block", "block_bytes", "image_bytes", "blocks", "pack",
)  # fmt: skip


@lru_cache(maxsize=4)
def _block_kernel(dtype: str) -> int:
    """Compile the copy of pictures by blocks of channels: a task copies one block of one picture."""
    f, task, arguments, _ = kernel_of(Module())
    a = Fields(f, arguments, BLOCK_FIELDS)
    n, b = task // a.blocks, task % a.blocks
    f.call_address(
        a.pack, a.pointer("to") + b * a.block_bytes + n * a.image_bytes,
        a.pointer("x") + n * a.x_image + b * a.block * a.x_channel, a.box_d, a.box_h, a.box_w, a.start_d,
        a.start_h, a.start_w, a.in_d, a.in_h, a.in_w, a.block, a.x_channel, a.x_d, a.x_h, a.x_w,
    )  # fmt: skip
    f.finish()
    return machine().compile(f.module)[0]


class Blocked:
    """The copy of pictures (N, C, D, H, W) as (blocks, N, D, H, W, channels of a block), zeros around them.

    Parameters
    ----------
    images, channels, block : int
        How many there are; a block divides the channels.
    start, size, full : tuple of int
        Where the copied box begins, its size, and the pictures' size.
    dtype : str
        Of the numbers.
    """

    def __init__(
        self, images: int, channels: int, block: int, start: Any, size: Any, full: Any, dtype: str
    ) -> None:
        self.pixel = block * itemsize_of(dtype)
        self.image = prod(size) * self.pixel
        self.steps = (self.image, size[1] * size[2] * self.pixel, size[2] * self.pixel, self.pixel)
        self.bytes = images * self.image
        self.count = prod(size) * images * channels
        self._images, self._blocks = images, channels // block
        self._fixed = (*start, *full, *size, block, self.bytes, self.image, self._blocks)
        self._dtype = dtype
        self._launches: dict[tuple[int, ...], Launch] = {}

    def __call__(self, x: Any) -> Any:
        """Copy pictures in any memory order into scratch memory."""
        launch = self._launches.get(x.strides)
        if launch is None:
            arguments = (0, 0, *x.strides, *self._fixed, packing.compiled_box(self._dtype))
            cost = self.bytes * self._blocks / BYTES
            launch = Launch(_block_kernel(self._dtype), arguments, self._images * self._blocks, cost=cost)
            self._launches[x.strides] = launch
        to = scratch.array(self.count, x.dtype)
        pool().run(launch, (x, to))
        return to


def block_of(channels: int, most: int) -> int:
    """Return the largest divisor of some channels up to a bound.

    Examples
    --------
    >>> block_of(512, 100), block_of(320, 100), block_of(37, 20)
    (64, 80, 1)
    """
    return max(d for d in range(1, min(channels, most) + 1) if channels % d == 0)


def outweighs(shape: Shape, dtype: str, *, weights: bool = False) -> bool:
    """Return whether filters outweigh pictures, or almost for their gradient, and fall into blocks."""
    item = itemsize_of(dtype)
    block = _block(shape, dtype)
    read_again = shape.images * prod(shape.out_size) * block * item if weights and len(shape.taps) > 1 else 0
    filters = len(shape.taps) * shape.inner * shape.outer * item
    pictures = shape.images * prod(shape.box) * shape.inner * item
    lanes = machine().vector_bytes // item
    return (
        shape.groups == 1
        and filters > max(LEAST_BYTES, pictures // (8 if weights else 4))
        and pictures <= MOST_BYTES
        and read_again <= MOST_READ_AGAIN
        and min(shape.inner, shape.outer) >= 2 * lanes
        and block >= LEAST_BLOCK // (4 if filters > 2 * LEAST_BYTES else 1)
    )


def _block(shape: Shape, dtype: str) -> int:
    return block_of(shape.inner, max(1, PIECE_BYTES // (len(shape.taps) * row_of(shape.outer, dtype))))


FIELDS = (
    "x", "weight", "start", "y", *PIECES, "table", "entries", "inner", "block", "outer", "x_block", "width",
    "rows_all", "x_row", "parts", "taps", *MICRO, "scratch_size", "scratch",
)  # fmt: skip


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    f, task, arguments, worker = kernel_of(Module())
    a, item = Fields(f, arguments, FIELDS), itemsize_of(dtype)
    own, row = a.pointer("scratch") + worker * a.scratch_size, a.width * item
    b, part = task // a.parts, task % a.parts
    first = b * a.width
    there = f.least(a.outer - first, a.width)
    low, high = part * a.rows_all // a.parts, (part + 1) * a.rows_all // a.parts
    with f.loop(a.inner, step=a.block) as c:
        weight = a.pointer("weight") + first * a.weight_outer + c * a.weight_inner
        with f.when(a.lay > 0):
            f.call_address(
                a.lay, own, weight, a.weight_outer, there, a.weight_inner, a.block, a.taps, a.width,
                a.pointer("places"), a.length, a.runs,
            )  # fmt: skip
        piece = f.choose(a.lay > 0, own, weight)
        operands = (piece, a.pointer("table"), a.entries, a.block, a.pointer("start") + b * row, there, c)
        x, y = a.pointer("x") + c // a.block * a.x_block, a.pointer("y") + first * item
        contract(f, a, high - low, x, y, operands, (item, a.x_row + low * PAIR, row, 0), scattered=True)
    f.finish()
    return machine().compile(f.module)[0]


class HeavyCorrelation:
    """A correlation with filters that outweigh the pictures, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        self.shape, self.dtype = shape, dtype
        s = shape
        self.block = _block(s, dtype)
        self.filters = FilterBlocks(s, dtype, s.taps)
        self.pieces = HeavyFilters(s, self.filters, self.block)
        tasks = max(2, min(4, s.images * prod(s.out_size) // LAID_ROWS))
        self.parts = -(-tasks // self.filters.blocks)
        self.copy = Blocked(s.images, s.inner, self.block, s.low, s.box, s.in_size, dtype)
        self._launches: dict[tuple[int, ...], Launch] = {}

    def run(self, x: Any, weight: Any, start: Any, y: Any) -> None:
        """Correlate x (N, C, D, H, W) with a weight (1, O, C, D, H, W) into channels-last y.

        The weight may be laid out by `HeavyFilters.laid`.
        """
        key = weight.strides + y.strides
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._run(weight, y.strides)
        pictures = self.copy(x)
        pool().run(launch, (pictures, weight, start, y))
        scratch.give_back(pictures)

    def _run(self, weight: Any, y: tuple[int, ...]) -> Launch:
        s, filters = self.shape, self.filters
        row, steps = filters.row, self.copy.steps
        offsets = s.offsets(s.taps, steps[1:])
        table = np.stack([offsets, np.arange(len(s.taps)) * (self.block * row)], 1)
        places = np.indices((s.images, *s.out_size)).reshape(4, -1)
        x_steps = (steps[0], *(step * p for step, p in zip(s.step, steps[1:], strict=True)))
        rows = np.stack([np.dot(x_steps, places), np.dot((y[0], *y[2:]), places)], 1)
        total = len(rows)
        fields, lay = self.pieces.fields(weight)
        most = filters.most_rows
        lengths = tuple({(i + 1) * total // self.parts - i * total // self.parts for i in range(self.parts)})
        block_rows = even(max(lengths), min(most, max(lengths)))
        size = aligned(self.pieces.bytes(weight)) if lay is not None else 0
        arguments = (
            *(0,) * 4, *fields, address(table), len(table), s.inner, self.block, s.outer, self.copy.bytes,
            filters.width, total, address(rows), self.parts, len(s.taps),
            *micro(self.dtype, block_rows, filters.vectors, lengths, scattered=True), size, 0,
        )  # fmt: skip
        tasks = filters.blocks * self.parts
        return Launch(_kernel(self.dtype), arguments, tasks, size, keep=(table, rows, lay))


WEIGHT_FIELDS = (
    "x", "g", "dw", "dw_outer", "dw_inner", "table", "lines", "most_lines", "columns", "taps", "tap_count",
    "block",
    "x_blocks", "x_block", "g_block", "outer", "width", "zeros", "x_step", "g_step", "places", "collect",
    *MICRO,
    "scratch_size", "scratch",
)  # fmt: skip


def put_piece(f: Function, a: Fields, dtype: str, piece: Value, b: Value, c: Value, channels: Value) -> None:
    """Write a piece of a gradient, [tap][channel of a block][output], to its place; `ending` plans it."""
    n, first, row = Numbers(f, dtype), b * a.width, a.width * itemsize_of(dtype)
    there = f.least(a.outer - first, a.width)
    dw = a.pointer("dw") + first * a.dw_outer + c * a.block * a.dw_inner
    with f.when(a.collect > 0):
        f.call_address(
            a.collect, dw, a.dw_outer, piece, a.pointer("places"), 0, 1, there, channels * a.tap_count
        )
    with f.when(a.collect.equals(0)), f.loop(a.tap_count) as t, f.loop(channels) as k:
        source = piece + (t * a.block + k) * row
        target = dw + packing.entry(f, a.pointer("places"), t) + k * a.dw_inner
        with f.loop(there, step=n.lanes) as v:
            n.store(n.load(source + v * n.itemsize), target + v * n.itemsize, n.mask(there - v))


def ending(
    dw: Sequence[int], taps: Sequence[Tap], block: int, row: int, dtype: str
) -> tuple[Any, tuple[int, int]]:
    """Plan `put_piece` for a gradient of these strides: a table, and the fields "places" and "collect"."""
    side = dw[0] == itemsize_of(dtype)
    places = [(t * block + k) * row for k in range(block) for t in range(len(taps))]
    if side:
        places = [sum(p * step for p, step in zip(tap.place, dw[2:], strict=True)) for tap in taps]
    table = packing.padded(places)
    return table, (address(table), 0 if side else packing.compiled_collect(dtype))


def gradient_like(like: Any) -> Any:
    """Make an array for a gradient in the memory order of a weight, or in C order where that is another."""
    dw = np.empty_like(like)
    if dw.strides[0] == dw.itemsize or in_c_order(dw.strides, dw.shape, dw.itemsize):
        return dw
    return np.empty(like.shape, like.dtype)


@lru_cache(maxsize=4)
def _weight_kernel(dtype: str) -> int:
    f, task, arguments, worker = kernel_of(Module())
    a, item = Fields(f, arguments, WEIGHT_FIELDS), itemsize_of(dtype)
    piece, row = a.pointer("scratch") + worker * a.scratch_size, a.width * item
    b, c = task // a.x_blocks, task % a.x_blocks
    first = b * a.width
    there = f.least(a.outer - first, a.width)
    x, g = a.pointer("x") + c * a.x_block, a.pointer("g") + b * a.g_block
    with f.loop(a.tap_count) as t:
        xt, y = x + packing.entry(f, a.pointer("taps"), t), piece + t * a.block * row
        with f.loop(a.lines, step=a.most_lines) as line:
            lines = f.least(a.lines - line, a.most_lines)
            table = a.pointer("table") + line * PAIR
            operands = (g, table, lines, a.columns, a.pointer("zeros"), there, line)
            contract(f, a, a.block, xt, y, operands, (a.x_step, item, a.g_step, row))
    put_piece(f, a, dtype, piece, b, c, a.block)
    f.finish()
    return machine().compile(f.module)[0]


class HeavyWeights:
    """The weight gradient of filters that outweigh the pictures, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        self.shape, self.dtype = shape, dtype
        s, lanes = shape, machine().vector_bytes // itemsize_of(dtype)
        vectors, whole = vectors_for(s.outer, lanes), -(-s.outer // lanes)
        if whole % vectors and whole % (vectors - 1) == 0:
            vectors -= 1  # so that g falls into blocks, each of which lies together
        self.vectors, self.width = vectors, vectors * lanes
        self.block = _block(s, dtype)
        self.copy = Blocked(s.images, s.inner, self.block, s.low, s.box, s.in_size, dtype)
        g_block = self.width if s.outer % self.width == 0 else s.outer
        self.copy_g = Blocked(s.images, s.outer, g_block, (0, 0, 0), s.out_size, s.out_size, dtype)
        self._finish: dict[tuple[int, ...], Launch | None] = {}

    def run(self, g: Any, x: Any, like: Any) -> Any:
        """Return the gradient, (O, C, D, H, W), from g (N, O, ...) and x (N, C, ...) in any order."""
        dw = gradient_like(like)
        launch = self._finish.get(dw.strides)
        if launch is None:
            launch = self._finish[dw.strides] = self._run(dw.strides)
        pictures, gradient = self.copy(x), self.copy_g(g)
        pool().run(launch, (pictures, gradient, dw))
        scratch.give_back(pictures)
        scratch.give_back(gradient)
        return dw

    def _run(self, dw: tuple[int, ...]) -> Launch:
        s, row = self.shape, self.width * itemsize_of(self.dtype)
        x, g = self.copy.steps, self.copy_g.steps
        lines = np.indices((s.images, *s.out_size[:2])).reshape(3, -1)
        x_steps = (x[0], s.step[0] * x[1], s.step[1] * x[2])
        table = np.stack([np.dot(x_steps, lines), np.dot(g[:3], lines)], 1)
        taps = s.offsets(s.taps, x[1:])
        count, zeros = len(s.taps), np.zeros(self.width, self.dtype)
        finish, written = ending(dw, s.taps, self.block, row, self.dtype)
        block_rows = even(self.block, min(most_rows(self.vectors), self.block))
        size = aligned(count * self.block * row)
        arguments = (
            0, 0, 0, *dw[:2], address(table), len(table), max(1, LONGEST_SUM // s.out_size[2]), s.out_size[2],
            address(taps), count, self.block, s.inner // self.block, self.copy.bytes,
            self.copy_g.bytes if self.copy_g.pixel == row else row, s.outer, self.width, address(zeros),
            s.step[2] * x[3], g[3], *written,
            *micro(self.dtype, block_rows, self.vectors, (self.block,), ends=s.outer % self.width != 0),
            size, 0,
        )  # fmt: skip
        tasks = -(-s.outer // self.width) * (s.inner // self.block)
        return Launch(_weight_kernel(self.dtype), arguments, tasks, size, keep=(table, taps, finish, zeros))
