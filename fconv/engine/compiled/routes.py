"""Correlations and their gradients of arrays whose strides were met before: one launch, without choices.

Around a kernel of a few microseconds, finding it takes as long as running it.
"""

from __future__ import annotations

from collections.abc import Hashable

from fconv.arrays import Array
from fconv.engine.compiled.by_channel import Total
from fconv.engine.compiled.filters import FilterBlocks
from fconv.engine.compiled.launches import WORK, Launch, chain
from fconv.engine.compiled.pool import pool
from fconv.engine.constants import constant_of
from fconv.engine.memory import empty


class Route:
    """The launches of a correlation.

    Parameters
    ----------
    filters : FilterBlocks
        Of the correlation.
    lay : Launch or None
        Lays filters out, where they do not lie as they are read.
    launch : Launch
        The correlation itself.
    begin : int
        Bytes of the input in front of what is read of it.
    y : array
        An output of it, for another one like it.
    key : hashable
        By which filters that do not change are kept; None where they are laid out in each call.
    """

    def __init__(
        self, filters: FilterBlocks, lay: Launch | None, launch: Launch, begin: int, y: Array, key: Hashable
    ) -> None:
        self._filters, self._lay, self._launch, self._begin, self._key = filters, lay, launch, begin, key
        self._size = filters.all_blocks * filters.block_bytes if lay is not None else 0
        self.work = self._size
        self.zeros, pad = filters.start(None, y.dtype), filters.pad
        self._kept = chain([launch.of((0, begin), 1, 2, 3)])
        self._plain = self._biased = chain(self.parts(0, 1, 2, 3), self.work)
        if pad is not None:
            start = WORK, self._size
            padded = [pad.of(start, 2), *self.parts(0, 1, start, 3)]
            self._biased = chain(padded, self._size + self.zeros.nbytes)
        self._shape, self._dtype, self._strides = y.shape, y.dtype, y.strides

    def parts(self, x: int, weight: int, start: int | tuple[int, int], y: int) -> list[Launch]:
        """Return the launches for a chain of `work` bytes, by the numbers of its arrays."""
        seen = x, self._begin
        if self._lay is None:
            return [self._launch.of(seen, weight, start, y)]
        return [self._lay.of(WORK, weight), self._launch.of(seen, WORK, start, y)]

    def output(self) -> Array:
        """Make an array for the output."""
        return empty(self._shape, self._dtype, self._strides)

    def run(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Correlate arrays, as callers have them."""
        y = empty(self._shape, self._dtype, self._strides)
        kept = None if self._lay is None or self._key is None else constant_of(weight)
        if kept is not None:
            laid, start = kept.get(self._key, lambda: self._laid(weight)), self._filters.start(bias, y.dtype)
            pool().run(self._kept, (x, laid, start, y))
        elif bias is None:
            pool().run(self._plain, (x, weight, self.zeros, y))
        else:
            if not bias.flags.c_contiguous:
                bias = bias.copy()
            pool().run(self._biased, (x, weight, bias, y))
        return y

    def _laid(self, weight: Array) -> Array:
        laid = empty((self._size // self._filters.itemsize,), self._dtype)
        pool().run(self._lay, (laid, weight))  # type: ignore[arg-type]
        return laid


class WeightRoute:
    """The launches of a weight gradient.

    Parameters
    ----------
    summed : Launch
        Of the input, the output's gradient and the sums.
    finish : Launch
        Of the sums and the gradient that they are added up to.
    size : int
        Bytes of the sums.
    dw : array
        A gradient, for another one like it.
    begin : int
        Bytes of the input in front of what is read of it.
    """

    def __init__(self, summed: Launch, finish: Launch, size: int, dw: Array, begin: int) -> None:
        self._summed, self._finish, self._begin, self.work = summed, finish, begin, size
        self._whole = chain(self.parts(0, 1, 2), size)
        self._shape, self._dtype, self._strides = dw.shape, dw.dtype, dw.strides

    def parts(self, x: int, g: int, dw: int) -> list[Launch]:
        """Return the launches for a chain of `work` bytes, by the numbers of its arrays."""
        return [self._summed.of((x, self._begin), g, WORK), self._finish.of(WORK, dw)]

    def output(self) -> Array:
        """Make an array for the gradient."""
        return empty(self._shape, self._dtype, self._strides)

    def run(self, g: Array, x: Array) -> Array:
        """Return the gradient, of arrays as callers have them."""
        dw = self.output()
        pool().run(self._whole, (x, g, dw))
        return dw


class JointRoute:
    """The launches of all gradients of a convolution.

    Parameters
    ----------
    back : Route or None
        Of the input's gradient, if that is wanted.
    weights : WeightRoute
        Of the weight's.
    total : Total or None
        Of the bias's, if there is one.
    """

    def __init__(self, back: Route | None, weights: WeightRoute, total: Total | None) -> None:
        self._back, self._weights, self._total = back, weights, total
        g, x, weight, zeros, dx, dw, db = range(7)
        launches = [] if back is None else back.parts(g, weight, zeros, dx)
        launches += weights.parts(x, g, dw) + ([] if total is None else total.parts(g, db))
        self._whole = chain(launches, max(part.work for part in (back, weights, total) if part is not None))

    def run(self, g: Array, x: Array, weight: Array) -> tuple[Array | None, Array, Array | None]:
        """Return the gradients, of arrays as callers have them."""
        back, dw = self._back, self._weights.output()
        dx = None if back is None else back.output()
        db = None if self._total is None else self._total.output()
        zeros = dw if back is None else back.zeros  # in the place of what is not there, any array will do
        made = (dw if dx is None else dx, dw, dw if db is None else db)
        pool().run(self._whole, (g, x, weight, zeros, *made))
        return dx, dw, db
