"""Layers that change the number of pixels."""

from __future__ import annotations

from collections.abc import Sequence

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.interpolation import AXES, check_resampling, resampled_size
from fconv.functional.resampling import check_shuffled, shuffled_shape, unshuffled_shape
from fconv.geometry import AMPLE
from fconv.layer import Layer
from fconv.layers.from_function import from_function, frozen
from fconv.options import whole

__all__ = ["channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "upsample"]


@constructor
def upsample(
    *,
    scale_factor: float | Sequence[float] | None = None,
    size: int | Sequence[int] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Layer:
    """Resample the spatial axes; see `fconv.functional.interpolate`.

    Examples
    --------
    >>> upsample(scale_factor=1.5, mode="bilinear").out_shape((8, 3, 7, 7))
    (8, 3, 10, 10)
    """
    size, scale_factor = frozen(size), frozen(scale_factor)
    given = scale_factor if size is None else size
    axes = len(given) if isinstance(given, (tuple, list)) else AXES.get(mode, (3,))[0] - 2

    def out_shape(shape: Shape) -> Shape:
        check_resampling("upsample", shape, size, mode, align_corners, recompute_scale_factor, antialias)
        return (
            *shape[:2],
            *resampled_size("upsample", shape[2:], size, scale_factor, 0 if mode == "area" else 1)[0],
        )

    out_shape((1, 1, *AMPLE[:axes]))
    call = {
        "size": size,
        "scale_factor": scale_factor,
        "mode": mode,
        "align_corners": align_corners,
        "recompute_scale_factor": recompute_scale_factor,
        "antialias": antialias,
    }
    return from_function(F.interpolate, name="upsample", call=call, out_shape=out_shape)


@constructor
def pixel_shuffle(upscale_factor: int) -> Layer:
    """Move channels into space; see `fconv.functional.pixel_shuffle`.

    Examples
    --------
    >>> pixel_shuffle(3).out_shape((1, 9, 20, 30))
    (1, 1, 60, 90)
    """
    r = whole("pixel_shuffle", "upscale_factor", upscale_factor, 1)
    return from_function(
        F.pixel_shuffle, call={"upscale_factor": r}, out_shape=lambda shape: shuffled_shape(shape, r)
    )


@constructor
def pixel_unshuffle(downscale_factor: int) -> Layer:
    """Move space into channels; see `fconv.functional.pixel_unshuffle`."""
    r = whole("pixel_unshuffle", "downscale_factor", downscale_factor, 1)
    return from_function(
        F.pixel_unshuffle, call={"downscale_factor": r}, out_shape=lambda shape: unshuffled_shape(shape, r)
    )


@constructor
def channel_shuffle(groups: int) -> Layer:
    """Interleave the channels of groups; see `fconv.functional.channel_shuffle`."""
    whole("channel_shuffle", "groups", groups, 1)
    return from_function(
        F.channel_shuffle, call={"groups": groups}, out_shape=lambda shape: check_shuffled(shape, groups)
    )
