"""Changing the number of pixels."""

from __future__ import annotations

from collections.abc import Sequence

from fconv import functional as F
from fconv.arrays import Shape
from fconv.conv.geometry import AMPLE, check_rank, whole
from fconv.functional.resampling import resampled_size
from fconv.layer import Layer
from fconv.layers.from_function import from_function

__all__ = ["pixel_shuffle", "pixel_unshuffle", "upsample"]


def upsample(
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
) -> Layer:
    """Resample the spatial axes; see `fconv.functional.interpolate`.

    Examples
    --------
    >>> upsample(scale_factor=1.5).out_shape((8, 3, 7, 7))
    (8, 3, 10, 10)
    """
    given = scale_factor if size is None else size
    axes = len(given) if isinstance(given, (tuple, list)) else 1
    resampled_size("upsample", AMPLE[:axes], size, scale_factor)

    def out_shape(shape: Shape) -> Shape:
        if not 3 <= len(shape) <= 5:
            raise ValueError(f"upsample: expected an input of 3 to 5 axes (N, C, ...), got shape {shape}")
        return (*shape[:2], *resampled_size("upsample", shape[2:], size, scale_factor)[0])

    call = {"size": size, "scale_factor": scale_factor, "mode": mode}
    return from_function(F.interpolate, name="upsample", call=call, out_shape=out_shape)


def pixel_shuffle(upscale_factor: int) -> Layer:
    """Move channels into space; see `fconv.functional.pixel_shuffle`.

    Examples
    --------
    >>> pixel_shuffle(3).out_shape((1, 9, 20, 30))
    (1, 1, 60, 90)
    """
    r = whole("pixel_shuffle", "upscale_factor", upscale_factor, 1)

    def out_shape(shape: Shape) -> Shape:
        check_rank("pixel_shuffle", "input", shape, 2)
        n, c, h, w = shape
        if c % r**2:
            raise ValueError(f"pixel_shuffle: expected channels that {r}**2 divides, got input shape {shape}")
        return (n, c // r**2, h * r, w * r)

    return from_function(F.pixel_shuffle, call={"upscale_factor": r}, out_shape=out_shape)


def pixel_unshuffle(downscale_factor: int) -> Layer:
    """Move space into channels; see `fconv.functional.pixel_unshuffle`."""
    r = whole("pixel_unshuffle", "downscale_factor", downscale_factor, 1)

    def out_shape(shape: Shape) -> Shape:
        check_rank("pixel_unshuffle", "input", shape, 2)
        n, c, h, w = shape
        if h % r or w % r:
            raise ValueError(f"pixel_unshuffle: expected a picture that {r} divides, got input shape {shape}")
        return (n, c * r**2, h // r, w // r)

    return from_function(F.pixel_unshuffle, call={"downscale_factor": r}, out_shape=out_shape)
