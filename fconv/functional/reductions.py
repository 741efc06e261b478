"""Sums, means and largest entries over axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import numpy as np

from fconv.arrays import Array, Shape, narrowed, xp_of
from fconv.functional.activation import check_axis_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.reduction import quotient

__all__ = ["amax", "amax_vjp", "mean", "mean_vjp", "sum", "sum_vjp"]

Dims: TypeAlias = int | Sequence[int] | None


def reduced_axes(name: str, shape: Shape, dim: Dims) -> tuple[int, ...]:
    """Give the axes that `dim` names, counted from the front; all for None, as for no axes at all."""
    dims = () if dim is None else (dim,) if not isinstance(dim, (tuple, list)) else dim
    axes = tuple(check_axis_of(name, shape, axis) for axis in dims)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: expected each axis at most once, got dim={dim}")
    return axes or tuple(range(len(shape)))


def shape_over(shape: Shape, axes: tuple[int, ...], keepdim: bool) -> Shape:
    """Give a shape without `axes`, or with one entry along each."""
    if keepdim:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _total(name: str, x: Array, dim: Dims, keepdim: bool, averaged: bool) -> Definition:
    axes = reduced_axes(name, x.shape, dim)
    kept = shape_over(x.shape, axes, True)
    count = prod(x.shape[axis] for axis in axes) if averaged else 1

    def value() -> Array:
        wide = x.sum(axis=axes, dtype=np.float64)
        with np.errstate(invalid="ignore"):  # the mean of nothing is NaN
            return narrowed(xp_of(x).divide(wide, count) if averaged else wide, x.dtype)

    def pullback(g: Array) -> Array:
        each = g.reshape(kept) if count == 1 else quotient(g.reshape(kept), count)
        return xp_of(g).broadcast_to(each, x.shape).astype(x.dtype)

    shape = shape_over(x.shape, axes, keepdim)
    return shape, once(lambda: value().reshape(shape)), pullback


@differentiable("x")
def sum(x: Array, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Add the entries along axes, as torch.sum.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int or sequence of int, optional
        The axes; all by default.
    keepdim : bool
        Keep them with one entry.

    Returns
    -------
    array
        In the dtype of `x`, summed in float64.

    Raises
    ------
    ValueError, TypeError
        Axes that `x` does not have, `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> sum(np.ones((2, 3)), 1)
    array([3., 3.])
    """
    return _total("sum", x, dim, keepdim, False)


@differentiable("x")
def mean(x: Array, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Average the entries along axes, as torch.mean; arguments as for `sum`.

    Examples
    --------
    >>> import numpy as np
    >>> mean(np.arange(6.0).reshape(2, 3), (0,), keepdim=True)
    array([[1.5, 2.5, 3.5]])
    """
    return _total("mean", x, dim, keepdim, True)


@differentiable("x")
def amax(x: Array, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Give the largest entry along axes, as torch.amax; arguments as for `sum`.

    The gradient is shared evenly by the entries that are the largest.

    Raises
    ------
    ValueError
        There is no entry along the axes, or as for `sum`.

    Examples
    --------
    >>> import numpy as np
    >>> amax_vjp(np.ones(1), np.array([[1.0, 3.0, 3.0]]), 1)
    array([[0. , 0.5, 0.5]])
    """
    axes = reduced_axes("amax", x.shape, dim)
    if not prod(x.shape[axis] for axis in axes):
        raise ValueError(f"amax: expected an entry along the axes {axes}, got shape {x.shape}")
    shape, kept = shape_over(x.shape, axes, keepdim), shape_over(x.shape, axes, True)
    largest = once(lambda: xp_of(x).asarray(x.max(axis=axes, keepdims=True)))

    def pullback(g: Array) -> Array:
        at = (x == largest()) | xp_of(x).isnan(x)  # where one is NaN, the largest is
        shared = quotient(g.reshape(kept), at.sum(axis=axes, keepdims=True))
        return xp_of(x).where(at, shared, shared.dtype.type(0))

    return shape, once(lambda: largest().reshape(shape)), pullback


amax_vjp = amax.vjp
mean_vjp = mean.vjp
sum_vjp = sum.vjp
