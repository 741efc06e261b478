"""The weight gradient between few channels: the vectors run along rows of pictures.

With few channels on both sides most lanes of `weights` would be idle. Here pictures and gradients are
copied channels-first, each row with zeros to whole vectors, and each element of the filters is a sum of
products of vectors, whose lanes are added up at the end.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.launches import BYTES, MULTIPLY_ADDS, Launch
from fconv.engine.compiled.llvm import INT, Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, micro
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, aligned, scratch
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.transcendental import Maths
from fconv.engine.compiled.weights import BOX_BYTES, LONGEST_SUM, PARTS, WeightGradient

FIELDS = (
    "x", "g", "sums", "x_image", "x_channel", "x_d", "x_h", "x_w", "g_image", "g_channel", "g_d", "g_h",
    "g_w",
    "part_bytes", "table", "taps", "tap_count", "in_d", "in_h", "in_w", "step_d", "step_h", "low_d",
    "low_h", "low_w",
    "out_d", "out_h", "out_w", "images", "strip_h", "parts", "box_d", "box_h", "box_w", "wide", "channels",
    "out_channels", "groups", "inner", "outer", "across", "count", "x_row", "width", "zeros", *MICRO,
    "g_scratch",
    "pack", "scratch_size", "scratch",
)  # fmt: skip


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    f, task, arguments, worker = kernel_of(Module())
    a, item = Fields(f, arguments, FIELDS), itemsize_of(dtype)
    down = (a.out_h + a.strip_h - 1) // a.strip_h
    boxes = a.images * a.out_d * down
    sums = a.pointer("sums") + task * a.part_bytes
    memory = a.pointer("scratch") + worker * a.scratch_size
    outer_memory, row = memory + a.g_scratch, a.width * item
    x_plane, g_plane = a.box_d * a.box_h * a.box_w * item, a.strip_h * a.wide * item
    begin = task * boxes // a.parts
    with f.loop((task + 1) * boxes // a.parts, begin) as index:
        h0, rest = index % down * a.strip_h, index // down
        d, n = rest % a.out_d, rest // a.out_d
        lines = f.least(a.out_h - h0, a.strip_h)
        f.call_address(
            a.pack, memory, a.pointer("x") + n * a.x_image, a.box_d, a.box_h, a.box_w, d * a.step_d + a.low_d,
            h0 * a.step_h + a.low_h, a.low_w, a.in_d, a.in_h, a.in_w, a.channels, a.x_channel, a.x_d,
            a.x_h, a.x_w,
        )  # fmt: skip
        f.call_address(
            a.pack, outer_memory, a.pointer("g") + n * a.g_image, 1, a.strip_h, a.wide, d, h0, 0, a.out_d,
            a.out_h,
            a.out_w, a.out_channels, a.g_channel, a.g_d, a.g_h, a.g_w,
        )  # fmt: skip
        add = f.select(index > begin, 1, 0)
        with f.loop(a.out_channels) as o, f.loop(a.inner) as c, f.loop(a.tap_count) as tap:
            place = a.pointer("taps") + tap * 8
            offset = f.value(f"load i64, ptr {place.name}", INT)
            x = memory + (o // a.outer * a.inner + c) * x_plane + offset
            y = sums + ((o * a.inner + c) * a.tap_count + tap) * a.across * row
            operands = (
                outer_memory + o * g_plane, a.pointer("table"), lines, a.count, a.pointer("zeros"),
                a.width, add
            )  # fmt: skip
            contract(f, a, a.across, x, y, operands, (row, a.x_row, row, row))
    f.finish()
    return machine().compile(f.module)[0]


@lru_cache(maxsize=4)
def _finish(dtype: str) -> int:
    """Compile the sums of lanes and parts: a task takes some elements of the filters, by their places."""
    f, task, arguments, _ = kernel_of(Module())
    a, n = (
        Fields(f, arguments, ("sums", "dw", "places", "count", "row", "parts", "part_bytes", "each")),
        Maths(f, dtype),
    )
    with f.loop(f.least((task + 1) * a.each, a.count), task * a.each) as i:
        total = f.variable(n.vector, 0.0)
        with f.loop(a.parts) as p, f.loop(a.row, step=n.bytes) as v:
            total.set(total.get() + n.load(a.pointer("sums") + p * a.part_bytes + i * a.row + v))
        n.put(n.total(total.get()), a.pointer("dw") + packing.entry(f, a.pointer("places"), i))
    f.finish()
    return machine().compile(f.module)[0]


class FewWeights:
    """The weight gradient of a correlation between few channels, planned."""

    def __init__(self, shape: Shape, dtype: str, otherwise: WeightGradient) -> None:
        self.shape, self.dtype, self._otherwise = shape, dtype, otherwise
        s, item = shape, itemsize_of(dtype)
        lanes = machine().vector_bytes // item
        self.across = len({tap.shift[2] for tap in s.taps})
        rows = min(self.across, 6)
        self.rows = -(-self.across // -(-self.across // rows))
        spare = machine().registers - 2
        most = max(1, min(4, spare // (self.rows + 1), -(-s.out_size[2] // lanes)))
        wide = {v: -(-s.out_size[2] // (v * lanes)) * v * lanes for v in range(1, most + 1)}
        self.vectors = min(wide, key=lambda v: (wide[v], -v))
        self.width, self.wide = self.vectors * lanes, wide[self.vectors]
        self.taps = s.taps[:: self.across]
        reach = [hi - lo + 1 for lo, hi in zip(s.low, s.high, strict=True)]
        box_w = self.wide + reach[2] - 1
        h, channels = s.out_size[1], s.groups * max(s.inner * s.step[1], s.outer)
        while h > 1 and (h * self.wide * channels * item > BOX_BYTES or h * self.wide > LONGEST_SUM * lanes):
            h = -(-h // 2)
        self.strip = h
        self.box = (reach[0], (h - 1) * s.step[1] + reach[1], box_w)
        boxes = s.images * s.out_size[0] * -(-s.out_size[1] // h)
        self.parts = min(PARTS, boxes)
        self.count = s.groups * s.outer * s.inner * len(s.taps) * self.width
        self._launches: dict[tuple[int, ...], Launch] = {}
        self._finishes: dict[tuple[int, ...], Launch] = {}

    @classmethod
    def pays(cls, shape: Shape, dtype: str, otherwise: int, margin: float) -> bool:
        """Return whether vectors along rows are `margin` times fewer than `otherwise`, vectors a position."""
        lanes = machine().vector_bytes // itemsize_of(dtype)
        across = sorted({tap.shift[2] for tap in shape.taps})
        even = len({b - a for a, b in pairwise(across)}) < 2
        if shape.step[2] != 1 or not even or len(across) > 11:
            return False
        wide = -(-shape.out_size[2] // lanes) * lanes
        products = len(shape.taps) * shape.inner * shape.outer * shape.groups
        return margin * products * wide < otherwise * lanes * shape.out_size[2]

    def run(self, g: Any, x: Any, like: Any) -> Any:
        """Return the gradient, (O, C/groups, D, H, W), from g (N, O, ...) and x (N, C, ...) in any order."""
        key = x.strides + g.strides
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._run(x.strides, g.strides)
        sums = scratch.array(self.parts * self.count, x.dtype)
        pool().run(launch, (x, g, sums))
        dw = np.empty_like(like)
        finish = self._finishes.get(dw.strides)
        if finish is None:
            finish = self._finishes[dw.strides] = self._finish(dw)
        pool().run(finish, (sums, dw))
        scratch.give_back(sums)
        if not np.isfinite(dw).all():  # a zero behind a row may have met an infinity
            return self._otherwise.run(g, x, like)
        return dw

    def _finish(self, dw: Any) -> Launch:
        row = self.width * dw.itemsize
        places = np.dot(np.indices(dw.shape).reshape(dw.ndim, -1).T, np.array(dw.strides, np.int64))
        each = 1 << 10
        arguments = (
            0, 0, address(places), dw.size, row, self.parts, self.count * dw.itemsize, each
        )  # fmt: skip
        cost = self.parts * self.count * dw.itemsize / BYTES
        return Launch(_finish(self.dtype), arguments, -(-dw.size // each), keep=(places,), cost=cost)

    def _run(self, x: tuple[int, ...], g: tuple[int, ...]) -> Launch:
        s, item = self.shape, itemsize_of(self.dtype)
        pitch = (self.box[1] * self.box[2] * item, self.box[2] * item, item)
        rows = [(h * s.step[1] * pitch[1], h * self.wide * item) for h in range(self.strip)]
        table = np.array(rows, np.int64)
        taps = s.offsets(self.taps, pitch)
        zeros = np.zeros(self.width, self.dtype)
        across = sorted({tap.shift[2] for tap in s.taps})
        x_row = (across[1] - across[0] if len(across) > 1 else 1) * item
        channels, out_channels = s.groups * s.inner, s.groups * s.outer
        size_x = aligned(channels * prod(self.box) * item)
        # What is stored behind x lies where g is written next; behind g there is room for it.
        size = aligned(size_x + out_channels * self.strip * self.wide * item + machine().vector_bytes)
        arguments = (
            0, 0, 0, *x, *g, self.count * item, address(table), address(taps), len(taps), *s.in_size,
            *s.step[:2],
            *s.low, *s.out_size, s.images, self.strip, self.parts, *self.box, self.wide, channels,
            out_channels,
            s.groups, s.inner, s.outer, self.across, self.wide // self.width, x_row, self.width,
            address(zeros),
            *micro(self.dtype, self.rows, self.vectors, (self.across,), elementwise=True), size_x,
            packing.compiled_planes(self.dtype, 1, (0,)), size, 0,
        )  # fmt: skip
        return Launch(
            _kernel(self.dtype),
            arguments,
            self.parts,
            size,
            (table, taps, zeros),
            s.multiply_adds / MULTIPLY_ADDS,
        )
