"""Sums that lose little, and the one rule by which losses are reduced."""

from __future__ import annotations

from math import prod
from typing import Literal, TypeAlias

import numpy as np

from fconv.arrays import Array, Shape, xp_of

Reduction: TypeAlias = Literal["mean", "sum", "none"]


def accurate_sum(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Sum with float64 accumulators, in the dtype of `x`.

    NumPy adds along an outer axis one entry after another in the array's own precision, which
    over a channels-last picture loses digits that a gradient needs.

    Examples
    --------
    >>> accurate_sum(np.full((10**6, 1), 0.1, np.float32), axis=0)
    array([100000.], dtype=float32)
    """
    return xp_of(x).asarray(x.sum(axis=axis, keepdims=keepdims, dtype=np.float64)).astype(x.dtype)


def check_reduction(name: str, reduction: str) -> None:
    """Require one of PyTorch's three reductions."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'{name}: expected reduction "mean", "sum" or "none", got {reduction!r}')


def reduced_shape(shape: Shape, reduction: Reduction) -> Shape:
    """Give the shape of a loss of entries of `shape`."""
    return shape if reduction == "none" else ()


def reduce_losses(losses: Array, reduction: Reduction, total: Array | float | None = None) -> Array:
    """Reduce the losses of single entries.

    Parameters
    ----------
    losses : array
        One loss an entry.
    reduction : {"mean", "sum", "none"}
        How.
    total : array or float, optional
        What the mean divides by; the number of entries by default. The mean of nothing is
        NaN, as in PyTorch.

    Returns
    -------
    array
        0-dimensional but for "none".
    """
    if reduction == "none":
        return losses
    summed = accurate_sum(losses)
    return summed if reduction == "sum" else quotient(summed, losses.size if total is None else total)


def spread_gradient(
    g: Array, shape: Shape, reduction: Reduction, total: Array | float | None = None
) -> Array:
    """Take the gradient of a reduced loss to the losses of the entries: the adjoint of `reduce_losses`."""
    if reduction != "mean":
        return g
    xp, count = xp_of(g), prod(shape) if total is None else total
    # A mean over nothing depends on nothing, though its value is NaN.
    return xp.where(xp.asarray(count == 0), xp.zeros((), g.dtype), quotient(g, count))


def quotient(a: Array, b: Array | float) -> Array:
    """Divide in the dtype of `a`, 0 / 0 being NaN without a warning."""
    xp = xp_of(a)
    with np.errstate(divide="ignore", invalid="ignore"):
        return xp.asarray(a / xp.asarray(b, dtype=a.dtype))
