"""Correlations and weight gradients of arrays whose strides were met before: two launches, without choices.

Around a kernel of a few microseconds, finding it takes as long as running it.
"""

from __future__ import annotations

from collections.abc import Hashable

from fconv.arrays import Array
from fconv.engine.compiled.filters import FilterBlocks
from fconv.engine.compiled.pool import Launch, pool
from fconv.engine.compiled.scratch import scratch
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
    y : array
        An output of it, for another one like it.
    key : hashable
        By which filters that do not change are kept; None where they are laid out in each call.
    """

    def __init__(
        self, filters: FilterBlocks, lay: Launch | None, launch: Launch, y: Array, key: Hashable
    ) -> None:
        self._filters, self._lay, self._launch, self._key = filters, lay, launch, key
        self._count = filters.all_blocks * filters.block_bytes // filters.itemsize
        self._shape, self._dtype, self._strides = y.shape, y.dtype, y.strides

    def run(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Correlate arrays, as callers have them."""
        y = empty(self._shape, self._dtype, self._strides)
        start = self._filters.start(bias, self._dtype)
        if self._lay is None:
            pool().run(self._launch, (x, weight, start, y))
            return y
        kept = None if self._key is None else constant_of(weight)
        if kept is not None:
            pool().run(self._launch, (x, kept.get(self._key, lambda: self._laid(weight)), start, y))
            return y
        laid = scratch.array(self._count, self._dtype)
        pool().run(self._lay, (laid, weight))
        pool().run(self._launch, (x, laid, start, y))
        scratch.give_back(laid)
        return y

    def _laid(self, weight: Array) -> Array:
        laid = empty((self._count,), self._dtype)
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
    count : int
        Numbers of the sums.
    dw : array
        A gradient, for another one like it.
    """

    def __init__(self, summed: Launch, finish: Launch, count: int, dw: Array) -> None:
        self._summed, self._finish, self._count = summed, finish, count
        self._shape, self._dtype, self._strides = dw.shape, dw.dtype, dw.strides

    def run(self, g: Array, x: Array) -> Array:
        """Return the gradient, of arrays as callers have them."""
        dw, sums = empty(self._shape, self._dtype, self._strides), scratch.array(self._count, self._dtype)
        pool().run(self._summed, (x, g, sums))
        pool().run(self._finish, (sums, dw))
        scratch.give_back(sums)
        return dw
