"""NumPy's numbers and arrays, as pickles hold them."""

from __future__ import annotations

import re
from reprlib import repr as shortened
from typing import Any

import numpy as np

from fconv.files.formats.claims import Budget, array_bytes
from fconv.files.formats.placeholders import Placeholder

_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_BUFFERS = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")  # of protocol 5
_NUMBERS = re.compile(r"[biufc]\d{1,2}", re.ASCII)


def read_numpy(x: Placeholder, budget: Budget) -> Any:
    """Return the number or array that a placeholder holds, and the placeholder itself where it is neither.

    NumPy scalars become Python numbers; arrays are copied. Arrays of objects, whose elements would be another
    pickle, of text and of records stay placeholders.

    Raises
    ------
    ValueError
        An array whose bytes are not those of its shape.
    """
    if x.name in _SCALARS and x.arguments is not None and len(x.arguments) == 2:
        dtype, data = _dtype(x.arguments[0]), x.arguments[1]
        if dtype is not None and isinstance(data, bytes) and len(data) == dtype.itemsize:
            return np.frombuffer(data, dtype)[0].item()
    if x.name in _ARRAYS and isinstance(x.state, tuple) and len(x.state) == 5:
        _, shape, kind, fortran, data = x.state
    elif x.name in _BUFFERS and x.arguments is not None and len(x.arguments) == 4:
        data, kind, shape, order = x.arguments
        fortran = order == "F"
    else:
        return x
    dtype = _dtype(kind)
    if dtype is None or not isinstance(shape, tuple) or not isinstance(data, bytes):
        return x
    if array_bytes(shape, dtype.itemsize) != len(data):
        raise ValueError(f"an array of shape {shortened(shape)} and {dtype} has {len(data)} bytes")
    budget.spend(len(data))
    found = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
    return found.reshape(shape[::-1]).T if fortran else found.reshape(shape)


def _dtype(x: Any) -> np.dtype[Any] | None:
    """Read a dtype of numbers: numpy.dtype("f8", ...) with the state (3, "<", ...)."""
    if not isinstance(x, Placeholder) or x.name != "numpy.dtype" or not x.arguments:
        return None
    code, order = x.arguments[0], x.state[1] if isinstance(x.state, tuple) and len(x.state) > 1 else "|"
    if not isinstance(code, str) or not _NUMBERS.fullmatch(code) or order not in ("<", ">", "|", "="):
        return None
    try:
        return np.dtype(f"{order}{code}")
    except TypeError:
        return None
