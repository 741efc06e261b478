"""Correlation of pictures with filters, direct: what the forward pass and the input gradient consist of.

Each task takes a strip of the output of some pictures. It copies the box of input that the strip sees,
zeros included, unless the input can be read where it lies, and contracts it with one block of filters after
another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.llvm import POINTER, Module, itemsize_of, machine
from fconv.engine.compiled.micro import MICRO, contract, even, micro, most_rows
from fconv.engine.compiled.pool import Fields, Launch, address, aligned, kernel_of, pool, scratch

BOX_BYTES = 384 << 10
"""What the box of a task may take: with a block of filters it stays in the L2 cache."""
FILTER_BYTES = 256 << 10
FILTERS_BYTES = 1 << 20
LEAST_TASKS = 8

FIELDS = (
    "x", "w", "start", "y", "y_image", "y_d", "y_h", "x_image", "x_channel", "x_d", "x_h", "x_w", "table",
    "entries", "count", "count_block", "in_d", "in_h", "in_w", "step_d", "step_h", "step_w", "low_d", "low_h",
    "low_w", "out_d", "out_h", "out_w", "images", "strip_n", "strip_h", "strip_w", "parts", "box_d", "box_h",
    "box_w", "channels", "inner", "outer", "blocks", "all_blocks", "block_bytes", "width", "elementwise",
    "line",
    "image", "x_row", "y_row", *MICRO, "pack", "scratch_size", "scratch",
)  # fmt: skip


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
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
    out = a.pointer("y") + n0 * a.y_image + d * a.y_d + h0 * a.y_h + w0 * a.y_row
    row = a.width * item
    with f.loop((part + 1) * a.all_blocks // a.parts, part * a.all_blocks // a.parts) as b:
        group, first = b // a.blocks, b % a.blocks * a.width
        there = f.least(a.outer - first, a.width)
        channel = f.select(a.elementwise > 0, first, group * a.inner)
        with f.loop(a.count, step=a.count_block) as c:
            weights = a.pointer("w") + b * a.block_bytes + c * row
            count = f.least(a.count - c, a.count_block)
            start = a.pointer("start") + b * row
            with f.loop(images) as n, f.loop(lines) as h:
                x = seen.get() + n * a.image + h * a.line + (channel + c) * item
                y = out + n * a.y_image + h * a.y_h + (group * a.outer + first) * item
                operands = (weights, a.pointer("table"), a.entries, count, start, there, c)
                contract(f, a, columns, x, y, operands, (item, a.x_row, row, a.y_row))
    f.finish()
    return machine().compile(f.module)[0]


@lru_cache(maxsize=4)
def _filter_kernel(dtype: str) -> int:
    """Compile the layout of filters: a task lays out one block."""
    module = Module()
    lay = packing.filters(module, dtype, packing.transpose(module, dtype))
    f, task, address, _ = kernel_of(module)
    a = Fields(f, address, FILTER_FIELDS)
    group, first = task // a.blocks, task % a.blocks * a.width
    f.call(
        lay, a.pointer("w") + task * a.block_bytes,
        a.pointer("weight") + group * a.weight_group + first * a.weight_outer, a.weight_outer,
        f.least(a.outer - first, a.width), a.weight_inner, a.inner, a.pointer("table"), a.taps, a.neighbours,
        a.width,
    )  # fmt: skip
    f.finish()
    return machine().compile(module)[0]


FILTER_FIELDS = (
    "w", "weight", "weight_group", "weight_outer", "weight_inner", "outer", "inner", "blocks", "block_bytes",
    "table", "taps", "neighbours", "width",
)  # fmt: skip


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
        """Whether a window leaves the picture."""
        sides = zip(self.low, self.high, self.in_size, self.out_size, self.step, strict=True)
        return any(lo < 0 or (out - 1) * step + hi >= size for lo, hi, size, out, step in sides)

    @property
    def multiply_adds(self) -> int:
        """Multiplications that the definition takes."""
        return self.images * prod(self.out_size) * len(self.taps) * self.groups * self.inner * self.outer


class Correlation:
    """A correlation that is planned: all but where the arrays lie."""

    def __init__(self, shape: Shape, dtype: str, y_row: int) -> None:
        self.shape, self.dtype = shape, dtype
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
        self.y_row = y_row
        self._launches: dict[tuple[int, ...], Launch] = {}
        self.block_bytes = len(s.taps) * (1 if self.elementwise else s.inner) * self.width * self.itemsize
        self._strip()
        self.rows = even(self.strip[2], min(rows, self.strip[2]))

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
            heavy = self.block_bytes * self.all_blocks > FILTERS_BYTES
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

        The result is scratch memory, to be given back.
        """
        launch = self._launches.get(weight.strides)
        if launch is None:
            launch = self._launches[weight.strides] = self._lay(*weight.strides)
        w = scratch.array(self.all_blocks * self.block_bytes // self.itemsize, weight.dtype)
        pool().run(launch, (w, weight))
        return w

    def _lay(self, group: int, outer: int, inner: int, *kernel: int) -> Launch:
        if self.elementwise:
            group, outer = 0, group
        places = [sum(p * k for p, k in zip(tap.place, kernel, strict=True)) for tap in self.shape.taps]
        table = np.array(places, np.int64)
        neighbours = all(b - a == self.itemsize for a, b in pairwise(places))
        arguments = (
            0, 0, group, outer, inner, self.outer, 1 if self.elementwise else self.shape.inner, self.blocks,
            self.block_bytes, address(table), len(table), neighbours, self.width,
        )  # fmt: skip
        return Launch(_filter_kernel(self.dtype), arguments, self.all_blocks, keep=(table,))

    def start(self, bias: Any, dtype: Any) -> Any:
        """Lay out what the sums begin with."""
        start = np.zeros((self.all_blocks // self.blocks, self.blocks * self.width), dtype)
        if bias is not None:
            start[:, : self.outer] = bias.reshape(-1, self.outer)
        return start

    def run(self, x: Any, w: Any, start: Any, y: Any) -> None:
        """Correlate `x` (N, C, D, H, W) in any memory order into channels-last `y`."""
        launch = self._launches.get(x.strides)
        if launch is None:
            launch = self._launches[x.strides] = self._run(*x.strides)
        image, _, *steps, _ = y.strides
        pool().run(launch, (x, w, start, y), image, *steps)

    def _run(self, image: int, channel: int, *steps: int) -> Launch:
        s, item = self.shape, self.itemsize
        pixel = self.channels * item
        packed = s.hangs_over or channel != item or steps[2] != pixel
        pitch = (self.box[1] * self.box[2] * pixel, self.box[2] * pixel, pixel) if packed else steps
        table, entries, count, count_block = self._table(*pitch)
        size = aligned(self.strip[0] * prod(self.box) * pixel) if packed else 0
        x_row = s.step[2] * pixel
        lengths = (self.strip[2], s.out_size[2] - (s.out_size[2] - 1) // self.strip[2] * self.strip[2])
        arguments = (
            *(0,) * 7, image, channel, *steps, address(table), entries, count, count_block, *s.in_size,
            *s.step,
            *s.low, *s.out_size, s.images, *self.strip, self.parts, *self.box, self.channels,
            1 if self.elementwise else s.inner, self.outer, self.blocks, self.all_blocks, self.block_bytes,
            self.width, self.elementwise, s.step[1] * pitch[1],
            self.box[0] * self.box[1] * self.box[2] * pixel if packed else image, x_row, self.y_row,
            *micro(self.dtype, self.rows, self.vectors, lengths, elementwise=self.elementwise),
            packing.compiled_box(self.dtype) if packed else 0, size, 0,
        )  # fmt: skip
        return Launch(_kernel(self.dtype), arguments, self.tasks, size, keep=(table,))

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
        if self.block_bytes > FILTER_BYTES * 1.5 and inner > 32:
            joined, count = 1, inner
            pieces = -(-self.block_bytes // FILTER_BYTES)
            count_block = max(32, 16 * -(-inner // (16 * pieces)))
        entries = [(x[i], i * row) for i in range(0, len(x), joined)]
        return np.array(entries, np.int64), len(entries), count, count_block
