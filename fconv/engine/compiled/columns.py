"""Input gradients of few channels: one product for all of the kernel, whose columns are added up.

Most lanes of vectors over few channels would be idle, and for the gradient of an input each phase of a stride
reads the output's gradient again. Here one product gives, at each position of what is read, a number for each
channel of the result and element of the kernel, and each position of the result adds up those that belong to
it.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled.choosing import pass_for
from fconv.engine.compiled.correlate import LEAST_TASKS
from fconv.engine.compiled.dots import Dots
from fconv.engine.compiled.llvm import Function, Module, Value, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.packing import clear, entry
from fconv.engine.compiled.pool import BYTES, Fields, Launch, kernel_of, pool
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
ENTRY = 6
"""Integers of an element of the kernel: its two shifts; the first position of a row that it meets and the one
behind the last; the bytes to what that meets in a row of the result; and its place among the columns.
"""

FIELDS = (
    "t", "y", "t_image", "t_channel", "t_d", "t_h", "t_w", "y_image", "y_channel", "y_d", "y_h",
    "table", "taps", "inner", "channels", "in_d", "in_h", "in_w", "step_d", "step_h", "step_w", "out_d",
    "out_h", "rows", "pieces",
)  # fmt: skip


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    """Compile the sum: a task makes some rows of a plane of one picture."""
    f, task, arguments, _ = kernel_of(Module())
    a, n = Fields(f, arguments, FIELDS), Numbers(f, dtype)
    rest, first = task // a.pieces, task % a.pieces * a.rows
    image, d = rest // a.in_d, rest % a.in_d
    last = f.least(first + a.rows, a.in_h)
    with f.loop(a.channels) as channel, f.loop(last, first) as h:
        y = a.pointer("y") + image * a.y_image + channel * a.y_channel + d * a.y_d + h * a.y_h
        clear(f, y, a.in_w * n.itemsize)
        group, inner = channel // a.inner, channel % a.inner
        t = a.pointer("t") + image * a.t_image + (group * a.taps * a.inner + inner) * a.t_channel
        with f.loop(a.taps) as k:
            shift_d, shift_h, begin, end, to, at = (
                entry(f, a.pointer("table"), k * ENTRY + i) for i in range(ENTRY)
            )
            from_d, inside_d = _met(f, d - shift_d, a.step_d, a.out_d)
            from_h, inside_h = _met(f, h - shift_h, a.step_h, a.out_h)
            with f.when(f.all_of(inside_d, inside_h)):
                row = t + from_d * a.t_d + from_h * a.t_h + at * a.t_channel
                with f.loop(end, begin) as w:
                    place = y + to + w * a.step_w * n.itemsize
                    n.put(n.number(place) + n.number(row + w * a.t_w), place)
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
    """

    def __init__(self, shape: Shape, dtype: str) -> None:
        self.shape, self.dtype = shape, dtype
        one = _product_of(shape, 1)
        self._image = prod(one.out_size) * one.groups * one.outer
        most = max(1, MOST_BYTES // (self._image * itemsize_of(dtype)))
        self.images = min(shape.images, most)
        self._product = pass_for(_product_of(shape, self.images), dtype, "direct")
        s = shape
        self._out_shape = (s.images, s.groups * s.inner, *s.in_size)
        tasks = self.images * s.in_size[0]
        self._rows = max(1, s.in_size[1] // -(-LEAST_TASKS // tasks))
        self._table = np.array([self._entry(k, tap) for k, tap in enumerate(s.taps)], np.int64)
        self._launches: dict[tuple[int, ...], Launch] = {}

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

    def _entry(self, k: int, tap: Tap) -> tuple[int, ...]:
        s, (d, h, w) = self.shape, tap.shift
        step, size = s.step[2], s.in_size[2]
        begin, end = max(0, -(w // step)), min(s.out_size[2], (size - 1 - w) // step + 1)
        return (d, h, begin, end, w * itemsize_of(self.dtype), k * s.inner)

    def run(self, g: Any, weight: Any) -> Any:
        """Return the gradient, (N, C, D, H, W), of g (N, O, ...) by a weight (groups, outer, inner, ...)."""
        s = self.shape
        groups, outer = weight.shape[:2]
        filters = weight.transpose(0, 3, 4, 5, 2, 1).reshape(groups, -1, outer, 1, 1, 1)
        dx = empty(self._out_shape, g.dtype)
        columns = scratch.array(self.images * self._image, g.dtype)
        t = self._product.output(g.dtype, columns)
        laid = self._product.lay(filters)
        for i in range(0, s.images, self.images):
            run = slice(min(i, s.images - self.images), min(i + self.images, s.images))
            self._product.run(g[run], filters, laid, None, t)
            pool().run(self._launch(t.strides, dx.strides), (t, dx[run]))
        scratch.give_back(columns)
        if laid is not None and laid is not filters:
            scratch.give_back(laid)
        return dx

    def _launch(self, t: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        found = self._launches.get(t)
        if found is None:
            s, pieces = self.shape, -(-self.shape.in_size[1] // self._rows)
            arguments = (
                0, 0, *t, *y[:4], address(self._table), len(s.taps), s.inner, s.groups * s.inner,
                *s.in_size, *s.step, *s.out_size[:2], self._rows, pieces,
            )  # fmt: skip
            tasks = self.images * s.in_size[0] * pieces
            written = self.images * prod(self._out_shape[1:]) * itemsize_of(self.dtype)
            cost = self.images * self._image + written / BYTES
            found = Launch(_kernel(self.dtype), arguments, tasks, cost=cost)
            self._launches[t] = found
        return found


def _product_of(shape: Shape, images: int) -> Shape:
    """Return the correlation that gives the columns."""
    columns, one = len(shape.taps) * shape.inner, Tap((0, 0, 0), (0, 0, 0))
    size = shape.out_size
    return Shape(images, shape.groups, shape.outer, columns, size, size, (1, 1, 1), (one,))
