"""The weight gradient between few channels: the vectors run along rows of pictures.

With few channels on both sides most lanes of `weights` would be idle. Here each element of the filters is a
sum of products of vectors along rows, whose lanes are added up at the end. A block has some output channels
and the elements of a row of the kernel, which read the same pictures at neighbouring places. Gradients are
copied channels-first, with zeros behind each row up to a whole vector; or, where windows stay inside of the
picture and its rows are shorter than that, up to the length of its rows, and a strip of them is one long row.
Pictures are read where they lie if they are contiguous and need no zeros, and copied otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.filters import dense
from fconv.engine.compiled.launches import BYTES, MULTIPLY_ADDS, Launch
from fconv.engine.compiled.llvm import Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, contract, even, micro
from fconv.engine.compiled.plane_boxes import beside_of, compiled_planes
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, aligned, scratch
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.transcendental import Maths
from fconv.engine.compiled.weights import BOX_BYTES, LONGEST_SUM, PARTS, WeightGradient

LEAST_PRODUCTS = 1 << 20
"""Below, the copies of rows take most of the time."""

FIELDS = (
    "x", "g", "sums", "x_image", "x_channel", "x_d", "x_h", "x_w", "g_image", "g_channel", "g_d", "g_h",
    "g_w", "part_bytes", "taps", "table", "plane", "near", "near_taps", "near_table", "near_plane", "behind",
    "tap_count", "long", "in_d", "in_h", "in_w", "step_d", "step_h", "low_d", "low_h", "low_w", "out_d",
    "out_h", "out_w", "images", "strip_h", "parts", "box_d", "box_h", "box_w", "wide", "high", "channels",
    "out_channels", "groups", "inner", "outer", "across", "zeros", *MICRO, "g_scratch", "pack_x", "pack_g",
    "scratch_size", "scratch",
)  # fmt: skip
"""`near` is how many pictures are read where they lie, and `behind` how many bytes may be read behind one;
the copy of gradients has `high` rows of `wide`.
"""


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    f, task, arguments, worker = kernel_of(Module())
    a, item = Fields(f, arguments, FIELDS), itemsize_of(dtype)
    vector = machine().vector_bytes
    lanes = vector // item
    down = (a.out_h + a.strip_h - 1) // a.strip_h
    boxes = a.images * a.out_d * down
    sums = a.pointer("sums") + task * a.part_bytes
    memory = a.pointer("scratch") + worker * a.scratch_size
    gradients = memory + a.g_scratch
    row, g_plane = a.across * vector, a.high * a.wide * item
    begin = task * boxes // a.parts
    with f.loop((task + 1) * boxes // a.parts, begin) as index:
        h0, rest = index % down * a.strip_h, index // down
        d, n = rest % a.out_d, rest // a.out_d
        lines = f.least(a.out_h - h0, a.strip_h)
        corner = (d * a.step_d + a.low_d, h0 * a.step_h + a.low_h, a.low_w)
        picture, near = a.pointer("x") + n * a.x_image, n < a.near
        with f.when(f.negation(near)):
            f.call_address(
                a.pack_x, memory, picture, a.box_d, a.box_h, a.box_w, *corner, a.in_d, a.in_h, a.in_w,
                a.channels, a.x_channel, a.x_d, a.x_h, a.x_w,
            )  # fmt: skip
            # What lies behind the copy is multiplied by zeros, and could be NaN.
            packing.clear(f, memory + a.channels * a.plane, a.behind)
        f.call_address(
            a.pack_g, gradients, a.pointer("g") + n * a.g_image, 1, a.high, a.wide, d, h0, 0, a.out_d,
            h0 + lines, a.out_w, a.out_channels, a.g_channel, a.g_d, a.g_h, a.g_w,
        )  # fmt: skip
        place = picture + corner[0] * a.x_d + corner[1] * a.x_h + corner[2] * a.x_w
        seen, plane = f.choose(near, place, memory), f.select(near, a.near_plane, a.plane)
        taps, table = (
            f.choose(near, a.pointer(f"near_{name}"), a.pointer(name)) for name in ("taps", "table")
        )
        entries = f.select(a.long > 0, 1, lines)
        count = f.select(a.long > 0, lines * a.wide + (lanes - 1), a.wide) // lanes
        add = f.select(index > begin, 1, 0)
        with f.loop(a.groups) as group, f.loop(a.inner) as c, f.loop(a.tap_count) as tap:
            x = seen + (group * a.inner + c) * plane + f.number(taps, tap)
            g = gradients + group * a.outer * g_plane
            y = sums + ((group * a.outer * a.inner + c) * a.tap_count + tap) * row
            operands = (x, table, entries, count, a.pointer("zeros"), a.across * lanes, add)
            steps = (vector, g_plane, vector, a.inner * a.tap_count * row)
            contract(f, a, a.outer, g, y, operands, steps)
    f.finish()
    return machine().compile(f.module)[0]


@lru_cache(maxsize=4)
def _finish(dtype: str) -> int:
    """Compile the sums of lanes and parts: a task takes some elements of the filters, by their places."""
    f, task, arguments, _ = kernel_of(Module())
    a, n = (
        Fields(f, arguments, ("sums", "dw", "places", "count", "parts", "part_bytes", "each")),
        Maths(f, dtype),
    )
    with f.loop(f.least((task + 1) * a.each, a.count), task * a.each) as i:
        total = f.variable(n.vector, 0.0)
        with f.loop(a.parts) as p:
            total.set(total.get() + n.load(a.pointer("sums") + p * a.part_bytes + i * n.bytes))
        n.put(n.total(total.get()), a.pointer("dw") + packing.entry(f, a.pointer("places"), i))
    f.finish()
    return machine().compile(f.module)[0]


class FewWeights:
    """The weight gradient of a correlation between few channels, planned."""

    def __init__(self, shape: Shape, dtype: str, otherwise: WeightGradient) -> None:
        self.shape, self.dtype, self._otherwise = shape, dtype, otherwise
        s, item = shape, itemsize_of(dtype)
        self.lanes = lanes = machine().vector_bytes // item
        self.across = len({tap.shift[2] for tap in s.taps})
        self.rows = even(s.outer, max(1, (machine().registers - 1) // self.across - 1))
        self.taps = s.taps[:: self.across]
        reach = [hi - lo + 1 for lo, hi in zip(s.low, s.high, strict=True)]
        self.wide, self.long = _row(s, lanes)
        box_w = self.wide + (0 if self.long else reach[2] - 1)
        h, channels = s.out_size[1], s.groups * max(s.inner * s.step[1], s.outer)
        while h > 1 and (h * self.wide * channels * item > BOX_BYTES or h * self.wide > LONGEST_SUM * lanes):
            h = -(-h // 2)
        self.strip = h
        # Behind the last number of a long row lie zeros, of which the last vector has some.
        self.high = h + (-(-(lanes - 1) // self.wide) if self.long else 0)
        self.box = (reach[0], (h - 1) * s.step[1] + reach[1], box_w)
        boxes = s.images * s.out_size[0] * -(-s.out_size[1] // h)
        self.parts = min(PARTS, boxes)
        self.behind = (lanes + reach[2] + max(s.low[2], 0)) * item
        self.count = s.groups * s.outer * s.inner * len(s.taps) * lanes
        self._launches: dict[tuple[int, ...], Launch] = {}
        self._finishes: dict[tuple[int, ...], Launch] = {}

    @classmethod
    def pays(cls, shape: Shape, dtype: str, otherwise: WeightGradient) -> bool:
        """Return whether vectors along rows are so much fewer than those of `otherwise` that copies pay."""
        lanes = machine().vector_bytes // itemsize_of(dtype)
        across = sorted({tap.shift[2] for tap in shape.taps})
        even = len({b - a for a, b in pairwise(across)}) < 2
        if shape.step[2] != 1 or not even or len(across) > 11:
            return False
        wide = _row(shape, lanes)[0]
        products = len(shape.taps) * shape.inner * shape.outer * shape.groups
        small = shape.multiply_adds < LEAST_PRODUCTS
        # Channels-last pictures of more channels are slow to copy.
        easy = shape.groups * max(shape.inner, shape.outer) <= packing.MOST_BESIDE
        margin = 1.2 if otherwise.elementwise else 1.3 if easy and not small else 2.0
        return margin * products * wide < otherwise.products * lanes * shape.out_size[2]

    def run(self, g: Any, x: Any, like: Any) -> Any:
        """Return the gradient, (O, C/groups, D, H, W), from g (N, O, ...) and x (N, C, ...) in any order."""
        near = self._lies_well(x.strides)
        dw = self._summed(g, x, like, near)
        finite = bool(np.isfinite(dw).all())
        if near and not finite:  # zeros may have met what no window sees, and a copy leaves out
            dw = self._summed(g, x, like, near=False)
            finite = bool(np.isfinite(dw).all())
        return dw if finite else self._otherwise.run(g, x, like)

    def _summed(self, g: Any, x: Any, like: Any, near: bool) -> Any:
        """Return the gradient; NaN where a zero behind a row has met an infinity or NaN."""
        key = (near, *x.strides, *g.strides)
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = self._run(x.strides, g.strides, near)
        sums = scratch.array(self.parts * self.count, x.dtype)
        pool().run(launch, (x, g, sums))
        dw = np.empty_like(like)
        finish = self._finishes.get(dw.strides)
        if finish is None:
            finish = self._finishes[dw.strides] = self._finish(dw)
        pool().run(finish, (sums, dw))
        scratch.give_back(sums)
        return dw

    def _finish(self, dw: Any) -> Launch:
        places = np.dot(np.indices(dw.shape).reshape(dw.ndim, -1).T, np.array(dw.strides, np.int64))
        each = 1 << 10
        arguments = (0, 0, address(places), dw.size, self.parts, self.count * dw.itemsize, each)
        cost = self.parts * self.count * dw.itemsize / BYTES
        return Launch(_finish(self.dtype), arguments, -(-dw.size // each), keep=(places,), cost=cost)

    def _run(self, x: tuple[int, ...], g: tuple[int, ...], near: bool) -> Launch:
        s, item, vector = self.shape, itemsize_of(self.dtype), machine().vector_bytes
        across = sorted({tap.shift[2] for tap in s.taps})
        apart = (across[1] - across[0] if len(across) > 1 else 1) * item
        pitch = (self.box[1] * self.box[2] * item, self.box[2] * item, item)
        channels, out_channels = s.groups * s.inner, s.groups * s.outer
        zeros = np.zeros(self.across * self.lanes, self.dtype)
        kept, places = [zeros], []
        for steps, plane in ((pitch, prod(self.box) * item), (x[2:], x[1])):
            lines = [(h * self.wide * item, h * s.step[1] * steps[1]) for h in range(self.strip)]
            kept += [s.offsets(self.taps, steps), np.array(lines, np.int64)]
            places.append((address(kept[-2]), address(kept[-1]), plane))
        size_x = aligned(channels * prod(self.box) * item)
        # What is stored behind x lies where g is written next; behind g there is room for it.
        size = aligned(size_x + out_channels * self.high * self.wide * item + vector + self.behind)
        arguments = (
            0, 0, 0, *x, *g, self.count * item, *places[0], (s.images - 1) * near, *places[1], self.behind,
            len(self.taps), self.long, *s.in_size, *s.step[:2], *s.low, *s.out_size, s.images, self.strip,
            self.parts, *self.box, self.wide, self.high, channels, out_channels, s.groups, s.inner, s.outer,
            self.across, address(zeros),
            *micro(self.dtype, self.rows, self.across, (s.outer,), apart=apart), size_x,
            *(
                compiled_planes(self.dtype, beside=beside_of(steps, count, item))
                for steps, count in ((x, channels), (g, out_channels))
            ), size, 0,
        )  # fmt: skip
        cost = s.multiply_adds / MULTIPLY_ADDS
        return Launch(_kernel(self.dtype), arguments, self.parts, size, tuple(kept), cost)

    def _lies_well(self, x: Sequence[int]) -> bool:
        """Return whether pictures of these strides, all but the last, can be read where they lie.

        What is read behind one is of the next: the pictures are contiguous, and longer than what is read.
        """
        s = self.shape
        contiguous = dense(x, (s.images, s.groups * s.inner, *s.in_size), itemsize_of(self.dtype))
        return contiguous and x[0] >= self.behind and not s.hangs_over


def _row(shape: Shape, lanes: int) -> tuple[int, bool]:
    """Return how long rows of gradients are with the zeros behind them, and whether rows are one long one."""
    whole = -(-shape.out_size[2] // lanes) * lanes
    beside = shape.in_size[2]
    long = not shape.hangs_over and shape.step[1] == 1 and beside < whole
    return (beside, True) if long else (whole, False)
