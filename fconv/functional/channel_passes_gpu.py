"""The passes over memory that batch normalisation is made of, on the GPU: a kernel each."""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array, library_of, xp_of
from fconv.engine.cuda.launch import TYPES, launch

_MOST_ENTRIES = 1 << 31  # of the positions of a channel, which kernels count in 32 bits
_PARTS = 1 << 17  # partial sums, about: as many threads

SOURCE = r"""
// Numbers of each channel of (N, C, P): the sum of u, and of u times v, each less its channel's number.
// S threads share a channel, and neighbours among them take neighbouring elements.
extern "C" __global__ void channel_sums(
    long long count, const T *u, const T *v, const T *lower_u, const T *lower_v, double *sums,
    int N, int C, int P, int S
) {
    EACH(i, count) {
        long long r = i;
        int t = last(r, S), c = (int)r;
        double plain = 0, product = 0;
        for (long long m = t; m < (long long)N * P; m += S) {
            long long at = (m / P * C + c) * P + m % P;
            double a = (double)u[at] - (double)lower_u[c], b = (double)v[at] - (double)lower_v[c];
            plain += a;
            product += a * b;
        }
        sums[i] = plain;
        sums[count + i] = product;
    }
}

extern "C" __global__ void by_channel(
    long long count, const T *x, const T *lower, const T *by, const T *to, T *y, int C, int P
) {
    EACH(i, count) {
        int c = (int)(i / P % C);
        y[i] = (x[i] - lower[c]) * by[c] + to[c];
    }
}

extern "C" __global__ void by_channel_of_two(
    long long count, const T *x, const T *lower, const T *by, const T *to, const T *g, const T *factor, T *y,
    int C, int P
) {
    EACH(i, count) {
        int c = (int)(i / P % C);
        y[i] = (x[i] - lower[c]) * by[c] + to[c] + g[i] * factor[c];
    }
}
"""


def serves(x: Array) -> bool:
    """Return whether these kernels can: float32 or float64 on the GPU, and something to do."""
    return library_of(x) == "cupy" and x.dtype in TYPES and 0 < x.size // max(1, x.shape[1]) < _MOST_ENTRIES


class GpuPasses:
    """As `CpuPasses`. Sums are made in float64, in the same order on every run."""

    def __init__(self, x: Array) -> None:
        self._x = xp_of(x).ascontiguousarray(x)
        self._sizes = (x.shape[0], x.shape[1], prod(x.shape[2:]))

    def moments(self) -> tuple[Array, Array]:
        """Return mean and biased variance of each channel."""
        x, (samples, _, positions) = self._x, self._sizes
        # Differences from an element of each channel: a mean far above the deviation costs no digits.
        pivot = xp_of(x).ascontiguousarray(x.reshape(self._sizes)[0, :, 0])
        total, squares = self._summed(x, x, pivot, pivot)
        off = total / (samples * positions)
        mean = pivot.astype(np.float64) + off
        return mean, xp_of(x).maximum(squares / (samples * positions) - off**2, 0)

    def sums(self, g: Array, near: Array) -> tuple[Array, Array]:
        """Sum `g`, and ``g * (x - near)``, of each channel."""
        return self._summed(g, self._x, xp_of(near).zeros_like(near), near)

    def mapped(self, near: Array, by: Array, to: Array) -> Array:
        """Return ``(x - near) * by + to``."""
        return self._made("by_channel", self._x, near, by, to)

    def combined(self, near: Array, by: Array, to: Array, g: Array, factor: Array) -> Array:
        """Return ``(x - near) * by + to + g * factor``."""
        return self._made("by_channel_of_two", self._x, near, by, to, g, factor)

    def scaled(self, g: Array, factor: Array) -> Array:
        """Return ``g * factor``."""
        nothing = xp_of(g).zeros(factor.shape, g.dtype)
        return self._made("by_channel", g, nothing, factor, nothing)

    def _summed(self, u: Array, v: Array, lower_u: Array, lower_v: Array) -> tuple[Array, Array]:
        """Sum u less its number, and its product with v less its number, of each channel."""
        xp, (samples, channels, positions) = xp_of(u), self._sizes
        parts = max(1, min(samples * positions, _PARTS // channels))
        found = xp.empty((2, channels, parts), np.float64)
        launch(
            SOURCE, "channel_sums", *map(xp.ascontiguousarray, (u, v, lower_u, lower_v)), found,
            count=channels * parts, numbers=(*self._sizes, parts),
        )  # fmt: skip
        plain, product = found.sum(axis=2)
        return plain, product

    def _made(self, name: str, *arrays: Array) -> Array:
        xp, dtype = xp_of(self._x), self._x.dtype
        y = xp.empty(self._x.shape, dtype)
        given = (xp.ascontiguousarray(a.astype(dtype, copy=False)) for a in arrays)
        launch(SOURCE, name, *given, y, count=y.size, numbers=self._sizes[1:])
        return y
