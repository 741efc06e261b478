"""Pictures without their noise, and larger ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fconv import functional as F
from fconv import random
from fconv.arrays import Array
from fconv.layer import Layer, Params
from fconv.vision.colour import rgb_to_ycbcr, ycbcr_to_rgb
from fconv.vision.images import Picture
from fconv.vision.tiling import apply_tiled, stride

__all__ = ["Progress", "denoised", "upscaled", "with_noise"]

Progress = Callable[[int, int], None] | None


def denoised(
    net: Layer, params: Params, channels: int, picture: Picture, *, tile: int = 256, progress: Progress = None
) -> Picture:
    """Take the noise from a picture.

    Parameters
    ----------
    net : Layer
        From noisy to clean pictures of `channels`, both from 0 to 1.
    params : pytree
        Its parameters.
    channels : int
        1: the colours of a picture are denoised one by one. 3: a grey picture is given as three
        equal channels, and the mean of the three outputs is the result.
    picture : Picture
        The noisy one; alpha is kept as it is.
    tile : int
        As for `fconv.vision.tiling.apply_tiled`.
    progress : callable, optional
        The same.

    Returns
    -------
    Picture
        Of the same size and channels.
    """
    pixels = picture.pixels
    if channels == 1:
        batch = pixels[:, None]
    elif channels == 3:
        batch = np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])))[None]
    else:
        raise ValueError(f"denoised: expected a network for 1 or 3 channels, got one for {channels}")
    height, width = pixels.shape[1:]
    step = stride(net, channels)
    # Where a network halves sizes, the picture is widened to a multiple, as if mirrored at its edge.
    padded = np.pad(batch, ((0, 0), (0, 0), (0, -height % step), (0, -width % step)), "symmetric")
    y = apply_tiled(net, params, padded, tile=tile, progress=progress)[:, :, :height, :width]
    planes = y[:, 0] if channels == 1 else y[0]
    if len(planes) != len(pixels):
        planes = planes.mean(axis=0, keepdims=True)
    return picture._replace(pixels=np.clip(planes, 0, 1))


def upscaled(
    net: Layer,
    params: Params,
    channels: int,
    picture: Picture,
    *,
    tile: int = 256,
    progress: Progress = None,
    luma: bool = True,
) -> Picture:
    """Enlarge a picture by a network.

    Parameters
    ----------
    net : Layer
        From pictures of `channels` from 0 to 1 to larger ones.
    params : pytree
        Its parameters.
    channels : int
        1: the network enlarges the luma, cubic interpolation the two colour differences, as in the
        papers. 3: see `luma`.
    picture : Picture
        The small one; alpha is interpolated.
    tile : int
        As for `fconv.vision.tiling.apply_tiled`.
    progress : callable, optional
        The same.
    luma : bool
        Whether the three channels of the network are Y, Cb and Cr of BT.601 rather than red, green
        and blue.

    Returns
    -------
    Picture
        The larger one.
    """
    if channels not in (1, 3):
        raise ValueError(f"upscaled: expected a network for 1 or 3 channels, got one for {channels}")
    pixels = picture.pixels
    grey = len(pixels) == 1
    # A network of three channels without luma takes red, green and blue as they are.
    plain = channels == 3 and not luma
    rgb = np.broadcast_to(pixels, (3, *pixels.shape[1:]))
    spread = np.ascontiguousarray(rgb) if plain else rgb_to_ycbcr(rgb)
    y = apply_tiled(net, params, spread[None, :channels], tile=tile, progress=progress)[0]
    if len(y) == 1:
        y = np.concatenate([y, _cubic(spread[1:], y.shape[1:])])
    out = y if plain else ycbcr_to_rgb(y)
    alpha = None if picture.alpha is None else np.clip(_cubic(picture.alpha, y.shape[1:]), 0, 1)
    if grey:
        # The colour differences of a grey picture are none of its own: its luma alone is shown.
        out = out.mean(axis=0, keepdims=True) if plain else ycbcr_to_rgb(_grey(y))[:1]
    return Picture(np.clip(out, 0, 1), alpha, picture.bits)


def with_noise(picture: Picture, sigma: float, seed: int = 0) -> Picture:
    """Add normal noise of deviation `sigma` to the pixels, which may then leave the range from 0 to 1.

    Examples
    --------
    >>> flat = Picture(np.full((1, 100, 100), 0.5, np.float32))
    >>> round(float(with_noise(flat, 0.1).pixels.std()), 2)
    0.1
    """
    noise = random.normal(random.key(seed), picture.pixels.shape)
    return picture._replace(pixels=picture.pixels + np.float32(sigma) * noise)


def _grey(ycbcr: Array) -> Array:
    middle = np.full_like(ycbcr[:1], 128 / 255)
    return np.concatenate([ycbcr[:1], middle, middle])


def _cubic(planes: Array, size: tuple[int, ...]) -> Array:
    return F.interpolate(planes[None], size=size, mode="bicubic")[0]
