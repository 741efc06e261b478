"""Sums and affine maps of each channel of a large array: what batch normalisation is made of.

On the CPU, in pieces and on all threads. What differs between the memory orders is how a piece
meets one number a channel, and how it is summed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fconv.arrays import Array, Shape, from_order, full_like_order, memory_order, narrowed
from fconv.engine import compiled
from fconv.engine.sweeps import Program, Sweep
from fconv.engine.threads import run
from fconv.functional.one_pass import formulas_serve
from fconv.functional.segments import along_axis
from fconv.functional.sums import accurate_sum

if TYPE_CHECKING:
    from fconv.engine.compiled.by_channel import Total
    from fconv.engine.compiled.channels import CompiledPasses, SamplePasses

_PIECE_BYTES = 1 << 20
_SMALL = 1 << 14  # elements; NumPy sums them before a kernel is found
_ROW = 4096  # numbers of a row, about, that a ufunc is quick on
_LEAST_PLANE = 64  # numbers of a channel that have to be neighbours for it to be so channels-first

_TOTAL = Program((Sweep("sum", lambda x: x), Sweep("kept", lambda total: (total,))), outputs=1)


class _Divided:
    """Parts that both memory orders share."""

    pieces: list[slice]

    def __init__(self, shape: Shape, order: Shape) -> None:
        self.channels = shape[1]
        self._shape, self._order = shape, order

    def shaped(self, seen: Array) -> Array:
        """Return what `seen` gave its shape back."""
        return from_order(seen.reshape([self._shape[axis] for axis in self._order]), self._order)

    def count(self, piece: Array) -> int:
        """Return the number of elements of a channel."""
        return piece.size // self.channels


class ChannelsLast(_Divided):
    """An array whose channels are neighbours in memory; several positions make one long row."""

    def __init__(self, shape: Shape, order: Shape, itemsize: int) -> None:
        super().__init__(shape, order)
        self._row = max(1, _ROW // self.channels) * self.channels
        size = prod(shape)
        step = max(1, _PIECE_BYTES // (self._row * itemsize)) * self._row
        self.pieces = [slice(i, min(i + step, size)) for i in range(0, size, step)]

    def seen(self, x: Array) -> Array:
        """See an array of the same shape as what the pieces divide; copied where it lies otherwise."""
        return x.transpose(self._order).reshape(-1)

    def spread(self, by_channel: Array) -> Array:
        """Lay one number a channel out for `apply`."""
        return np.tile(by_channel, self._row // self.channels)

    def apply(self, ufunc: np.ufunc, piece: Array, numbers: Array, out: Array) -> None:
        """Apply a ufunc to a piece and what `spread` gave."""
        whole = piece.size - piece.size % self._row
        ufunc(piece[:whole].reshape(-1, self._row), numbers, out=out[:whole].reshape(-1, self._row))
        if whole < piece.size:
            ufunc(piece[whole:], numbers[: piece.size - whole], out=out[whole:])

    def sum(self, piece: Array) -> Array:
        """Sum each channel: halves are added up until little is left, which is summed in float64."""
        rest, rows = piece, self.count(piece)
        left = np.zeros(self.channels)
        while rest.size > 2 * _ROW and rows > 1:
            half = rows // 2 * self.channels
            if rows % 2:
                left += rest[2 * half :]
            rest, rows = rest[:half] + rest[half : 2 * half], rows // 2
        return left + rest.reshape(rows, self.channels).sum(axis=0, dtype=np.float64)


class ChannelsFirst(_Divided):
    """An array whose channels are planes: the elements of one channel and sample are neighbours."""

    def __init__(self, shape: Shape, order: Shape, itemsize: int) -> None:
        super().__init__(shape, order)
        self._plane = prod(shape[2:])
        step = max(1, _PIECE_BYTES // (self.channels * self._plane * itemsize))
        self.pieces = [slice(i, min(i + step, shape[0])) for i in range(0, shape[0], step)]

    def seen(self, x: Array) -> Array:
        """See an array of the same shape as what the pieces divide; copied where it lies otherwise."""
        return x.transpose(self._order).reshape(-1, self.channels, self._plane)

    def spread(self, by_channel: Array) -> Array:
        """Lay one number a channel out for `apply`."""
        return by_channel[:, None]

    def apply(self, ufunc: np.ufunc, piece: Array, numbers: Array, out: Array) -> None:
        """Apply a ufunc to a piece and what `spread` gave."""
        ufunc(piece, numbers, out=out)

    def sum(self, piece: Array) -> Array:
        """Sum each channel; NumPy adds neighbours pairwise, and planes in float64 here."""
        return np.asarray(piece.sum(axis=2).sum(axis=0, dtype=np.float64))


Layout: TypeAlias = ChannelsLast | ChannelsFirst


def layout_of(x: Array) -> Layout | None:
    """Find how an array (N, C, ...) is divided.

    None on a GPU, for float16, for empty arrays, and where neither the channels nor the positions of one
    channel are contiguous.

    Examples
    --------
    >>> layout = layout_of(np.arange(6.0).reshape(3, 2))
    >>> channel_sums(layout, layout.seen(np.arange(6.0).reshape(3, 2)))
    array([6., 9.])
    """
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64) or not x.size:
        return None
    order = memory_order(x)
    if not x.transpose(order).flags.c_contiguous:
        return None
    if order[-1] == 1:
        return ChannelsLast(x.shape, order, x.itemsize)
    if order[:2] == (0, 1) and prod(x.shape[2:]) >= _LEAST_PLANE:
        return ChannelsFirst(x.shape, order, x.itemsize)
    return None


def kernel_order(x: Array) -> Shape | None:
    """Return the memory order of an array (N, C, ...), if kernels serve one without gaps in that order."""
    if x.ndim < 2 or not x.size or not formulas_serve(x):
        return None
    order = memory_order(x)
    return order if order[-1] == 1 or order[:2] == (0, 1) else None


def is_dense(x: Array, order: Shape) -> bool:
    """Return whether an array is aligned and has no gaps in a memory order."""
    return bool(x.flags.aligned and x.transpose(order).flags.c_contiguous)


def without_gaps(x: Array, order: Shape) -> Array:
    """Return an array, or a copy of it in its memory order where it is not dense."""
    if is_dense(x, order):
        return x
    dense = full_like_order(x, x.shape, None)
    dense[...] = x
    return dense


def compiled_passes(x: Array) -> CompiledPasses | None:
    """Return compiled passes over an array (N, C, ...); None where there are none for it."""
    order = kernel_order(x)
    if order is None:
        return None
    x = without_gaps(x, order)
    from fconv.engine.compiled.channels import CompiledPasses

    return CompiledPasses(x)


def sample_passes(x: Array, groups: int) -> SamplePasses | None:
    """Return compiled passes for groups of channels of each sample; None where the channels are not last."""
    if x.ndim < 3 or not x.size or not formulas_serve(x):
        return None
    order = memory_order(x)
    if order[0] != 0 or order[-1] != 1 or not x.transpose(order).flags.c_contiguous:
        return None
    from fconv.engine.compiled.channels import SamplePasses

    return SamplePasses(x, groups)


def each_piece(layout: Layout, work: Callable[[int, slice], None]) -> None:
    """Call ``work(number, piece)`` for each piece, on all threads; infinities and NaN make no noise."""

    def quiet(i: int) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            work(i, layout.pieces[i])

    run(quiet, len(layout.pieces))


def channel_sums(layout: Layout, seen: Array) -> Array:
    """Sum each channel of what a layout sees in float64, shape (C,), always in the same order."""
    found = np.empty((len(layout.pieces), layout.channels))

    def work(i: int, piece: slice) -> None:
        found[i] = layout.sum(seen[piece])

    each_piece(layout, work)
    return np.asarray(found.sum(axis=0))


@lru_cache(maxsize=512)
def _dense_order(shape: Shape, strides: Shape, dtype: np.dtype[Any], jit: bool) -> Shape | None:
    """Return the memory order of such an array, if kernels serve it as it lies."""
    like = np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, strides, writeable=False)
    order = kernel_order(like)
    return order if order is not None and is_dense(like, order) else None


@lru_cache(maxsize=512)
def _total(shape: Shape, order: Shape, dtype: np.dtype[Any]) -> Total:
    from fconv.engine.compiled.by_channel import Total

    return Total(shape, order, dtype)


def total_of(x: Array) -> Total | None:
    """Return the plan of the channels' sums of a NumPy array, if kernels serve it as it lies."""
    order = _dense_order(x.shape, x.strides, x.dtype, compiled.wished()) if x.flags.aligned else None
    return None if order is None else _total(x.shape, order, x.dtype)


def sum_by_channel(x: Array) -> Array:
    """Sum each channel of (N, C, ...) in float64, or nearly; the result has the dtype of `x`.

    Examples
    --------
    >>> sum_by_channel(np.full((10**6, 1), 0.1, np.float32))
    array([100000.], dtype=float32)
    """
    if type(x) is np.ndarray:
        total = total_of(x)
        if total is not None:
            return total.run(x)
        if x.size <= _SMALL:
            return accurate_sum(x, (0, *range(2, x.ndim)))
        if (order := kernel_order(x)) is not None:
            return _total(x.shape, order, x.dtype).run(without_gaps(x, order))
    layout = layout_of(x)
    if layout is None:
        return accurate_sum(x, (0, *range(2, x.ndim)))
    return narrowed(channel_sums(layout, layout.seen(x)), x.dtype)


def sum_by_sample(x: Array) -> Array:
    """Sum each channel of each sample of (N, C, ...) in float64; the result (N, C) has the dtype of `x`.

    Examples
    --------
    >>> sum_by_sample(np.ones((2, 1, 3)))
    array([[3.],
           [3.]])
    """
    flat = x.reshape(*x.shape[:2], prod(x.shape[2:]))
    segments = along_axis(flat, 2)
    return accurate_sum(flat, 2) if segments is None else segments.keep(_TOTAL, flat)[0]


def channel_moments(layout: Layout, seen: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel in float64, in one pass over memory.

    Each piece has a mean of its own, and its squared differences are taken from that, so that
    a mean far larger than the deviation costs no digits.

    References
    ----------
    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979.

    Examples
    --------
    >>> layout = layout_of(np.arange(6.0).reshape(3, 2))
    >>> channel_moments(layout, layout.seen(np.arange(6.0).reshape(3, 2)))
    (array([2., 3.]), array([2.66666667, 2.66666667]))
    """
    means, squares = np.empty((2, len(layout.pieces), layout.channels))
    counts = np.array([layout.count(seen[piece]) for piece in layout.pieces], np.float64)[:, None]

    def work(i: int, piece: slice) -> None:
        part, count = seen[piece], counts[i]
        near = (layout.sum(part) / count).astype(part.dtype)
        apart = np.empty_like(part)
        layout.apply(np.subtract, part, layout.spread(near), apart)
        off = layout.sum(apart) / count  # small numbers, so that this sum loses nothing
        np.multiply(apart, apart, out=apart)
        means[i] = near + off
        squares[i] = layout.sum(apart) - count * off**2

    each_piece(layout, work)
    total = counts.sum()
    mean = (counts * means).sum(axis=0) / total
    return mean, (squares.sum(axis=0) + (counts * (means - mean) ** 2).sum(axis=0)) / total
