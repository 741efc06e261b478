"""Loops compiled by Numba, in parallel over pictures and filters; signals are pictures of one row."""

from __future__ import annotations

import sys

import numba
import numpy as np
from numba import njit, prange

from benchmarks.libraries import NotServed, by_parts

VERSIONS = ("numba", "llvmlite")


# The innermost loop runs along a row, which the compiler turns into vector instructions.
@njit(parallel=True, fastmath=True)
def _forward(xp, w, y, s, d, groups):
    N, O, H, W = y.shape  # noqa: E741
    C, KH, KW = w.shape[1:]
    for p in prange(N * O):
        n, o = p // O, p % O
        first = o // (O // groups) * C
        for i in range(H):
            row = y[n, o, i]
            row[:] = 0
            for c in range(C):
                for k in range(KH):
                    for m in range(KW):
                        a = w[o, c, k, m]
                        source = xp[n, first + c, i * s[0] + k * d[0]]
                        for j in range(W):
                            row[j] += a * source[j * s[1] + m * d[1]]


@njit(parallel=True, fastmath=True)
def _input_gradient(g, w, dxp, s, d, groups):
    N, O, H, W = g.shape  # noqa: E741
    C, KH, KW = w.shape[1:]
    filters = O // groups
    for p in prange(N * C * groups):
        n, channel = p // (C * groups), p % (C * groups)
        c = channel % C
        first = channel // C * filters
        for o in range(first, first + filters):
            for i in range(H):
                for k in range(KH):
                    row = dxp[n, channel, i * s[0] + k * d[0]]
                    for m in range(KW):
                        a = w[o, c, k, m]
                        for j in range(W):
                            row[j * s[1] + m * d[1]] += a * g[n, o, i, j]


@njit(parallel=True, fastmath=True)
def _weight_gradient(g, xp, dw, s, d, groups):
    N, O, H, W = g.shape  # noqa: E741
    C, KH, KW = dw.shape[1:]
    for p in prange(O * C):
        o, c = p // C, p % C
        channel = o // (O // groups) * C + c
        for k in range(KH):
            for m in range(KW):
                total = dw[o, c, k, m]
                for n in range(N):
                    for i in range(H):
                        source = xp[n, channel, i * s[0] + k * d[0]]
                        for j in range(W):
                            total += g[n, o, i, j] * source[j * s[1] + m * d[1]]
                dw[o, c, k, m] = total


def _flat(a):
    return a if a.ndim == 4 else a[:, :, None]


def _steps(at):
    return ((1,) * (2 - at.ndim) + (at.stride,) * at.ndim, (1,) * (2 - at.ndim) + (at.dilation,) * at.ndim)


def forward(x, w, at):
    y = np.empty((at.batch, at.out, *at.out_size), x.dtype)
    _forward(_flat(by_parts.padded(x, at)), _flat(w), _flat(y), *_steps(at), at.groups)
    return y


def input_gradient(g, w, at):
    dxp = by_parts.empty_padded(g, at)
    _input_gradient(_flat(g), _flat(w), _flat(dxp), *_steps(at), at.groups)
    return by_parts.inner(dxp, at)


def weight_gradient(g, x, at):
    dw = np.zeros(at.weight_shape, x.dtype)
    _weight_gradient(_flat(g), _flat(by_parts.padded(x, at)), _flat(dw), *_steps(at), at.groups)
    return dw


def convolution(case, what, layout):
    if case.ndim == 3:
        raise NotServed("the loop is of pictures and signals")
    return by_parts.convolution(sys.modules[__name__], case, what)


def numpy(results):
    return list(results)


def set_threads(n):
    numba.set_num_threads(n)
