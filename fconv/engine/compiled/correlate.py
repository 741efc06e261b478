"""Correlation of pictures with filters, direct: what the forward pass and the input gradient consist of.

Each task takes a strip of the output of some pictures. It copies the box of input that the strip sees,
zeros included, unless the input can be read where it lies, and contracts it with one block of filters after
another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.llvm import POINTER, Module, itemsize_of, machine
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

BOX_BYTES = 384 << 10
"""Largest input box of a task: with a block of filters it stays in the L2 cache."""
FILTER_BYTES = 256 << 10
FILTERS_BYTES = 1 << 20
LEAST_TASKS = 8

FIELDS = (
    "x", "w", "start", "y", "y_image", "y_d", "y_h", "x_image", "x_channel", "x_d", "x_h", "x_w", "table",
    "entries", "count", "count_block", "in_d", "in_h", "in_w", "step_d", "step_h", "step_w", "low_d", "low_h",
    "low_w", "out_d", "out_h", "out_w", "images", "strip_n", "strip_h", "strip_w", "parts", "box_d", "box_h",
    "box_w", "channels", "inner", "outer", "blocks", "all_blocks", "block_bytes", "width", "elementwise",
    "line", "y_w", "image", "x_row", "y_row", *MICRO, "pack", "scratch_size", "scratch",
)  # fmt: skip


@lru_cache(maxsize=8)
def _kernel(dtype: str, scattered: bool) -> int:
    f, task, address, worker = kernel_of(Module())
    a, item = Fields(f, address, FIELDS), itemsize_of(dtype)
    part, rest = task % a.parts, task // a.parts
    across, down = (a.out_w + a.strip_w - 1) // a.strip_w, (a.out_h + a.strip_h - 1) // a.strip_h
    w0, rest = rest % across * a.strip_w, rest // across
    h0, rest = rest % down * a.strip_h, rest // down
    d, n0 = rest % a.out_d, rest // a.out_d * a.strip_n
    columns, lines = f.least(a.out_w - w0, a.strip_w), f.least(a.out_h - h0, a.strip_h)
    images = f.least(a.images - n0, a.strip_n)
    begin = (d * a.step_d + a.low_d, h0 * a.step_h + a.low_h, w0 * a.step_w + a.low_w)
    where = a.pointer("x") + n0 * a.x_image + begin[0] * a.x_d + begin[1] * a.x_h + begin[2] * a.x_w
    seen = f.variable(POINTER, where)
    with f.when(a.pack > 0):
        box = a.pointer("scratch") + worker * a.scratch_size
        seen.set(box)
        with f.loop(images) as n:
            f.call_address(
                a.pack, box + n * a.image, a.pointer("x") + (n0 + n) * a.x_image, a.box_d, a.box_h, a.box_w,
                *begin, a.in_d, a.in_h, a.in_w, a.channels, a.x_channel, a.x_d, a.x_h, a.x_w,
            )  # fmt: skip
    out = a.pointer("y") + n0 * a.y_image + d * a.y_d + h0 * a.y_h + w0 * a.y_w
    row = a.width * item
    with f.loop((part + 1) * a.all_blocks // a.parts, part * a.all_blocks // a.parts) as b:
        group, first = b // a.blocks, b % a.blocks * a.width
        there = f.least(a.outer - first, a.width)
        channel = f.select(a.elementwise > 0, first, group * a.inner)
        with f.loop(a.count, step=a.count_block) as c:
            weights = a.pointer("w") + b * a.block_bytes + c * row
            count = f.least(a.count - c, a.count_block)
            start = a.pointer("start") + b * row
            operands = (weights, a.pointer("table"), a.entries, count, start, there, c)
            steps = (item, a.x_row, row, a.y_row)
            x, y = seen.get() + (channel + c) * item, out + (group * a.outer + first) * item
            if scattered:
                contract(f, a, images * lines * columns, x, y, operands, steps, scattered=True)
            else:
                with f.loop(images) as n, f.loop(lines) as h:
                    x_line, y_line = x + n * a.image + h * a.line, y + n * a.y_image + h * a.y_h
                    contract(f, a, columns, x_line, y_line, operands, steps)
    f.finish()
    return machine().compile(f.module)[0]


@lru_cache(maxsize=4)
def _filter_kernel(dtype: str) -> int:
    """Compile the layout of filters: a task lays out one block."""
    module = Module()
    lay = packing.filters(module, dtype)
    f, task, address, _ = kernel_of(module)
    a = Fields(f, address, FILTER_FIELDS)
    group, first = task // a.blocks, task % a.blocks * a.width
    f.call(
        lay, a.pointer("w") + task * a.block_bytes,
        a.pointer("weight") + group * a.weight_group + first * a.weight_outer, a.weight_outer,
        f.least(a.outer - first, a.width), a.weight_inner, a.inner, a.taps, a.width, a.pointer("table"),
        a.length, a.runs,
    )  # fmt: skip
    f.finish()
    return machine().compile(module)[0]


FILTER_FIELDS = (
    "w", "weight", "weight_group", "weight_outer", "weight_inner", "outer", "inner", "blocks", "block_bytes",
    "taps", "width", "table", "length", "runs",
)  # fmt: skip


def dense(strides: Sequence[int], sizes: Sequence[int], unit: int) -> bool:
    """Return whether axes lie in C order with `unit` bytes from entry to entry."""
    for stride, size in zip(reversed(strides), reversed(sizes), strict=True):
        if size > 1 and stride != unit:
            return False
        unit *= size
    return True


def vectors_for(outer: int, lanes: int) -> int:
    """Choose the vectors of a block for so many outputs of a group: few idle lanes, few loads."""
    whole = -(-outer // lanes)
    most = 6 if machine().embedded else 3
    cost = {v: -(-whole // v) * v * (1 + (v + most_rows(v)) / (v * most_rows(v))) for v in range(1, most + 1)}
    return min(cost, key=lambda v: (cost[v], -v))


@dataclass(frozen=True)
class Tap:
    """An entry of the kernel: its place, and where it looks from the first input position of an output."""

    shift: tuple[int, int, int]
    place: tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """A correlation over three axes.

    Attributes
    ----------
    images, groups, inner, outer : int
        Pictures, groups, and channels of a group on either side.
    in_size, out_size, step : tuple of int
        Sizes, and input positions from one output to the next.
    taps : tuple of Tap
        The entries of the kernel that take part, sorted.
    """

    images: int
    groups: int
    inner: int
    outer: int
    in_size: tuple[int, int, int]
    out_size: tuple[int, int, int]
    step: tuple[int, int, int]
    taps: tuple[Tap, ...]

    def __hash__(self) -> int:
        """Hash the fields once: plans are looked up by shapes in every call."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, each.name) for each in fields(self)))

    @cached_property
    def low(self) -> tuple[int, int, int]:
        """The least shift along each axis."""
        return tuple(min(tap.shift[i] for tap in self.taps) for i in range(3))  # type: ignore[return-value]

    @cached_property
    def high(self) -> tuple[int, int, int]:
        """The largest shift along each axis."""
        return tuple(max(tap.shift[i] for tap in self.taps) for i in range(3))  # type: ignore[return-value]

    @property
    def hangs_over(self) -> bool:
        """Return whether a window leaves the picture."""
        sides = zip(self.low, self.high, self.in_size, self.out_size, self.step, strict=True)
        return any(lo < 0 or (out - 1) * step + hi >= size for lo, hi, size, out, step in sides)

    @property
    def multiply_adds(self) -> int:
        """Multiplications that the definition takes."""
        return self.images * prod(self.out_size) * len(self.taps) * self.groups * self.inner * self.outer


def filter_table(
    taps: Sequence[Tap], kernel: Sequence[int], strides: Sequence[int], count: int, row: int, item: int
) -> tuple[Any, int, int]:
    """Return the table, its length and the runs by which `packing.filters` lays filters out.

    Parameters
    ----------
    taps : sequence of Tap
        The entries of the kernel in their new order; the others come behind them.
    kernel : sequence of int
        Its size.
    strides : sequence of int
        Bytes of the weight along its outer and inner axis and along the kernel's.
    count : int
        Inner channels.
    row, item : int
        Bytes of a row of the layout, and of a number.
    """
    outer, inner, *steps = strides
    if dense(steps, kernel, item) and outer != item:
        order: dict[tuple[int, ...], int] = {tap.place: i for i, tap in enumerate(taps)}
        places = [order.get(place, len(order)) for place in product(*map(range, kernel))]
        if inner == len(places) * item or count == 1:
            joint = [(t * count + k) * row for k in range(count) for t in places]
            return packing.padded(joint), len(joint), 1
        return packing.padded([t * count * row for t in places]), len(places), count
    offsets = [sum(p * k for p, k in zip(tap.place, steps, strict=True)) for tap in taps]
    return packing.padded(offsets), len(offsets), 0


class Correlation:
    """A correlation that is planned: all but where the arrays lie."""

    def __init__(self, shape: Shape, dtype: str, filters: tuple[Tap, ...] | None = None) -> None:
        self.shape, self.dtype = shape, dtype
        self.filters = filters or shape.taps
        """The entries that are laid out together, for other correlations too."""
        self.itemsize = itemsize_of(dtype)
        lanes = machine().vector_bytes // self.itemsize
        self.elementwise = shape.inner == 1 and shape.groups > 1 and shape.outer == 1
        s = shape
        self.outer = s.groups if self.elementwise else s.outer
        self.vectors = vectors_for(self.outer, lanes)
        if self.elementwise:
            self.vectors = min(2, -(-self.outer // lanes))
        self.width = self.vectors * lanes
        self.blocks = -(-self.outer // self.width)
        self.all_blocks = self.blocks * (1 if self.elementwise else s.groups)
        self.channels = s.groups * s.inner
        rows = most_rows(self.vectors)
        if self.elementwise:
            rows = max(1, (machine().registers - self.vectors - 2) // (2 * self.vectors))
        self._launches: dict[tuple[int, ...], Launch] = {}
        tap_bytes = (1 if self.elementwise else s.inner) * self.width * self.itemsize
        self.own_bytes = len(s.taps) * tap_bytes
        self.block_bytes = len(self.filters) * tap_bytes
        self._strip()
        self._divide(rows)

    def _divide(self, most: int) -> None:
        """Choose the rows of a block: positions along a row of the output, or of all that a task has."""
        n, h, w = self.strip
        every, length = n * h * w, w
        self.scattered = False
        if not self.elementwise and (h, w) == self.shape.out_size[1:]:
            self.scattered = 10 * -(-every // most) <= 9 * n * h * -(-w // most)
            length = every if self.scattered else w
        self.rows = even(length, min(most, length))

    def _strip(self) -> None:
        """Divide the output: boxes that stay in the cache, and enough tasks for all threads."""
        s, pixel = self.shape, self.channels * self.itemsize
        reach = [hi - lo + 1 for lo, hi in zip(s.low, s.high, strict=True)]

        def box(h: int, w: int) -> int:
            return reach[0] * ((h - 1) * s.step[1] + reach[1]) * ((w - 1) * s.step[2] + reach[2]) * pixel

        w = s.out_size[2]
        while box(1, w) > BOX_BYTES and w > 32:
            w = -(-w // 2)
        h = s.out_size[1]
        tasks = s.images * s.out_size[0] * -(-s.out_size[2] // w)
        most = max(1, -(-h * tasks // LEAST_TASKS))
        while h > 1 and (box(h, w) > BOX_BYTES or h > most):
            h = -(-h // 2) if h > 2 * most else h - 1
        h = -(-s.out_size[1] // -(-s.out_size[1] // h))
        n = 1
        if h == s.out_size[1] and w == s.out_size[2]:
            # Filters that outgrow the cache are read once for all pictures of a task: then tasks divide them.
            heavy = self.own_bytes * self.all_blocks > FILTERS_BYTES
            most = s.images if heavy else s.images * s.out_size[0] // LEAST_TASKS
            n = max(1, min(BOX_BYTES // box(h, w), most))
            n = -(-s.images // -(-s.images // n))
        self.strip = (n, h, w)
        self.box = (reach[0], (h - 1) * s.step[1] + reach[1], (w - 1) * s.step[2] + reach[2])
        strips = -(-s.images // n) * s.out_size[0] * -(-s.out_size[1] // h) * -(-s.out_size[2] // w)
        self.parts = min(self.all_blocks, -(-LEAST_TASKS // strips)) if strips < LEAST_TASKS else 1
        self.tasks = strips * self.parts

    def lay(self, weight: Any) -> Any:
        """Lay filters (groups, outer, inner, D, H, W) in any order out as (blocks, taps, inner, width).

        The result is scratch memory, to be given back; or the weight itself, where it lies like that.
        """
        launch = self._launches.get(weight.strides)
        if launch is None:
            if self._lies(weight):
                return weight
            launch = self._launches[weight.strides] = self._lay(weight.shape[3:], *weight.strides)
        w = scratch.array(self.all_blocks * self.block_bytes // self.itemsize, weight.dtype)
        pool().run(launch, (w, weight))
        return w

    def _lies(self, weight: Any) -> bool:
        """Return whether one block has all output channels, neighbours in memory, and the rest in order."""
        (_, outer, inner, *steps), row = weight.strides, self.width * self.itemsize
        return (
            (self.all_blocks, self.outer, outer, inner) == (1, self.width, self.itemsize, row)
            and not self.elementwise
            and [tap.place for tap in self.filters] == list(product(*map(range, weight.shape[3:])))
            and dense(steps, weight.shape[3:], self.shape.inner * row)
        )

    def _lay(self, kernel: Sequence[int], group: int, outer: int, inner: int, *steps: int) -> Launch:
        if self.elementwise:
            group, outer = 0, group
        row, count = self.width * self.itemsize, 1 if self.elementwise else self.shape.inner
        table, length, runs = filter_table(
            self.filters, kernel, (outer, inner, *steps), count, row, self.itemsize
        )
        arguments = (
            0, 0, group, outer, inner, self.outer, count, self.blocks, self.block_bytes,
            self.block_bytes // (count * row), self.width, address(table), length, runs,
        )  # fmt: skip
        cost = self.all_blocks * self.block_bytes / BYTES
        return Launch(_filter_kernel(self.dtype), arguments, self.all_blocks, keep=(table,), cost=cost)

    def start(self, bias: Any, dtype: Any) -> Any:
        """Lay out what the sums begin with."""
        start = np.zeros((self.all_blocks // self.blocks, self.blocks * self.width), dtype)
        if bias is not None:
            start[:, : self.outer] = bias.reshape(-1, self.outer)
        return start

    def run(self, x: Any, w: Any, start: Any, y: Any) -> None:
        """Correlate `x` (N, C, D, H, W) in any memory order into `y`, whose channels are neighbours."""
        key = x.strides + y.strides
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._run(x.strides, y.strides)
        pool().run(launch, (x, w, start, y))

    def _run(self, x: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        s, item = self.shape, self.itemsize
        pixel = self.channels * item
        packed = s.hangs_over or x[1] != item or x[4] != pixel
        pitch = (self.box[1] * self.box[2] * pixel, self.box[2] * pixel, pixel) if packed else x[2:]
        image = prod(self.box) * pixel if packed else x[0]
        table, entries, count, count_block = self._table(*pitch)
        size = aligned(self.strip[0] * prod(self.box) * pixel) if packed else 0
        n, h, w = self.strip
        x_steps, y_steps = (image, s.step[1] * pitch[1], s.step[2] * pixel), (y[0], *y[3:])
        keep: tuple[Any, ...] = (table,)
        steps, lengths = (
            (x_steps[2], y_steps[2]),
            (w, s.out_size[2] - (s.out_size[2] - 1) // w * w),
        )
        if self.scattered:
            places = np.indices(self.strip).reshape(3, -1)
            rows = np.stack([np.dot(steps, places) for steps in (x_steps, y_steps)], 1)
            keep, steps = (table, rows), (address(rows), 0)
            lengths = (n * h * w, (s.images - (s.images - 1) // n * n) * h * w)
        arguments = (
            *(0,) * 4, y[0], *y[2:4], x[0], *x[1:], address(table), entries, count, count_block, *s.in_size,
            *s.step, *s.low, *s.out_size, s.images, *self.strip, self.parts, *self.box, self.channels,
            1 if self.elementwise else s.inner, self.outer, self.blocks, self.all_blocks, self.block_bytes,
            self.width, self.elementwise, x_steps[1], y[4], image, *steps,
            *micro(
                self.dtype, self.rows, self.vectors, lengths, elementwise=self.elementwise,
                scattered=self.scattered,
            ),
            packing.compiled_box(self.dtype) if packed else 0, size, 0,
        )  # fmt: skip
        cost = s.multiply_adds / MULTIPLY_ADDS
        return Launch(_kernel(self.dtype, self.scattered), arguments, self.tasks, size, keep, cost)

    def _table(self, *pitch: int) -> tuple[Any, int, int, int]:
        """Return where the kernel's entries lie in the input and among the filters; rows of it join."""
        s = self.shape
        inner = 1 if self.elementwise else s.inner
        row = self.width * self.itemsize * inner
        x = [sum((a - lo) * p for a, lo, p in zip(tap.shift, s.low, pitch, strict=True)) for tap in s.taps]
        step, joined = inner * self.itemsize, 1
        if s.groups == 1 and pitch[2] == step:
            while joined < len(x) and x[joined] - x[joined - 1] == step:
                joined += 1
            if len(x) % joined or any(x[i + 1] - x[i] != step for i in range(len(x) - 1) if (i + 1) % joined):
                joined = 1
        count = count_block = inner * joined
        if self.own_bytes > FILTER_BYTES * 1.5 and inner > 32:
            joined, count = 1, inner
            pieces = -(-self.own_bytes // FILTER_BYTES)
            count_block = max(32, 16 * -(-inner // (16 * pieces)))
        first = self.filters.index(s.taps[0])
        entries = [(x[i], (first + i) * row) for i in range(0, len(x), joined)]
        return np.array(entries, np.int64), len(entries), count, count_block
