"""Few output channels of channels-last pictures: the lanes of a sum are input channels.

Vectors over few output channels would have idle lanes, and for vectors along rows the picture is copied. Here
it is read where it lies, an output being the dot product of what its window sees with its filters; its lanes
are added up at the end. What a window sees outside of the picture is read from zeros.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine.compiled.correlate import LEAST_TASKS
from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Value, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import even
from fconv.engine.compiled.packing import entry
from fconv.engine.compiled.planes import FilterRows
from fconv.engine.compiled.pool import MULTIPLY_ADDS, Fields, Launch, kernel_of, pool
from fconv.engine.compiled.scratch import address
from fconv.engine.compiled.shapes import Shape, thinned
from fconv.engine.compiled.transcendental import Maths

MOST_OUTPUTS, MOST_ROWS = 4, 8
"""Outputs and positions of a block."""
ENTRY = 5
"""Integers of an element of the kernel: its bytes in the picture and among the filters, and three shifts."""

FIELDS = (
    "x", "w", "start", "y", "x_image", "x_d", "x_h", "x_w", "y_image", "y_channel", "y_d", "y_h", "y_w",
    "in_d", "in_h", "in_w", "step_d", "step_h", "step_w", "low_d", "low_h", "low_w", "reach_d", "reach_h",
    "reach_w", "out_d", "out_h", "out_w", "lines", "groups", "inner", "outer", "filter_bytes", "table",
    "entries", "joined", "joined_entries", "joined_count", "zeros", "rows", "outputs", "whole", "bounded",
)  # fmt: skip
"""`joined` is the table of elements whose channels follow one another, in the picture and among filters."""


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
    """Compile the walk over some lines, a task; the last block of a line may overlap the one before."""
    f, task, arguments, _ = kernel_of(Module())
    a, item = Fields(f, arguments, FIELDS), itemsize_of(dtype)
    down = (a.out_h + a.lines - 1) // a.lines
    h0, rest = task % down * a.lines, task // down
    d, image = rest % a.out_d, rest // a.out_d
    x, y = a.pointer("x") + image * a.x_image, a.pointer("y") + image * a.y_image + d * a.y_d
    deep = d * a.step_d + a.low_d
    with f.loop(f.least(a.out_h, h0 + a.lines), h0) as h:
        high = h * a.step_h + a.low_h
        inside = f.all_of(
            f.all_of(deep > -1, deep + a.reach_d < a.in_d), f.all_of(high > -1, high + a.reach_h < a.in_h)
        )
        line, out = x + deep * a.x_d + high * a.x_h, y + h * a.y_h
        with (
            f.loop(a.groups) as group,
            f.loop(a.outer, step=a.outputs) as o,
            f.loop(a.out_w, step=a.rows) as w,
        ):
            first, output = f.least(w, a.out_w - a.rows), group * a.outer + f.least(o, a.outer - a.outputs)
            column = first * a.step_w + a.low_w
            end = column + (a.rows - 1) * a.step_w + a.reach_w
            plain = f.all_of(inside, f.all_of(column > -1, end < a.in_w))
            seen = line + column * a.x_w + group * a.inner * item
            filters = a.pointer("w") + output * a.filter_bytes
            made = (
                out + first * a.y_w + output * a.y_channel, a.pointer("start") + output * item,
                a.x_w * a.step_w, a.filter_bytes, a.y_w, a.y_channel,
            )  # fmt: skip
            with f.when(plain):
                joined = a.pointer("joined"), a.joined_entries, a.joined_count
                f.call_address(a.whole, seen, filters, *joined, *made)
            with f.when(f.negation(plain)):
                single = a.pointer("table"), a.entries, a.inner
                bounds = a.pointer("zeros"), deep, high, column, a.in_d, a.in_h, a.in_w, a.step_w
                f.call_address(a.bounded, seen, filters, *single, *made, *bounds)
    f.finish()
    return machine().compile(f.module)[0]


class Dots(FilterRows):
    """A correlation of channels-last pictures to few channels, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        super().__init__(shape, (0, 1, 3, 2))
        self.shape, self._seen = thinned(shape)
        self.dtype, self.itemsize = dtype, itemsize_of(dtype)
        self._launches: dict[tuple[int, ...], Launch] = {}

    @staticmethod
    def pays(shape: Shape, lanes: int) -> bool:
        """Return whether the input channels of a group fill vectors, and its output channels do not."""
        return not shape.elementwise and shape.outer * 2 <= lanes <= shape.inner

    def run(self, x: Any, w: Any, start: Any, y: Any) -> None:
        """Correlate `x` (N, C, D, H, W), whose channels are neighbours, into `y` in any order."""
        x = x[self._seen]
        key = x.strides + y.strides
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._planned(x.strides, y.strides)
        pool().run(launch, (x, w, start, y))

    def _planned(self, x: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        s, item = self.shape, self.itemsize
        outputs = even(s.outer, MOST_OUTPUTS)
        wide = s.out_size[2]
        rows = even(wide, min(wide, MOST_ROWS, max(1, (machine().registers - 2 - outputs) // outputs)))
        pixel = s.inner * item
        offsets = s.offsets(s.taps, x[2:]).tolist()
        shifts = [[a - lo for a, lo in zip(tap.shift, s.low, strict=True)] for tap in s.taps]
        table = np.array([(at, i * pixel, *shifts[i]) for i, at in enumerate(offsets)], np.int64)
        joined = 1
        while joined < len(offsets) and offsets[joined] - offsets[joined - 1] == pixel:
            joined += 1
        # The kernel's elements are a grid, whose rows are as long as the first.
        rows_joined = np.ascontiguousarray(table[::joined])
        zeros = np.zeros(s.inner, self.dtype)
        every = s.images * s.out_size[0] * s.out_size[1]
        lines = even(s.out_size[1], max(1, every // LEAST_TASKS))
        reach = [high - low for low, high in zip(s.low, s.high, strict=True)]
        arguments = (
            0, 0, 0, 0, x[0], *x[2:], *y, *s.in_size, *s.step, *s.low, *reach, *s.out_size, lines, s.groups,
            s.inner, s.outer, len(table) * pixel, address(table), len(table), address(rows_joined),
            len(rows_joined), joined * s.inner, address(zeros), rows, outputs,
            *(_block(self.dtype, rows, outputs, bounded) for bounded in (False, True)),
        )  # fmt: skip
        tasks = s.images * s.out_size[0] * -(-s.out_size[1] // lines)
        keep = table, rows_joined, zeros
        return Launch(_kernel(self.dtype), arguments, tasks, 0, keep, s.multiply_adds / MULTIPLY_ADDS)
