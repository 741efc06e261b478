"""Correlation of pictures with filters, direct: what the forward pass and the input gradient consist of.

Each task takes a strip of the output of some pictures. It copies the box of input that the strip sees,
zeros included, unless the input can be read where it lies, and contracts it with one block of filters after
another, for each of the phases that the output has.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd, prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.filters import FilterBlocks
from fconv.engine.compiled.launches import MULTIPLY_ADDS, Launch, Launches
from fconv.engine.compiled.llvm import POINTER, Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, even, micro
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, aligned
from fconv.engine.compiled.shapes import Phases, Shape, Tap, thinned

BOX_BYTES = 384 << 10
"""Largest input box of a task: with a block of filters it stays in the L2 cache."""
FILTER_BYTES = 256 << 10
FILTERS_BYTES = 1 << 20
LEAST_TASKS = 8
L1_PERIOD, L1_ROWS = 4096, 7
"""Bytes after which addresses share a set of the L1 cache, and how many rows it holds beside filters."""
LEAST_SLAB, GAIN = 64, 1.25
"""Channels that are divided no further, and by how many times dividing them must lessen what is copied."""

FIELDS = (
    "x", "w", "start", "y", "y_image", "y_d", "y_h", "x_image", "x_channel", "x_d", "x_h", "x_w", "phases",
    "phase_count", "in_d", "in_h", "in_w", "step_d", "step_h", "step_w", "low_d", "low_h",
    "low_w", "out_d", "out_h", "out_w", "images", "strip_n", "strip_h", "strip_w", "parts", "box_d", "box_h",
    "box_w", "inner", "outer", "blocks", "all_blocks", "block_bytes", "width", "elementwise",
    "line", "y_w", "image", "x_row", "y_row", "slabs", "slab", "by_group", *MICRO, "pack",
    "scratch_size", "scratch",
)  # fmt: skip


PHASE = 5  # numbers of a phase: its table and how long that is, channels, how many at once, bytes into y


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
    out = a.pointer("y") + n0 * a.y_image + d * a.y_d + h0 * a.y_h + w0 * a.y_w
    row = a.width * item
    low, high = part * a.all_blocks // a.parts, (part + 1) * a.all_blocks // a.parts
    # Filters of channels by themselves are few, so that all blocks go over a line while it is in the cache.
    together = f.select(a.elementwise > 0, 1, lines)
    with f.loop(a.slabs) as slab:
        own = slab * a.blocks
        begins = f.select(a.by_group > 0, f.most(low, own), low)
        ends = f.select(a.by_group > 0, f.least(high, own + a.blocks), high)
        c0 = f.select(a.by_group > 0, 0, slab * a.slab)
        with f.when(f.all_of(a.pack > 0, begins < ends)):
            box = a.pointer("scratch") + worker * a.scratch_size
            seen.set(box)
            picture = a.pointer("x") + n0 * a.x_image + slab * a.slab * a.x_channel
            with f.loop(images) as n:
                f.call_address(
                    a.pack, box + n * a.image, picture + n * a.x_image, a.box_d, a.box_h, a.box_w, *begin,
                    a.in_d, a.in_h, a.in_w, a.slab, a.x_channel, a.x_d, a.x_h, a.x_w,
                )  # fmt: skip
        with f.loop(a.phase_count) as phase, f.loop(lines, step=together) as h0, f.loop(ends, begins) as b:
            record = a.pointer("phases") + phase * (8 * PHASE)
            table = f.as_pointer(f.number(record, 0))
            entries, every, block, shift = (f.number(record, i) for i in range(1, PHASE))
            group, first = b // a.blocks, b % a.blocks * a.width
            there = f.least(a.outer - first, a.width)
            channel = f.select(a.elementwise > 0, first, f.select(a.by_group > 0, 0, group * a.inner))
            with f.loop(every, step=block) as c:
                weights = a.pointer("w") + b * a.block_bytes + (c0 + c) * row
                count = f.least(every - c, block)
                start = a.pointer("start") + b * row
                operands = (weights, table, entries, count, start, there, c0 + c)
                steps = (item, a.x_row, row, a.y_row)
                x, y = seen.get() + (channel + c) * item, out + shift + (group * a.outer + first) * item
                if scattered:
                    contract(f, a, images * lines * columns, x, y, operands, steps, scattered=True)
                else:
                    with f.loop(images) as n, f.loop(together) as h:
                        x_line = x + n * a.image + (h0 + h) * a.line
                        y_line = y + n * a.y_image + (h0 + h) * a.y_h
                        contract(f, a, columns, x_line, y_line, operands, steps)
    f.finish()
    return machine().compile(f.module)[0]


class Correlation:
    """A correlation that is planned: all but where the arrays lie."""

    def __init__(
        self, shape: Shape, dtype: str, filters: tuple[Tap, ...] | None = None, phases: Phases | None = None
    ) -> None:
        shape, self._seen = thinned(shape)
        self._phases = phases or Phases((1, 1, 1), (((0, 0, 0), shape.taps),))
        self.shape, self.dtype, self.itemsize = shape, dtype, itemsize_of(dtype)
        self.filters = FilterBlocks(shape, dtype, filters or shape.taps)
        """Those that are laid out together, for other correlations too."""
        self.channels = shape.groups * shape.inner
        self.own_bytes = len(shape.taps) * self.filters.inner * self.filters.row
        self._launches = Launches(self._planned)
        self._strip()
        self._divide(self.filters.most_rows)

    def _divide(self, most: int) -> None:
        """Choose the rows of a block: positions along a row of the output, or of all that a task has."""
        n, h, w = self.strip
        every, length = n * h * w, w
        self.scattered = False
        if not self.shape.elementwise and (h, w) == self.shape.out_size[1:]:
            self.scattered = 10 * -(-every // most) <= 9 * n * h * -(-w // most)
            length = every if self.scattered else w
        if not self.scattered and not self.shape.elementwise:
            pitch = self.shape.step[2] * self.slab * self.itemsize
            most = min(most, L1_ROWS * L1_PERIOD // gcd(pitch, L1_PERIOD))
        self.rows = even(length, min(most, length))

    def _strip(self) -> None:
        """Divide the output: boxes that stay in the cache, and enough tasks for all threads."""
        s = self.shape
        reach = [hi - lo + 1 for lo, hi in zip(s.low, s.high, strict=True)]

        def box(h: int, w: int) -> int:
            high, wide = (h - 1) * s.step[1] + reach[1], (w - 1) * s.step[2] + reach[2]
            return reach[0] * high * wide * self.slab * self.itemsize

        def divided() -> tuple[int, int]:
            """Return the rows and columns of a strip."""
            w, h = s.out_size[2], s.out_size[1]
            while box(1, w) > BOX_BYTES and w > 32:
                w = -(-w // 2)
            tasks = s.images * s.out_size[0] * -(-s.out_size[2] // w)
            most = max(1, -(-h * tasks // LEAST_TASKS))
            while h > 1 and (box(h, w) > BOX_BYTES or h > most):
                h = -(-h // 2) if h > 2 * most else h - 1
            return -(-s.out_size[1] // -(-s.out_size[1] // h)), w

        def copied(h: int, w: int) -> float:
            """Return how many numbers of a channel are copied for each position of the output."""
            return box(h, w) / self.slab / h / w

        self.slab = self.channels
        h, w = whole = divided()
        if s.hangs_over and not s.elementwise:
            before, rows = copied(h, w), min(s.out_size[1], 2 * -(-reach[1] // s.step[1]))
            self.slab = s.inner
            while (
                s.groups == 1 and box(rows, w) > BOX_BYTES and self.slab % 2 == 0 and self.slab > LEAST_SLAB
            ):
                self.slab //= 2
            h, w = divided()
            if before < GAIN * copied(h, w):
                self.slab, (h, w) = self.channels, whole
        n = 1
        if h == s.out_size[1] and w == s.out_size[2]:
            # Filters that outgrow the cache are read once for all pictures of a task: then tasks divide them.
            heavy = self.own_bytes * self.filters.all_blocks > FILTERS_BYTES
            most = s.images if heavy else s.images * s.out_size[0] // LEAST_TASKS
            n = max(1, min(BOX_BYTES // box(h, w), most))
            n = -(-s.images // -(-s.images // n))
        self.strip = (n, h, w)
        self.box = (reach[0], (h - 1) * s.step[1] + reach[1], (w - 1) * s.step[2] + reach[2])
        strips = -(-s.images // n) * s.out_size[0] * -(-s.out_size[1] // h) * -(-s.out_size[2] // w)
        self.parts = min(self.filters.all_blocks, -(-LEAST_TASKS // strips)) if strips < LEAST_TASKS else 1
        self.tasks = strips * self.parts

    def run(self, x: Any, w: Any, start: Any, y: Any) -> None:
        """Correlate `x` (N, C, D, H, W) in any memory order into `y`, whose channels are neighbours."""
        if self._seen:
            x = x[self._seen]
        pool().run(self._launches.of(x, y), (x, w, start, y))

    def launch_of(self, x: Any, y: Any) -> tuple[Launch, int] | None:
        """Return the launch that `run` has for such arrays, and bytes of `x` before what it reads."""
        seen = x[self._seen] if self._seen else x
        launch = self._launches.known(seen, y)
        return None if launch is None else (launch, address(seen) - address(x))

    def _planned(self, x: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        s, item, filters = self.shape, self.itemsize, self.filters
        x, pixel = packing.lone(x, self.channels, item), self.slab * item
        packed = s.hangs_over or x[1] != item
        pitch = (self.box[1] * self.box[2] * pixel, self.box[2] * pixel, pixel) if packed else x[2:]
        image = prod(self.box) * pixel if packed else x[0]
        y_pitch = [step * stride for step, stride in zip(y[2:], self._phases.stride, strict=True)]
        records, tables = [], []
        for first, taps in self._phases.parts:
            table, *counts = self._table(taps, *pitch)
            records.append((address(table), *counts, int(np.dot(first, y[2:]))))
            tables.append(table)
        parts = np.array(records, np.int64)
        size = aligned(self.strip[0] * prod(self.box) * pixel) if packed else 0
        n, h, w = self.strip
        x_steps, y_steps = (image, s.step[1] * pitch[1], s.step[2] * pitch[2]), (y[0], *y_pitch[1:])
        keep: tuple[Any, ...] = (parts, *tables)
        steps, lengths = (
            (x_steps[2], y_steps[2]),
            (w, s.out_size[2] - (s.out_size[2] - 1) // w * w),
        )
        if self.scattered:
            places = np.indices(self.strip).reshape(3, -1)
            rows = np.stack([np.dot(steps, places) for steps in (x_steps, y_steps)], 1)
            keep, steps = (*keep, rows), (address(rows), 0)
            lengths = (n * h * w, (s.images - (s.images - 1) // n * n) * h * w)
        arguments = (
            *(0,) * 4, y[0], *y_pitch[:2], x[0], *x[1:], address(parts), len(parts), *s.in_size, *s.step,
            *s.low, *s.out_size, s.images, *self.strip, self.parts, *self.box,
            filters.inner, filters.outer, filters.blocks, filters.all_blocks, filters.block_bytes,
            filters.width, s.elementwise, x_steps[1], y_pitch[2], image, *steps,
            self.channels // self.slab, self.slab, s.groups > 1 and self.slab < self.channels,
            *micro(
                self.dtype, self.rows, filters.vectors, lengths, elementwise=s.elementwise,
                ends=s.elementwise and filters.outer % filters.width > 0, scattered=self.scattered,
            ),
            packing.compiled_box(self.dtype, packing.apart_of(x, item)) if packed else 0, size, 0,
        )  # fmt: skip
        cost = s.multiply_adds / MULTIPLY_ADDS
        return Launch(_kernel(self.dtype, self.scattered), arguments, self.tasks, size, keep, cost)

    def _table(self, taps: tuple[Tap, ...], *pitch: int) -> tuple[Any, int, int, int]:
        """Return where the kernel's elements lie in the input and among the filters; rows of it join."""
        s = self.shape
        inner = min(self.filters.inner, self.slab)
        row = self.filters.row * self.filters.inner
        x = s.offsets(taps, pitch).tolist()
        step, joined = inner * self.itemsize, 1
        whole = inner == self.filters.inner
        if (
            whole and pitch[2] == step
        ):  # of one group; entries are a grid, whose rows are as long as the first
            while joined < len(x) and x[joined] - x[joined - 1] == step:
                joined += 1
        count = count_block = inner * joined
        size = self.own_bytes // len(s.taps) * len(taps)
        if size > FILTER_BYTES * 1.5 and inner > 32:
            joined, count = 1, inner
            pieces = -(-size // FILTER_BYTES)
            count_block = max(32, 16 * -(-inner // (16 * pieces)))
        first = self.filters.taps.index(taps[0])
        entries = [(x[i], (first + i) * row) for i in range(0, len(x), joined)]
        return np.array(entries, np.int64), len(entries), count, count_block
