"""Few output channels: the lanes of a sum are input channels.

Vectors over few output channels would have idle lanes, and for vectors along rows the picture is copied, its
columns dealt out. Here an output is the dot product of what its window sees with its filters, whose lanes are
added up at the end. Channels-last pictures are read where they lie, and zeros for what a window sees outside
of them; of others a task copies the box that it sees. Both give the same bits.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.correlate import BOX_BYTES, LEAST_TASKS
from fconv.engine.compiled.launches import MULTIPLY_ADDS, Launch, Launches
from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Value, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import even
from fconv.engine.compiled.packing import entry
from fconv.engine.compiled.planes import FilterRows
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, aligned
from fconv.engine.compiled.shapes import Shape, costs, thinned
from fconv.engine.compiled.transcendental import Maths

MOST_OUTPUTS, MOST_ROWS = 4, 8
"""Outputs and positions of a block."""
VECTOR, TOTAL = 1.1, 1
"""A product of vectors, which are read for few others, and a sum of lanes, in products along rows or over
channels (`shapes.costs`); fitted to measured times.
"""
ENTRY = 5
"""Integers of an element of the kernel: its bytes in the picture and among the filters, and three shifts."""

FIELDS = (
    "x", "w", "start", "y", "x_image", "x_channel", "from_d", "from_h", "from_w", "x_d", "x_h", "x_w",
    "y_image", "y_channel", "y_d", "y_h", "y_w", "in_d", "in_h", "in_w", "step_d", "step_h", "step_w",
    "low_d", "low_h", "low_w", "reach_d", "reach_h", "reach_w", "out_d", "out_h", "out_w", "strip_h",
    "strip_w", "box_d", "box_h", "box_w", "groups", "inner", "outer", "filter_bytes", "table", "entries",
    "joined", "joined_entries", "joined_count", "zeros", "rows", "outputs", "whole", "bounded", "pack",
    "scratch_size", "scratch",
)  # fmt: skip
"""`from_d` and so on are the steps of the picture, `x_d` those of what is read; a window sees `reach`
positions behind its first; `joined` is the table of elements whose channels follow one another.
"""


@lru_cache(maxsize=64)
def _block(dtype: str, rows: int, outputs: int, bounded: bool) -> int:
    """Compile some outputs of neighbouring positions; with `bounded`, some may see what is no picture.

    Returns
    -------
    int
        Address of a function of x, w, the table of the kernel's elements, how many there are, the numbers of
        each, y, what the sums start from, and the bytes between positions of x, between filters, and between
        positions and channels of y; where it is bounded, also zeros, the position that is seen first, the
        picture's size and the step along rows.
    """
    arguments = [*[POINTER] * 3, INT, INT, POINTER, POINTER, *[INT] * 4, *[POINTER, *[INT] * 7] * bounded]
    f = Function(Module(), "dots", arguments, exported=True)
    x, w, table, entries, count, y, start, x_row, filter_bytes, y_row, y_channel, *bounds = f.arguments
    n = Maths(f, dtype)
    sums = [[n.zero() for _ in range(outputs)] for _ in range(rows)]
    for each in sums:
        for total in each:
            total.set(0.0)
    full = count // n.lanes * n.lanes

    def add_products(places: list[Value], filters: Value, k: Value, mask: Value | None) -> None:
        right = [n.load(filters + filter_bytes * o + k * n.itemsize, mask) for o in range(outputs)]
        for place, each in zip(places, sums, strict=True):
            left = n.load(place + k * n.itemsize, mask)
            for total, by in zip(each, right, strict=True):
                total.set(n.fma(left, by, total.get()))

    with f.loop(entries) as t:
        x_bytes, w_bytes, *shifts = (entry(f, table, t * ENTRY + i) for i in range(ENTRY))
        places = [x + x_bytes + x_row * r for r in range(rows)]
        if bounded:
            zeros, d, h, column, in_d, in_h, in_w, step = bounds
            at = [d + shifts[0], h + shifts[1]]
            inside = f.all_of(*(f.all_of(a > -1, a < size) for a, size in zip(at, (in_d, in_h), strict=True)))
            for r in range(rows):
                across = column + step * r + shifts[2]
                seen = f.all_of(inside, f.all_of(across > -1, across < in_w))
                places[r] = f.choose(seen, places[r], zeros)
        with f.loop(full, step=n.lanes) as k:
            add_products(places, w + w_bytes, k, None)
        with f.when(full < count):
            add_products(places, w + w_bytes, full, n.mask(count - full))
    for r, each in enumerate(sums):
        for o, total in enumerate(each):
            n.put(n.number(start + o * n.itemsize) + n.total(total.get()), y + y_row * r + y_channel * o)
    f.finish()
    return machine().compile(f.module)[0]


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    """Compile the walk over a strip, a task; the last block of a line may overlap the one before."""
    f, task, arguments, worker = kernel_of(Module())
    a, item = Fields(f, arguments, FIELDS), itemsize_of(dtype)
    across, down = (a.out_w + a.strip_w - 1) // a.strip_w, (a.out_h + a.strip_h - 1) // a.strip_h
    w0, rest = task % across * a.strip_w, task // across
    h0, rest = rest % down * a.strip_h, rest // down
    d, image = rest % a.out_d, rest // a.out_d
    lines, columns = f.least(a.out_h - h0, a.strip_h), f.least(a.out_w - w0, a.strip_w)
    begin = (d * a.step_d + a.low_d, h0 * a.step_h + a.low_h, w0 * a.step_w + a.low_w)
    picture, packed = a.pointer("x") + image * a.x_image, a.pack > 0
    origin = picture + begin[0] * a.x_d + begin[1] * a.x_h + begin[2] * a.x_w
    box = a.pointer("scratch") + worker * a.scratch_size
    origin = f.choose(packed, box, origin)
    with f.when(packed):
        f.call_address(
            a.pack, box, picture, a.box_d, a.box_h, a.box_w, *begin, a.in_d, a.in_h, a.in_w,
            a.groups * a.inner, a.x_channel, a.from_d, a.from_h, a.from_w,
        )  # fmt: skip
    out = a.pointer("y") + image * a.y_image + d * a.y_d + h0 * a.y_h + w0 * a.y_w
    with f.loop(lines) as h:
        high = begin[1] + h * a.step_h
        inside = f.all_of(
            f.all_of(begin[0] > -1, begin[0] + a.reach_d < a.in_d),
            f.all_of(high > -1, high + a.reach_h < a.in_h),
        )
        along, outputs = f.loop(columns, step=a.rows), f.loop(a.outer, step=a.outputs)
        with f.loop(a.groups) as group, outputs as o, along as w:
            first, output = f.least(w, columns - a.rows), group * a.outer + f.least(o, a.outer - a.outputs)
            column = begin[2] + first * a.step_w
            end = column + (a.rows - 1) * a.step_w + a.reach_w
            easy = f.all_of(inside, f.all_of(column > -1, end < a.in_w))
            bounded = f.all_of(f.negation(packed), f.negation(easy))
            seen = origin + h * a.step_h * a.x_h + first * a.step_w * a.x_w + group * a.inner * item
            filters = a.pointer("w") + output * a.filter_bytes
            made = (
                out + h * a.y_h + first * a.y_w + output * a.y_channel, a.pointer("start") + output * item,
                a.x_w * a.step_w, a.filter_bytes, a.y_w, a.y_channel,
            )  # fmt: skip
            with f.when(f.negation(bounded)):
                joined = a.pointer("joined"), a.joined_entries, a.joined_count
                f.call_address(a.whole, seen, filters, *joined, *made)
            with f.when(bounded):
                single = a.pointer("table"), a.entries, a.inner
                bounds = a.pointer("zeros"), begin[0], high, column, a.in_d, a.in_h, a.in_w, a.step_w
                f.call_address(a.bounded, seen, filters, *single, *made, *bounds)
    f.finish()
    return machine().compile(f.module)[0]


class Dots(FilterRows):
    """A correlation to few channels, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        super().__init__(shape, (0, 1, 3, 2))
        self.shape, self._seen = thinned(shape)
        self.dtype, self.itemsize = dtype, itemsize_of(dtype)
        self._lanes = machine().vector_bytes // self.itemsize
        self._launches = Launches(self._planned)

    @staticmethod
    def cost(shape: Shape, lanes: int) -> float:
        """Return the products of vectors; infinity where input channels fill none, or output channels do."""
        if shape.elementwise or not shape.outer * 2 <= lanes <= shape.inner:
            return inf
        vectors = len(shape.taps) * -(-shape.inner // lanes)
        outputs = shape.images * prod(shape.out_size) * shape.groups * shape.outer
        return outputs * (VECTOR * vectors + TOTAL)

    @staticmethod
    def pays(shape: Shape, lanes: int) -> bool:
        """Return whether they take less time than vectors over output channels or along rows."""
        return Dots.cost(shape, lanes) < min(costs(shape, lanes))

    def run(self, x: Any, w: Any, start: Any, y: Any) -> None:
        """Correlate `x` (N, C, D, H, W) into `y`, both in any memory order."""
        x = x[self._seen]
        pool().run(self._launches.of(x, y), (x, w, start, y))

    def _strip(self, packed: bool) -> tuple[int, int, tuple[int, int, int]]:
        """Return the rows and columns of a task, and the box that it sees."""
        s, pixel = self.shape, self.shape.groups * self.shape.inner * self.itemsize
        reach = [high - low + 1 for low, high in zip(s.low, s.high, strict=True)]

        def box(h: int, w: int) -> tuple[int, int, int]:
            return reach[0], (h - 1) * s.step[1] + reach[1], (w - 1) * s.step[2] + reach[2]

        h, w = s.out_size[1:]
        while packed and prod(box(1, w)) * pixel > BOX_BYTES and w > 32:
            w = -(-w // 2)
        every = s.images * s.out_size[0] * h * -(-s.out_size[2] // w)
        h = even(h, max(1, every // LEAST_TASKS))
        while packed and h > 1 and prod(box(h, w)) * pixel > BOX_BYTES:
            h = -(-h // 2)
        return h, w, box(h, w)

    def _planned(self, x: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        s, item = self.shape, self.itemsize
        packed = x[1] != item
        h, w, box = self._strip(packed)
        all_channels = s.groups * s.inner * item
        steps = (box[1] * box[2] * all_channels, box[2] * all_channels, all_channels) if packed else x[2:]
        outputs = even(s.outer, MOST_OUTPUTS)
        last = s.out_size[2] - (s.out_size[2] - 1) // w * w
        fits = max(1, (machine().registers - 2 - outputs) // outputs)
        rows = min(even(w, min(w, MOST_ROWS, fits)), last)
        pixel = s.inner * item
        offsets = s.offsets(s.taps, steps).tolist()
        shifts = [[a - lo for a, lo in zip(tap.shift, s.low, strict=True)] for tap in s.taps]
        table = np.array([(at, i * pixel, *shifts[i]) for i, at in enumerate(offsets)], np.int64)
        joined = 1
        while (  # whole vectors, so that the sums are those of single elements
            s.inner % self._lanes == 0
            and joined < len(offsets)
            and offsets[joined] - offsets[joined - 1] == pixel
        ):
            joined += 1
        # The kernel's elements are a grid, whose rows are as long as the first.
        rows_joined = np.ascontiguousarray(table[::joined])
        zeros = np.zeros(s.inner, self.dtype)
        reach = [high - low for low, high in zip(s.low, s.high, strict=True)]
        size = aligned(prod(box) * all_channels) if packed else 0
        arguments = (
            0, 0, 0, 0, *x, *steps, *y, *s.in_size, *s.step, *s.low, *reach, *s.out_size, h, w, *box,
            s.groups, s.inner, s.outer, len(table) * pixel, address(table), len(table), address(rows_joined),
            len(rows_joined), joined * s.inner, address(zeros), rows, outputs,
            _block(self.dtype, rows, outputs, False),
            0 if packed else _block(self.dtype, rows, outputs, True),
            packing.compiled_box(self.dtype, packing.apart_of(x, item)) if packed else 0, size, 0,
        )  # fmt: skip
        tasks = s.images * s.out_size[0] * -(-s.out_size[1] // h) * -(-s.out_size[2] // w)
        keep, cost = (table, rows_joined, zeros), s.multiply_adds / MULTIPLY_ADDS
        return Launch(_kernel(self.dtype), arguments, tasks, size, keep, cost)
