"""Floating-point numbers that NumPy has no dtype for, widened to float32.

All of them are exact in float32. bfloat16 is the upper half of a float32. The eight-bit
formats are those of Micikevicius et al., "FP8 formats for deep learning" (2022): E5M2 with the
special values of IEEE 754, E4M3 with NaN alone; FNUZ has no negative zero, whose place NaN
takes, and a bias greater by one; E8M0 is a power of two (OCP Microscaling formats, 2023).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from fconv.arrays import Array

WIDENED = {
    "BF16": ("bfloat16", 2), "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
}  # fmt: skip


def widen(raw: Array, code: str) -> Array:
    """Turn raw bits (uint8 or uint16) into float32.

    Examples
    --------
    >>> widen(np.array([0x3F80, 0xC000], np.uint16), "BF16")
    array([ 1., -2.], dtype=float32)
    >>> widen(np.array([0x38, 0xFE, 0x01], np.uint8), "F8_E4M3")
    array([ 1.000000e+00, -4.480000e+02,  1.953125e-03], dtype=float32)
    """
    if code == "BF16":
        return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return _table(code)[raw]


@cache
def _table(code: str) -> Array:
    codes = np.arange(256)
    if code == "F8_E8M0":
        values = np.ldexp(1.0, codes - 127)
        values[255] = np.nan
        return values.astype(np.float32)
    bits, ieee, fnuz = (2 if "E5M2" in code else 3), code == "F8_E5M2", code.endswith("FNUZ")
    bias = (1 << (6 - bits)) - (0 if fnuz else 1)
    sign, exponent, fraction = (
        codes >> 7,
        (codes >> bits) & ((1 << (7 - bits)) - 1),
        codes & ((1 << bits) - 1),
    )
    normal = exponent > 0
    values = np.ldexp(fraction + normal * 2.0**bits, np.where(normal, exponent, 1) - bias - bits)
    if ieee:
        values[exponent == 31] = np.nan
        values[(exponent == 31) & (fraction == 0)] = np.inf
    elif not fnuz:
        values[(codes & 127) == 127] = np.nan
    values = np.where(sign == 1, -values, values)
    if fnuz:
        values[128] = np.nan
    return values.astype(np.float32)
