"""Convolution where each output channel sees one input channel: a weighted sum of shifted pieces.

There is no matrix product in it, so each tile is one einsum whose inner loop runs along
neighbouring positions and channels, which in channels-last memory lie side by side.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array
from fconv.conv.direct import shares
from fconv.conv.scratch import scratch
from fconv.conv.tiles import Correlation, Tile, piece, tiles, windows
from fconv.threads import run

_TILE_BYTES = 1 << 18
_KERNEL, _OUT = "klm", "xyz"


def correlate(x: Array, filters: Array, at: Correlation, y: Array) -> None:
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
    """
    plan = _plan(x, at)
    n = len(at.kernel)
    rule = f"n{_OUT[:n]}{_KERNEL[:n]}c,{_KERNEL[:n]}c->n{_OUT[:n]}c"

    def work(i: int) -> None:
        tile = plan[i]
        out = scratch("out", (tile.count, *tile.size, x.shape[-1]), x.dtype)
        np.einsum(rule, windows(piece(x, tile, at), tile.size, at), filters, out=out)
        y[tile.index] = out

    run(work, len(plan))


def filter_gradient(g: Array, x: Array, at: Correlation) -> Array:
    """Take the gradient of `correlate`'s output (N, *out_size, C) to that of its filters, (*kernel, C)."""
    plan = _plan(x, at)
    n = len(at.kernel)
    rule = f"n{_OUT[:n]}{_KERNEL[:n]}c,n{_OUT[:n]}c->{_KERNEL[:n]}c"
    parts = shares(plan, 16)
    totals = np.empty((len(parts), *at.kernel, x.shape[-1]), x.dtype)

    def work(i: int) -> None:
        for j, tile in enumerate(parts[i]):
            some = np.einsum(rule, windows(piece(x, tile, at), tile.size, at), g[tile.index])
            totals[i] = some if j == 0 else totals[i] + some

    run(work, len(parts))
    return totals.sum(axis=0)


def _plan(x: Array, at: Correlation) -> list[Tile]:
    positions = max(64, _TILE_BYTES // max(1, x.shape[-1] * x.itemsize))
    total = x.shape[0] * prod(at.out_size)
    return tiles(x.shape[0], at.out_size, max(1, min(positions, max(64, -(-total // 4)))))
