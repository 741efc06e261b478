"""Depthwise correlation of channels-last pictures, which are read where they lie.

For a row of the kernel, a block of outputs along a row reads each input position once, for all elements of
the kernel row that meet it there, whose filters stay in registers like the sums. The blocks of channels of
some pixels come one after another, so that reads and writes are contiguous. What a window sees outside of
the picture is read from a row of zeros.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from fconv.engine.compiled.correlate import LEAST_TASKS, Correlation
from fconv.engine.compiled.launches import MULTIPLY_ADDS, Launch
from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import even
from fconv.engine.compiled.packing import entry
from fconv.engine.compiled.pool import Fields, kernel_of
from fconv.engine.compiled.scratch import address
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.vectors import Numbers
from fconv.engine.memory import LINE
from fconv.engine.threads import get_num_threads

MOST_ROWS, LEAST_ROWS = 14, 4
"""Outputs of a block."""
PREFETCH_BYTES = 8 << 20
"""Bytes of a batch from which on the next row of the picture is prefetched.

A block reads a few pixels of each row that its windows see, too few for the hardware to prefetch the next
row. Smaller batches may stay in a cache.
"""
ROW = 4
"""Integers of the table for each row of the kernel."""

FIELDS = (
    "x", "w", "start", "y", "x_image", "x_d", "x_h", "x_w", "y_image", "y_d", "y_h", "y_w", "in_d", "in_h",
    "in_w", "step_d", "step_h", "step_w", "low_d", "low_h", "low_w", "reach_d", "reach_h", "reach_w", "out_d",
    "out_h", "lines", "prefetched", "channels", "blocks", "block_bytes", "width", "full", "table", "entries",
    "zeros",
    "rows", "many", "less", "whole", "whole_less", "bounded", "bounded_less",
)  # fmt: skip
"""`many` blocks of as many `rows` and `less` of one less; addresses of `_block` for either. A block of `full`
channels has no idle lanes.

Each block of outputs has so many cache lines of the next row `prefetched`.
"""


@lru_cache(maxsize=256)
def _block(
    dtype: str,
    columns: tuple[int, ...],
    step: int,
    rows: int,
    vectors: int,
    row: int,
    lanes: int,
    bounded: bool,
) -> int:
    """Compile the outputs of a block: R columns by V vectors of channels.

    Parameters
    ----------
    dtype : str
        Of the numbers.
    columns : tuple of int
        Where the elements of a row of the kernel look, from the first.
    step : int
        Input positions from one output to the next.
    rows, vectors : int
        R and V.
    row, lanes : int
        Bytes of a row of the filters, and lanes of a vector.
    bounded : bool
        Some of it may lie outside of the picture, or behind the last channel.

    Returns
    -------
    int
        Address of a function of x, w, the table of the kernel's rows and how many there are, y, what the
        sums start from, the bytes from pixel to pixel of x and of y; where it is bounded, also the channels,
        zeros, the position that is seen first, and the picture's size.
    """
    arguments = [*[POINTER] * 3, INT, POINTER, POINTER, INT, INT, *[INT, POINTER, *[INT] * 6] * bounded]
    f = Function(Module(), "block", arguments, exported=True)
    x, w, table, entries, y, start, x_w, y_w, *bounds = f.arguments
    n, every, across = Numbers(f, dtype, lanes), range(rows), range(vectors)
    masks = [n.mask(bounds[0] - v * n.lanes) if bounded else None for v in across]
    places = sorted({r * step + k for r in every for k in columns})
    first = [n.load(start + v * n.bytes) for v in across]
    sums = [[f.variable(n.vector, each) for each in first] for _ in every]
    seen = []
    if bounded:
        _, zeros, d, h, column, in_d, in_h, in_w = bounds
        seen = [f.all_of(column + k > -1, column + k < in_w) for k in places]
    with f.loop(entries) as t:
        x_bytes, w_bytes, *shifts = (entry(f, table, t * ROW + k) for k in range(ROW))
        filters = [[n.load(w + w_bytes + k * row + v * n.bytes) for v in across] for k in range(len(columns))]
        inside = None
        if bounded:
            at = [d + shifts[0], h + shifts[1]]
            there = [f.all_of(a > -1, a < size) for a, size in zip(at, (in_d, in_h), strict=True)]
            inside = f.all_of(*there)
        place, last = x + x_bytes, 0
        for index, k in enumerate(places):
            for _ in range(last, k):
                place = place + x_w
            last = k
            read = place if inside is None else f.choose(f.all_of(inside, seen[index]), place, zeros)
            pixels = [n.load(read + v * n.bytes, masks[v]) for v in across]
            for r in every:
                if k - r * step in columns:
                    by = filters[columns.index(k - r * step)]
                    for v in across:
                        sums[r][v].set(n.fma(pixels[v], by[v], sums[r][v].get()))
    for r in every:
        for v in across:
            n.store(sums[r][v].get(), y + y_w * r + v * n.bytes, masks[v])
    f.finish()
    return machine().compile(f.module)[0]


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    """Compile the walk over the blocks of some lines, a task."""
    f, task, arguments, _ = kernel_of(Module())
    a, item = Fields(f, arguments, FIELDS), itemsize_of(dtype)
    down = (a.out_h + a.lines - 1) // a.lines
    h0, rest = task % down * a.lines, task // down
    d, image = rest % a.out_d, rest // a.out_d
    x, y = a.pointer("x") + image * a.x_image, a.pointer("y") + image * a.y_image + d * a.y_d
    deep = d * a.step_d + a.low_d
    with f.loop(f.least(a.out_h, h0 + a.lines), h0) as h:
        high = h * a.step_h + a.low_h
        rows_inside = f.all_of(
            f.all_of(deep > -1, deep + a.reach_d < a.in_d), f.all_of(high > -1, high + a.reach_h < a.in_h)
        )
        x_line, y_line = x + deep * a.x_d + high * a.x_h, y + h * a.y_h
        following = x_line + (a.reach_h + 1) * a.x_h
        for whole, bounded, size, count, from_, before in (
            (a.whole, a.bounded, a.rows, a.many, 0, 0),
            (a.whole_less, a.bounded_less, a.rows - 1, a.less, a.rows * a.many, a.many),
        ):
            with f.loop(count) as group:
                with f.loop(a.prefetched) as k:
                    f.prefetch(following + ((group + before) * a.prefetched + k) * LINE)
                first = group * size + from_
                column = first * a.step_w + a.low_w
                end = column + (size - 1) * a.step_w + a.reach_w
                inside = f.all_of(rows_inside, f.all_of(column > -1, end < a.in_w))
                x_first, y_first = x_line + column * a.x_w, y_line + first * a.y_w
                with f.loop(a.blocks) as b:
                    there, channel = f.least(a.channels - b * a.width, a.width), b * a.width * item
                    easy = f.all_of(inside, there.equals(a.full))
                    given = (
                        x_first + channel, a.pointer("w") + b * a.block_bytes, a.pointer("table"), a.entries,
                        y_first + channel, a.pointer("start") + channel, a.x_w, a.y_w,
                    )  # fmt: skip
                    with f.when(easy):
                        f.call_address(whole, *given)
                    with f.when(f.negation(easy)):
                        zeros, size_of = a.pointer("zeros"), (a.in_d, a.in_h, a.in_w)
                        f.call_address(bounded, *given, there, zeros, deep, high, column, *size_of)
    f.finish()
    return machine().compile(f.module)[0]


class Depthwise(Correlation):
    """A depthwise correlation, planned; other memory orders than channels-last go by way of boxes."""

    @staticmethod
    def serves(shape: Shape) -> bool:
        """Return whether all rows of the kernel have the same elements."""
        rows = _rows(shape)
        return shape.elementwise and all(rows[0][1] == columns for _, columns in rows)

    def _planned(self, x: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        if x[1] != self.itemsize:
            return super()._planned(x, y)
        s, filters = self.shape, self.filters
        kernel = _rows(s)
        columns = kernel[0][1]
        vectors, wide = filters.vectors, s.out_size[2]
        fits = (machine().registers - 1) // vectors - len(columns) - 1
        rows = even(wide, min(wide, MOST_ROWS, max(LEAST_ROWS, fits)))
        groups = -(-wide // rows)
        less = groups * rows - wide
        first = filters.taps.index(s.taps[0])
        table = np.array(
            [
                (d * x[2] + h * x[3], (first + i * len(columns)) * filters.row, d, h)
                for i, ((d, h), _) in enumerate(kernel)
            ],
            np.int64,
        )
        zeros = np.zeros(filters.width, self.dtype)
        lanes = filters.width // vectors
        if self.channels < lanes and self.channels in (2, 4, 8):  # a narrower vector of each pixel
            lanes = self.channels
        blocks = [
            _block(self.dtype, columns, s.step[2], size, vectors, filters.row, lanes, bounded) if count else 0
            for bounded in (False, True)
            for size, count in ((rows, groups - less), (rows - 1, less))
        ]
        every = s.images * s.out_size[0] * s.out_size[1]
        # Few tasks, as each reads rows of the picture that its neighbours read too.
        lines = even(s.out_size[1], -(-every // (LEAST_TASKS * get_num_threads())))
        reach = [high - low for low, high in zip(s.low, s.high, strict=True)]
        row = s.in_size[2] * self.channels * self.itemsize
        large = s.images * prod(s.in_size[:2]) * row >= PREFETCH_BYTES and x[3] == row
        prefetched = -(-row // (LINE * groups)) if large else 0
        arguments = (
            0, 0, 0, 0, x[0], *x[2:], y[0], *y[2:], *s.in_size, *s.step, *s.low, *reach, *s.out_size[:2],
            lines, prefetched, self.channels, filters.blocks, filters.block_bytes, filters.width,
            lanes * vectors, address(table), len(table), address(zeros), rows, groups - less, less, *blocks,
        )  # fmt: skip
        tasks = s.images * s.out_size[0] * -(-s.out_size[1] // lines)
        cost = s.multiply_adds / MULTIPLY_ADDS
        return Launch(_kernel(self.dtype), arguments, tasks, keep=(table, zeros), cost=cost)


def _rows(shape: Shape) -> list[tuple[tuple[int, int], tuple[int, ...]]]:
    """Return the rows of the kernel: where each lies, and where its elements look, from the lowest shifts."""
    rows: dict[tuple[int, int], list[int]] = {}
    for tap in shape.taps:
        d, h, w = (shift - low for shift, low in zip(tap.shift, shape.low, strict=True))
        rows.setdefault((d, h), []).append(w)
    return [(place, tuple(columns)) for place, columns in rows.items()]
