"""Convolution where each output channel sees one input channel: a weighted sum of shifted pieces.

There is no matrix product in it, so each tile is one einsum whose inner loop runs along
neighbouring positions and channels, which in channels-last memory lie side by side.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array
from fconv.engine.cpu.direct import matrix_of, shares
from fconv.engine.cpu.scratch import scratch
from fconv.engine.cpu.tiles import Correlation, Tile, piece, tiles, windows
from fconv.engine.threads import run

_TILE_BYTES = 1 << 18
_KERNEL, _OUT = "klm", "xyz"


def correlate(x: Array, filters: Array, at: Correlation, y: Array, bias: Array | None = None) -> None:
    """Correlate every channel with a filter of its own.

    Parameters
    ----------
    x : array, shape (N, *in_size, C)
        Any strides.
    filters : array, shape (*kernel, C)
        Any strides.
    at : Correlation
        Where the windows lie.
    y : array, shape (N, *out_size, C)
        Is written to.
    bias : array, shape (C,), optional
        Added.
    """
    n = len(at.kernel)
    rule = f"n{_OUT[:n]}{_KERNEL[:n]}c,{_KERNEL[:n]}c->n{_OUT[:n]}c"
    plan, filters = _plan(x, at), np.ascontiguousarray(filters)

    def work(i: int) -> None:
        tile = plan[i]
        whole = y[tile.index]
        out = whole if whole.flags.c_contiguous else scratch("out", whole.shape, x.dtype)
        np.einsum(rule, windows(piece(x, tile, at), tile.size, at), filters, out=out)
        if bias is not None:
            out += bias
        if out is not whole:
            whole[...] = out

    run(work, len(plan))


def filter_gradient(g: Array, x: Array, at: Correlation) -> Array:
    """Take the gradient of `correlate`'s output (N, *out_size, C) to that of its filters, (*kernel, C)."""
    n = len(at.kernel)
    rule = f"n{_OUT[:n]}{_KERNEL[:n]}c,n{_OUT[:n]}c->{_KERNEL[:n]}c"
    parts = shares(_plan(x, at), 16)
    totals = np.zeros((len(parts), *at.kernel, x.shape[-1]))

    def work(i: int) -> None:
        some = scratch("sums", totals.shape[1:], x.dtype)
        for tile in parts[i]:
            slopes = matrix_of(g, tile).reshape(tile.count, *tile.size, -1)
            np.einsum(rule, windows(piece(x, tile, at), tile.size, at), slopes, out=some)
            totals[i] += some

    run(work, len(parts))
    return totals.sum(axis=0).astype(x.dtype)


def _plan(x: Array, at: Correlation) -> list[Tile]:
    positions = max(64, _TILE_BYTES // max(1, x.shape[-1] * x.itemsize))
    total = x.shape[0] * prod(at.out_size)
    return tiles(x.shape[0], at.out_size, max(1, min(positions, max(64, -(-total // 4)))))
