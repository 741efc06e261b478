"""Files as memory."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import numpy as np

from fconv.arrays import Array, Shape

SMALL = 32 << 20
"""Bytes of a file below which it is read rather than mapped."""


def map_private(file: BinaryIO) -> Any:
    """Map a large file so that it can be written to in memory and never changes on the disk.

    What is smaller than `SMALL` is read: it takes no time, and stays what it is where another
    program writes into the file, which ends a process that has it mapped. None too where the system has no
    such thing, or does not let a mapped file be replaced or removed (Windows): a checkpoint that is open
    would then keep a run from saving.
    """
    if os.name != "posix" or os.fstat(file.fileno()).st_size < SMALL:
        return None
    import mmap

    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):  # a file system without maps; an empty file
        return None


def view(memory: Any, dtype: np.dtype[Any], shape: Shape, start: int) -> Array | None:
    """Return an array that lies in mapped memory; None where it would not be aligned.

    NumPy can compute with unaligned arrays, but slowly, and code that takes their address cannot.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size == 0:
        return np.empty(shape, dtype)
    if start % dtype.alignment:
        return None
    return np.frombuffer(memory, dtype, size, start).reshape(shape)


def native(x: Array) -> Array:
    """Return an array in the byte order of this machine."""
    return x.astype(x.dtype.newbyteorder("="), copy=False)


def as_bytes(x: Array) -> memoryview:
    """Return the memory of a contiguous array."""
    return x.reshape(-1).view(np.uint8).data


def fill(file: BinaryIO, x: Array) -> None:
    """Read a contiguous array's bytes from a file."""
    into = as_bytes(x)
    done = 0
    while done < len(into):
        count = file.readinto(into[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"it ends {len(into) - done} bytes early")
        done += count
