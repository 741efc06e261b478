"""Sums and products of all elements up to each one."""

from __future__ import annotations

import numpy as np

from fconv.arrays import Array, narrowed, xp_of
from fconv.functional.activation import check_axis_of
from fconv.functional.core import Definition, differentiable, once

__all__ = [
    "cumprod", "cumprod_jvp", "cumprod_vjp",
    "cumsum", "cumsum_jvp", "cumsum_vjp",
]  # fmt: skip


def _sums(x: Array, axis: int) -> Array:
    return narrowed(xp_of(x).cumsum(x, axis=axis, dtype=np.float64), x.dtype)


def _from_end(x: Array, axis: int) -> Array:
    return xp_of(x).flip(x, axis)


@differentiable("x", linear=True)
def cumsum(x: Array, dim: int) -> Definition:
    """Sum the elements up to each one along an axis, as torch.cumsum.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int
        The axis.

    Returns
    -------
    array
        In the shape and dtype of `x`, summed in float64.

    Raises
    ------
    ValueError, TypeError
        An axis that `x` lacks, or an `x` that is not floating-point.

    Examples
    --------
    >>> cumsum(np.array([1.0, 2.0, 3.0]), 0)
    array([1., 3., 6.])
    """
    axis = check_axis_of("cumsum", x.shape, dim)
    return x.shape, once(lambda: _sums(x, axis)), lambda g: _from_end(_sums(_from_end(g, axis), axis), axis)


@differentiable("x")
def cumprod(x: Array, dim: int) -> Definition:
    """Multiply the elements up to each one along an axis, as torch.cumprod; arguments as for `cumsum`.

    Examples
    --------
    >>> cumprod(np.array([1.0, 2.0, 3.0]), 0)
    array([1., 2., 6.])
    """
    axis = check_axis_of("cumprod", x.shape, dim)
    xp = xp_of(x)

    def pullback(g: Array) -> Array:
        # d y[j] / d x[i] is the product of all up to j but i: one row for each i, which holds where
        # elements are 0 too.
        moved, rows = xp.moveaxis(x, axis, -1), []
        last = xp.moveaxis(g, axis, -1)
        for i in range(moved.shape[-1]):
            others = moved.copy()
            others[..., i] = 1
            rows.append((last[..., i:] * xp.cumprod(others, axis=-1)[..., i:]).sum(axis=-1))
        return xp.moveaxis(xp.stack(rows, axis=-1), -1, axis) if rows else g

    value = once(lambda: xp.cumprod(x, axis=axis))

    def push(t: Array) -> Array:
        # d y[j] is x[j] times d y[j - 1], plus y[j - 1] times d x[j].
        by, y, dy = (xp.moveaxis(a, axis, 0) for a in (x, value(), t.copy()))
        for j in range(1, x.shape[axis]):
            dy[j] = by[j] * dy[j - 1] + y[j - 1] * dy[j]
        return xp.moveaxis(dy, 0, axis)

    return x.shape, value, pullback, push


cumprod_jvp, cumprod_vjp = cumprod.jvp, cumprod.vjp
cumsum_jvp, cumsum_vjp = cumsum.jvp, cumsum.vjp
