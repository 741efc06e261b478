"""Normalisation by the size of neighbouring elements: local response norm, and vectors of length one."""

from __future__ import annotations

from math import isinf

import numpy as np

from fconv.arrays import Array, full_like_order, xp_of
from fconv.functional.activation import check_axis
from fconv.functional.core import Definition, Pushed, differentiable, once
from fconv.functional.derivatives import pushed
from fconv.functional.moments import total
from fconv.options import number, whole

__all__ = [
    "local_response_norm", "local_response_norm_jvp", "local_response_norm_vjp",
    "normalize", "normalize_jvp", "normalize_vjp",
]  # fmt: skip


@differentiable("x")
def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Definition:
    """Divide by the squares of neighbouring channels, ``x / (k + alpha / size * sum(x**2))**beta``.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point, with one spatial axis or more.
    size : int
        Number of neighbouring channels: ``size // 2`` before and ``(size - 1) // 2`` after
        each; those that do not exist count as 0.
    alpha, beta, k : float
        Factor, exponent and offset.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    ValueError
        `x` has fewer than three axes, or `size` is below 1.
    TypeError
        `x` is not floating-point, or `size` no integer.

    References
    ----------
    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
    networks", 2012.

    Examples
    --------
    >>> local_response_norm(np.ones((1, 2, 1)), 2, alpha=2.0, beta=1.0).ravel()
    array([0.5       , 0.33333333])
    """
    check_response("local_response_norm", x.shape, size)
    before, after = size // 2, (size - 1) // 2
    xp, share = xp_of(x), alpha / size

    @once
    def base() -> Array:
        with np.errstate(over="ignore"):
            return k + share * _neighbours(xp.square(x), before, after)

    @once
    def factor() -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return base() ** -beta

    def value() -> Array:
        with np.errstate(invalid="ignore"):  # infinity by infinity
            return (x * factor()).astype(x.dtype, copy=False)

    def pullback(g: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = g * x * (factor() / base())
        spread = _neighbours(ratio, after, before)  # the adjoint looks the other way
        return (g * factor() - (2 * share * beta) * x * spread).astype(x.dtype, copy=False)

    def push(t: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = x * (factor() / base())
        spread = _neighbours(x * t, before, after)
        return (t * factor() - (2 * share * beta) * ratio * spread).astype(x.dtype, copy=False)

    return x.shape, once(value), pullback, push


def check_response(name: str, shape: tuple[int, ...], size: int) -> None:
    """Require a window of one channel or more, and an input with channels and positions."""
    whole(name, "size", size, 1)
    if len(shape) < 3:
        raise ValueError(f"{name}: expected an input of shape (N, C, L, ...), got {shape}")


def _neighbours(v: Array, before: int, after: int) -> Array:
    """Sum each channel with those before and after it."""
    out, channels = full_like_order(v, v.shape), v.shape[1]
    for offset in range(max(-before, 1 - channels), min(after, channels - 1) + 1):
        out[:, max(0, -offset) : channels - max(0, offset)] += v[
            :, max(0, offset) : channels + min(0, offset)
        ]
    return out


@differentiable("x")
def normalize(x: Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Definition:
    """Divide by the p-norm along an axis, ``x / max(norm(x), eps)``.

    Parameters
    ----------
    x : array
        Floating-point.
    p : float
        ``sum(abs(x)**p)**(1 / p)`` is the norm; infinity takes the largest element, minus
        infinity the smallest, 0 the number of elements that are not 0.
    dim : int
        The axis.
    eps : float
        The least divisor.

    Returns
    -------
    array
        In the shape and dtype of `x`. Where several elements share the infinity norm they share
        its gradient alike, and the gradient of a norm at 0 is 0, as PyTorch has it.

    Raises
    ------
    ValueError
        `x` has no axis `dim`.
    TypeError
        `x` is not floating-point, or `p` or `dim` is no number.

    Examples
    --------
    >>> normalize(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    p = number("normalize", "p", p)
    if x.ndim == 0 and dim in (0, -1):
        define = _unit_length(x[None], float(p), 0, eps)
        return (
            (),
            once(lambda: define[1]().reshape(())),
            lambda g: define[2](g[None]).reshape(()),
            lambda t: pushed(define[3], {"x": t[None]}, lone=True).reshape(()),
        )
    return _unit_length(x, float(p), check_axis("normalize", x, dim), eps)


def _unit_length(x: Array, p: float, dim: int, eps: float) -> Pushed:
    xp = xp_of(x)
    if x.size == 0:
        return x.shape, once(lambda: x.copy()), lambda g: g.copy(), lambda t: t.copy()

    def summed(v: Array) -> Array:
        return total(v, (dim,)).astype(x.dtype, copy=False)

    @once
    def size() -> Array:
        return xp.abs(x)

    @once
    def norm() -> Array:
        if isinf(p):
            largest = size().max if p > 0 else size().min
            return largest(axis=dim, keepdims=True)
        if p == 0:
            counted = xp.where(xp.isnan(size()), size(), (size() != 0).astype(size().dtype))
            return summed(counted)
        with np.errstate(over="ignore", divide="ignore"):
            return summed(size() ** p) ** (1 / p)

    @once
    def divisor() -> Array:
        return xp.maximum(norm(), xp.asarray(eps, dtype=norm().dtype))

    def value() -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):  # where eps is 0
            return (x / divisor()).astype(x.dtype, copy=False)

    def norm_gradient() -> Array:
        """Return the gradient of the norm to each element."""
        if p == 0:
            return xp.zeros((), size().dtype)
        if isinf(p):
            ties = size() == norm()
            share = ties.astype(size().dtype)
            return xp.sign(x) * share / summed(share)
        zero, one = xp.zeros((), size().dtype), xp.ones((), size().dtype)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            ratio = xp.where(size() == 0, zero, size() / xp.where(norm() == 0, one, norm()))
            return xp.sign(x) * xp.where(ratio == 0, zero, ratio ** (p - 1))

    def pullback(g: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            along = summed(g * x) / xp.square(divisor())
            inner = xp.where(norm() >= eps, along, xp.zeros((), along.dtype))
            return (g / divisor() - inner * norm_gradient()).astype(x.dtype, copy=False)

    def push(t: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            along = x * (summed(norm_gradient() * t) / xp.square(divisor()))
            inner = xp.where(norm() >= eps, along, xp.zeros((), along.dtype))
            return (t / divisor() - inner).astype(x.dtype, copy=False)

    return x.shape, once(value), pullback, push


local_response_norm_jvp, local_response_norm_vjp = local_response_norm.jvp, local_response_norm.vjp
normalize_jvp, normalize_vjp = normalize.jvp, normalize.vjp
