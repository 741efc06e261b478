"""Convolution of few input channels: windows laid out channels-first.

With one to four channels a row of a window is a short run in channels-last memory, and copying
it costs more than the arithmetic. Channels-first, all windows' elements at one place of the kernel
are rows of the picture, so the matrix of a tile is made of long runs; it stands the other way
round, one column a position. The input gradient, whose product would have as few columns as
there are channels, is made from that matrix too: the product of the gradient with the filters,
added back into place.
"""

from __future__ import annotations

import itertools
from math import prod

import numpy as np

from fconv.arrays import Array, Index
from fconv.engine.cpu.direct import matrix_of, positions_of, shares, summed
from fconv.engine.cpu.scratch import scratch
from fconv.engine.cpu.tiles import Correlation, Tile, planes, tiles, view
from fconv.engine.threads import run

FEW_OUTPUTS = 8  # below, the product is made with the positions along its rows
_MOST = 65536  # positions of a tile: its products are small, and the threads need the GIL between them
_PARTS = 8
_BANDS = 4
_ADDED = 16384  # numbers that are added into place at once
_ADDED_BYTES = 8 << 20  # that the product may take for it


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
    outer = weight.shape[0]
    filters = np.ascontiguousarray(weight).reshape(outer, -1)
    plan = _plan(x, at, filters.shape[1], outer)

    def work(i: int) -> None:
        tile = plan[i]
        matrix = columns(x, tile, at)
        out = y[tile.index]
        if outer < FEW_OUTPUTS:
            rows = scratch("out", (outer, tile.positions), x.dtype)
            np.matmul(filters, matrix, out=rows)
            if bias is not None:
                rows += bias[:, None]
            out[...] = np.moveaxis(rows.reshape(outer, tile.count, *tile.size), 0, -1)
            return
        straight = out.flags.c_contiguous
        flat = (out if straight else scratch("out", out.shape, x.dtype)).reshape(tile.positions, outer)
        np.matmul(matrix.T, filters.T, out=flat)
        if bias is not None:
            flat += bias
        if not straight:
            out[...] = flat.reshape(out.shape)

    run(work, len(plan))


def filter_gradient(g: Array, x: Array, at: Correlation) -> Array:
    """Take the gradient of `correlate`'s output (N, *out_size, O) to that of its filters, (O, C, *kernel)."""
    outer, inner = g.shape[-1], x.shape[-1]
    rows = inner * prod(at.kernel)

    def product(tile: Tile, out: Array) -> None:
        np.matmul(columns(x, tile, at), matrix_of(g, tile), out=out)

    total = summed(shares(_plan(x, at, rows, outer), _PARTS), (rows, outer), x.dtype, product)
    return total.T.reshape(outer, inner, *at.kernel)


def input_gradient(g: Array, weight: Array, at: Correlation, dx: Array) -> None:
    """Take the gradient of `correlate`'s output to that of its input.

    Parameters
    ----------
    g : array, shape (N, *out_size, O)
        Any strides.
    weight : array, shape (O, C, *kernel)
        Any strides.
    at : Correlation
        Where the windows lie.
    dx : array, shape (N, C, *in_size)
        Is written to.
    """
    outer, inner = weight.shape[:2]
    filters = np.ascontiguousarray(weight).reshape(outer, -1)
    rows = filters.shape[1]
    target = positions_of(rows, outer, g.itemsize, g.shape[0] * prod(at.out_size), _MOST)
    # What is added at once has to be worth the turns that threads take between two additions.
    target = max(target, min(_ADDED // inner, _ADDED_BYTES // (rows * g.itemsize)))
    bands = tiles(g.shape[0], at.out_size, max(target, _band(g.shape[0], prod(at.out_size))))
    whole = len({band.start for band in bands}) == 1
    boxes: list[Array | None] = [None] * len(bands)

    def work(i: int) -> None:
        band = bands[i]
        box = np.zeros((inner, band.count, *at.box(band.size)), g.dtype)
        for tile in tiles(band.count, band.size, target):
            matrix = scratch("columns", (filters.shape[1], tile.positions), g.dtype)
            np.matmul(filters.T, matrix_of(g[band.index], tile).T, out=matrix)
            _add(box, matrix.reshape(inner, *at.kernel, tile.count, *tile.size), tile, at)
        if whole:
            _put(dx[band.images], box, band, at, add=False)
        else:
            boxes[i] = box

    run(work, len(bands))
    if whole:
        return
    dx[...] = 0
    for band, box in zip(bands, boxes, strict=True):  # they overlap, and are added in a fixed order
        assert box is not None
        _put(dx[band.images], box, band, at, add=True)


def _band(batch: int, positions: int) -> int:
    """Return the positions of a piece of one thread: an image, or a part of it where there are few."""
    return positions if batch >= _BANDS else -(-positions // _BANDS)


def columns(x: Array, tile: Tile, at: Correlation) -> Array:
    """Lay a tile's windows out as a matrix, one column a position."""
    part = planes(x, tile, at)
    spatial = part.strides[2:]
    steps = tuple(stride * s for stride, s in zip(spatial, at.stride, strict=True))
    inner = tuple(stride * d for stride, d in zip(spatial, at.dilation, strict=True))
    shape = (part.shape[0], *at.kernel, part.shape[1], *tile.size)
    strides = (part.strides[0], *inner, part.strides[1], *steps)
    matrix = scratch("columns", shape, x.dtype)
    np.copyto(matrix, view(part, shape, strides))
    return matrix.reshape(-1, tile.positions)


def _add(box: Array, columns: Array, tile: Tile, at: Correlation) -> None:
    """Add the elements of a tile's windows into `box` (C, images, *size), where they lie."""
    for place in itertools.product(*map(range, at.kernel)):
        seen: Index = tuple(
            slice(a * s + k * d, a * s + k * d + (n - 1) * s + 1, s)
            for a, k, d, n, s in zip(tile.start, place, at.dilation, tile.size, at.stride, strict=True)
        )
        elements: Index = (slice(None), *place)
        box[:, tile.images][(slice(None), slice(None), *seen)] += columns[elements]


def _put(dx: Array, box: Array, tile: Tile, at: Correlation, add: bool) -> None:
    """Write or add a band's box (C, images, *size) into the input's gradient, but for the padding's part."""
    box = box.swapaxes(0, 1)
    here: list[slice] = []
    there: list[slice] = []
    for start, stride, before, extent, size in zip(
        tile.start, at.stride, at.before, box.shape[2:], at.in_size, strict=True
    ):
        first = start * stride - before
        low, high = max(first, 0), max(0, min(first + extent, size))
        there.append(slice(low, max(low, high)))
        here.append(slice(low - first, max(low, high) - first))
    lead = (slice(None), slice(None))
    found = box[(*lead, *here)]
    if add:
        dx[(*lead, *there)] += found
    else:
        if found.shape != dx.shape:
            dx[...] = 0
        dx[(*lead, *there)] = found


def _plan(x: Array, at: Correlation, rows: int, columns: int) -> list[Tile]:
    total = x.shape[0] * prod(at.out_size)
    return tiles(x.shape[0], at.out_size, positions_of(rows, columns, x.itemsize, total, _MOST))
