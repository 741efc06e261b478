"""Interpolation: one separable resampling for every mode, through a few taps along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import floor
from typing import Any

import numpy as np

from fconv.arrays import Array, Shape
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.pooling_adaptive import mean_of_bins
from fconv.functional.resampled import resampled
from fconv.functional.taps import Tap, Taps, gather, scatter
from fconv.geometry import whole_tuple

__all__ = [
    "interpolate", "interpolate_jvp", "interpolate_vjp",
]  # fmt: skip

AXES = {
    "nearest": (3, 4, 5),
    "nearest-exact": (3, 4, 5),
    "area": (3, 4, 5),
    "linear": (3,),
    "bilinear": (4,),
    "bicubic": (4,),
    "trilinear": (5,),
}
"""Numbers of axes of the input that each mode is for."""

SMOOTH = ("linear", "bilinear", "bicubic", "trilinear")


def check_resampling(
    name: str,
    shape: Shape,
    size: int | Sequence[int] | None,
    mode: str,
    align_corners: bool | None,
    recompute_scale_factor: bool | None,
    antialias: bool = False,
) -> None:
    """Require a mode, an input that it is for, and options that go with it."""
    if mode not in AXES:
        raise ValueError(f"{name}: expected mode {', '.join(AXES)}, got {mode!r}")
    if align_corners is not None and mode not in SMOOTH:
        raise ValueError(f"{name}: align_corners goes with the modes {', '.join(SMOOTH)}, not with {mode!r}")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"{name}: antialias goes with the modes bilinear and bicubic, not with {mode!r}")
    if recompute_scale_factor and size is not None:
        raise ValueError(f"{name}: recompute_scale_factor goes with a scale_factor, not with a size")
    if len(shape) not in AXES[mode]:
        axes = f"{AXES[mode][0]} to {AXES[mode][-1]}" if len(AXES[mode]) > 1 else AXES[mode][0]
        raise ValueError(
            f"{name}: expected an input of {axes} axes (N, C, ...) for mode {mode!r}, got shape {shape}"
        )
    if 0 in shape[2:]:
        raise ValueError(f"{name}: expected at least one pixel along each axis, got shape {shape}")


def resampled_size(
    name: str,
    in_size: Shape,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    least: int = 1,
) -> tuple[Shape, tuple[float | None, ...]]:
    """Work out the size of a resampled picture, and the factor of each axis (None where a size was given).

    Just one of `size` and `scale_factor` is given; the size for a factor is ``floor(in * factor)``, and
    `least` ("area" alone can be asked for nothing) or more.

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
        if isinstance(size, (tuple, list)) and len(size) != n:
            raise ValueError(f"{name}: size must be one integer or {n}, got {size!r}")
        return whole_tuple(name, "size", size, n, least), (None,) * n
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
def _nearest(size: int, out: int, factor: float | None, shift: float, kind: str) -> Taps:
    """Read pixel ``floor((i + shift) / factor)``.

    Where a product falls on an integer, rounding decides, so it is done as PyTorch does it:
    in float32, or in float64 and then to float32.
    """
    real = np.dtype(kind).type
    step = real(size) / real(out) if factor is None else real(1.0 / factor)
    places = ((np.arange(out, dtype=real) + real(shift)) * step).astype(np.float32)
    return (Tap(np.minimum(np.floor(places).astype(np.int64), size - 1)),)


def _sources(size: int, out: int, factor: float | None, align_corners: bool) -> Array:
    """Find the place of each output pixel in the input.

    Pixels are squares whose outer edges coincide, or points of which the outermost coincide.
    """
    if align_corners:
        return np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    return (np.arange(out) + 0.5) * (size / out if factor is None else 1.0 / factor) - 0.5


@lru_cache(maxsize=256)
def _linear(size: int, out: int, factor: float | None, align_corners: bool) -> Taps:
    """Read the two pixels about each place, the nearer the heavier."""
    if size == out:
        return (Tap(np.arange(out)),)
    places = np.maximum(_sources(size, out, factor, align_corners), 0.0)
    left = np.minimum(np.floor(places).astype(np.int64), size - 1)
    share = np.minimum(places - left, 1.0)
    right = np.minimum(left + 1, size - 1)
    return Tap(left, weights=1.0 - share), Tap(right, weights=share)


@lru_cache(maxsize=256)
def _cubic(size: int, out: int, factor: float | None, align_corners: bool) -> Taps:
    """Read the four pixels about each place, by Keys' kernel with a = -0.75; edges repeat."""
    a, places = -0.75, _sources(size, out, factor, align_corners)
    left = np.minimum(np.floor(places).astype(np.int64), size - 1)
    share = np.minimum(places - left, 1.0)
    taps = []
    for offset in (-1, 0, 1, 2):
        d = abs(share - offset)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        sources = np.clip(left + offset, 0, size - 1)
        taps.append(Tap(sources, weights=near if offset in (0, 1) else far))
    return tuple(taps)


@lru_cache(maxsize=256)
def _smoothed(size: int, out: int, factor: float | None, align_corners: bool, cubic: bool) -> Taps:
    """Read all pixels under a kernel that is as much wider as the picture shrinks: antialiasing.

    The kernels are the triangle and Keys' with a = -0.5, as Pillow and PyTorch have them.
    """
    if align_corners:
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    else:
        scale = size / out if factor is None else 1.0 / factor
    wide = max(scale, 1.0)
    reach = (2.0 if cubic else 1.0) * wide
    centres = (np.arange(out) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    counts = np.minimum((centres + reach + 0.5).astype(np.int64), size) - first
    taps = []
    for i in range(int(counts.max())):
        d = abs((first + i - centres + 0.5) / wide)
        if cubic:
            near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
            weights = np.where(d < 1, near, np.where(d < 2, far, 0.0))
        else:
            weights = np.maximum(1.0 - d, 0.0)
        taps.append((np.minimum(first + i, size - 1), np.where(i < counts, weights, 0.0)))
    total = sum(weights for _, weights in taps)
    return tuple(Tap(sources, weights=weights / total) for sources, weights in taps)


def _axis_taps(
    x: Array,
    out_size: Shape,
    factors: tuple[float | None, ...],
    mode: str,
    align_corners: bool,
    antialias: bool,
) -> list[tuple[int, Taps]]:
    """Make the table of each spatial axis."""
    # PyTorch's nearest has a kernel of its own for small pictures. It works in float32, and it
    # forgets the factor of an axis whose size stays or doubles.
    small = x.ndim == 4 and sum(out_size) <= 128
    kind = "float64" if x.dtype == np.float64 and not small else "float32"
    tables = []
    for axis, out, factor in zip(range(2, x.ndim), out_size, factors, strict=True):
        size = x.shape[axis]
        if mode == "nearest":
            forgets = small and out in (size, 2 * size)
            taps = _nearest(size, out, None if forgets else factor, 0.0, kind)
        elif mode == "nearest-exact":
            taps = _nearest(size, out, factor, 0.5, kind)
        elif antialias:
            taps = _smoothed(size, out, factor, align_corners, mode == "bicubic")
        else:
            taps = (_cubic if mode == "bicubic" else _linear)(size, out, factor, align_corners)
        tables.append((axis, taps))
    return tables


@differentiable("x", linear=True)
def interpolate(
    x: Array,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
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
    mode : str
        "nearest": output pixel i is a copy of input pixel ``floor(i / factor)``, with
        ``out / in`` for the factor where `size` is given. (As in PyTorch, it is also where two
        axes are resampled to at most 128 pixels together and one stays or doubles.)
        "nearest-exact": of the pixel at ``floor((i + 0.5) / factor)``, its centre.
        "linear" (one spatial axis), "bilinear" (two), "trilinear" (three), "bicubic" (two):
        between the pixels about ``(i + 0.5) / factor - 0.5``.
        "area": the mean of a bin, as `adaptive_avg_pool2d`.
    align_corners : bool, optional
        Of the linear and cubic modes: let the centres of the outermost pixels meet, not their
        outer edges. False by default.
    recompute_scale_factor : bool, optional
        Go on with ``out / in`` in the place of the factor given.
    antialias : bool
        Of "bilinear" and "bicubic": where the picture shrinks, average over as many pixels as fall
        on one, with a kernel as much wider.

    Returns
    -------
    array, shape (N, C, ...)
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Invalid sizes, an unknown mode, or an `x` that is not floating-point.

    References
    ----------
    Keys, "Cubic convolution interpolation for digital image processing", 1981.

    Examples
    --------
    >>> interpolate(np.array([[[1.0, 2.0]]]), scale_factor=1.5)
    array([[[1., 1., 2.]]])
    >>> interpolate(np.array([[[1.0, 2.0]]]), size=3, mode="linear")
    array([[[1. , 1.5, 2. ]]])
    """
    check_resampling("interpolate", x.shape, size, mode, align_corners, recompute_scale_factor, antialias)
    out_size, factors = resampled_size(
        "interpolate", x.shape[2:], size, scale_factor, 0 if mode == "area" else 1
    )
    if mode == "area":
        return mean_of_bins(x, out_size)
    if recompute_scale_factor:
        factors = (None,) * len(factors)
    tables = _axis_taps(x, out_size, factors, mode, bool(align_corners), antialias)

    shape = x.shape

    def value() -> Array:
        y = resampled(x, [taps for _, taps in tables], shape[2:], False)
        if y is not None:
            return y
        y = x
        for axis, taps in tables:
            y = gather(y, axis, taps)
        return y

    def pullback(g: Array) -> Array:
        dx = resampled(g, [taps for _, taps in tables], shape[2:], True)
        if dx is not None:
            return dx
        for axis, taps in reversed(tables):
            g = scatter(g, axis, taps, shape[axis])
        return g

    return (*shape[:2], *out_size), once(value), pullback


interpolate_jvp, interpolate_vjp = interpolate.jvp, interpolate.vjp
