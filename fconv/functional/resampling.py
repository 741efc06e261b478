"""Changing the number of pixels: interpolation, and moving channels into space and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import floor
from typing import Any

import numpy as np

from fconv.arrays import Array, Shape, full_like_order, xp_of
from fconv.conv.geometry import spatial_names, whole, whole_tuple
from fconv.functional.core import Definition, differentiable, once

__all__ = [
    "interpolate",
    "interpolate_vjp",
    "pixel_shuffle",
    "pixel_shuffle_vjp",
    "pixel_unshuffle",
    "pixel_unshuffle_vjp",
]


def resampled_size(
    name: str,
    in_size: Shape,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
) -> tuple[Shape, tuple[float | None, ...]]:
    """Work out the size of a resampled picture and the factors that were asked for.

    Parameters
    ----------
    name : str
        Who asks; error messages begin with it.
    in_size : tuple of int
        Size along each spatial axis.
    size : int or sequence of int, optional
        The size wanted.
    scale_factor : float or sequence of float, optional
        Or the factors, for ``floor(in * factor)``. Just one of the two is given.

    Returns
    -------
    tuple
        The size, and the factor of each axis (None where a size was given).

    Raises
    ------
    ValueError, TypeError
        Both or neither are given, or a size would be below 1.

    Examples
    --------
    >>> resampled_size("interpolate", (7, 7), None, 1.5)
    ((10, 10), (1.5, 1.5))
    """
    n = len(in_size)
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"{name}: give either size or scale_factor, got size={size}, scale_factor={scale_factor}"
        )
    if size is not None:
        return whole_tuple(name, "size", size, n, 1), (None,) * n
    factors: tuple[Any, ...] = (
        tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * n
    )
    if len(factors) != n:
        raise ValueError(f"{name}: scale_factor must be one number or {n}, got {scale_factor!r}")
    for factor in factors:
        if isinstance(factor, bool) or not isinstance(factor, (int, float, np.integer, np.floating)):
            raise TypeError(f"{name}: scale_factor must be a number, got {factor!r}")
        if not 0 < factor < float("inf"):
            raise ValueError(f"{name}: scale_factor must be positive and finite, got {factor}")
    out = tuple(floor(length * float(factor)) for length, factor in zip(in_size, factors, strict=True))
    if min(out) < 1:
        raise ValueError(f"{name}: scale_factor {scale_factor} leaves no pixel of an input of size {in_size}")
    return out, tuple(map(float, factors))


@lru_cache(maxsize=256)
def _nearest(in_size: int, out_size: int, factor: float | None) -> Array:
    """Find the source pixel of each output pixel, ``floor(i / factor)``, in float32 as PyTorch does."""
    step = np.float32(in_size / out_size if factor is None else 1.0 / factor)
    source = np.floor(np.arange(out_size, dtype=np.float32) * step).astype(np.int64)
    return np.minimum(source, in_size - 1)


def _scatter(g: Array, source: Array, axis: int, in_size: int) -> Array:
    """Add entries along an axis into the pixels that they were read from: the adjoint of take.

    `source` never falls, so the r-th reader of each pixel is found by counting, and each of
    these few rounds writes to a pixel once.
    """
    shape = (*g.shape[:axis], in_size, *g.shape[axis + 1 :])
    out = full_like_order(g, shape)
    counts = np.bincount(source, minlength=in_size)
    firsts = np.cumsum(counts) - counts
    xp, before = xp_of(g), (slice(None),) * axis
    for turn in range(int(counts.max(initial=0))):
        pixels = np.flatnonzero(counts > turn)
        out[(*before, xp.asarray(pixels))] += g[(*before, xp.asarray(firsts[pixels] + turn))]
    return out


@differentiable("x")
def interpolate(
    x: Array,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
) -> Definition:
    """Resample the spatial axes, as torch.nn.functional.interpolate.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point, with one to three spatial axes.
    size : int or sequence of int, optional
        Size wanted along each spatial axis.
    scale_factor : float or sequence of float, optional
        Or the factors, whole or fractional: the size becomes ``floor(in * factor)``.
    mode : {"nearest"}
        Output pixel i is a copy of input pixel ``floor(i / factor)``, or
        ``floor(i * in / out)`` where `size` is given (and, as in PyTorch, where two spatial
        axes are resampled and the size of one stays or doubles).

    Returns
    -------
    array, shape (N, C, ...)
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Sizes that cannot be, an unknown mode, `x` that is not floating-point.

    Examples
    --------
    >>> interpolate(np.array([[[1.0, 2.0]]]), scale_factor=1.5)
    array([[[1., 1., 2.]]])
    """
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"interpolate: expected an input of 3 to 5 axes (N, C, ...), got shape {x.shape}")
    if mode != "nearest":
        raise ValueError(f'interpolate: expected mode "nearest", got {mode!r}')
    if 0 in x.shape[2:]:
        raise ValueError(f"interpolate: expected at least one pixel along each axis, got shape {x.shape}")
    out_size, factors = resampled_size("interpolate", x.shape[2:], size, scale_factor)
    xp = xp_of(x)
    sources = []
    for axis, out, factor in zip(range(2, x.ndim), out_size, factors, strict=True):
        # PyTorch forgets the factor of a picture whose size stays or doubles.
        forgotten = x.ndim == 4 and out in (x.shape[axis], 2 * x.shape[axis])
        sources.append((axis, _nearest(x.shape[axis], out, None if forgotten else factor)))

    def value() -> Array:
        y = x
        for axis, source in sources:
            y = xp.take(y, xp.asarray(source), axis=axis)
        return y

    def pullback(g: Array) -> Array:
        for axis, source in reversed(sources):
            g = _scatter(g, source, axis, x.shape[axis])
        return g

    return (*x.shape[:2], *out_size), once(value), pullback


def _to_space(x: Array, r: int) -> Array:
    """(N, C r r, H, W) to (N, C, H r, W r)."""
    n, c, h, w = x.shape
    return x.reshape(n, c // r**2, r, r, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // r**2, h * r, w * r)


def _to_channels(x: Array, r: int) -> Array:
    """(N, C, H r, W r) to (N, C r r, H, W)."""
    n, c, h, w = x.shape
    return (
        x.reshape(n, c, h // r, r, w // r, r).transpose(0, 1, 3, 5, 2, 4).reshape(n, c * r**2, h // r, w // r)
    )


def _check_picture(name: str, x: Array) -> None:
    if x.ndim != 4:
        axes = ", ".join(("N", "C", *spatial_names(2)))
        raise ValueError(f"{name}: expected an input of 4 axes ({axes}), got shape {x.shape}")


@differentiable("x")
def pixel_shuffle(x: Array, upscale_factor: int) -> Definition:
    """Move channels into space, ``y[n, c, h r + i, w r + j] = x[n, c r r + i r + j, h, w]``.

    Parameters
    ----------
    x : array, shape (N, C r r, H, W)
        Floating-point.
    upscale_factor : int
        The factor r.

    Returns
    -------
    array, shape (N, C, H r, W r)
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Channels that r r does not divide, a wrong rank, `x` that is not floating-point.

    References
    ----------
    Shi et al., "Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network", 2016.

    Examples
    --------
    >>> pixel_shuffle(np.arange(4.0).reshape(1, 4, 1, 1), 2)
    array([[[[0., 1.],
             [2., 3.]]]])
    """
    _check_picture("pixel_shuffle", x)
    r = whole("pixel_shuffle", "upscale_factor", upscale_factor, 1)
    n, c, h, w = x.shape
    if c % r**2:
        raise ValueError(
            f"pixel_shuffle: expected channels that {r}**2 = {r**2} divides, got {c} (input shape {x.shape})"
        )
    return (n, c // r**2, h * r, w * r), once(lambda: _to_space(x, r)), lambda g: _to_channels(g, r)


@differentiable("x")
def pixel_unshuffle(x: Array, downscale_factor: int) -> Definition:
    """Move space into channels: the inverse of `pixel_shuffle`.

    Parameters
    ----------
    x : array, shape (N, C, H r, W r)
        Floating-point.
    downscale_factor : int
        The factor r.

    Returns
    -------
    array, shape (N, C r r, H, W)
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        A picture that r does not divide, a wrong rank, `x` that is not floating-point.

    Examples
    --------
    >>> pixel_unshuffle(np.arange(4.0).reshape(1, 1, 2, 2), 2).ravel()
    array([0., 1., 2., 3.])
    """
    _check_picture("pixel_unshuffle", x)
    r = whole("pixel_unshuffle", "downscale_factor", downscale_factor, 1)
    n, c, h, w = x.shape
    if h % r or w % r:
        raise ValueError(
            f"pixel_unshuffle: expected a height and width that {r} divides, got input shape {x.shape}"
        )
    return (n, c * r**2, h // r, w // r), once(lambda: _to_channels(x, r)), lambda g: _to_space(g, r)


interpolate_vjp = interpolate.vjp
pixel_shuffle_vjp = pixel_shuffle.vjp
pixel_unshuffle_vjp = pixel_unshuffle.vjp
