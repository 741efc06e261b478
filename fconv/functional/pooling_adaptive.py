"""Pooling to a given size: bins that share the input out evenly, and the whole input as one bin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np

from fconv.arrays import Array, Shape, full_like_order, xp_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.single import for_sample
from fconv.functional.sums import accurate_sum
from fconv.functional.taps import Tap, Taps, add_at, gather, scatter
from fconv.geometry import check_rank
from fconv.options import whole

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool1d_jvp", "adaptive_avg_pool1d_vjp",
    "adaptive_avg_pool2d", "adaptive_avg_pool2d_jvp", "adaptive_avg_pool2d_vjp",
    "adaptive_avg_pool3d", "adaptive_avg_pool3d_jvp", "adaptive_avg_pool3d_vjp",
    "adaptive_max_pool1d", "adaptive_max_pool1d_jvp", "adaptive_max_pool1d_vjp",
    "adaptive_max_pool2d", "adaptive_max_pool2d_jvp", "adaptive_max_pool2d_vjp",
    "adaptive_max_pool3d", "adaptive_max_pool3d_jvp", "adaptive_max_pool3d_vjp",
    "global_avg_pool", "global_avg_pool_jvp", "global_avg_pool_vjp",
    "global_max_pool", "global_max_pool_jvp", "global_max_pool_vjp",
]  # fmt: skip

OutputSize: TypeAlias = int | Sequence[int | None] | None


def adaptive_size(name: str, in_size: Shape, output_size: OutputSize) -> Shape:
    """Resolve an output size, in which None keeps the input's.

    An average may have one bin of an input without elements: the mean over nothing.

    Examples
    --------
    >>> adaptive_size("adaptive_avg_pool2d", (9, 7), (3, None))
    (3, 7)
    """
    n = len(in_size)
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * n
    if len(wanted) != n:
        raise ValueError(f"{name}: output_size must be one integer or {n}, got {output_size!r}")
    out_size = tuple(
        size if out is None else whole(name, "output_size", out, 0)
        for size, out in zip(in_size, wanted, strict=True)
    )
    if 0 in in_size and not ("avg" in name and set(out_size) == {1}):
        raise ValueError(f"{name}: expected at least one element along each axis, got a size of {in_size}")
    return out_size


def check_global(name: str, shape: Shape) -> Shape:
    """Require spatial axes, and give their number of ones."""
    if not 3 <= len(shape) <= 5:
        raise ValueError(f"{name}: expected an input of 3 to 5 axes (N, C, ...), got shape {shape}")
    return adaptive_size(name, shape[2:], 1)


@lru_cache(maxsize=256)
def bins(size: int, out: int) -> tuple[Array, Array]:
    """Return the first element of each bin and the one after its last: floor and ceil of even shares."""
    numbers = np.arange(out)
    return numbers * size // out, -(-(numbers + 1) * size // out)


@lru_cache(maxsize=256)
def mean_taps(size: int, out: int) -> Taps:
    """Read the mean of each bin: tap t reads element t of the bins that have as many."""
    first, end = bins(size, out)
    taps = []
    for t in range(int((end - first).max())):
        targets = np.flatnonzero(end - first > t)
        every = targets.size == out
        weights = 1.0 / (end - first)[targets]
        taps.append(Tap((first + t)[targets], None if every else targets, weights))
    return tuple(taps)


@lru_cache(maxsize=256)
def _element_taps(size: int, out: int) -> Taps:
    """Read every element of each bin, the last one again where others have more: for a maximum."""
    first, end = bins(size, out)
    return tuple(Tap(np.minimum(first + t, end - 1)) for t in range(int((end - first).max())))


def mean_of_bins(x: Array, out_size: Shape) -> Definition:
    """Define the mean over bins of the last axes, one axis after another."""
    first = x.ndim - len(out_size)
    leading, in_size = x.shape[:first], x.shape[first:]
    shape = (*leading, *out_size)
    if 0 in out_size:
        return shape, lambda: full_like_order(x, shape), lambda g: full_like_order(x, x.shape)
    if all(size % out == 0 for size, out in zip(in_size, out_size, strict=True)):
        return _mean_of_even_bins(x, leading, in_size, out_size)

    def value() -> Array:
        y = x
        for axis, (size, out) in enumerate(zip(in_size, out_size, strict=True), first):
            y = gather(y, axis, mean_taps(size, out))
        return y

    def pullback(g: Array) -> Array:
        for axis, (size, out) in enumerate(zip(in_size, out_size, strict=True), first):
            g = scatter(g, axis, mean_taps(size, out), size)
        return g

    return shape, once(value), pullback


def _mean_of_even_bins(x: Array, leading: Shape, in_size: Shape, out_size: Shape) -> Definition:
    xp, apart, spread = xp_of(x), list(leading), list(leading)
    for size, out in zip(in_size, out_size, strict=True):
        apart += [out, size // out]
        spread += [out, 1]
    within = tuple(range(len(leading) + 1, len(apart), 2))
    share = prod(out_size) / prod(in_size) if prod(in_size) else np.nan  # the mean over nothing is NaN
    return (
        (*leading, *out_size),
        once(lambda: accurate_sum(x.reshape(apart), within) * share),
        lambda g: xp.broadcast_to((g * share).reshape(spread), apart).reshape(x.shape),
    )


def _max_of_bins(x: Array, out_size: Shape, return_indices: bool) -> Definition:
    """Define the maximum over bins of the spatial axes, the last axis first.

    In that order the first of equal elements along each axis is the first in the plane, and the
    last NaN along each is the last.
    """
    shape = (*x.shape[:2], *out_size)
    if 0 in out_size:
        none = full_like_order(x, shape)
        return shape, lambda: none, lambda g: full_like_order(x, x.shape), lambda t: none
    xp = xp_of(x)
    axes = list(zip(range(2, x.ndim), x.shape[2:], out_size, strict=True))[::-1]

    @once
    def stages() -> tuple[Any, Any, list[Array]]:
        """Return the maxima, their places in the plane (or None), and the taps chosen along each axis."""
        plane, choices = x.shape[2:], []
        best: Array = x
        place: Any = xp.arange(prod(plane)).reshape(1, 1, *plane) if return_indices else None
        for axis, size, out in axes:
            first, *others = _element_taps(size, out)
            elements, places = best, place
            best = gather(elements, axis, (first,)).copy(order="K")
            if return_indices:
                place = xp.broadcast_to(gather(places, axis, (first,)), best.shape).copy()
            chosen = xp.zeros_like(best, dtype=np.int32)
            for number, tap in enumerate(others, 1):
                element = gather(elements, axis, (tap,))
                better = (element > best) | xp.isnan(element)
                xp.copyto(best, element, where=better)
                xp.copyto(chosen, np.int32(number), where=better)
                if return_indices:
                    xp.copyto(place, xp.broadcast_to(gather(places, axis, (tap,)), best.shape), where=better)
            choices.append(chosen)
        return best, place, choices

    def pullback(g: Array) -> Array:
        zero = xp.zeros((), g.dtype)
        for (axis, size, out), chosen in zip(axes[::-1], stages()[2][::-1], strict=True):
            dx = full_like_order(g, (*g.shape[:axis], size, *g.shape[axis + 1 :]))
            for number, tap in enumerate(_element_taps(size, out)):
                add_at(dx, xp.where(chosen == number, g, zero), axis, tap)
            g = dx
        return g

    def push(t: Array) -> Array:
        for (axis, size, out), chosen in zip(axes, stages()[2], strict=True):
            elements = t
            t = gather(elements, axis, _element_taps(size, out)[:1])
            for number, tap in enumerate(_element_taps(size, out)[1:], 1):
                t = xp.where(chosen == number, gather(elements, axis, (tap,)), t)
        return t

    def value() -> Any:
        return stages()[:2] if return_indices else stages()[0]

    return shape, once(value), pullback, push


def _adaptive_avg(name: str, ndim: int, x: Array, output_size: OutputSize) -> Definition:
    def define(x: Array) -> Definition:
        check_rank(name, "input", x.shape, ndim)
        return mean_of_bins(x, adaptive_size(name, x.shape[2:], output_size))

    return for_sample(x, ndim + 2, define)


def _adaptive_max(
    name: str, ndim: int, x: Array, output_size: OutputSize, return_indices: bool
) -> Definition:
    def define(x: Array) -> Definition:
        check_rank(name, "input", x.shape, ndim)
        return _max_of_bins(x, adaptive_size(name, x.shape[2:], output_size), return_indices)

    return for_sample(x, ndim + 2, define)


@differentiable("x", linear=True)
def adaptive_avg_pool2d(x: Array, output_size: OutputSize) -> Definition:
    """Mean over bins of two spatial axes, as many bins as wanted.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Floating-point.
    output_size : int or (int, int)
        Number of bins along each axis; None keeps the axis. Bin i of n holds the elements from
        ``floor(i H / n)`` to before ``ceil((i + 1) H / n)``.

    Returns
    -------
    array, shape ``(N, C, *output_size)``
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        An invalid size, a wrong rank, or an `x` that is not floating-point.

    Examples
    --------
    >>> adaptive_avg_pool2d(np.array([[[[1.0, 2.0, 6.0]]]]), (1, 2))
    array([[[[1.5, 4. ]]]])
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, x, output_size)


@differentiable("x")
def adaptive_max_pool2d(x: Array, output_size: OutputSize, return_indices: bool = False) -> Definition:
    """Maximum over bins of two spatial axes, as many bins as wanted.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Floating-point.
    output_size : int or (int, int)
        As for `adaptive_avg_pool2d`.
    return_indices : bool
        Give ``(y, indices)``: beside each maximum its place in the flat (H, W) plane, int64.

    Returns
    -------
    array, shape ``(N, C, *output_size)``
        NaN where a bin holds a NaN. The gradient goes to the first maximum of a bin (to the
        last NaN where there is one), as in PyTorch.

    Raises
    ------
    ValueError, TypeError
        An invalid size, a wrong rank, or an `x` that is not floating-point.

    Examples
    --------
    >>> adaptive_max_pool2d(np.array([[[[1.0, 2.0, 6.0]]]]), (1, 2), return_indices=True)
    (array([[[[2., 6.]]]]), array([[[[1, 2]]]]))
    """
    return _adaptive_max("adaptive_max_pool2d", 2, x, output_size, return_indices)


@differentiable("x", linear=True)
def adaptive_avg_pool1d(x: Array, output_size: OutputSize) -> Definition:
    """Mean over bins of one spatial axis: `adaptive_avg_pool2d` for x (N, C, L)."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, x, output_size)


@differentiable("x")
def adaptive_max_pool1d(x: Array, output_size: OutputSize, return_indices: bool = False) -> Definition:
    """Maximum over bins of one spatial axis: `adaptive_max_pool2d` for x (N, C, L)."""
    return _adaptive_max("adaptive_max_pool1d", 1, x, output_size, return_indices)


@differentiable("x", linear=True)
def adaptive_avg_pool3d(x: Array, output_size: OutputSize) -> Definition:
    """Mean over bins of three spatial axes: `adaptive_avg_pool2d` for x (N, C, D, H, W)."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, x, output_size)


@differentiable("x")
def adaptive_max_pool3d(x: Array, output_size: OutputSize, return_indices: bool = False) -> Definition:
    """Maximum over bins of three spatial axes: `adaptive_max_pool2d` for x (N, C, D, H, W)."""
    return _adaptive_max("adaptive_max_pool3d", 3, x, output_size, return_indices)


@differentiable("x", linear=True)
def global_avg_pool(x: Array) -> Definition:
    """Mean over all spatial axes, each of which is kept with size 1.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point, with one to three spatial axes.

    Returns
    -------
    array, shape (N, C, 1, ...)
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        A wrong rank, an empty axis, or an `x` that is not floating-point.

    References
    ----------
    Lin, Chen and Yan, "Network in network", 2013.

    Examples
    --------
    >>> global_avg_pool(np.array([[[1.0, 2.0, 6.0]]]))
    array([[[3.]]])
    """
    return mean_of_bins(x, check_global("global_avg_pool", x.shape))


@differentiable("x")
def global_max_pool(x: Array) -> Definition:
    """Maximum over all spatial axes, each of which is kept with size 1; see `global_avg_pool`."""
    return _max_of_bins(x, check_global("global_max_pool", x.shape), False)


adaptive_avg_pool1d_jvp, adaptive_avg_pool1d_vjp = adaptive_avg_pool1d.jvp, adaptive_avg_pool1d.vjp
adaptive_avg_pool2d_jvp, adaptive_avg_pool2d_vjp = adaptive_avg_pool2d.jvp, adaptive_avg_pool2d.vjp
adaptive_avg_pool3d_jvp, adaptive_avg_pool3d_vjp = adaptive_avg_pool3d.jvp, adaptive_avg_pool3d.vjp
adaptive_max_pool1d_jvp, adaptive_max_pool1d_vjp = adaptive_max_pool1d.jvp, adaptive_max_pool1d.vjp
adaptive_max_pool2d_jvp, adaptive_max_pool2d_vjp = adaptive_max_pool2d.jvp, adaptive_max_pool2d.vjp
adaptive_max_pool3d_jvp, adaptive_max_pool3d_vjp = adaptive_max_pool3d.jvp, adaptive_max_pool3d.vjp
global_avg_pool_jvp, global_avg_pool_vjp = global_avg_pool.jvp, global_avg_pool.vjp
global_max_pool_jvp, global_max_pool_vjp = global_max_pool.jvp, global_max_pool.vjp
