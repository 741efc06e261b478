"""Choosing between two values element by element, without a branch for each."""

from __future__ import annotations

from functools import lru_cache
from math import copysign
from typing import Any

import numpy as np

from fconv.arrays import Array, xp_of

_MANY = 1 << 18
_BITS = {np.dtype(f"f{size}"): np.dtype(f"i{size}") for size in (2, 4, 8)}


def where(mask: Array, a: Array | float, b: Array | float) -> Array:
    """Return `a` where `mask` is true, and `b` elsewhere, as ``numpy.where``.

    NumPy's own takes a branch for each element, which a processor cannot foresee where signs are
    random: it is ten times slower there. Here the bits of the elements are masked.

    Parameters
    ----------
    mask : array
        Boolean.
    a, b : array or float
        At least one is a floating-point array; a number takes its dtype.

    Returns
    -------
    array
        Of their common shape.

    Examples
    --------
    >>> where(np.array([True, False]), np.array([1.0, 2.0]), 0.0)
    array([1., 0.])
    """
    dtypes = {v.dtype for v in (a, b) if hasattr(v, "dtype")}
    dtype = next(iter(dtypes))
    if xp_of(mask) is not np or len(dtypes) > 1 or dtype not in _BITS:
        a, b = (v if hasattr(v, "dtype") else dtype.type(v) for v in (a, b))
        return xp_of(mask).where(mask, a, b)
    bits = np.negative(np.asarray(mask).view(np.int8))  # all ones, or none
    if _is_zero(a):
        chosen = np.bitwise_and(np.invert(bits), _bits(b, dtype))
    elif _is_zero(b):
        chosen = np.bitwise_and(bits, _bits(a, dtype))
    else:
        second = _bits(b, dtype)
        chosen = np.bitwise_xor(second, np.bitwise_and(bits, np.bitwise_xor(_bits(a, dtype), second)))
    return np.asarray(chosen).view(dtype)


def positive_part(x: Array) -> Array:
    """Return ``max(x, 0)``.

    NumPy finds the larger of two arrays four times as fast as that of an array and a number.

    Examples
    --------
    >>> positive_part(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    xp = xp_of(x)
    if xp is not np or x.ndim != 1 or x.size > _MANY:
        return xp.maximum(x, 0)
    return np.maximum(x, _zeros(x.dtype)[: x.size])


@lru_cache(maxsize=4)
def _zeros(dtype: np.dtype[Any]) -> Array:
    zeros = np.zeros(_MANY, dtype)
    zeros.flags.writeable = False
    return zeros


def _bits(v: Array | float, dtype: np.dtype[Any]) -> Array:
    return np.asarray(v, dtype).view(_BITS[dtype])


def _is_zero(v: Array | float) -> bool:
    return isinstance(v, (int, float)) and v == 0 and copysign(1, v) > 0
