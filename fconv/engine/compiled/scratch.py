"""Memory to work in, and where arrays lie."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from fconv.engine.memory import LINE

SMALL = 16 << 10
"""Up to so many bytes of an array malloc is quicker than a look-up here."""


class Scratch(threading.local):
    """Memory to work in, kept by each thread: fresh memory costs a page fault for every 4 kB.

    It comes in powers of two, so that what is given back fits many later calls; pages that nobody
    touches take no memory.
    """

    MOST = 64 << 20
    """Bytes that a thread keeps."""

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray[Any, Any]]] = {}
        self._kept = 0

    def take(self, size: int) -> np.ndarray[Any, Any]:
        """Take at least `size` bytes and 64 more, which nobody else has until they are given back."""
        whole = 1 << (size + 63).bit_length()
        free = self._free.get(whole)
        if not free:
            return np.empty(whole, np.uint8)
        self._kept -= whole
        return free.pop()

    def array(self, count: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Take a one-dimensional array, aligned to cache lines; small ones are not of memory that is kept."""
        item = dtype.itemsize
        if count * item <= SMALL:
            memory = np.empty(count + LINE // item, dtype)
            start = -address(memory) % LINE // item
            return memory[start : start + count]
        memory = self.take(count * item)
        start = -address(memory) % LINE
        return memory[start : start + count * item].view(dtype)

    def give_back(self, memory: np.ndarray[Any, Any]) -> None:
        """Keep memory for later calls."""
        if memory.nbytes <= SMALL:
            return
        whole: Any = memory if memory.base is None else memory.base
        if self._kept + whole.size <= self.MOST:
            self._free.setdefault(whole.size, []).append(whole)
            self._kept += whole.size


scratch = Scratch()


def _data_place() -> int | None:
    """Find where an array object holds its data's address, which `__array_interface__` takes 2 us to say."""
    if sys.implementation.name != "cpython":
        return None
    memory = np.empty(8, np.uint8)
    views = (memory, memory[3:], memory[5:])
    known = [(id(x), x.__array_interface__["data"][0]) for x in views]
    for place in (16, 32):  # behind the head of an object, which is larger without the GIL
        if all(ctypes.c_size_t.from_address(x + place).value == data for x, data in known):
            return place
    return None


def _items_place() -> int | None:
    """Find where a tuple holds its items."""
    if sys.implementation.name != "cpython":
        return None
    items = (object(), object(), object())
    for place in (24, 32, 40):
        found = [ctypes.c_size_t.from_address(id(items) + place + 8 * i).value for i in range(len(items))]
        if found == [id(item) for item in items]:
            return place
    return None


_at = ctypes.c_size_t.from_address
PLACE_OF_ITEMS = _items_place() or 0
"""Where a tuple holds its items."""
PLACE_OF_DATA = _data_place() if PLACE_OF_ITEMS else None
"""Where an array object holds the address of its data; None where that, or the other, is not known."""


def address(x: np.ndarray[Any, Any]) -> int:
    """Return where the first element of an array lies."""
    if PLACE_OF_DATA is None:
        return x.__array_interface__["data"][0]
    return _at(id(x) + PLACE_OF_DATA).value


def addresses(arrays: Sequence[np.ndarray[Any, Any]]) -> list[int]:
    """Return where the first element of each of some arrays lies."""
    if PLACE_OF_DATA is None:
        return [address(x) for x in arrays]
    return [_at(id(x) + PLACE_OF_DATA).value for x in arrays]  # without a call for each


def aligned(size: int) -> int:
    """Return `size` bytes rounded up to cache lines."""
    return size + -size % LINE
