"""Correlation with few output channels: vectors run along rows of pictures, filter elements are broadcast.

With fewer output channels in a group than a vector has lanes, most lanes would be idle. Here the box that a
strip of the output sees is copied channels-first, a stride's columns dealt out, so that the elements which
neighbouring windows share a place in are neighbours. The output is channels-first.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.correlate import BOX_BYTES, LEAST_TASKS
from fconv.engine.compiled.filters import dense
from fconv.engine.compiled.launches import MULTIPLY_ADDS, Launch, Launches
from fconv.engine.compiled.llvm import POINTER, Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, micro
from fconv.engine.compiled.plane_boxes import beside_of, compiled_planes
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, aligned
from fconv.engine.compiled.shapes import Shape, thinned

FIELDS = (
    "x", "w", "start", "y", "x_image", "x_channel", "x_d", "x_h", "x_w", "y_image", "y_channel", "y_d", "y_h",
    "table", "entries", "in_d", "in_h", "in_w", "step_d", "step_h", "step_w", "low_d", "low_h", "low_w",
    "out_d",
    "out_h", "out_w", "strip_h", "box_d", "box_h", "box_w", "channels", "groups", "inner", "outer",
    "group_bytes",
    "width", "plane", "line", *MICRO, "pack", "scratch_size", "scratch",
)  # fmt: skip


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    f, task, address, worker = kernel_of(Module())
    a, item = Fields(f, address, FIELDS), itemsize_of(dtype)
    down = (a.out_h + a.strip_h - 1) // a.strip_h
    h0, rest = task % down * a.strip_h, task // down
    d, n = rest % a.out_d, rest // a.out_d
    lines = f.least(a.out_h - h0, a.strip_h)
    begin = (d * a.step_d + a.low_d, h0 * a.step_h + a.low_h, a.low_w)
    picture = a.pointer("x") + n * a.x_image
    place = f.variable(POINTER, picture + begin[0] * a.x_d + begin[1] * a.x_h + begin[2] * a.x_w)
    with f.when(a.pack > 0):
        place.set(a.pointer("scratch") + worker * a.scratch_size)
        # Behind the copy lie lanes that are read, and products of subnormal numbers there are slow.
        packing.clear(f, place.get() + a.channels * a.box_d * a.box_h * a.box_w * item, a.width * item)
        f.call_address(
            a.pack, place.get(), picture, a.box_d, a.box_h, a.box_w, *begin, a.in_d, a.in_h, a.in_w,
            a.channels, a.x_channel, a.x_d, a.x_h, a.x_w,
        )  # fmt: skip
    seen = place.get()
    out = a.pointer("y") + n * a.y_image + d * a.y_d + h0 * a.y_h
    with f.loop(a.groups) as group, f.loop(lines) as h, f.loop(a.out_w, step=a.width) as w:
        filters, start = a.pointer("w") + group * a.group_bytes, a.pointer("start") + group * a.outer * item
        vectors = seen + group * a.inner * a.plane + h * a.line + w * item
        y = out + group * a.outer * a.y_channel + h * a.y_h + w * item
        there = f.least(a.out_w - w, a.width)
        operands = (vectors, a.pointer("table"), a.entries, a.inner, start, there, 0)
        contract(f, a, a.outer, filters, y, operands, (a.outer * item, item, a.plane, a.y_channel))
    f.finish()
    return machine().compile(f.module)[0]


class FilterRows:
    """Filters (groups, outer, inner, D, H, W) in another `order` of groups, outer, inner and taps."""

    def __init__(self, shape: Shape, order: tuple[int, int, int, int]) -> None:
        self._taps, self._order = [tap.place for tap in shape.taps], order
        self._index: Any = None

    def lay(self, weight: Any) -> Any:
        """Lay out filters, in any memory order."""
        if self._index is None:
            places = np.arange(weight.size).reshape(*weight.shape[:3], -1)
            taps = [np.ravel_multi_index(place, weight.shape[3:]) for place in self._taps]
            self._index = np.ascontiguousarray(places[..., taps].transpose(self._order)).reshape(-1)
        return weight.reshape(-1).take(self._index)


class Planes(FilterRows):
    """A correlation to few channels, planned."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        super().__init__(shape, (0, 3, 2, 1))
        shape, self._seen = thinned(shape)
        self.shape, self.dtype = shape, dtype
        self._launches = Launches(self._run)
        self.itemsize = itemsize_of(dtype)
        s, lanes = shape, machine().vector_bytes // self.itemsize
        self.rows = s.outer  # few, so that one block has them all and starts from its numbers
        spare = machine().registers - (1 if machine().embedded else 2)
        self.vectors = max(1, min(4, spare // (self.rows + 1), -(-s.out_size[2] // lanes)))
        self.channels = s.groups * s.inner
        reach = [hi - lo + 1 for lo, hi in zip(s.low, s.high, strict=True)]
        stride = s.step[2]
        wide = -(-((s.out_size[2] - 1) * stride + reach[2]) // stride) * stride
        line = reach[0] * wide * self.channels * self.itemsize
        h, images = s.out_size[1], s.images * s.out_size[0]
        most = max(1, -(-h * images // LEAST_TASKS))
        while h > 1 and (((h - 1) * s.step[1] + reach[1]) * line > BOX_BYTES or h > most):
            h = -(-h // 2) if h > 2 * most else h - 1
        self.strip = -(-s.out_size[1] // -(-s.out_size[1] // h))
        self.box = (reach[0], (self.strip - 1) * s.step[1] + reach[1], wide)
        self.tasks = images * -(-s.out_size[1] // self.strip)
        self.shift = np.array(
            [[a - lo for a, lo in zip(tap.shift, s.low, strict=True)] for tap in s.taps], np.int64
        )
        self._flat = self._flattened()

    def _flattened(self) -> Planes | None:
        """Plan the same over longer rows, where windows are single positions that all lie in the picture."""
        s = self.shape
        if s.hangs_over or s.step != (1, 1, 1) or len(s.taps) > 1 or s.in_size != s.out_size:
            return None
        rows = prod(s.out_size[:2])
        rows = next(
            n for n in range(1, rows + 1) if rows % n == 0 and (n * s.images >= LEAST_TASKS or n == rows)
        )
        size = (1, rows, prod(s.out_size) // rows)
        return None if size == s.out_size else type(self)(replace(s, in_size=size, out_size=size), self.dtype)

    def run(self, x: Any, w: Any, start: Any, y: Any) -> None:
        """Correlate `x` (N, C, D, H, W) into `y`, whose rows are contiguous."""
        x = x[self._seen]
        if self._flat and all(dense(a.strides[2:], a.shape[2:], a.itemsize) for a in (x, y)):
            size = self._flat.shape.out_size
            x, y = (a.reshape(*a.shape[:2], *size) for a in (x, y))
            self._flat.run(x, w, start, y)
            return
        pool().run(self._launches.of(x, y), (x, w, start, y))

    def _run(self, x: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        s, item = self.shape, self.itemsize
        packed = s.hangs_over or x[4] != item or s.step[2] > 1
        stride, wide = s.step[2], self.box[2]
        if packed:
            plane, line = prod(self.box) * item, s.step[1] * wide * item
            d, h, w = self.shift.T
            places = (((d * self.box[1] + h) * stride + w % stride) * (wide // stride) + w // stride) * item
        else:
            plane, line, places = x[1], s.step[1] * x[3], np.dot(self.shift, x[2:])
        table = np.stack([np.arange(len(s.taps)) * (s.inner * s.outer * item), places], -1)
        # A row's last vectors may be read behind its end in a copy, and what they hold there is not stored.
        size = self.channels * prod(self.box) * item + self.vectors * machine().vector_bytes
        beside = beside_of(x, self.channels, item, stride)
        phases = sorted({shift % stride for shift in self.shift[:, 2].tolist()})
        arguments = (
            *(0,) * 4, *x, *y[:4], address(table), len(table), *s.in_size, *s.step, *s.low, *s.out_size,
            self.strip, *self.box, self.channels, s.groups, s.inner, s.outer,
            len(s.taps) * s.inner * s.outer * item, self.vectors * machine().vector_bytes // item, plane,
            line,
            *micro(self.dtype, self.rows, self.vectors, (s.outer,), start_by_row=True, ends=not packed),
            compiled_planes(self.dtype, stride, tuple(phases), beside) if packed else 0,
            aligned(size) if packed else 0, 0,
        )  # fmt: skip
        cost = s.multiply_adds / MULTIPLY_ADDS
        return Launch(
            _kernel(self.dtype), arguments, self.tasks, aligned(size) if packed else 0, (table,), cost
        )
