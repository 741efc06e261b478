"""Normalising by moments: one definition for every norm, forward and gradient.

A norm is its axes: those that the mean and the variance are taken over, and those along which
scale and shift lie. Batch, layer, group, instance and RMS normalisation differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TypeAlias

import numpy as np

from fconv.arrays import Array, Shape, xp_of
from fconv.functional.core import Pushed, Thunks, once
from fconv.functional.norm_sweeps import norm_push, swept

Statistics: TypeAlias = tuple[Array, Array]


def total(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum in float64 over `axes`, which stay as axes of one element."""
    return x.sum(axis=axes, keepdims=True, dtype=np.float64) if axes else x


def mean_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Mean in float64 over `axes`, which stay as axes of one element; 0 over no elements."""
    return total(x, axes) / max(1, prod(x.shape[axis] for axis in axes))


def mean_square(x: Array, axes: tuple[int, ...]) -> Array:
    """Mean of the squares over `axes`; see `mean_over`."""
    with np.errstate(over="ignore"):  # a square that overflows is infinite, as in PyTorch
        return mean_over(xp_of(x).square(x), axes)


def centre(x: Array, mean: Array) -> Array:
    """Subtract a mean in float64 from `x`, as exactly as the result's dtype can say."""
    near = mean.astype(x.dtype, copy=False)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        out = x - near
        if near.dtype != mean.dtype:
            out -= (mean - near).astype(near.dtype)  # what rounding the mean lost
    return out


def moments(x: Array, axes: tuple[int, ...]) -> Statistics:
    """Mean and biased variance in float64 over `axes`, which stay as axes of one element.

    The variance takes a second pass over the differences from the mean, so that a mean far
    larger than the deviation costs no digits. Over no elements both are 0.
    """
    mean = mean_over(x, axes)
    return mean, mean_square(centre(x, mean), axes)


def normalised(
    x: Array,
    axes: tuple[int, ...],
    along: Shape,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    *,
    given: Callable[[], Statistics] | None = None,
    fixed: bool = False,
    centred: bool = True,
) -> Pushed:
    """Define ``y = (x - mean) / sqrt(var + eps) * weight + bias`` and its gradients.

    Mean and variance are taken over `axes`, or `given` by a function, so that they broadcast against `x`;
    no gradient flows through them where they are `fixed`. Scale and shift have the shape `along`, with an
    axis for each of `x`'s. Where not `centred`, the variance is the mean of the squares, and no mean is
    subtracted.
    """
    # The statistics are taken again where sweeps are compiled: they cost less than another pass.
    compiled = None if fixed else swept(x, axes, along, weight, bias, eps, centred)
    xp = xp_of(x)
    summed_axes = tuple(axis for axis, size in enumerate(along) if size == 1)
    # Scale and shift are constant along these: sums over them serve the gradients of both sides.
    common = tuple(axis for axis in axes if axis in summed_axes)
    rest = tuple(axis for axis in axes if axis not in common)
    count = max(1, prod(x.shape[axis] for axis in axes))

    @once
    def statistics() -> tuple[Array | None, Array]:
        """Return the mean and 1 / sqrt(var + eps)."""
        if not centred:
            mean, var = None, mean_square(x, axes)
        else:
            mean, var = given() if given is not None else moments(x, axes)
        with np.errstate(divide="ignore", invalid="ignore"):  # where both are 0, as in PyTorch
            return mean, xp.asarray(1 / xp.sqrt(var + eps), dtype=x.dtype)

    @once
    def normal() -> Array:
        mean, spread = statistics()
        with np.errstate(invalid="ignore"):
            if mean is None:
                return x * spread
            out = centre(x, mean)
            out *= spread
            return out

    def scaled(v: Array) -> Array:
        return v if weight is None else v * weight.reshape(along)

    def value() -> Array:
        out = scaled(normal())
        if bias is not None:
            out = out + bias.reshape(along)
        return out.astype(x.dtype, copy=False)

    def pullback(g: Array) -> Thunks:
        summed = once(lambda: total(g, common))
        weighted = once(lambda: total(g * normal(), common))

        def fold(v: Array, shape: Shape) -> Array:
            return total(v, summed_axes).reshape(shape).astype(x.dtype, copy=False)

        def fold_each(v: Array, shape: Shape) -> Array:
            return total(v, summed_axes[1:]).reshape(x.shape[0], *shape).astype(x.dtype, copy=False)

        def mean(v: Array) -> Array:
            return (total(scaled(v), rest) / count).astype(x.dtype, copy=False)

        def dx() -> Array:
            inner = scaled(g)
            if fixed:
                return (inner * statistics()[1]).astype(x.dtype, copy=False)
            if centred:
                inner = inner - mean(summed())
            out = normal() * mean(weighted())
            xp.subtract(inner, out, out=out)
            out *= statistics()[1]
            return out.astype(x.dtype, copy=False)

        return {
            "x": dx,
            "weight": lambda: fold(weighted(), weight.shape),  # type: ignore[union-attr]
            "bias": lambda: fold(summed(), bias.shape),  # type: ignore[union-attr]
            "weight of each": lambda: fold_each(g * normal(), weight.shape),  # type: ignore[union-attr]
            "bias of each": lambda: fold_each(g, bias.shape),  # type: ignore[union-attr]
            **({} if compiled is None else compiled[2](g)),
        }

    def derivative(t: Array) -> Array:
        """Return the derivative of the normalised input along a tangent."""
        spread = statistics()[1]
        if fixed:
            return t * spread
        inner = t - (total(t, axes) / count).astype(x.dtype, copy=False) if centred else t
        lost = normal() * (total(t * normal(), axes) / count).astype(x.dtype, copy=False)
        return (inner - lost) * spread

    def push(moved: dict[str, Array]) -> Array:
        return norm_push(moved, along, weight, normal, derivative).astype(x.dtype, copy=False)

    if compiled is not None:
        return x.shape, compiled[1], pullback, compiled[3]
    return x.shape, once(value), pullback, push
