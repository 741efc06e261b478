"""Convolution where each output channel sees one input channel: a weighted sum of shifted pieces.

There is no matrix product in it, so each tile is one einsum whose inner loop runs along
neighbouring positions and channels, which in channels-last memory lie side by side; or, where
Numba is installed, one pass of compiled loops.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array
from fconv.conv import depthwise_loops
from fconv.conv.depthwise_loops import DepthwiseLoops
from fconv.conv.direct import matrix_of, shares
from fconv.conv.scratch import scratch
from fconv.conv.tiles import Correlation, Tile, piece, tiles, windows
from fconv.threads import run

_TILE_BYTES = 1 << 18
_COMPILED_TILE_BYTES = 1 << 20
_SUMMED = 8192  # positions that compiled loops add up one by one, before the rounding errors would grow
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
    if not x.shape[-1] == filters.shape[-1] == y.shape[-1]:  # the compiled loops check no bounds
        raise ValueError(f"depthwise: got {x.shape[-1]}, {filters.shape[-1]} and {y.shape[-1]} channels")
    n = len(at.kernel)
    rule = f"n{_OUT[:n]}{_KERNEL[:n]}c,{_KERNEL[:n]}c->n{_OUT[:n]}c"
    loops = _loops(at)
    plan = _plan(x, at, loops is not None)
    filters = np.ascontiguousarray(filters)
    shift = np.zeros(x.shape[-1], x.dtype) if bias is None else np.ascontiguousarray(bias)

    def work(i: int) -> None:
        tile = plan[i]
        whole = y[tile.index]
        out = whole if whole.flags.c_contiguous else scratch("out", whole.shape, x.dtype)
        if loops is not None:
            seen, first = _seen(x, tile, at)
            loops.correlate(seen, filters, shift, out, first, at.stride, at.dilation)
        else:
            np.einsum(rule, windows(piece(x, tile, at), tile.size, at), filters, out=out)
            if bias is not None:
                out += bias
        if out is not whole:
            whole[...] = out

    run(work, len(plan))


def filter_gradient(g: Array, x: Array, at: Correlation) -> Array:
    """Take the gradient of `correlate`'s output (N, *out_size, C) to that of its filters, (*kernel, C)."""
    if x.shape[-1] != g.shape[-1]:
        raise ValueError(f"depthwise: got {x.shape[-1]} and {g.shape[-1]} channels")
    n = len(at.kernel)
    rule = f"n{_OUT[:n]}{_KERNEL[:n]}c,n{_OUT[:n]}c->{_KERNEL[:n]}c"
    loops = _loops(at)
    parts = shares(_plan(x, at, loops is not None, _SUMMED), 16)
    totals = np.zeros((len(parts), *at.kernel, x.shape[-1]))

    def work(i: int) -> None:
        some = scratch("sums", totals.shape[1:], x.dtype)
        for tile in parts[i]:
            slopes = matrix_of(g, tile).reshape(tile.count, *tile.size, -1)
            if loops is not None:
                seen, first = _seen(x, tile, at)
                loops.filter_gradient(slopes, seen, some, first, at.stride, at.dilation)
            else:
                np.einsum(rule, windows(piece(x, tile, at), tile.size, at), slopes, out=some)
            totals[i] += some

    run(work, len(parts))
    return totals.sum(axis=0).astype(x.dtype)


def _seen(x: Array, tile: Tile, at: Correlation) -> tuple[Array, tuple[int, ...]]:
    """Give what compiled loops read for a tile, contiguous, and where in it the first window begins.

    They pass over what lies outside of the picture, so that channels-last pictures are read in place.
    """
    images = x[tile.images]
    if images.flags.c_contiguous:
        corner = zip(tile.start, at.stride, at.before, strict=True)
        return images, tuple(a * s - b for a, s, b in corner)
    return np.ascontiguousarray(piece(x, tile, at)), (0,) * len(at.kernel)


def _loops(at: Correlation) -> DepthwiseLoops | None:
    return depthwise_loops.loops() if len(at.kernel) == 2 else None


def _plan(x: Array, at: Correlation, large: bool, most: int | None = None) -> list[Tile]:
    tile_bytes = _COMPILED_TILE_BYTES if large else _TILE_BYTES
    positions = max(64, tile_bytes // max(1, x.shape[-1] * x.itemsize))
    positions = positions if most is None else min(positions, most)
    total = x.shape[0] * prod(at.out_size)
    return tiles(x.shape[0], at.out_size, max(1, min(positions, max(64, -(-total // 4)))))
