"""NumPy or CuPy: all windows of the whole batch copied into columns, then one matrix product a picture."""

from __future__ import annotations

import sys
from math import prod

import fconv as fc
from benchmarks.libraries import by_parts, device

VERSIONS = ("numpy",)
set_device, details = device.choose, device.details


def _columns(x, at):
    surrounded = by_parts.padded(x, at)
    cols = fc.arrays.xp_of(x).empty((*x.shape[:2], at.kernel**at.ndim, *at.out_size), x.dtype)
    for i, (_, where) in enumerate(by_parts.offsets(at)):
        cols[:, :, i] = surrounded[where]
    return cols.reshape(at.batch, at.groups, -1, prod(at.out_size))


def _rows(w, at):
    return w.reshape(at.groups, at.out // at.groups, -1)


def forward(x, w, at):
    return (_rows(w, at) @ _columns(x, at)).reshape(at.batch, at.out, *at.out_size)


def weight_gradient(g, x, at):
    rows = g.reshape(at.batch, at.groups, at.out // at.groups, -1)
    return (rows @ _columns(x, at).swapaxes(-1, -2)).sum(0).reshape(at.weight_shape)


def input_gradient(g, w, at):
    rows = g.reshape(at.batch, at.groups, at.out // at.groups, -1)
    cols = (_rows(w, at).swapaxes(-1, -2) @ rows).reshape(at.batch, at.channels, -1, *at.out_size)
    dxp = by_parts.empty_padded(g, at)
    for i, (_, where) in enumerate(by_parts.offsets(at)):
        dxp[where] += cols[:, :, i]
    return by_parts.inner(dxp, at)


def convolution(case, what, layout):
    return by_parts.convolution(sys.modules[__name__], case, what)


def numpy(results):
    return list(fc.to_device(results, "cpu"))
