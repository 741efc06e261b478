"""Sums, means, products and extremes over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from fconv.arrays import Array, Shape, narrowed, xp_of
from fconv.functional.activation import check_axis_of
from fconv.functional.core import Definition, Pushed, differentiable, once
from fconv.functional.sums import quotient

__all__ = [
    "amax", "amax_jvp", "amax_vjp",
    "amin", "amin_jvp", "amin_vjp",
    "max", "max_jvp", "max_vjp",
    "mean", "mean_jvp", "mean_vjp",
    "min", "min_jvp", "min_vjp",
    "prod", "prod_jvp", "prod_vjp",
    "sum", "sum_jvp", "sum_vjp",
]  # fmt: skip

Dims: TypeAlias = int | Sequence[int] | None


def reduced_axes(name: str, shape: Shape, dim: Dims) -> tuple[int, ...]:
    """Return the axes that `dim` names, counted from the front; all for None, as for no axes at all."""
    dims = () if dim is None else (dim,) if not isinstance(dim, (tuple, list)) else dim
    axes = tuple(check_axis_of(name, shape, axis) for axis in dims)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: expected each axis at most once, got dim={dim}")
    return axes or tuple(range(len(shape)))


def shape_over(shape: Shape, axes: tuple[int, ...], keepdim: bool) -> Shape:
    """Return a shape without `axes`, or with one element along each."""
    if keepdim:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _total(name: str, x: Array, dim: Dims, keepdim: bool, averaged: bool) -> Definition:
    axes = reduced_axes(name, x.shape, dim)
    kept = shape_over(x.shape, axes, True)
    count = math.prod(x.shape[axis] for axis in axes) if averaged else 1

    def value() -> Array:
        wide = x.sum(axis=axes, dtype=np.float64)
        with np.errstate(invalid="ignore"):  # the mean of nothing is NaN
            return narrowed(xp_of(x).divide(wide, count) if averaged else wide, x.dtype)

    def pullback(g: Array) -> Array:
        each = g.reshape(kept) if count == 1 else quotient(g.reshape(kept), count)
        return xp_of(g).broadcast_to(each, x.shape).astype(x.dtype)

    shape = shape_over(x.shape, axes, keepdim)
    return shape, once(lambda: value().reshape(shape)), pullback


@differentiable("x", linear=True)
def sum(x: Array, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Add the elements along axes, as torch.sum.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int or sequence of int, optional
        The axes; all by default.
    keepdim : bool
        Keep them with one element.

    Returns
    -------
    array
        In the dtype of `x`, summed in float64.

    Raises
    ------
    ValueError, TypeError
        Axes that `x` lacks, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> sum(np.ones((2, 3)), 1)
    array([3., 3.])
    """
    return _total("sum", x, dim, keepdim, False)


@differentiable("x", linear=True)
def mean(x: Array, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Average the elements along axes, as torch.mean; arguments as for `sum`.

    Examples
    --------
    >>> import numpy as np
    >>> mean(np.arange(6.0).reshape(2, 3), (0,), keepdim=True)
    array([[1.5, 2.5, 3.5]])
    """
    return _total("mean", x, dim, keepdim, True)


def by_slopes(
    x: Array,
    axes: tuple[int, ...],
    keepdim: bool,
    value: Callable[[], Array],
    slopes: Callable[[], Array],
    selects: bool = False,
) -> Pushed:
    """Define a function that makes one number of the elements along axes, by its derivative by each of them.

    `value` returns it with the axes kept; both may be in float64. Of a function that `selects` elements,
    nothing comes to or from the others, not even NaN.
    """
    shape, kept = shape_over(x.shape, axes, keepdim), shape_over(x.shape, axes, True)
    found = once(slopes)

    def times(v: Array) -> Array:
        product = v * found()
        return xp_of(x).where(found() == 0, product.dtype.type(0), product) if selects else product

    return (
        shape,
        once(lambda: narrowed(value(), x.dtype).reshape(shape)),
        lambda g: narrowed(times(g.reshape(kept)), x.dtype),
        lambda t: narrowed(times(t).sum(axis=axes, dtype=np.float64), x.dtype).reshape(shape),
    )


def _some(name: str, shape: Shape, axes: tuple[int, ...]) -> None:
    if not math.prod(shape[axis] for axis in axes):
        raise ValueError(f"{name}: expected an element along the axes {axes}, got shape {shape}")


def _extreme(name: str, x: Array, dim: Dims, keepdim: bool) -> Definition:
    """Define the largest or smallest element, whose gradient is shared by all that are it."""
    axes = reduced_axes(name, x.shape, dim)
    _some(name, x.shape, axes)
    found = once(lambda: xp_of(x).asarray(getattr(x, name[1:])(axis=axes, keepdims=True)))

    def slopes() -> Array:
        at = (x == found()) | xp_of(x).isnan(x)  # where one is NaN, the extreme is
        return at / at.sum(axis=axes, keepdims=True)

    return by_slopes(x, axes, keepdim, found, slopes, selects=True)


@differentiable("x")
def amax(x: Array, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Return the largest element along axes, as torch.amax; arguments as for `sum`.

    The gradient is shared evenly by the elements that are the largest.

    Raises
    ------
    ValueError
        There is no element along the axes, or as for `sum`.

    Examples
    --------
    >>> import numpy as np
    >>> amax_vjp(np.ones(1), np.array([[1.0, 3.0, 3.0]]), 1)
    array([[0. , 0.5, 0.5]])
    """
    return _extreme("amax", x, dim, keepdim)


@differentiable("x")
def amin(x: Array, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Return the smallest element along axes, as torch.amin; arguments, gradient and errors as for `amax`.

    Examples
    --------
    >>> import numpy as np
    >>> amin(np.array([[1.0, 3.0], [0.0, 2.0]]), 0)
    array([0., 2.])
    """
    return _extreme("amin", x, dim, keepdim)


def _first(name: str, x: Array, dim: int, keepdim: bool, return_indices: bool) -> Definition:
    """Define the largest or smallest element, whose gradient goes to the first of equal elements."""
    axis = check_axis_of(name, x.shape, dim)
    _some(name, x.shape, (axis,))
    xp, shape = xp_of(x), shape_over(x.shape, (axis,), keepdim)
    at = once(lambda: xp.expand_dims(getattr(xp, f"arg{name}")(x, axis=axis), axis))  # the first NaN, too

    def value() -> Any:
        y = xp.take_along_axis(x, at(), axis).reshape(shape)
        return (y, at().reshape(shape)) if return_indices else y

    def pullback(g: Array) -> Array:
        here = xp.arange(x.shape[axis]).reshape(-1, *(1,) * (x.ndim - axis - 1)) == at()
        return xp.where(here, g.reshape(shape_over(x.shape, (axis,), True)), g.dtype.type(0))

    def push(t: Array) -> Array:
        return xp.take_along_axis(t, at(), axis).reshape(shape)

    return shape, once(value), pullback, push


@differentiable("x", widens=False)
def max(x: Array, dim: int, keepdim: bool = False, return_indices: bool = False) -> Definition:
    """Return the largest element along an axis, as torch.max.

    Of equal elements, the first gets the gradient.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int
        The axis.
    keepdim : bool
        Keep it with one element.
    return_indices : bool
        Return the pair of values and their positions along the axis.

    Returns
    -------
    array, or pair of arrays
        The values in the dtype of `x`; the positions in int64.

    Raises
    ------
    ValueError, TypeError
        An axis that `x` does not have or that has no element, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> max(np.array([[1.0, 3.0, 3.0]]), 1, return_indices=True)
    (array([3.]), array([1]))
    """
    return _first("max", x, dim, keepdim, return_indices)


@differentiable("x", widens=False)
def min(x: Array, dim: int, keepdim: bool = False, return_indices: bool = False) -> Definition:
    """Return the smallest element along an axis, as torch.min; arguments and gradient as for `max`.

    Examples
    --------
    >>> import numpy as np
    >>> min(np.array([[1.0, 0.0], [2.0, 5.0]]), 0)
    array([1., 0.])
    """
    return _first("min", x, dim, keepdim, return_indices)


@differentiable("x")
def prod(x: Array, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Multiply the elements along axes, as torch.prod; arguments as for `sum`.

    Examples
    --------
    >>> import numpy as np
    >>> prod_vjp(np.ones(1), np.array([[0.0, 2.0, 3.0]]), 1)
    array([[6., 0., 0.]])
    """
    axes = reduced_axes("prod", x.shape, dim)

    def slopes() -> Array:
        # The product of all others holds where elements are 0 too.
        zero = x == 0
        others = xp_of(x).where(zero, x.dtype.type(1), x)
        whole = others.prod(axis=axes, keepdims=True)
        zeros = zero.sum(axis=axes, keepdims=True)
        return xp_of(x).where(zero, whole * (zeros == 1), whole / others * (zeros == 0))

    return by_slopes(x, axes, keepdim, lambda: xp_of(x).asarray(x.prod(axis=axes, keepdims=True)), slopes)


amax_jvp, amax_vjp = amax.jvp, amax.vjp
amin_jvp, amin_vjp = amin.jvp, amin.vjp
max_jvp, max_vjp = max.jvp, max.vjp
mean_jvp, mean_vjp = mean.jvp, mean.vjp
min_jvp, min_vjp = min.jvp, min.vjp
prod_jvp, prod_vjp = prod.jvp, prod.vjp
sum_jvp, sum_vjp = sum.jvp, sum.vjp
