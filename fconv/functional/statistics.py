"""Variances, norms and logarithms of sums of exponentials over axes."""

from __future__ import annotations

from math import inf, prod

import numpy as np

from fconv.arrays import Array, xp_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.reductions import Dims, by_slopes, reduced_axes, shape_over
from fconv.functional.sums import quietly, quotient
from fconv.options import number

__all__ = [
    "logsumexp", "logsumexp_jvp", "logsumexp_vjp",
    "std", "std_jvp", "std_vjp",
    "var", "var_jvp", "var_vjp",
    "vector_norm", "vector_norm_jvp", "vector_norm_vjp",
]  # fmt: skip


def _spread(name: str, x: Array, dim: Dims, correction: float, keepdim: bool, root: bool) -> Definition:
    axes = reduced_axes(name, x.shape, dim)
    count = prod(x.shape[axis] for axis in axes)
    divisor = max(count - number(name, "correction", correction), 0.0)
    xp = xp_of(x)

    @once
    def away() -> Array:
        """Return the distance of each element from the mean, in float64."""
        wide = x.astype(np.float64)
        return wide - (wide.sum(axis=axes, keepdims=True) / max(count, 1))

    @once
    def found() -> Array:
        y = quotient((away() ** 2).sum(axis=axes, keepdims=True), divisor)
        return xp.sqrt(y) if root else y

    def slopes() -> Array:
        if not root:
            return quietly(lambda: away() * (2 / np.float64(divisor)))
        return xp.where(found() == 0, 0.0, quietly(lambda: away() / (divisor * found())))

    return by_slopes(x, axes, keepdim, found, slopes)


@differentiable("x")
def var(x: Array, dim: Dims = None, correction: float = 1, keepdim: bool = False) -> Definition:
    """Return the variance along axes, as torch.var.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int or sequence of int, optional
        The axes; all by default.
    correction : float
        Subtracted from the number of elements, by which the sum of squares is divided.
    keepdim : bool
        Keep the axes with one element.

    Returns
    -------
    array
        In the dtype of `x`, worked out in float64; NaN where nothing is left to divide by.

    Raises
    ------
    ValueError, TypeError
        Axes that `x` lacks, or an `x` that is not floating-point.

    Examples
    --------
    >>> var(np.array([[1.0, 3.0], [2.0, 2.0]]), 1)
    array([2., 0.])
    """
    return _spread("var", x, dim, correction, keepdim, False)


@differentiable("x")
def std(x: Array, dim: Dims = None, correction: float = 1, keepdim: bool = False) -> Definition:
    """Return the standard deviation along axes, as torch.std; arguments as for `var`.

    The gradient where all elements are equal is 0.

    Examples
    --------
    >>> std(np.array([1.0, 3.0]), correction=0)
    array(1.)
    """
    return _spread("std", x, dim, correction, keepdim, True)


@differentiable("x")
def vector_norm(x: Array, ord: float = 2, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Return a norm over axes, ``sum(abs(x) ** ord) ** (1 / ord)``, as torch.linalg.vector_norm.

    Parameters
    ----------
    x : array
        Floating-point.
    ord : float
        Above 0; infinity is the largest absolute value, minus infinity the smallest.
    dim, keepdim
        As for `var`.

    Returns
    -------
    array
        In the dtype of `x`, summed in float64. The gradient where all elements are 0 is 0; that of an
        infinite norm is shared by the elements that have it.

    Raises
    ------
    ValueError, TypeError
        `ord` of 0 or less, axes that `x` lacks, or an `x` that is not floating-point.

    Examples
    --------
    >>> vector_norm(np.array([[3.0, 4.0], [0.0, 1.0]]), dim=1)
    array([5., 1.])
    """
    p = number("vector_norm", "ord", ord)
    if not (p > 0 or p == -inf):
        raise ValueError(f"vector_norm: expected an ord above 0, or infinite, got {ord}")
    axes = reduced_axes("vector_norm", x.shape, dim)
    if p in (inf, -inf) and not prod(x.shape[axis] for axis in axes):
        raise ValueError(f"vector_norm: expected an element along the axes {axes}, got shape {x.shape}")
    xp = xp_of(x)

    @once
    def found() -> Array:
        size = abs(x)
        if p in (inf, -inf):
            return (size.max if p > 0 else size.min)(axis=axes, keepdims=True)
        wide = size.astype(np.float64)
        total = (wide if p == 1 else wide * wide if p == 2 else wide**p).sum(axis=axes, keepdims=True)
        return total if p == 1 else xp.sqrt(total) if p == 2 else total ** (1 / p)

    def slopes() -> Array:
        y = found()
        if p in (inf, -inf):
            at = abs(x) == y
            return quietly(lambda: xp.sign(x) * at / at.sum(axis=axes, keepdims=True))
        if p == 1:
            return xp.sign(x)
        wide = x.astype(np.float64)
        slope = quietly(lambda: wide / y if p == 2 else xp.sign(wide) * (abs(wide) / y) ** (p - 1))
        return xp.where(y == 0, 0.0, slope)

    return by_slopes(x, axes, keepdim, found, slopes)


@differentiable("x")
def logsumexp(x: Array, dim: Dims = None, keepdim: bool = False) -> Definition:
    """Return the logarithm of the sum of exponentials along axes, as torch.logsumexp.

    Parameters
    ----------
    x : array
        Floating-point.
    dim, keepdim
        As for `var`.

    Returns
    -------
    array
        In the dtype of `x`; large elements do not overflow.

    Raises
    ------
    ValueError, TypeError
        Axes that `x` lacks, or an `x` that is not floating-point.

    Examples
    --------
    >>> logsumexp(np.array([[1000.0, 1000.0]]), 1).round(3)
    array([1000.693])
    """
    axes = reduced_axes("logsumexp", x.shape, dim)
    kept = shape_over(x.shape, axes, True)
    xp = xp_of(x)

    @once
    def parts() -> tuple[Array, Array]:
        none = not prod(x.shape[axis] for axis in axes)
        top = xp.full(kept, -inf, x.dtype) if none else x.max(axis=axes, keepdims=True)
        top = xp.where(xp.isfinite(top), top, xp.zeros((), top.dtype))
        return top, xp.exp((x - top).astype(np.float64)).sum(axis=axes, keepdims=True)

    def value() -> Array:
        top, total = parts()
        return quietly(lambda: xp.log(total)) + top

    def slopes() -> Array:
        top, total = parts()
        return quietly(lambda: xp.exp((x - top).astype(np.float64)) / xp.where(total == 0, 1.0, total))

    return by_slopes(x, axes, keepdim, value, slopes)


logsumexp_jvp, logsumexp_vjp = logsumexp.jvp, logsumexp.vjp
std_jvp, std_vjp = std.jvp, std.vjp
var_jvp, var_vjp = var.jvp, var.vjp
vector_norm_jvp, vector_norm_vjp = vector_norm.jvp, vector_norm.vjp
