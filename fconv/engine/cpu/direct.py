"""Convolution by cache-sized tiles: a tile's windows are laid out as a matrix, and multiplied.

The columns of one tile stay in the cache, so that what the definition writes to memory and reads
back, kernel size times the input, is never there. Each output position is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, TypeAlias

import numpy as np

from fconv.arrays import Array, Shape
from fconv.engine.cpu.scratch import scratch
from fconv.engine.cpu.tiles import Correlation, Tile, piece, tiles, windows
from fconv.engine.threads import run

Job: TypeAlias = Callable[[], None]

_COLUMN_BYTES = 3 << 20  # of a tile's matrix, so that it stays in the L3 cache
_LEAST, _MOST = 256, 8192  # positions of a tile, so that the product is neither too flat nor too tall
_FLAT = 64  # even where there is little to do
PASS = 12  # multiplications that take as long as copying or writing a number
_LINE = 1024  # neighbouring positions that are transposed together
_TILE_WORK = 20_000_000  # multiplications that take as long as handing a tile to another thread
_SHARES = 8  # partial sums of a weight gradient; a fixed number, whatever the number of threads
_PARTIAL_BYTES = 8 << 20  # that they may take together


def jobs(x: Array, filters: Array, at: Correlation, y: Array, bias: Array | None = None) -> list[Job]:
    """Divide a correlation of `x` with filters into jobs, which may be done in any order.

    Parameters
    ----------
    x : array, shape (N, *in_size, C)
        Any strides.
    filters : array, shape (prod(kernel) * C, O)
        In the order of `windows`, C-contiguous.
    at : Correlation
        Where the windows lie.
    y : array, shape (N, *out_size, O)
        Is written to.
    bias : array, shape (O,), optional
        Added.

    Returns
    -------
    list of callable
        One for each tile.
    """
    rows, channels = filters.shape
    total = x.shape[0] * prod(at.out_size)
    plan = tiles(x.shape[0], at.out_size, positions_of(rows, channels, x.itemsize, total))

    def work(tile: Tile) -> None:
        out = y[tile.index]
        direct = out.flags.c_contiguous
        flat = out if direct else scratch("out", out.shape, x.dtype)
        flat = flat.reshape(tile.positions, channels)
        np.matmul(columns(x, tile, at), filters, out=flat)
        if bias is not None:
            flat += bias
        if not direct:
            out[...] = flat.reshape(out.shape)

    return [partial(work, tile) for tile in plan]


def filter_gradient(g: Array, x: Array, at: Correlation) -> Array:
    """Take the gradient of a correlation's output to that of its filters.

    Parameters
    ----------
    g : array, shape (N, *out_size, O)
        Any strides.
    x : array, shape (N, *in_size, C)
        Any strides.
    at : Correlation
        Where the windows lie.

    Returns
    -------
    array, shape (prod(kernel) * C, O)
        The tiles' products are summed in an order that does not depend on the number of threads.
    """
    rows, channels = prod(at.kernel) * x.shape[-1], g.shape[-1]
    total = x.shape[0] * prod(at.out_size)
    plan = tiles(x.shape[0], at.out_size, positions_of(rows, channels, x.itemsize, total))
    size = rows * channels * x.itemsize
    parts = shares(plan, max(2, min(_SHARES, _PARTIAL_BYTES // max(1, size))))

    def product(tile: Tile, out: Array) -> None:
        np.matmul(columns(x, tile, at).T, matrix_of(g, tile), out=out)

    return summed(parts, (rows, channels), x.dtype, product)


def positions_of(rows: int, columns: int, itemsize: int, total: int, most: int = _MOST) -> int:
    """Choose how many positions a tile has.

    Parameters
    ----------
    rows, columns : int
        Of the filters as a matrix.
    itemsize : int
        Bytes of a number.
    total : int
        Positions of the whole output.
    most : int
        At most about so many.
    """
    fits = max(_LEAST, min(most, _COLUMN_BYTES // (rows * itemsize)))
    worth = _TILE_WORK // (rows * (columns + PASS))
    return max(1, min(fits, max(_FLAT, worth, -(-total // 4))))


def columns(x: Array, tile: Tile, at: Correlation) -> Array:
    """Lay a tile's windows out as a matrix, one row a position."""
    part = piece(x, tile, at)
    view = windows(part, tile.size, at)
    if view.flags.c_contiguous:
        return view.reshape(tile.positions, -1)
    matrix = scratch("columns", view.shape, x.dtype)
    np.copyto(matrix, view)
    return matrix.reshape(tile.positions, -1)


def matrix_of(g: Array, tile: Tile) -> Array:
    """Return a tile of a channels-last array as a C-contiguous matrix, one row a position.

    Where the channels of a pixel lie whole planes apart, one copy would read from addresses that may all
    share a set of the L1 cache; planes are then copied by pieces, to lines of another length, first.
    """
    part = g[tile.index]
    if part.flags.c_contiguous:
        return part.reshape(tile.positions, -1)
    copy = scratch("gradient", part.shape, g.dtype)
    if not part[0, ..., 0].flags.c_contiguous:
        np.copyto(copy, part)
        return copy.reshape(tile.positions, -1)
    for found, image in zip(part, copy, strict=True):
        planes = np.moveaxis(found, -1, 0).reshape(found.shape[-1], -1)
        matrix = image.reshape(planes.shape[::-1])
        for i in range(0, len(matrix), _LINE):
            some = planes[:, i : i + _LINE]
            lines = scratch("lines", (len(planes), some.shape[1] + 16), g.dtype)[:, :-16]
            np.copyto(lines, some)
            np.copyto(matrix[i : i + _LINE], lines.T)
    return copy.reshape(tile.positions, -1)


def shares(plan: Sequence[Tile], count: int) -> list[Sequence[Tile]]:
    """Divide tiles into at most `count` runs of nearly the same length."""
    step = -(-len(plan) // count)
    return [plan[i : i + step] for i in range(0, len(plan), step)]


def summed(
    parts: Sequence[Sequence[Tile]], shape: Shape, dtype: Any, product: Callable[[Tile, Array], None]
) -> Array:
    """Sum what `product` makes of each tile, on all threads but in one order.

    Parameters
    ----------
    parts : sequence of sequences of Tile
        Each is summed by one thread; their sums are added at the end.
    shape, dtype
        Of the sum.
    product : callable
        ``product(tile, out)`` writes a tile's share into `out`.

    Returns
    -------
    array
        The sum.
    """
    totals = np.empty((len(parts), *shape), dtype)

    def work(i: int) -> None:
        for j, tile in enumerate(parts[i]):
            if j == 0:
                product(tile, totals[i])
            else:
                more = scratch("product", shape, dtype)
                product(tile, more)
                totals[i] += more

    run(work, len(parts))
    if len(parts) == 1:
        return totals[0]
    total = totals[0] + totals[1]  # an array of its own, which does not keep the others
    for part in totals[2:]:
        total += part
    return total
