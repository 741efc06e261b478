"""Input gradients of few channels or few positions: one product for all of the kernel, added up by column.

Most lanes of vectors over few channels would be idle, and for the gradient of an input each phase of a stride
reads the output's gradient again. Here one product gives, at each position of what is read, a number for each
channel of the result and element of the kernel, and each position of the result adds up those that belong to
it. Where positions are few the product reads filters where they lie.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled.choosing import Pass, new_channels_last, pass_for
from fconv.engine.compiled.correlate import LEAST_TASKS
from fconv.engine.compiled.dots import Dots
from fconv.engine.compiled.gathered import Gathered
from fconv.engine.compiled.launches import BYTES, Launch
from fconv.engine.compiled.llvm import Function, Module, Value, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.packing import clear, entry
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, scratch
from fconv.engine.compiled.shapes import Shape, Tap, costs, few_channels
from fconv.engine.compiled.vectors import Numbers
from fconv.engine.memory import empty

MOST_BYTES, LARGEST = 8 << 20, 16 << 20
"""Most bytes of the columns of several pictures, and of one: larger pictures are left to other ways."""
ADDED = 4
"""Products of vectors that take as long as adding a number of a column, and laying out one of the filters."""
LAUNCH = 20000
"""Products of vectors that take as long as a launch."""
ALONG = 1.25
"""The time of a product along rows, in that of one over channels."""
LAID, ZEROED, COPIED = 2, 2, 8
"""Products of vectors that take as long as laying out a number of a weight for phases, filling one of the
result with zeros before them, and copying one from planes to its place; writing a number takes as long as a
product. All are fitted to measured times.
"""
ENTRY = 5
"""Integers of an element of the kernel: the first position of a row that it meets, the one behind the last,
and its three shifts.
"""

FIELDS = (
    "t", "y", "t_image", "t_group", "t_channel", "t_tap", "t_d", "t_h", "t_w", "y_image", "y_channel", "y_d",
    "y_h", "y_w", "table", "taps", "inner", "groups", "in_d", "in_h", "in_w", "step_d", "step_h", "step_w",
    "out_d", "out_h", "rows", "pieces",
)  # fmt: skip


@lru_cache(maxsize=8)
def _kernel(dtype: str, last: bool) -> int:
    """Compile the sum, channels-last or along rows: a task makes some rows of a plane of one picture."""
    f, task, arguments, _ = kernel_of(Module())
    a, n = Fields(f, arguments, FIELDS), Numbers(f, dtype)
    rest, first = task // a.pieces, task % a.pieces * a.rows
    image, d = rest // a.in_d, rest % a.in_d
    plane = a.pointer("y") + image * a.y_image + d * a.y_d

    def add(place: Value, number: Value) -> None:
        n.put(n.number(place) + n.number(number), place)

    with f.loop(f.least(first + a.rows, a.in_h), first) as h:
        y = plane + h * a.y_h
        with f.loop(1 if last else a.groups * a.inner) as channel:
            clear(f, y + channel * a.y_channel, a.in_w * a.y_w)
        with f.loop(a.taps) as k:
            begin, end, *shifts = (entry(f, a.pointer("table"), k * ENTRY + i) for i in range(ENTRY))
            from_d, inside_d = _met(f, d - shifts[0], a.step_d, a.out_d)
            from_h, inside_h = _met(f, h - shifts[1], a.step_h, a.out_h)
            t = a.pointer("t") + image * a.t_image + from_d * a.t_d + from_h * a.t_h + k * a.t_tap
            met, groups = f.all_of(f.all_of(inside_d, inside_h), begin < end), f.loop(a.groups)
            to = y + shifts[2] * a.y_w
            if last:
                with f.when(met), f.loop(end, begin) as w, groups as group:
                    row, at = t + w * a.t_w + group * a.t_group, group * a.inner * n.itemsize
                    pixel, near = to + w * a.step_w * a.y_w + at, a.t_channel.equals(n.itemsize)
                    full = f.select(near, a.inner // n.lanes * n.lanes, 0)
                    with f.loop(full, step=n.lanes) as c:
                        place = pixel + c * n.itemsize
                        n.store(n.load(place) + n.load(row + c * n.itemsize), place)
                    with f.loop(a.inner, full) as c:
                        add(pixel + c * n.itemsize, row + c * a.t_channel)
            else:
                with f.when(met), groups as group, f.loop(a.inner) as c:
                    row, line = t + group * a.t_group + c * a.t_channel, group * a.inner + c
                    with f.loop(end, begin) as w:
                        add(to + line * a.y_channel + w * a.step_w * a.y_w, row + w * a.t_w)
    f.finish()
    return machine().compile(f.module)[0]


def _met(f: Function, reach: Value, step: Value, size: Value) -> tuple[Value, Value]:
    """Return the output position from which an element of the kernel meets an input position, if it does."""
    place = reach // step
    inside = f.all_of(f.negation(reach < 0), place < size)
    return place, f.all_of(inside, (reach % step).equals(0))


class Columns:
    """The input gradient of a convolution of few channels, planned.

    Parameters
    ----------
    shape : Shape
        Of the convolution.
    dtype : str
        Of the numbers.
    gathered : Gathered, optional
        That of the convolution, which multiplies few positions by filters where these lie.
    """

    def __init__(self, shape: Shape, dtype: str, gathered: Gathered | None = None) -> None:
        self.shape, self.dtype = shape, dtype
        one = _product_of(shape, 1)
        self._image = prod(one.out_size) * one.groups * one.outer
        most = max(1, MOST_BYTES // (self._image * itemsize_of(dtype)))
        self.images = shape.images if gathered else min(shape.images, most)
        self._gathered = gathered
        s = shape
        self._out_shape = (s.images, s.groups * s.inner, *s.in_size)
        tasks = self.images * s.in_size[0]
        self._rows = max(1, s.in_size[1] // -(-LEAST_TASKS // tasks))
        self._table = np.array([self._entry(tap) for tap in s.taps], np.int64)
        self._launches: dict[tuple[int, ...], Launch] = {}

    @cached_property
    def _product(self) -> Pass:
        return pass_for(_product_of(self.shape, self.images), self.dtype, "direct")

    @staticmethod
    def pays(shape: Shape, phases: list[Shape], dtype: str) -> bool:
        """Compare with correlations of the phases, in products of vectors; dot products are faster."""
        lanes = machine().vector_bytes // itemsize_of(dtype)
        if shape.elementwise or len(shape.taps) == 1 or all(Dots.pays(phase, lanes) for phase in phases):
            return False
        product = _product_of(shape, shape.images)
        if prod(product.out_size) * product.groups * product.outer * itemsize_of(dtype) > LARGEST:
            return False
        numbers = product.images * prod(product.out_size) + product.inner  # in its columns and filters
        written = [phase.images * phase.groups * phase.outer * prod(phase.out_size) for phase in phases]
        whole = shape.images * shape.groups * shape.inner * prod(shape.in_size)
        instead: float = LAID * product.groups * product.inner * product.outer
        instead += sum(written) + (ZEROED * whole if sum(written) < whole else 0)
        for phase, count in zip(phases, written, strict=True):
            over_channels, along_rows = costs(phase, lanes)
            instead += LAUNCH + min(over_channels, ALONG * along_rows)
            if count < whole and few_channels(phase, lanes):
                instead += COPIED * count
        added = ADDED * numbers * product.groups * product.outer + whole
        return min(costs(product, lanes)) + added + 2 * LAUNCH < instead

    def _entry(self, tap: Tap) -> tuple[int, ...]:
        s, (d, h, w) = self.shape, tap.shift
        step, size = s.step[2], s.in_size[2]
        begin, end = max(0, -(w // step)), min(s.out_size[2], (size - 1 - w) // step + 1)
        return (begin, end, d, h, w)

    def run(self, g: Any, weight: Any) -> Any:
        """Return the gradient, (N, C, D, H, W), of g (N, O, ...) by a weight (groups, outer, inner, ...)."""
        columns = scratch.array(self.images * self._image, g.dtype)
        if self._gathered is None:
            dx = empty(self._out_shape, g.dtype)
            self._by_passes(g, weight, columns, dx)
        else:
            dx = new_channels_last(self._out_shape, g.dtype)
            self._add(columns, self._steps(self._gathered.columns(g, weight, columns)), dx)
        scratch.give_back(columns)
        return dx

    def _by_passes(self, g: Any, weight: Any, columns: Any, dx: Any) -> None:
        """Multiply and add up so many pictures at a time."""
        groups, outer, inner = weight.shape[:3]
        filters, by = weight.transpose(0, 3, 4, 5, 2, 1).reshape(groups, -1, outer, 1, 1, 1), self._product
        t = by.output(g.dtype, columns)
        image, channel, *steps = t.strides
        step = inner * channel
        laid = by.lay(filters)
        for i in range(0, len(g), self.images):
            run = slice(min(i, len(g) - self.images), min(i + self.images, len(g)))
            by.run(g[run], laid, None, t)
            self._add(t, (image, len(self.shape.taps) * step, channel, step, *steps), dx[run])
        by.give_back(laid, filters)

    def _steps(self, order: str) -> tuple[int, ...]:
        """Return the fields from `t_image` to `t_w` for columns in the order that filters gave them."""
        s, item, taps = self.shape, itemsize_of(self.dtype), len(self.shape.taps)
        _, high, wide = s.out_size
        if order == "positions":
            place, row = item, s.images * prod(s.out_size) * item
        else:
            place, row = s.groups * s.inner * taps * item, item
        channel, tap = (taps, 1) if order == "channels" else (1, s.inner)
        return (
            prod(s.out_size) * place, s.inner * taps * row, channel * row, tap * row, high * wide * place,
            wide * place, place,
        )  # fmt: skip

    def _add(self, t: Any, steps: tuple[int, ...], dx: Any) -> None:
        """Add columns up."""
        launch = self._launches.get(steps)
        if launch is None:
            launch = self._launches[steps] = self._planned(steps, dx.strides)
        pool().run(launch, (t, dx))

    def _planned(self, t: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        s, pieces = self.shape, -(-self.shape.in_size[1] // self._rows)
        arguments = (
            0, 0, *t, *y, address(self._table), len(s.taps), s.inner, s.groups,
            *s.in_size, *s.step, *s.out_size[:2], self._rows, pieces,
        )  # fmt: skip
        written = self.images * prod(self._out_shape[1:]) * itemsize_of(self.dtype)
        cost = self.images * self._image + written / BYTES
        kernel = _kernel(self.dtype, self._gathered is not None)
        return Launch(kernel, arguments, self.images * s.in_size[0] * pieces, cost=cost)


def _product_of(shape: Shape, images: int) -> Shape:
    """Return the correlation that gives the columns."""
    columns, one = len(shape.taps) * shape.inner, Tap((0, 0, 0), (0, 0, 0))
    size = shape.out_size
    return Shape(images, shape.groups, shape.outer, columns, size, size, (1, 1, 1), (one,))
