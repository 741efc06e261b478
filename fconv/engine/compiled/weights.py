"""The weight gradient, direct: the contraction over output positions.

    dw[tap, c, o] = sum over n, i, j of  x[n, i * stride + tap ..., c] * g[n, i, j, o]

The rows of a block are elements of a row of the kernel with their input channels, which in a channels-last
box are neighbours, and its vectors output channels; where there are few of those, the other way round.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.adding import by_places, finishing
from fconv.engine.compiled.filters import vectors_for
from fconv.engine.compiled.launches import MULTIPLY_ADDS, Launch
from fconv.engine.compiled.llvm import INT, POINTER, Module, Number, Value, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, even, micro, most_rows
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.routes import WeightRoute
from fconv.engine.compiled.scratch import address, aligned, scratch
from fconv.engine.compiled.shapes import Shape, thinned

BOX_BYTES = 192 << 10
"""Largest box of x, and of g."""
PARTS = 8
"""Partial sums, a fixed number whatever the number of threads."""
LONGEST_SUM = 1024
"""Numbers that are added up one after another in a register, before rounding errors would grow."""
PANEL_USES = 8
"""A block's channels of g are copied to lie together where as many blocks of rows are multiplied by them, and
where the last block is not whole and masks would take registers from its sums.
"""
PART_BYTES = 12 << 20
"""Most bytes of all partial sums together."""
MOST_PLACED = 1 << 12
"""Most elements of a gradient that are added up one by one: for more, NumPy's sums are quicker."""

FIELDS = (
    "x", "g", "sums", "x_image", "x_channel", "x_d", "x_h", "x_w", "g_image", "g_channel", "g_d", "g_h",
    "g_w",
    "part_bytes", "table", "taps", "tap_count", "in_d", "in_h", "in_w", "step_d", "step_h", "step_w", "low_d",
    "low_h", "low_w", "out_d", "out_h", "out_w", "images", "strip_n", "strip_h", "strip_w", "parts",
    "shares", "box_d",
    "box_h", "box_w", "channels", "out_channels", "inner", "outer", "rows_all", "vectors", "blocks",
    "all_blocks", "zeros", "width", "elementwise", "x_step", "x_row", "g_step", "x_box", *MICRO,
    "g_scratch", "pack_x", "pack_g", "short", "scratch_size", "scratch",
)  # fmt: skip
"""`rows_all` and `vectors` are what a group's rows and vectors run over; the vectors make `blocks` blocks.

Of g, what one block needs is copied (`turned`: all of it); `short` is the table for a last block that is not
whole.
"""


@lru_cache(maxsize=8)
def _kernel(dtype: str, turned: bool) -> int:
    f, task, address, worker = kernel_of(Module())
    a, item = Fields(f, address, FIELDS), itemsize_of(dtype)
    part, share = task // a.shares, task % a.shares
    across, down = (a.out_w + a.strip_w - 1) // a.strip_w, (a.out_h + a.strip_h - 1) // a.strip_h
    boxes = (a.images + a.strip_n - 1) // a.strip_n * a.out_d * down * across
    sums = a.pointer("sums") + part * a.part_bytes
    memory = a.pointer("scratch") + worker * a.scratch_size
    first_box = part * boxes // a.parts
    elementwise, row = a.elementwise > 0, a.width * item
    with f.loop((part + 1) * boxes // a.parts, first_box) as index:
        w0, rest = index % across * a.strip_w, index // across
        h0, rest = rest % down * a.strip_h, rest // down
        d, n0 = rest % a.out_d, rest // a.out_d * a.strip_n
        columns, lines = f.least(a.out_w - w0, a.strip_w), f.least(a.out_h - h0, a.strip_h)
        images = f.least(a.images - n0, a.strip_n)
        begin = (d * a.step_d + a.low_d, h0 * a.step_h + a.low_h, w0 * a.step_w + a.low_w)
        picture, gradient = a.pointer("x") + n0 * a.x_image, a.pointer("g") + n0 * a.g_image
        x = f.variable(POINTER, picture + begin[0] * a.x_d + begin[1] * a.x_h + begin[2] * a.x_w)
        with f.when(a.pack_x > 0):
            x.set(memory)
        with f.when(a.pack_x > 0), f.loop(images) as n:
            f.call_address(
                a.pack_x, memory + n * a.x_box, picture + n * a.x_image, a.box_d, a.box_h, a.box_w, *begin,
                a.in_d, a.in_h, a.in_w,
                a.channels,
                a.x_channel, a.x_d, a.x_h, a.x_w,
            )  # fmt: skip
        g = f.variable(POINTER, gradient + d * a.g_d + h0 * a.g_h + w0 * a.g_w)
        copied, packed = memory + a.g_scratch, a.pack_g > 0
        within = (d, h0, w0, a.out_d, a.out_h, a.out_w)

        def copy(channel: Number, channels: Value) -> None:
            with f.when(packed), f.loop(images) as n:
                f.call_address(
                    a.pack_g, copied + n * lines * columns * channels * item,
                    gradient + n * a.g_image + a.g_channel * channel, 1, lines, columns, *within, channels,
                    a.g_channel, a.g_d, a.g_h, a.g_w,
                )  # fmt: skip

        if turned:
            copy(0, a.out_channels)
            g.set(f.choose(packed, copied, g.get()))
        add = f.select(index > first_box, 1, 0)
        with f.loop((share + 1) * a.all_blocks // a.shares, share * a.all_blocks // a.shares) as b:
            group, first = b // a.blocks, b % a.blocks * a.width
            there = f.least(a.vectors - first, a.width)
            xs = x.get() + f.select(elementwise, first, group * a.inner) * item
            channel = group * a.outer if turned else group * a.outer + first
            gs, g_step, table = g.get() + channel * item, a.g_step, a.pointer("table")
            if not turned:
                copy(channel, there)
                gs, g_step = f.choose(packed, copied, gs), f.select(packed, there * item, a.g_step)
                table = f.choose(there < a.width, a.pointer("short"), table)
            with f.loop(a.tap_count) as tap:
                place = a.pointer("taps") + tap * 8
                xt = xs + f.value(f"load i64, ptr {place.name}", INT)
                y = sums + ((group * a.tap_count + tap) * a.rows_all * a.blocks + b % a.blocks) * row
                left, right = (gs, xt + first * item) if turned else (xt, gs)
                steps = (g_step, item, a.x_step) if turned else (a.x_step, a.x_row, g_step)
                operands = (right, table, images * lines, columns, a.pointer("zeros"), there, add)
                contract(f, a, a.rows_all, left, y, operands, (*steps, a.blocks * row))
    f.finish()
    return machine().compile(f.module)[0]


class WeightGradient:
    """The weight gradient of a correlation, planned; with `each`, that of every image by itself."""

    def __init__(self, shape: Shape, dtype: str, *, each: bool = False) -> None:
        shape, self._seen = thinned(shape)
        self.shape, self.dtype, self.each = shape, dtype, each
        self.itemsize = itemsize_of(dtype)
        s, lanes = shape, machine().vector_bytes // self.itemsize
        self.elementwise = s.elementwise
        self.channels, self.out_channels = s.groups * s.inner, s.groups * s.outer
        across = [tap.shift[2] for tap in s.taps if tap.place[:2] == s.taps[0].place[:2]]
        near = all(b - a == 1 for a, b in pairwise(across))
        self.joined = len(across) if s.groups == 1 and near else 1
        run = s.inner * self.joined
        cost = -(-s.outer // lanes) * run, -(-run // lanes) * s.outer
        self.turned = cost[1] < cost[0] and not self.elementwise
        self.groups = 1 if self.elementwise else s.groups
        if self.elementwise:
            self.rows, self.across = (len(across) if near else 1), s.groups
            self.joined, vectors = self.rows, 2
            most = self.rows
        else:
            self.rows, self.across = (s.outer, run) if self.turned else (run, s.outer)
            vectors = vectors_for(self.across, lanes)
            most = most_rows(vectors)
        self.block_rows, self.vectors = even(self.rows, min(most, self.rows)), vectors
        self.width = vectors * lanes
        self.blocks = -(-self.across // self.width)
        self.taps = s.taps[:: self.joined]
        products = -(-s.groups // lanes) * self.joined if self.elementwise else min(cost)
        self.products = products * len(self.taps) * self.groups
        self._launches: dict[tuple[int, ...], Launch] = {}
        self._finishes: dict[tuple[int, ...], Launch | None] = {}
        # The part of an image is a group of its own.
        self._summed_as = replace(s, groups=s.images * s.groups) if each else s
        self._strip()

    def _strip(self) -> None:
        s = self.shape
        reach = [hi - lo + 1 for lo, hi in zip(s.low, s.high, strict=True)]
        pixel = max(self.channels * s.step[1] * s.step[2], self.out_channels) * self.itemsize
        w, h = s.out_size[2], s.out_size[1]
        while w * pixel > BOX_BYTES and w > 32:
            w = -(-w // 2)
        while h > 1 and (h * w * pixel > BOX_BYTES or h * w > LONGEST_SUM):
            h -= 1
        h = -(-s.out_size[1] // -(-s.out_size[1] // h))
        n = 1
        if (h, w) == s.out_size[1:] and not self.each:  # small pictures: each sum then runs over several
            n = max(1, min(BOX_BYTES // (h * w * pixel), LONGEST_SUM // (h * w), s.images))
            shares = min(self.groups * self.blocks, PARTS)
            n = max(1, min(n, s.images * s.out_size[0] * shares // PARTS))
            n = -(-s.images // -(-s.images // n))
        self.strip = (n, h, w)
        self.box = (reach[0], (h - 1) * s.step[1] + reach[1], (w - 1) * s.step[2] + reach[2])
        boxes = -(-s.images // n) * s.out_size[0] * -(-s.out_size[1] // h) * -(-s.out_size[2] // w)
        self.part_bytes = self.groups * len(self.taps) * self.rows * self.blocks * self.width * self.itemsize
        self.parts = s.images if self.each else max(1, min(PARTS, boxes, PART_BYTES // self.part_bytes))
        self.shares = min(self.groups * self.blocks, -(-PARTS // self.parts))

    def run(self, g: Any, x: Any, like: Any) -> Any:
        """Return the gradient, (O, C/groups, D, H, W), from g (N, O, ...) and x (N, C, ...) in any order.

        Those of each image, (N * O, C/groups, D, H, W), are written into `like` itself.
        """
        sums = self._summed(g, x)
        dw = self._finished(sums, like)
        scratch.give_back(sums)
        return dw

    def route(self, g: Any, x: Any, dw: Any, like: Any) -> WeightRoute | None:
        """Return the launches of a gradient that `run` has made, and callers see as `dw`, if they are all."""
        seen = x[self._seen] if self._seen else x
        launch = self._launches.get(seen.strides + g.strides)
        finish = None if self.each else self._finishing(like)
        if finish is None or launch is None:
            return None
        return WeightRoute(launch, finish, self.parts * self.part_bytes, dw, address(seen) - address(x))

    def _finishing(self, dw: Any) -> Launch | None:
        """Plan the sum of the parts into arrays like `dw`; None where NumPy is quicker."""
        if dw.strides not in self._finishes:
            self._finishes[dw.strides] = self._plan_finish(dw)
        return self._finishes[dw.strides]

    def _plan_finish(self, dw: Any) -> Launch | None:
        parts = 1 if self.each else self.parts
        if not self.turned and not self.elementwise:
            shape, size = self._summed_as, dw.shape[2:]
            return finishing(self.part_bytes, parts, shape, self.dtype, self.width, dw.strides, size)
        if self.each or dw.size > MOST_PLACED:
            return None
        places = np.arange(self.part_bytes // self.itemsize)
        there = places.reshape(self.groups, len(self.taps), self.rows, -1)[..., : self.across]
        return by_places(self._by_numpy(there, np.empty(dw.shape, np.int64)), self.part_bytes, parts, dw)

    def norms(self, g: Any, x: Any) -> Any:
        """Return the norm of the gradient by each image."""
        sums = self._summed(g, x)
        there = sums.reshape(self.parts, -1, self.blocks * self.width)[..., : self.across]
        found = np.sqrt(np.einsum("nij,nij->n", there, there))
        scratch.give_back(sums)
        return found

    def _summed(self, g: Any, x: Any) -> Any:
        x = x[self._seen] if self._seen else x
        key = x.strides + g.strides
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._run(x.strides, g.strides)
        sums = scratch.array(self.parts * self.part_bytes // self.itemsize, x.dtype)
        pool().run(launch, (x, g, sums))
        return sums

    def _run(self, x: tuple[int, ...], g: tuple[int, ...]) -> Launch:
        s, item = self.shape, self.itemsize
        x, g = packing.lone(x, self.channels, item), packing.lone(g, self.out_channels, item)
        pixel, out_pixel = self.channels * item, self.out_channels * item
        pack_x = s.hangs_over or x[1] != item or (x[4] != pixel and self.joined > 1 and not self.elementwise)
        panel = self.width if not self.turned else self.out_channels
        uses, partial = len(self.taps) * -(-self.rows // self.block_rows), self.across % self.width > 0
        several = self.groups * self.blocks > 1  # one lies together already
        gains = not self.turned and ((several and uses >= PANEL_USES) or (partial and not machine().masks))
        pack_g = g[1] != item or g[4] != out_pixel or gains
        # Whether vectors are read from the caller's memory, which may end with their last number.
        given = (not pack_x) if self.turned else not pack_g or (self.elementwise and not pack_x)
        box_w = self.box[2] * pixel
        pitch = (self.box[1] * box_w, box_w, pixel) if pack_x else x[2:]
        images, high, wide = self.strip
        x_box = prod(self.box) * pixel if pack_x else x[0]

        def places(channels: int) -> Any:
            """Return where rows of x and of g begin; so many channels of g are copied."""
            g_h = wide * channels * item if pack_g else g[3]
            g_box = high * g_h if pack_g else g[0]
            rows = [
                (n * x_box + h * s.step[1] * pitch[1], n * g_box + h * g_h)
                for n in range(images)
                for h in range(high)
            ]
            return np.array([pair[::-1] for pair in rows] if self.turned else rows, np.int64)

        table = places(panel)
        short = places(self.across % self.width) if partial and not self.turned else table
        taps = s.offsets(self.taps, pitch)
        zeros, box = np.zeros(self.width, self.dtype), packing.compiled_box(self.dtype)
        thin = packing.compiled_box(self.dtype, packing.apart_of(x, item))
        across = sorted({tap.shift[2] for tap in s.taps})
        x_row = (across[1] - across[0]) * pitch[2] if self.elementwise and len(across) > 1 else item
        row = self.width * item  # behind what is copied, lanes are read that nobody uses
        size_x = aligned(images * prod(self.box) * pixel + row)
        size = aligned(size_x + prod(self.strip) * panel * item + row)
        arguments = (
            0, 0, 0, *x, *g, self.part_bytes, address(table), address(taps), len(taps), *s.in_size,
            *s.step, *s.low,
            *s.out_size, s.images, *self.strip, self.parts, self.shares, *self.box, self.channels,
            self.out_channels,
            s.inner, s.outer, self.rows, self.across, self.blocks, self.groups * self.blocks,
            address(zeros), self.width,
            self.elementwise, s.step[2] * pitch[2], x_row, out_pixel, x_box,
            *micro(
                self.dtype, self.block_rows, self.vectors, (self.rows,), elementwise=self.elementwise,
                ends=partial and given,
            ),
            size_x, thin if pack_x else 0, box if pack_g else 0, address(short), size, 0,
        )  # fmt: skip
        kernel = _kernel(self.dtype, self.turned)
        cost, keep = s.multiply_adds / MULTIPLY_ADDS, (table, short, taps, zeros)
        return Launch(kernel, arguments, self.parts * self.shares, size, keep, cost)

    def _finished(self, sums: Any, like: Any) -> Any:
        parts = 1 if self.each else self.parts
        dw = like if self.each else np.empty_like(like)
        finish = self._finishing(dw)
        if finish is not None:
            pool().run(finish, (sums, dw))
            return dw
        groups = self.groups * self.parts // parts
        whole = sums.reshape(parts, groups, len(self.taps), self.rows, -1)[..., : self.across]
        if parts == 1:
            return self._by_numpy(whole[0], dw)
        with np.errstate(invalid="ignore", over="ignore"):
            return self._by_numpy(whole.sum(axis=0), dw)

    def _by_numpy(self, total: Any, dw: Any) -> Any:
        s = self.shape
        if self.elementwise:
            found = total.reshape(-1, len(s.taps), s.groups).swapaxes(1, 2)
        elif self.turned:
            found = total.reshape(-1, len(self.taps), s.outer, self.joined, s.inner).transpose(0, 2, 4, 1, 3)
        else:
            found = total.reshape(-1, len(s.taps), s.inner, s.outer).transpose(0, 3, 2, 1)
        dw[...] = found.reshape(dw.shape)  # taps are in the order of the kernel's elements
        return dw
