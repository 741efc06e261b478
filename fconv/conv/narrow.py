"""Convolution between few channels, in both directions, by compiled loops along whole pictures.

A matrix product of a few rows and a few columns spends its time on laying the windows out. These
loops need no layout; they want Numba, and stride 1.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array
from fconv.conv import narrow_loops, planar
from fconv.conv.direct import shares
from fconv.conv.narrow_loops import NarrowLoops
from fconv.conv.scratch import scratch
from fconv.conv.tiles import Correlation, Tile, planes, tiles
from fconv.threads import run

_MOST = 65536  # positions of a tile
_PART_BYTES = 2 << 20  # that what its windows see may take
_TILE_WORK = 4_000_000  # multiplications that take as long as handing a tile to another thread
_WORK = 2048  # numbers that a loop adds to, which stay in the first level of cache
_SHARES = 8  # partial sums of a filter gradient; a fixed number, whatever the number of threads


def serves(at: Correlation) -> bool:
    """Tell whether these loops can: they want two axes, stride 1, and Numba."""
    return problem(at) is None


def problem(at: Correlation) -> str | None:
    """Say why these loops cannot serve, if they cannot."""
    if len(at.kernel) != 2:
        return f"needs two axes, got {len(at.kernel)}"
    if at.stride != (1, 1):
        return f"needs stride 1, got {at.stride}"
    if narrow_loops.loops() is None:
        return "needs Numba (pip install 'fconv[jit]') and FCONV_JIT other than 0"
    return None


def correlate(x: Array, weight: Array, at: Correlation, y: Array, bias: Array | None = None) -> None:
    """Correlate `x` with filters.

    Parameters
    ----------
    x : array, shape (N, *in_size, C)
        Any strides.
    weight : array, shape (O, C, *kernel)
        Any strides.
    at : Correlation
        Where the windows lie.
    y : array, shape (N, *out_size, O)
        Is written to.
    bias : array, shape (O,), optional
        Added.
    """
    _check(x, y, weight.shape[:2], at)
    loops, plan = _loops(at), _plan(x, at, prod(weight.shape))
    filters = np.ascontiguousarray(weight)
    shift = np.zeros(len(filters), x.dtype) if bias is None else np.ascontiguousarray(bias)

    def work(i: int) -> None:
        part = _part(x, plan[i], at)
        out = np.moveaxis(y[plan[i].index], -1, 1)
        loops.correlate(part, filters, shift, _room(part), out, at.dilation)

    run(work, len(plan))


def filter_gradient(g: Array, x: Array, at: Correlation) -> Array:
    """Take the gradient of `correlate`'s output (N, *out_size, O) to that of its filters, (O, C, *kernel)."""
    outer, inner = g.shape[-1], x.shape[-1]
    _check(x, g, (outer, inner), at)
    loops, parts = _loops(at), shares(_plan(x, at, outer * inner * prod(at.kernel)), _SHARES)
    totals = np.zeros((len(parts), outer, inner, *at.kernel))

    def work(i: int) -> None:
        some = scratch("sums", totals.shape[1:], np.float64)
        for tile in parts[i]:
            part = _part(x, tile, at)
            slopes = np.moveaxis(g[tile.index], -1, 1)
            loops.filter_gradient(slopes, part, _room(part), some, at.dilation)
            totals[i] += some

    run(work, len(parts))
    total = totals.sum(axis=0)
    if not np.isfinite(total).all():
        return planar.filter_gradient(g, x, at)  # a zero between two rows may have met an infinity
    return total.astype(x.dtype)


def _loops(at: Correlation) -> NarrowLoops:
    loops = narrow_loops.loops()
    if loops is None or problem(at):
        raise ValueError(f"narrow: {problem(at)}")
    return loops


def _check(x: Array, y: Array, channels: tuple[int, ...], at: Correlation) -> None:
    """Require shapes that fit: the compiled loops check no bounds."""
    expected = ((*at.in_size, channels[1]), (*at.out_size, channels[0]), x.shape[0])
    if (x.shape[1:], y.shape[1:], y.shape[0]) != expected:
        raise ValueError(f"narrow: got {x.shape} and {y.shape} for {channels} channels and {at}")


def _part(x: Array, tile: Tile, at: Correlation) -> Array:
    """Give the input that a tile's windows see, (C, images, *size), contiguous."""
    part = planes(x, tile, at)
    if part.flags.c_contiguous:
        return part
    copy = scratch("planes", part.shape, x.dtype)
    np.copyto(copy, part)
    return copy


def _room(part: Array) -> Array:
    return scratch("work", (max(_WORK, part.shape[-1]),), part.dtype)


def _plan(x: Array, at: Correlation, products: int) -> list[Tile]:
    """Divide the output, where a position takes so many multiplications."""
    total = x.shape[0] * prod(at.out_size)
    most = min(_MOST, _PART_BYTES // (x.shape[-1] * x.itemsize))
    return tiles(x.shape[0], at.out_size, max(1, min(most, max(_TILE_WORK // products, -(-total // 4)))))
