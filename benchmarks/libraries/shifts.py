"""NumPy: one matrix product for each element of the kernel, over the picture shifted by it."""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.libraries import by_parts

VERSIONS = ("numpy",)


def _grouped(a, at):
    """Turn (N, C, ...) into (N, groups, C / groups, positions)."""
    return a.reshape(a.shape[0], at.groups, a.shape[1] // at.groups, -1)


def _matrices(w, at):
    """Return the matrix of each element of the kernel: (*kernel, groups, O / groups, C / groups)."""
    return np.ascontiguousarray(np.moveaxis(w.reshape(at.groups, -1, *w.shape[1:]), (0, 1, 2), (-3, -2, -1)))


def forward(x, w, at):
    xp, w = by_parts.padded(x, at), _matrices(w, at)
    y = np.zeros((at.batch, at.groups, at.out // at.groups, int(np.prod(at.out_size))), x.dtype)
    for k, where in by_parts.offsets(at):
        y += w[k] @ _grouped(xp[where], at)
    return y.reshape(at.batch, at.out, *at.out_size)


def weight_gradient(g, x, at):
    xp, g = by_parts.padded(x, at), _grouped(g, at)
    dw = np.empty((at.groups, at.out // at.groups, *at.weight_shape[1:]), x.dtype)
    for k, where in by_parts.offsets(at):
        dw[(..., *k)] = (g @ _grouped(xp[where], at).swapaxes(-1, -2)).sum(0)
    return dw.reshape(at.weight_shape)


def input_gradient(g, w, at):
    w, rows = _matrices(w, at).swapaxes(-1, -2), _grouped(g, at)
    dxp = by_parts.empty_padded(g, at)
    for k, where in by_parts.offsets(at):
        dxp[where] += (w[k] @ rows).reshape(at.batch, at.channels, *at.out_size)
    return by_parts.inner(dxp, at)


def convolution(case, what, layout):
    return by_parts.convolution(sys.modules[__name__], case, what)


def numpy(results):
    return list(results)
