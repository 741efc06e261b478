"""Interpolation and its adjoint by compiled sums over rows and columns, where kernels can be compiled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fconv.arrays import Array, from_order, memory_order
from fconv.engine.memory import empty
from fconv.functional.one_pass import formulas_serve, in_line
from fconv.functional.taps import Taps

if TYPE_CHECKING:
    from fconv.engine.compiled.resample import Table

_MOST_READS = 40
"""Of an output along an axis: what is read so often is left to NumPy."""


def resampled(x: Array, taps: Sequence[Taps], sizes_before: Sequence[int], adjoint: bool) -> Array | None:
    """Sum elements along each spatial axis of (N, C, ...) by taps; None where nothing is compiled for it.

    `sizes_before` are the input's. The adjoint takes the gradient of the output, and adds each element to
    those that it read. The result lies as `x` does, if its channels are neighbours in memory, or else its
    positions.
    """
    if not x.size or not formulas_serve(x) or not _known(*taps):
        return None
    order = memory_order(x)
    last = order == (0, *range(2, x.ndim), 1)
    if not last and order != tuple(range(x.ndim)):
        return None
    tables = [_table(each, size, adjoint, x.dtype) for each, size in zip(taps, sizes_before, strict=True)]
    if any(table is not None and table.places.shape[0] > _MOST_READS for table in tables):
        return None
    from fconv.engine.compiled.resample import run

    sizes = list(x.shape[2:])
    outer, inner = (x.shape[0], x.shape[1]) if last else (x.shape[0] * x.shape[1], 1)
    y = in_line(x, order)
    # Rows and columns of pictures are one pass; an axis before them is one of its own.
    passes: list[tuple[int | None, int | None]] = [(axis, None) for axis in range(len(sizes) - 2)]
    passes.append((len(sizes) - 2, len(sizes) - 1) if len(sizes) > 1 else (None, 0))
    for row, column in passes:
        rows, columns = (None if axis is None else tables[axis] for axis in (row, column))
        height = 1 if row is None else sizes[row]
        before = outer * (1 if row is None else prod(sizes[:row]))
        width = prod(sizes[row + 1 :]) if row is not None and column is None else sizes[-1]
        shape = (before, height, width, inner)
        for axis, table in ((row, rows), (column, columns)):
            if axis is not None and table is not None:
                sizes[axis] = table.places.shape[1]
        given, y = y, empty((outer * prod(sizes) * inner,), x.dtype)
        run(given, y, rows, columns, shape)
    laid = (x.shape[0], *sizes, x.shape[1]) if last else (*x.shape[:2], *sizes)
    return from_order(y.reshape(laid), order)


def _known(*tables: Taps) -> bool:
    return all(tap.targets is None for taps in tables for tap in taps)


@lru_cache(maxsize=256)
def _table(taps: Taps, size: int, adjoint: bool, dtype: np.dtype[Any]) -> Table | None:
    """Return the table of what outputs read of a `size`, or of what it gets back; None for the identity."""
    from fconv.engine.compiled.resample import Table

    places = np.stack([np.asarray(tap.sources, np.int64) for tap in taps])
    out = places.shape[1]
    weights = [np.ones(out) if tap.weights is None else tap.weights for tap in taps]
    plain = len(taps) == 1 and taps[0].weights is None
    if plain and size == out and (places[0] == np.arange(out)).all():
        return None
    if not adjoint:
        return Table(places, None if plain else np.stack(weights).astype(dtype))
    read, by = places.reshape(-1), np.concatenate(weights)
    sorted_reads = np.lexsort((np.tile(np.arange(out), len(taps)), read))
    read, by, reader = read[sorted_reads], by[sorted_reads], (sorted_reads % out).astype(np.int64)
    turn = np.arange(read.size) - np.searchsorted(read, read)
    back = np.zeros((int(turn.max(initial=0)) + 1, size), np.int64)
    shares = np.full(back.shape, np.nan, dtype)
    back[turn, read], shares[turn, read] = reader, by
    return Table(back, shares)
