"""Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications of a 3x3 convolution.

A 6x6 piece d of the input gives 4x4 outputs ``A [(G w G^T) * (B d B^T)] A^T``, summed over the
channels in between, which makes 36 matrix products of tiles by channels. Each transform is itself
one matrix product, with the Kronecker square of B, G or A.

The 16 outputs of a piece share its rounding errors, some 2 to 4 epsilons of its largest element: one
pixel of 1e6 among numbers of size 1 puts errors of 0.2 to 0.4 on outputs that do not see it.

References
----------
Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
Barabasz, Anderson, Soodhalter and Gregg, "Error analysis and improving the accuracy of Winograd
convolution for deep neural networks", 2020, on how the points decide the error.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np

from fconv.arrays import Array, Shape
from fconv.engine.cpu.scratch import scratch
from fconv.engine.cpu.tiles import Correlation, Tile, piece, tiles
from fconv.engine.threads import run
from fconv.engine.winograd_matrices import FILTER, IN, OUT, SIDE, STEP

_TILE_BYTES = 3 << 19  # of a tile's transformed input


@lru_cache(maxsize=8)
def _square(name: Literal["in", "filter", "out"], dtype: Any) -> Array:
    matrix = {"in": IN, "filter": FILTER, "out": OUT}[name]
    square = np.kron(matrix, matrix).astype(dtype)
    square.flags.writeable = False
    return square


def correlate(x: Array, weight: Array, at: Correlation, y: Array, bias: Array | None = None) -> None:
    """Correlate with 3x3 filters at stride and dilation 1.

    Parameters
    ----------
    x : array, shape (N, H, W, C)
        Any strides.
    weight : array, shape (O, C, 3, 3)
        Any strides.
    at : Correlation
        Where the windows lie.
    y : array, shape (N, H', W', O)
        Is written to. For float32 its relative l2 error is about 1e-6.
    bias : array, shape (O,), optional
        Added.
    """
    channels, dtype = weight.shape[0], x.dtype
    filters = transformed(weight)
    plan = plan_of(x.shape[0], at.out_size, max(x.shape[-1], channels) * x.itemsize)

    def work(i: int) -> None:
        tile = plan[i]
        inputs, grid = _inputs(x, tile, at)
        products = scratch("products", (36, inputs.shape[1], channels), dtype)
        np.matmul(inputs, filters, out=products)
        outputs = scratch("outputs", (16, products[0].size), dtype)
        np.matmul(_square("out", dtype), products.reshape(36, -1), out=outputs)
        if bias is not None:
            by_channel = outputs.reshape(16, -1, channels)
            by_channel += bias
        blocks = outputs.reshape(4, 4, tile.count, *grid, channels).transpose(2, 3, 0, 4, 1, 5)
        whole = scratch("blocks", blocks.shape, dtype)
        np.copyto(whole, blocks)
        rows = whole.reshape(tile.count, 4 * grid[0], 4 * grid[1], channels)
        y[tile.index] = rows[:, : tile.size[0], : tile.size[1]]

    run(work, len(plan))


def plan_of(batch: int, size: Shape, row_bytes: int) -> list[Tile]:
    """Divide the output into tiles whose transforms stay in the cache."""
    blocks = max(32, min(512, _TILE_BYTES // (36 * row_bytes)))
    total = batch * -(-size[0] // STEP) * -(-size[1] // STEP)
    return tiles(batch, size, STEP * STEP * max(1, min(blocks, max(16, -(-total // 4)))), STEP)


def transformed(weight: Array) -> Array:
    """Return ``G w G^T`` of every filter, (36, C, O)."""
    # The input gradient's filters are turned, so that their channels stand the other way round. In one
    # order always, because BLAS may round the same column otherwise at another place.
    turned = weight.strides[-1] < 0
    rows = weight.transpose(2, 3, 0, 1) if turned else weight.transpose(2, 3, 1, 0)
    if not rows.flags.c_contiguous:
        copy = np.empty(rows.shape, rows.dtype)
        run(lambda i: np.copyto(copy[i // 3, i % 3], rows[i // 3, i % 3]), 9)
        rows = copy
    out = _spread(rows.reshape(9, -1)).reshape(36, *rows.shape[2:])
    return out.transpose(0, 2, 1) if turned else out


def _spread(filters: Array) -> Array:
    """Return ``G w G^T`` of filters (9, n), as (36, n)."""
    out = np.empty((36, filters.shape[1]), filters.dtype)
    step = 1 << 14

    def work(i: int) -> None:
        some = slice(i * step, (i + 1) * step)
        np.matmul(_square("filter", filters.dtype), filters[:, some], out=out[:, some])

    run(work, -(-filters.shape[1] // step))
    return out


def _inputs(x: Array, tile: Tile, at: Correlation) -> tuple[Array, Shape]:
    """Return ``B d B^T`` of a tile's pieces, (36, pieces, C), and the number of pieces along each axis."""
    grid = tuple(-(-n // STEP) for n in tile.size)
    size = tuple(STEP * n + 2 for n in grid)
    part = piece(x, tile, at, size)
    a, b, c, d = part.strides
    shape = (SIDE, SIDE, tile.count, *grid, x.shape[-1])
    view = np.lib.stride_tricks.as_strided(part, shape, (b, c, a, STEP * b, STEP * c, d), writeable=False)
    gathered = scratch("gathered", shape, x.dtype)
    np.copyto(gathered, view)
    inputs = scratch("inputs", (36, gathered[0, 0].size), x.dtype)
    np.matmul(_square("in", x.dtype), gathered.reshape(36, -1), out=inputs)
    return inputs.reshape(36, -1, x.shape[-1]), grid
