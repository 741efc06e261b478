"""Maxima over windows on the GPU, by kernels of our own."""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array, Shape, library_of, xp_of
from fconv.engine.cuda.launch import TYPES, WINDOWS, start
from fconv.geometry import Windows

_MOST_ENTRIES = 1 << 31  # of a plane, which kernels count in 32 bits

SOURCE = (
    WINDOWS
    + r"""
// The largest element of each window, and its number in the window: the first of equals, or the last NaN.
extern "C" __global__ void max_pool(long long count, const T *x, T *y, int *numbers, int N, SIZES) {
    EACH(i, count) {
        long long r = i;
        int ow = last(r, OW), oh = last(r, OH), od = last(r, OD);
        const T *plane = x + r * D * H * W;  // r: sample and channel
        T zero = 0, best = -1 / zero;  // what a window wholly outside has
        int found = -1;
        for (int k = 0; k < KD * KH * KW; k++) {
            int d = od * SD - PD + k / (KH * KW) * ED, h = oh * SH - PH + k / KW % KH * EH;
            int w = ow * SW - PW + k % KW * EW;
            if (d < 0 || d >= D || h < 0 || h >= H || w < 0 || w >= W) continue;
            T v = plane[((long long)d * H + h) * W + w];
            if (found < 0 || v > best || v != v) { best = v; found = k; }
        }
        y[i] = best;
        numbers[i] = found < 0 ? 0 : found;
    }
}

extern "C" __global__ void max_pool_input(long long count, const T *g, const int *numbers, T *dx, int N,
                                          SIZES) {
    EACH(i, count) {
        long long r = i;
        int w = last(r, W), h = last(r, H), d = last(r, D);
        long long plane = r * OD * OH * OW;
        T sum = 0;
        for (int k = 0; k < KD * KH * KW; k++) {
            int od = window_at(d, k / (KH * KW), SD, PD, ED, OD);
            int oh = window_at(h, k / KW % KH, SH, PH, EH, OH);
            int ow = window_at(w, k % KW, SW, PW, EW, OW);
            if (od < 0 || oh < 0 || ow < 0) continue;
            long long at = plane + ((long long)od * OH + oh) * OW + ow;
            if (numbers[at] == k) sum += g[at];
        }
        dx[i] = sum;
    }
}
"""
)


def serves(x: Array, windows: Windows) -> bool:
    """Return whether these kernels can: float32 or float64 on the GPU, and something to do."""
    fits = max(prod(windows.in_size), prod(windows.out_size), prod(x.shape[:2])) < _MOST_ENTRIES
    return (
        library_of(x) == "cupy" and x.dtype in TYPES and fits and prod(x.shape) * prod(windows.out_size) > 0
    )


def largest(x: Array, windows: Windows) -> tuple[Array, Array]:
    """Return the largest element of each window of `x` (N, C, *in_size), and its number in the window."""
    xp = xp_of(x)
    shape = (*x.shape[:2], *windows.out_size)
    y, numbers = xp.empty(shape, x.dtype), xp.empty(shape, np.int32)
    start(
        SOURCE, "max_pool", xp.ascontiguousarray(x), y, numbers,
        count=prod(shape), numbers=x.shape[:2], windows=windows,
    )  # fmt: skip
    return y, numbers


def spread(g: Array, numbers: Array, shape: Shape, windows: Windows) -> Array:
    """Return each element of the input the gradients of the windows whose largest it is."""
    xp = xp_of(g)
    dx = xp.empty(shape, g.dtype)
    start(
        SOURCE, "max_pool_input", xp.ascontiguousarray(g), numbers, dx,
        count=prod(shape), numbers=shape[:2], windows=windows,
    )  # fmt: skip
    return dx
