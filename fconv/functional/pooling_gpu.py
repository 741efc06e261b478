"""Maxima over windows on the GPU, by kernels of our own."""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array, Shape, library_of, xp_of
from fconv.conv.geometry import Windows
from fconv.conv.kernels import TYPES, start

_MOST_ENTRIES = 1 << 31  # of a plane, which kernels count in 32 bits


def serves(x: Array, windows: Windows) -> bool:
    """Tell whether these kernels can: float32 or float64 on the GPU, and something to do."""
    fits = max(prod(windows.in_size), prod(windows.out_size), prod(x.shape[:2])) < _MOST_ENTRIES
    return (
        library_of(x) == "cupy" and x.dtype in TYPES and fits and prod(x.shape) * prod(windows.out_size) > 0
    )


def largest(x: Array, windows: Windows) -> tuple[Array, Array]:
    """Give the largest entry of each window of `x` (N, C, *in_size), and its number in the window."""
    xp = xp_of(x)
    shape = (*x.shape[:2], *windows.out_size)
    y, numbers = xp.empty(shape, x.dtype), xp.empty(shape, np.int32)
    start(
        "max_pool", xp.ascontiguousarray(x), y, numbers,
        count=prod(shape), numbers=x.shape[:2], windows=windows,
    )  # fmt: skip
    return y, numbers


def spread(g: Array, numbers: Array, shape: Shape, windows: Windows) -> Array:
    """Give each entry of the input the gradients of the windows whose largest it is."""
    xp = xp_of(g)
    dx = xp.empty(shape, g.dtype)
    start(
        "max_pool_input", xp.ascontiguousarray(g), numbers, dx,
        count=prod(shape), numbers=shape[:2], windows=windows,
    )  # fmt: skip
    return dx
