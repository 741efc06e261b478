"""Depthwise correlation by one element of the kernel: channels are scaled, and begin or end with padding.

Rows of pictures are contiguous and read where they lie. Masks make zeros of what lies beside the picture, in
vectors at the ends of a row, or in all of a row that the picture does not have.
"""

from __future__ import annotations

from functools import lru_cache

from fconv.engine.compiled.correlate import LEAST_TASKS
from fconv.engine.compiled.launches import BYTES, Launch
from fconv.engine.compiled.llvm import INT, Module
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import even
from fconv.engine.compiled.planes import Planes
from fconv.engine.compiled.pool import Fields, kernel_of
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.vectors import Numbers

FIELDS = (
    "x", "w", "start", "y", "x_image", "x_channel", "x_d", "x_h", "y_image", "y_channel", "y_d", "y_h",
    "in_d", "in_h", "in_w", "step_d", "step_h", "low_d", "low_h", "low_w", "out_d", "out_h", "out_w",
    "channels", "lines", "pieces", "first", "last",
)  # fmt: skip
"""A task makes `lines` rows of a channel; vectors of columns from `first` to `last` lie in the picture."""


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    """Compile some rows of a channel."""
    f, task, arguments, _ = kernel_of(Module())
    a, n = Fields(f, arguments, FIELDS), Numbers(f, dtype)
    rest, begin = task // a.pieces, task % a.pieces * a.lines
    image, channel = rest // a.channels, rest % a.channels
    picture = a.pointer("x") + image * a.x_image + channel * a.x_channel + a.low_w * n.itemsize
    plane = a.pointer("y") + image * a.y_image + channel * a.y_channel
    by, start = (n.spread(n.number(a.pointer(name) + channel * n.itemsize)) for name in ("w", "start"))
    with f.loop(f.least(begin + a.lines, a.out_d * a.out_h), begin) as line:
        d, h = line // a.out_h, line % a.out_h
        deep, high = d * a.step_d + a.low_d, h * a.step_h + a.low_h
        inside = f.all_of(f.all_of(deep > -1, deep < a.in_d), f.all_of(high > -1, high < a.in_h))
        x, y = picture + deep * a.x_d + high * a.x_h, plane + d * a.y_d + h * a.y_h
        first, last = (f.select(inside, edge, a.out_w) for edge in (a.first, a.last))
        with f.loop(last, first, step=n.lanes) as w:
            n.store(n.fma(n.load(x + w * n.itemsize), by, start), y + w * n.itemsize)
        for low, end in ((f.constant(0, INT), first), (last, a.out_w)):
            with f.loop(end, low, step=n.lanes) as w:
                column, there = w + a.low_w, n.mask(end - w)
                seen = n.between(f.constant(0, INT) - column, a.in_w - column)
                # A mask without lanes is slow where its address is not mapped, so it gets one that is.
                some = f.all_of(inside, f.all_of(column > -n.lanes, column < a.in_w))
                place = f.choose(some, x + w * n.itemsize, a.pointer("w"))
                n.store(n.fma(n.load(place, n.both(seen, some)), by, start), y + w * n.itemsize, there)
    f.finish()
    return machine().compile(f.module)[0]


class Scaling(Planes):
    """A depthwise correlation by one element, planned; where rows are not contiguous it goes by planes."""

    @staticmethod
    def serves(shape: Shape) -> bool:
        """Return whether each channel has one number, and its rows are read one after another."""
        return shape.elementwise and len(shape.taps) == 1 and shape.step[2] == 1

    def _run(self, x: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        s, item = self.shape, self.itemsize
        if x[4] != item:
            return super()._run(x, y)
        lanes = machine().vector_bytes // item
        first = max(0, -s.low[2])
        last = first + max(0, min(s.out_size[2], s.in_size[2] - s.low[2]) - first) // lanes * lanes
        every = s.out_size[0] * s.out_size[1]
        lines = even(every, max(1, s.images * s.groups * every // LEAST_TASKS))
        pieces, numbers = -(-every // lines), s.images * s.groups * every * s.out_size[2]
        arguments = (
            *(0,) * 4, *x[:4], *y[:4], *s.in_size, *s.step[:2], *s.low, *s.out_size, s.groups, lines, pieces,
            min(first, s.out_size[2]), min(last, s.out_size[2]),
        )  # fmt: skip
        return Launch(
            _kernel(self.dtype), arguments, s.images * s.groups * pieces, cost=2 * numbers * item / BYTES
        )
