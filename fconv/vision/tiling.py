"""Large pictures through a network in tiles, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from fconv import trees
from fconv.arrays import Array, Shape, xp_of
from fconv.layer import Layer, Params
from fconv.networks.wiring import placed
from fconv.options import whole

__all__ = ["apply_tiled", "reach", "stride"]

_LARGEST_PROBE = 512
_SIDE = 256


def apply_tiled(
    net: Layer,
    params: Params,
    x: Array,
    *,
    tile: int = 256,
    overlap: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """Apply a network from pictures to pictures tile by tile.

    Each tile is computed with enough of its surroundings that its pixels are those of the whole
    picture's result, up to the rounding of the arithmetic; at the borders of the picture a tile
    ends where the picture ends, so they are the same too.

    Parameters
    ----------
    net : Layer
        It gives (N, D, s*H, s*W) for (N, C, H, W), s an integer.
    params : pytree
        Its parameters.
    x : array, shape (N, C, H, W)
        The pictures. H and W must be multiples of ``stride(net, C)``.
    tile : int
        Height and width of the tiles, without their margins. A picture that is not larger is
        computed whole.
    overlap : int, optional
        How many pixels around a tile are computed with it; ``reach(net, params, C)`` by default.
    progress : callable, optional
        Called with the number of tiles that are done and of all tiles.

    Returns
    -------
    array, shape (N, D, s*H, s*W)
        What ``net.apply(params, x)`` gives.

    Raises
    ------
    ValueError
        The network changes the size by a factor that is not an integer, or each of its outputs depends on the
        whole picture.

    Examples
    --------
    >>> from fconv.layers import conv2d
    >>> net = conv2d(1, 3, padding=1)
    >>> params = {"weight": np.ones((1, 1, 3, 3)), "bias": np.zeros(1)}
    >>> x = np.arange(144.0).reshape(1, 1, 12, 12)
    >>> (apply_tiled(net, params, x, tile=5) == net.apply(params, x)).all()
    np.True_
    """
    tile = whole("apply_tiled", "tile", tile, 1)
    if x.ndim != 4:
        raise ValueError(f"apply_tiled: expected pictures (N, C, H, W), got shape {x.shape}")
    out_shape = tuple(net.out_shape(x.shape))
    scale = _scale(x.shape, out_shape)
    height, width = x.shape[2:]
    if height <= tile and width <= tile:
        y = net.apply(params, x)
        if progress is not None:
            progress(1, 1)
        return y
    step = stride(net, x.shape[1])
    if overlap is None:
        overlap = reach(net, params, x.shape[1])
    overlap, tile = (-(-whole("apply_tiled", "size", n, 0) // step) * step for n in (overlap, tile))
    places = list(product(range(0, height, tile), range(0, width, tile)))
    y = None
    for done, (i, j) in enumerate(places, start=1):
        rows, inner_rows = _window(i, tile, overlap, height, scale)
        columns, inner_columns = _window(j, tile, overlap, width, scale)
        part = net.apply(params, x[:, :, rows, columns])
        if y is None:
            y = xp_of(part).empty(out_shape, part.dtype)
        into = (slice(i * scale, (i + tile) * scale), slice(j * scale, (j + tile) * scale))
        y[:, :, into[0], into[1]] = part[:, :, inner_rows, inner_columns]
        if progress is not None:
            progress(done, len(places))
    return y


def _window(start: int, tile: int, overlap: int, size: int, scale: int) -> tuple[slice, slice]:
    """Return what a tile reads along one axis, and where its own pixels lie in what comes out."""
    low, end = max(0, start - overlap), min(size, start + tile)
    high = min(size, end + overlap)
    return slice(low, high), slice((start - low) * scale, (end - low) * scale)


def _scale(shape: Shape, out_shape: Shape) -> int:
    if len(out_shape) == 4:
        scale = out_shape[2] // max(shape[2], 1)
        if scale >= 1 and out_shape[2:] == (shape[2] * scale, shape[3] * scale):
            return scale
    raise ValueError(
        f"apply_tiled: expected a network whose output is an integer multiple of its input, "
        f"got {out_shape} for {shape}"
    )


def reach(net: Layer, params: Params, channels: int) -> int:
    """Measure how far from a pixel the inputs lie that its value depends on, in pixels of the input.

    One input element is set to NaN, which every layer propagates: the outputs that become NaN are those that
    depend on it, for any layers and any graph.

    Parameters
    ----------
    net : Layer
        A network from pictures to pictures, as for `apply_tiled`.
    params : pytree
        Its parameters.
    channels : int
        Of its input.

    Returns
    -------
    int
        The distance. An algorithm that computes pixels in groups may make it too large.

    Raises
    ------
    ValueError
        The reach is more than about 200 pixels, as where a mean over the whole picture is taken.

    Examples
    --------
    >>> from fconv import models, random
    >>> net = models.dncnn(layers=5, width=2)
    >>> reach(net, net.init(random.key(0), (1, 1, 8, 8)), 1)
    5
    """
    exact = trees.map(lambda leaf: leaf.astype(np.float64) if leaf.dtype.kind == "f" else leaf, params)
    step = stride(net, channels)
    size = max(32, 4 * step)
    while size <= _LARGEST_PROBE:
        found = max(_reach_from(net, exact, channels, size, size // 2 + offset) for offset in _offsets(step))
        if found < size // 2 - 2 * step:  # otherwise the border may have cut it short
            return found
        size *= 2
    raise ValueError(
        "apply_tiled: a pixel of this network's output depends on inputs more than "
        f"{_LARGEST_PROBE // 2 - 2 * step} pixels away, so that the picture cannot be cut into tiles"
    )


def _offsets(step: int) -> range:
    """Positions within a stride: where a pixel stands decides how far it is seen."""
    return range(step) if step <= 4 else range(0, step, step // 4)


def _reach_from(net: Layer, params: Params, channels: int, size: int, at: int) -> int:
    leaves = trees.leaves(params)
    xp = xp_of(leaves[0]) if leaves else np
    x = xp.full((1, channels, size, size), 0.5)
    x[..., at, at] = np.nan
    with np.errstate(all="ignore"):
        y = net.apply(params, x)
    scale = _scale(x.shape, y.shape)
    touched = [np.flatnonzero(np.asarray(line.tolist())) for line in _lines(xp.isnan(y)[0].any(axis=0))]
    far = [max(at - line[0] // scale, line[-1] // scale - at) for line in touched if line.size]
    return int(max(far, default=0))


def _lines(marked: Any) -> list[Any]:
    return [marked.any(axis=0), marked.any(axis=1)]


def stride(net: Layer, channels: int) -> int:
    """Return by how much a network shrinks pictures inside.

    Parameters
    ----------
    net : Layer
        A network from pictures to pictures.
    channels : int
        Of its input.

    Returns
    -------
    int
        The number that heights and widths, and the places of tiles, should be multiples of.

    Examples
    --------
    >>> from fconv import models
    >>> stride(models.dncnn(), 1), stride(models.unet(), 3)
    (1, 16)
    """
    smallest = min(_heights(net, (1, channels, _SIDE, _SIDE)), default=_SIDE)
    return max(1, round(_SIDE / max(smallest, 1)))  # rounded: padding adds a little to what is left


def _heights(net: Layer, shape: Any) -> Iterator[int]:
    for step, entering, _ in placed(net, shape):
        yield from _heights(step.layer, entering)
    out_shape = net.out_shape(shape)
    if isinstance(out_shape, tuple) and len(out_shape) == 4:
        yield out_shape[2]
