"""Memory for large results, used again when nothing refers to it any more.

Fresh memory costs a page fault for every 4 kB, which takes longer than most layers need to write them: malloc
gives what a training step has freed back to the system, and the next step asks for it again.
"""

from __future__ import annotations

import threading
from _thread import interrupt_main
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias, cast

import numpy as np

from fconv.arrays import from_order, memory_order

Array: TypeAlias = np.ndarray[Any, Any]

LINE = 64
"""Bytes of a cache line."""
LEAST = 1 << 15
"""Bytes of an array from which on memory is kept: malloc keeps less by itself."""


class _Raw(np.ndarray[Any, Any]):
    """Memory of a size, which begins at a cache line.

    NumPy leaves out a base whose own base is of the array's type: this is a type of its own so that an
    array's base stays its loan.
    """

    __slots__ = ()


class Kept:
    """Memory that nobody uses, by its size; of each size the newest goes first, as the caches hold it.

    At most `most` bytes are kept. A loan may end at any moment, even while this thread is in here: who does
    not get the lock does without.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._free: dict[int, list[_Raw]] = {}  # the size that was asked for last stands last
        self.bytes = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> _Raw | None:
        """Take memory of a size, if there is some."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            free = self._free.pop(size, None)
            if not free:
                return None
            self._free[size] = free
            self.bytes -= size
            return free.pop()
        finally:
            self._lock.release()

    def put(self, memory: _Raw) -> None:
        """Keep memory; let go what has not been asked for in the longest time, if that is too much."""
        size = memory.size
        if size > self.most or not self._lock.acquire(blocking=False):
            return
        gone = []  # freed outside of the lock
        try:
            while self.bytes + size > self.most:
                oldest = next(iter(self._free))
                gone.append(self._free.pop(oldest))
                self.bytes -= oldest * len(gone[-1])
            self._free.setdefault(size, []).append(memory)
            self.bytes += size
        finally:
            self._lock.release()


kept = Kept(64 << 20)


class _Loan(np.ndarray[Any, Any]):
    """The base of an array in such memory: where the last view of it ends, the memory is free again."""

    __slots__ = ()

    def __del__(self) -> None:
        try:
            if kept is not None:  # as it is when Python ends
                kept.put(self.base)  # type: ignore[arg-type]
        except KeyboardInterrupt:  # which Python reports here and forgets; a moment later it is heeded
            threading.Timer(0.01, interrupt_main).start()


def empty(shape: Sequence[int], dtype: np.dtype[Any], strides: tuple[int, ...] | None = None) -> Array:
    """Make an array without values, as `numpy.empty` does; a large one begins at a cache line.

    `strides` are those of an array without gaps, C order by default.
    """
    size = prod(shape) * dtype.itemsize
    if size < LEAST:
        return np.ndarray(shape, dtype, None, 0, strides)
    memory = kept.take(_rounded(size))
    if memory is None:
        memory = _fresh(_rounded(size), np.empty)
    return np.ndarray(shape, dtype, memory.view(_Loan), 0, strides)


def zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Make an array of zeros in C order, as `numpy.zeros` does."""
    size = prod(shape) * dtype.itemsize
    if size < LEAST:
        return np.zeros(shape, dtype)
    memory = kept.take(_rounded(size))
    if memory is None:  # the system's pages are zeros already
        return np.ndarray(shape, dtype, _fresh(_rounded(size), np.zeros).view(_Loan))
    out = np.ndarray(shape, dtype, memory.view(_Loan))
    out.fill(0)
    return out


def empty_like(x: Array) -> Array:
    """Make an array without values as `numpy.empty_like` does; a large one begins at a cache line."""
    if x.nbytes < LEAST:
        return np.empty_like(x)
    return empty(x.shape, x.dtype, _strides_like(x.shape, x.strides, x.dtype))


@lru_cache(maxsize=1024)
def _strides_like(shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Return the strides of what `numpy.empty_like` makes: the same order of axes, without gaps."""
    lone = np.zeros((1,) * len(shape), dtype)
    return np.empty_like(np.lib.stride_tricks.as_strided(lone, shape, strides, writeable=False)).strides


def empty_in_order(x: Array, shape: Sequence[int], make: Callable[..., Array] = empty) -> Array:
    """Make an array of a shape in the dtype and memory order of `x`, which has as many axes.

    `make` may be `zeros`.
    """
    order = memory_order(x)
    return from_order(make([shape[axis] for axis in order], x.dtype), order)


def _rounded(size: int) -> int:
    """Return the size of memory for `size` bytes: sizes that differ by less than a sixteenth share it."""
    return size + -size % (1 << size.bit_length() - 5)


def _fresh(size: int, make: Callable[..., Array]) -> _Raw:
    room = make(size + LINE, np.uint8).view(_Raw)
    start = -room.ctypes.data % LINE
    return cast("_Raw", room[start : start + size])
