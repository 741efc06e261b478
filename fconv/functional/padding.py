"""Padding and cropping."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fconv.arrays import Array, Shape
from fconv.engine import windows
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.taps import Tap, gather, scatter
from fconv.geometry import Pairs
from fconv.options import whole

__all__ = [
    "pad", "pad_jvp", "pad_vjp",
]  # fmt: skip

MODES = ("constant", "reflect", "replicate", "circular")


def check_mode(name: str, what: str, mode: str, modes: Sequence[str]) -> None:
    """Require one of the modes."""
    if mode not in modes:
        raise ValueError(f"{name}: expected {what} of {', '.join(modes)}, got {mode!r}")


def pad_pairs(name: str, shape: Shape, pad: Sequence[int], mode: str) -> Pairs:
    """Turn PyTorch's widths, the last axis first, into (before, after) for each of the last axes.

    Widths that the input or the mode does not allow are a ValueError or TypeError.

    Examples
    --------
    >>> pad_pairs("pad", (1, 1, 4, 4), (1, 2, 0, -1), "constant")
    ((0, -1), (1, 2))
    """
    check_mode(name, "a mode", mode, MODES)
    if not isinstance(pad, (tuple, list)):
        raise TypeError(f"{name}: expected a sequence of widths, the last axis first, got {pad!r}")
    if len(pad) % 2 or len(pad) > 2 * len(shape):
        raise ValueError(f"{name}: expected two widths an axis, the last first, got {pad} for shape {shape}")
    widths = [whole(name, "a width", width, -(1 << 62)) for width in pad]
    pairs = tuple(zip(widths[::2], widths[1::2], strict=True))[::-1]
    n = len(pairs)
    if mode != "constant" and (n not in (1, 2, 3) or len(shape) not in (n + 1, n + 2)):
        raise ValueError(
            f"{name}: expected widths for all spatial axes of (C, ...) or (N, C, ...) with mode {mode!r}, "
            f"got {pad} for shape {shape}"
        )
    for size, (lo, hi) in zip(shape[len(shape) - n :], pairs, strict=True):
        left = size + min(lo, 0) + min(hi, 0)
        wider = max(lo, hi, 0)
        most = {"constant": wider, "reflect": max(size - 1, 0), "circular": left}.get(
            mode, wider if size else 0
        )
        if left < 0 or wider > most:
            raise ValueError(
                f"{name}: widths {lo} and {hi} do not fit an axis of {size} with mode {mode!r} "
                f"(shape {shape}, pad {tuple(pad)})"
            )
    return pairs


def padded_shape(shape: Shape, pairs: Pairs) -> Shape:
    """Return the shape after padding the last axes."""
    first = len(shape) - len(pairs)
    return (*shape[:first], *(size + lo + hi for size, (lo, hi) in zip(shape[first:], pairs, strict=True)))


@lru_cache(maxsize=256)
def _tap(size: int, lo: int, hi: int, mode: str) -> Tap:
    """Find the element that each element of a padded axis repeats."""
    at = np.arange(-lo, size + hi)
    if mode == "replicate":
        return Tap(np.clip(at, 0, size - 1))
    if mode == "reflect":
        return Tap(size - 1 - abs(size - 1 - abs(at)))
    # What is cropped does not come round.
    first, left = max(-lo, 0), size + min(lo, 0) + min(hi, 0)
    return Tap(first + (at - first) % max(left, 1))


@differentiable("x", linear=True)
def pad(x: Array, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Definition:
    """Widen or crop the last axes, as torch.nn.functional.pad.

    Parameters
    ----------
    x : array
        Floating-point. For the modes other than "constant" (C, ...) or (N, C, ...) with one to
        three spatial axes, all of which have widths.
    pad : sequence of int
        Elements before and after the last axis, before and after the one before it, and so on.
        A negative width crops.
    mode : {"constant", "reflect", "replicate", "circular"}
        New elements hold `value`, or mirror the axis about its end (a width is smaller than the
        axis), or repeat the element at its end, or go round (a width
        is at most what is left of the axis).
    value : float, optional
        For mode "constant"; 0 by default.

    Returns
    -------
    array
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Widths that do not fit, an unknown mode, or an `x` that is not floating-point.

    Examples
    --------
    >>> pad(np.array([[1.0, 2.0, 3.0]]), (2, 1), mode="reflect")
    array([[3., 2., 1., 2., 3., 2.]])
    >>> pad_vjp(np.ones((1, 6)), np.array([[1.0, 2.0, 3.0]]), (2, 1), mode="reflect")
    array([[1., 3., 2.]])
    """
    pairs = pad_pairs("pad", x.shape, pad, mode)
    if mode != "constant" and value:
        raise ValueError(f'pad: only mode "constant" takes a value, got value={value} with mode {mode!r}')
    shape = padded_shape(x.shape, pairs)
    if mode == "constant":
        wider = tuple((max(lo, 0), max(hi, 0)) for lo, hi in pairs)
        narrower = tuple((max(-lo, 0), max(-hi, 0)) for lo, hi in pairs)
        return (
            shape,
            once(lambda: windows.pad(windows.crop(x, narrower), wider, value or 0.0)),
            lambda g: windows.pad(windows.crop(g, wider), narrower),
            lambda t: windows.pad(windows.crop(t, narrower), wider),
        )
    axes = range(x.ndim - len(pairs), x.ndim)
    taps = [(axis, (_tap(x.shape[axis], *pair, mode),)) for axis, pair in zip(axes, pairs, strict=True)]

    def padded() -> Array:
        y = x
        for axis, tap in taps:
            y = gather(y, axis, tap)
        return y

    def pullback(g: Array) -> Array:
        for axis, tap in reversed(taps):
            g = scatter(g, axis, tap, x.shape[axis])
        return g

    return shape, once(padded), pullback


pad_jvp, pad_vjp = pad.jvp, pad.vjp
