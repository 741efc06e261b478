"""Few output positions and many filters: windows are gathered, and filters read or written where they lie.

To lay filters out takes longer than to multiply them with a few positions. Here the roles are exchanged: the
numbers of filters are repeated in all lanes, and vectors run over the positions of all pictures, whose
windows are copied side by side. For the gradients vectors run along the filters' memory: that of the filters
is made of windows copied in that order, and for that of the input the filters are multiplied where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled.correlate import LEAST_TASKS
from fconv.engine.compiled.filters import dense
from fconv.engine.compiled.heavy import Blocked
from fconv.engine.compiled.launches import BYTES, MULTIPLY_ADDS, Launch
from fconv.engine.compiled.llvm import Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, PAIR, contract, even, micro, most_rows
from fconv.engine.compiled.packing import entry
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, scratch
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.vectors import Numbers
from fconv.engine.memory import empty_like

LONGEST_SUM, TAPS = 512, 32
"""Most products of a sum, and most elements of the kernel among them.

With sixteen channels and more beside them, whole cache lines of filters are used in either memory order.
"""
LEAST_FORWARD, LEAST_WEIGHTS = 1 << 15, 1 << 14
"""Numbers of filters for which the two pay, as measured: else what lays filters out takes as long."""
MOST_VECTORS = 2
"""Most vectors that the positions of all pictures fill."""
LEAST_SHARE = 0.4
"""The part of windows that lies in the picture, below which lists of that part take less time."""

GATHER_FIELDS = (
    "x", "to", "x_group", "x_channel", "taps", "tap_count", "positions", "position_count", "group_bytes",
    "channel_step", "tap_step", "position_step", "inner", "block", "blocks", "lanes",
)  # fmt: skip


@lru_cache(maxsize=4)
def _gather_kernel(dtype: str) -> int:
    """Compile the copy of windows: a task takes some channels of a group."""
    f, task, arguments, _ = kernel_of(Module())
    a, n = Fields(f, arguments, GATHER_FIELDS), Numbers(f, dtype)
    group, first = task // a.blocks, task % a.blocks * a.block
    picture = a.pointer("x") + group * a.x_group
    to = a.pointer("to") + group * a.group_bytes
    with f.loop(f.least(first + a.block, a.inner), first) as c, f.loop(a.tap_count) as t:
        source = picture + c * a.x_channel + entry(f, a.pointer("taps"), t)
        target = to + c * a.channel_step + t * a.tap_step
        with f.loop(a.position_count) as p:
            n.put(n.number(source + entry(f, a.pointer("positions"), p)), target + p * a.position_step)
        # Lanes that nobody looks at must be zeros: products of the subnormal numbers there may be are slow.
        with f.loop(a.lanes, a.position_count) as p:
            n.put(f.constant(0.0, n.element), target + p * a.position_step)
    f.finish()
    return machine().compile(f.module)[0]


FIELDS = (
    "weight", "windows", "y", "weight_group", "weight_outer", "weight_inner", "group_bytes", "channel_step",
    "positions", "y_row", "table", "taps", "inner", "inner_block", "outer", "part", "parts", *MICRO,
)  # fmt: skip


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    """Compile the product: a task takes some outputs of a group."""
    f, task, arguments, _ = kernel_of(Module())
    a = Fields(f, arguments, FIELDS)
    group, first = task // a.parts, task % a.parts * a.part
    rows = f.least(a.outer - first, a.part)
    weight = a.pointer("weight") + group * a.weight_group + first * a.weight_outer
    windows = a.pointer("windows") + group * a.group_bytes
    y = a.pointer("y") + (group * a.outer + first) * a.y_row
    with f.loop(a.inner, step=a.inner_block) as c, f.loop(a.taps, step=TAPS) as t:
        count, entries = f.least(a.inner - c, a.inner_block), f.least(a.taps - t, TAPS)
        table = a.pointer("table")
        operands = (windows + c * a.channel_step, table + t * PAIR, entries, count, table, a.positions, 1)
        steps = (a.weight_inner, a.weight_outer, a.channel_step, a.y_row)
        contract(f, a, rows, weight + c * a.weight_inner, y, operands, steps)
    f.finish()
    return machine().compile(f.module)[0]


ALONG_FIELDS = (
    "x", "w", "y", "x_group", "x_row", "x_step", "w_group", "w_step", "y_group", "y_row", "table", "entries",
    "count", "block", "adds", "zeros", "rows_all", "length", "width", "parts", *MICRO,
)  # fmt: skip


@lru_cache(maxsize=4)
def _along_kernel(dtype: str) -> int:
    """Compile products along filters: a task takes a part of a group's.

    Those of an output's gradient with windows give the gradient of filters, those with filters the columns
    of the gradient of the input.
    """
    f, task, arguments, _ = kernel_of(Module())
    a, item = Fields(f, arguments, ALONG_FIELDS), itemsize_of(dtype)
    group, part = task // a.parts, task % a.parts
    blocks = (a.length + a.width - 1) // a.width
    x, w, y = (a.pointer(name) + group * getattr(a, f"{name}_group") for name in "xwy")
    with f.loop((part + 1) * blocks // a.parts, part * blocks // a.parts) as b:
        at = b * a.width
        there = f.least(a.length - at, a.width)
        with f.loop(a.count, step=a.block) as k, f.loop(a.entries, step=TAPS) as t:
            some, several = f.least(a.entries - t, TAPS), f.least(a.count - k, a.block)
            run = a.pointer("table") + t * PAIR, some, several
            operands = (w + at * item + k * a.w_step, *run, a.pointer("zeros"), there, a.adds + k + t)
            steps = (a.x_step, a.x_row, a.w_step, a.y_row)
            contract(f, a, a.rows_all, x + k * a.x_step, y + at * item, operands, steps)
    f.finish()
    return machine().compile(f.module)[0]


def _along(
    dtype: str, shape: Shape, rows: int, length: int, steps: tuple[int, ...], table: Any, count: int,
    block: int = LONGEST_SUM, *, adds: bool = False,
) -> Launch:  # fmt: skip
    """Plan products of `rows` rows along filters, whose numbers are `length` in a row of memory.

    `steps` are the fields from `x_group` to `y_row`; each pair of offsets of the table has `count` products
    that follow one another, of which `block` go into one sum. With `adds` they are added to what is there.
    """
    lanes = machine().vector_bytes // itemsize_of(dtype)
    vectors = min(4 if machine().registers > 16 else 3, -(-length // lanes))
    width = vectors * lanes
    parts = max(1, min(LEAST_TASKS // shape.groups, -(-length // width)))
    zeros, most = np.zeros(width, dtype), even(rows, min(rows, most_rows(vectors)))
    arguments = (
        0, 0, 0, *steps, address(table), len(table), count, block, int(adds), address(zeros), rows, length,
        width, parts, *micro(dtype, most, vectors, (rows,), ends=length % width != 0),
    )  # fmt: skip
    cost = shape.multiply_adds / MULTIPLY_ADDS
    return Launch(_along_kernel(dtype), arguments, shape.groups * parts, 0, (table, zeros), cost)


def _vectors(shape: Shape, dtype: str) -> float:
    """Return how many vectors the positions of all pictures fill."""
    return shape.images * prod(shape.out_size) * itemsize_of(dtype) / machine().vector_bytes


def _filters(shape: Shape) -> int:
    """Count the numbers of all filters; none where each channel is by itself."""
    return 0 if shape.elementwise else shape.groups * shape.outer * shape.inner * len(shape.taps)


def by_channel(weight: Any) -> bool | None:
    """Return whether each filter lies channel by channel; None where it is neither so nor tap by tap."""
    (inner, *kernel), (step, *steps), item = weight.shape[2:], weight.strides[2:], weight.itemsize
    if dense((step, *steps), (inner, *kernel), item):
        return True
    return False if dense((*steps, step), (*kernel, inner), item) else None


class Gathered:
    """A convolution of few output positions and its gradients, planned.

    Parameters
    ----------
    shape : Shape
        Of the convolution.
    dtype : str
        Of the numbers.
    """

    def __init__(self, shape: Shape, dtype: str) -> None:
        self.shape, self.dtype, self.itemsize = shape, dtype, itemsize_of(dtype)
        s, lanes = shape, machine().vector_bytes // self.itemsize
        self._padded = s.hangs_over
        self.positions, self.length = s.images * prod(s.out_size), s.inner * len(s.taps)
        self.vectors = -(-self.positions // lanes)
        self.width = self.vectors * lanes
        self._copy = Blocked(s.images, s.groups * s.inner, s.groups * s.inner, s.low, s.box, s.in_size, dtype)
        self._places = np.indices((s.images, *s.out_size)).reshape(4, -1)
        self._launches: dict[Any, Launch] = {}

    @staticmethod
    def pays(shape: Shape, dtype: str, share: float) -> bool:
        """Return whether positions are few, and filters many; else laying filters out takes as long.

        `share` is the part of the products that another way does: the rest is with zeros of the padding.
        """
        few = 0.5 <= _vectors(shape, dtype) <= MOST_VECTORS and share >= LEAST_SHARE
        return few and _filters(shape) >= LEAST_FORWARD

    @staticmethod
    def weights_pay(shape: Shape, dtype: str, *, heavy: bool) -> bool:
        """Return whether positions are few for the gradient of filters, also where those are `heavy`."""
        return _vectors(shape, dtype) <= (1 if heavy else MOST_VECTORS) and _filters(shape) >= LEAST_WEIGHTS

    @staticmethod
    def columns_pay(shape: Shape, dtype: str, share: float) -> bool:
        """Return whether positions are few and filters many for the gradient of the input, as `pays`."""
        few = _vectors(shape, dtype) <= MOST_VECTORS and share >= LEAST_SHARE
        return few and _filters(shape) >= LEAST_WEIGHTS

    def _windows(self, x: Any, *, channels: bool, side_by_side: bool) -> Any:
        """Gather windows as (groups, numbers of a filter, positions), or (groups, positions, numbers).

        The numbers of a filter come channel by channel, or tap by tap.
        """
        s, item = self.shape, self.itemsize
        padded = self._copy(x) if self._padded else None
        strides = x.strides if padded is None else (*self._copy.steps[:1], item, *self._copy.steps[1:])
        key = strides, channels, side_by_side
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._gather(strides, channels, side_by_side)
        windows = scratch.array(s.groups * self.length * self.width, x.dtype)
        pool().run(launch, (x if padded is None else padded, windows))
        if padded is not None:
            scratch.give_back(padded)
        return windows

    def _gather(self, x: tuple[int, ...], channels: bool, side_by_side: bool) -> Launch:
        s, item = self.shape, self.itemsize
        taps = s.offsets(s.taps, x[2:])
        if not self._padded:  # from the first position of the picture, not of the window
            taps = taps + np.dot(x[2:], s.low)
        steps = (x[0], *(step * p for step, p in zip(s.step, x[2:], strict=True)))
        places = np.dot(steps, self._places).astype(np.int64)
        number, position = (self.width * item, item) if side_by_side else (item, self.length * item)
        by_tap, by_channel = (1, len(taps)) if channels else (s.inner, 1)
        block = -(-s.inner // max(1, LEAST_TASKS // s.groups))
        blocks = -(-s.inner // block)
        arguments = (
            0, 0, s.inner * x[1], x[1], address(taps), len(taps), address(places), self.positions,
            self.length * self.width * item, by_channel * number, by_tap * number, position, s.inner, block,
            blocks, self.width if side_by_side else 0,
        )  # fmt: skip
        cost = s.groups * self.length * self.positions * item / BYTES
        return Launch(_gather_kernel(self.dtype), arguments, s.groups * blocks, 0, (taps, places), cost)

    def convolve(self, x: Any, weight: Any, bias: Any) -> Any:
        """Return the output (N, O, D, H, W), of filters (groups, outer, inner, ...) in any order."""
        s = self.shape
        if self._outer_last(weight):
            return self._along_outputs(x, weight, bias)
        windows = self._windows(x, channels=True, side_by_side=True)
        y = np.empty((s.groups * s.outer, self.positions), x.dtype)
        y[...] = 0 if bias is None else bias[:, None]
        launch = self._launches.get(weight.strides)
        if launch is None:
            group, outer, inner, *steps = weight.strides
            places = [np.dot(tap.place, steps) for tap in s.taps]
            planned = self._product(group, outer, inner, s.outer, s.inner, places)
            launch = self._launches[weight.strides] = planned
        pool().run(launch, (weight, windows, y))
        scratch.give_back(windows)
        y = y.reshape(s.groups * s.outer, s.images, *s.out_size).swapaxes(0, 1)
        return np.ascontiguousarray(y)  # what follows reads pictures one after another

    def _along_outputs(self, x: Any, weight: Any, bias: Any) -> Any:
        """Return the output, of filters whose numbers for all outputs lie side by side."""
        s, item = self.shape, self.itemsize
        windows = self._windows(x, channels=False, side_by_side=False)
        y = np.empty((self.positions, s.groups * s.outer), x.dtype)
        y[...] = 0 if bias is None else bias
        group, outer, row = weight.strides[:3]
        key = "outputs", group, outer, row
        launch = self._launches.get(key)
        if launch is None:
            long, taps = self.length * item, np.arange(len(s.taps))
            steps = (long * self.width, long, item, group, row, s.outer * item, y.strides[0])
            table = np.stack([taps * s.inner * item, taps * s.inner * row], -1).astype(np.int64)
            planned = _along(
                self.dtype, s, self.positions, s.outer, steps, table, s.inner,
                LONGEST_SUM // min(len(taps), TAPS), adds=True,
            )  # fmt: skip
            launch = self._launches[key] = planned
        pool().run(launch, (windows, weight, y))
        scratch.give_back(windows)
        y = np.moveaxis(y.reshape(s.images, *s.out_size, -1), -1, 1)
        return np.ascontiguousarray(y)  # in the memory order of other filters, as what follows sums in it

    def _product(
        self, group: int, row: int, inner: int, rows: int, count: int, places: Sequence[int]
    ) -> Launch:
        """Plan products of a group's `rows` with what lies side by side, and add them to what is there.

        A number of a row stands for each of `count` and of `places`; `group`, `row` and `inner` are bytes
        from one to the next.
        """
        s, wide, taps = self.shape, self.width * self.itemsize, len(places)
        most = most_rows(self.vectors)
        part = min(rows, most * -(-rows // (most * max(1, LEAST_TASKS // s.groups))))
        parts = -(-rows // part)
        lengths = (part, rows - (parts - 1) * part)
        table = np.stack([places, np.arange(taps) * wide], -1).astype(np.int64)
        arguments = (
            0, 0, 0, group, row, inner, count * taps * wide, taps * wide, self.positions,
            self.positions * self.itemsize, address(table), taps, count, LONGEST_SUM // min(taps, TAPS), rows,
            part, parts, *micro(self.dtype, even(part, most), self.vectors, lengths),
        )  # fmt: skip
        cost = s.groups * s.outer * self.length * self.width / MULTIPLY_ADDS
        return Launch(_kernel(self.dtype), arguments, s.groups * parts, 0, (table,), cost)

    def run(self, g: Any, x: Any, like: Any) -> Any:
        """Return the gradient of filters, (O, C/groups, D, H, W), in the order of `like` or C order."""
        grouped = like.reshape(self.shape.groups, -1, *like.shape[1:])
        dw = empty_like(grouped)
        if self._outer_last(dw):
            self._weights_along_outputs(g, x, dw)
            return dw.reshape(like.shape)
        channels = by_channel(dw)
        if channels is None:
            dw = np.empty(grouped.shape, like.dtype)
        windows = self._windows(x, channels=channels is not False, side_by_side=False)
        key = dw.strides[:2], g.strides
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._weights(dw.strides[0], dw.strides[1], g.strides)
        pool().run(launch, (g, windows, dw))
        scratch.give_back(windows)
        return dw.reshape(like.shape)

    def _weights_along_outputs(self, g: Any, x: Any, dw: Any) -> None:
        """Make the gradient of filters whose numbers for all outputs lie side by side."""
        s, item = self.shape, self.itemsize
        windows = self._windows(x, channels=False, side_by_side=False)
        key = "gradient", *dw.strides[:3]
        launch = self._launches.get(key)
        if launch is None:
            long, wide = self.length * item, s.outer * item
            steps = (long * self.width, item, long, wide, s.groups * wide, dw.strides[0], dw.strides[2])
            table = np.zeros((1, 2), np.int64)
            planned = _along(self.dtype, s, self.length, s.outer, steps, table, self.positions)
            launch = self._launches[key] = planned
        pool().run(launch, (windows, np.ascontiguousarray(g.transpose(0, 2, 3, 4, 1)), dw))
        scratch.give_back(windows)

    def _weights(self, group: int, outer: int, g: tuple[int, ...]) -> Launch:
        s, row = self.shape, self.length * self.itemsize
        at = np.arange(self.positions) * row
        table = np.stack([np.dot((g[0], *g[2:]), self._places), at], -1).astype(np.int64)
        steps = (s.outer * g[1], g[1], 0, self.width * row, 0, group, outer)
        return _along(self.dtype, s, s.outer, self.length, steps, table, 1)

    def columns(self, g: Any, weight: Any, columns: Any) -> str:
        """Multiply g (N, O, D, H, W) by filters (groups, outer, inner, ...) where these lie, in any order.

        The columns are those of the input's gradient, in the order of filters in memory.

        Returns
        -------
        str
            "channels" or "taps": for each position, the numbers of a filter channel by channel or tap by tap.
            "positions": tap by tap, and for each number of a filter the positions side by side.
        """
        if self._outer_last(weight):
            self._rows(g, weight, columns)
            return "positions"
        channels = by_channel(weight)
        if channels is None:
            weight, channels = np.ascontiguousarray(weight), True
        x, key = np.ascontiguousarray(g.transpose(0, 2, 3, 4, 1)), weight.strides[:2]
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._columns(*key)
        pool().run(launch, (x, weight, columns))
        return "channels" if channels else "taps"

    def _columns(self, group: int, outer: int) -> Launch:
        s, item = self.shape, self.itemsize
        row = self.length * item
        steps = (s.outer * item, s.groups * s.outer * item, item, group, outer, row, s.groups * row)
        return _along(self.dtype, s, self.positions, self.length, steps, np.zeros((1, 2), np.int64), s.outer)

    def _outer_last(self, weight: Any) -> bool:
        """Return whether positions are few, and filters lie tap by tap, the outputs' numbers side by side."""
        if self.vectors > MOST_VECTORS:
            return False
        (inner, *kernel), (step, *steps) = weight.shape[2:], weight.strides[2:]
        return weight.strides[1] == self.itemsize and dense((*steps, step), (*kernel, inner), step)

    def _rows(self, g: Any, weight: Any, columns: Any) -> None:
        """Multiply rows of filters, which lie along the outputs, by the gradient at all positions."""
        s = self.shape
        side_by_side = np.zeros((s.groups * s.outer, self.width), g.dtype)
        side_by_side[:, : self.positions] = g.swapaxes(0, 1).reshape(len(side_by_side), -1)
        key = "rows", *weight.strides[:3]
        launch = self._launches.get(key)
        if launch is None:
            group, outer, row = weight.strides[:3]
            launch = self._launches[key] = self._product(group, row, outer, self.length, s.outer, [0])
        columns[...] = 0
        pool().run(launch, (weight, side_by_side, columns))
