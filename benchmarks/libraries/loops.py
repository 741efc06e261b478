"""Python loops over pictures, filters and positions; only the sum over one window is NumPy's."""

from __future__ import annotations

import sys
from math import prod

import numpy as np

from benchmarks.libraries import NotServed, by_parts

VERSIONS = ("numpy",)
BEARABLE = 500_000  # windows; each takes some microseconds


def _windows(at):
    """Give, for each filter and position, the index of the output and of its window in the padded input."""
    share = at.channels // at.groups
    for n, o, *position in np.ndindex(at.batch, at.out, *at.out_size):
        first = o // (at.out // at.groups) * share
        spatial = (
            slice(i * at.stride, i * at.stride + (at.kernel - 1) * at.dilation + 1, at.dilation)
            for i in position
        )
        yield (n, o, *position), o, (n, slice(first, first + share), *spatial)


def forward(x, w, at):
    xp = by_parts.padded(x, at)
    y = np.empty((at.batch, at.out, *at.out_size), x.dtype)
    for i, o, window in _windows(at):
        y[i] = (xp[window] * w[o]).sum()
    return y


def weight_gradient(g, x, at):
    xp = by_parts.padded(x, at)
    dw = np.zeros(at.weight_shape, x.dtype)
    for i, o, window in _windows(at):
        dw[o] += g[i] * xp[window]
    return dw


def input_gradient(g, w, at):
    dxp = by_parts.empty_padded(g, at)
    for i, o, window in _windows(at):
        dxp[window] += g[i] * w[o]
    return by_parts.inner(dxp, at)


def convolution(case, what, layout):
    at = by_parts.geometry(case)
    if (count := at.batch * at.out * prod(at.out_size)) > BEARABLE:
        raise NotServed(f"{count} windows would take too long")
    return by_parts.convolution(sys.modules[__name__], case, what)


def numpy(results):
    return list(results)
