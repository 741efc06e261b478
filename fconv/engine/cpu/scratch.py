"""Work space of a thread, which is kept from call to call."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np

from fconv.arrays import Array, Shape
from fconv.engine.threads import depth

_LARGEST = 8 << 20  # bytes; what is larger is given back when the call ends
_buffers = threading.local()


def scratch(role: str, shape: Shape, dtype: Any) -> Array:
    """Return an array of this thread to work in; it holds anything.

    A new array of a few MB costs a page fault for every 4 kB, which on many layers takes as long as the
    arithmetic. The pages of this one are mapped already.

    Parameters
    ----------
    role : str
        What it is for. The next call with the same role in the same thread gives the same memory,
        but for a task inside a task, which has memory of its own.
    shape : tuple of int
        Its shape.
    dtype : dtype
        Its dtype.

    Returns
    -------
    array
        C-contiguous, aligned to a cache line.
    """
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    kept: dict[str, Array] = _buffers.__dict__
    if (inside := depth()) > 1:
        role = f"{role} {inside}"
    buffer = kept.get(role)
    if buffer is None or buffer.size < size:
        raw = np.empty(size + 64, np.uint8)
        start = -raw.ctypes.data % 64
        buffer = raw[start : start + size]
        if size <= _LARGEST:
            kept[role] = buffer
    return np.ndarray(shape, dtype, buffer)
