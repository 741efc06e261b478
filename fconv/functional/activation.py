"""Activations: functions of each entry, and softmax along an axis.

NaN passes through all of them, and every result keeps the memory order of `x`.
"""

from __future__ import annotations

from fconv.arrays import Array, xp_of
from fconv.functional.core import Definition, differentiable, once

__all__ = [
    "log_softmax",
    "log_softmax_vjp",
    "relu",
    "relu_vjp",
    "sigmoid",
    "sigmoid_vjp",
    "softmax",
    "softmax_vjp",
    "tanh",
    "tanh_vjp",
]


@differentiable("x")
def relu(x: Array) -> Definition:
    """Rectified linear unit, ``max(x, 0)``.

    Parameters
    ----------
    x : array
        Any shape, floating-point.

    Returns
    -------
    array
        In the shape and dtype of `x`. The gradient at 0 is 0, as PyTorch has it.

    Raises
    ------
    TypeError
        `x` is not a floating-point array.

    References
    ----------
    Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    xp = xp_of(x)
    return (
        x.shape,
        once(lambda: xp.maximum(x, 0)),
        lambda g: xp.where(x <= 0, xp.zeros((), x.dtype), g),
    )


@differentiable("x")
def sigmoid(x: Array) -> Definition:
    """Logistic function, ``1 / (1 + exp(-x))``, without overflow at any `x`.

    Parameters
    ----------
    x : array
        Any shape, floating-point.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    TypeError
        `x` is not a floating-point array.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(np.array([-1e4, 0.0, 1e4]))
    array([0. , 0.5, 1. ])
    """
    xp = xp_of(x)

    @once
    def y() -> Array:
        small = xp.exp(-xp.abs(x))  # never above 1
        return xp.where(x >= 0, xp.ones((), x.dtype), small) / (1 + small)

    return x.shape, y, lambda g: g * y() * (1 - y())


@differentiable("x")
def tanh(x: Array) -> Definition:
    """Hyperbolic tangent.

    Parameters
    ----------
    x : array
        Any shape, floating-point.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    TypeError
        `x` is not a floating-point array.

    Examples
    --------
    >>> import numpy as np
    >>> tanh(np.array([0.0, 100.0]))
    array([0., 1.])
    """
    y = once(lambda: xp_of(x).tanh(x))
    return x.shape, y, lambda g: g * (1 - y() * y())


@differentiable("x")
def softmax(x: Array, dim: int = 1) -> Definition:
    """Exponentials along an axis, divided by their sum.

    Parameters
    ----------
    x : array
        Floating-point, of one axis or more.
    dim : int
        The axis; channels by default.

    Returns
    -------
    array
        In the shape and dtype of `x`; sums to 1 along `dim`.

    Raises
    ------
    TypeError
        `x` is not a floating-point array, or `dim` no integer.
    ValueError
        `x` has no axis `dim`.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([[0.0, 0.0, 1e4]]))
    array([[0., 0., 1.]])
    """
    dim = check_axis("softmax", x, dim)
    xp = xp_of(x)

    @once
    def y() -> Array:
        if x.size == 0:
            return x.copy()
        powers = xp.exp(x - x.max(axis=dim, keepdims=True))
        return powers / powers.sum(axis=dim, keepdims=True)

    return x.shape, y, lambda g: y() * (g - (g * y()).sum(axis=dim, keepdims=True))


@differentiable("x")
def log_softmax(x: Array, dim: int = 1) -> Definition:
    """Logarithm of `softmax`, without loss where the softmax underflows.

    Parameters
    ----------
    x : array
        Floating-point, of one axis or more.
    dim : int
        The axis; channels by default.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    TypeError
        `x` is not a floating-point array, or `dim` no integer.
    ValueError
        `x` has no axis `dim`.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([[0.0, 1e4]]))
    array([[-10000.,      0.]])
    """
    dim = check_axis("log_softmax", x, dim)
    xp = xp_of(x)

    @once
    def y() -> Array:
        if x.size == 0:
            return x.copy()
        lowered = x - x.max(axis=dim, keepdims=True)
        return lowered - xp.log(xp.exp(lowered).sum(axis=dim, keepdims=True))

    return x.shape, y, lambda g: g - xp.exp(y()) * g.sum(axis=dim, keepdims=True)


def check_axis(name: str, x: Array, dim: int) -> int:
    """Require that `x` has an axis `dim`, and give it counted from the front."""
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"{name}: dim must be an integer, got {dim!r}")
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"{name}: expected an axis of an array of shape {x.shape}, got dim={dim}")
    return dim % x.ndim


relu_vjp = relu.vjp
sigmoid_vjp = sigmoid.vjp
tanh_vjp = tanh.vjp
softmax_vjp = softmax.vjp
log_softmax_vjp = log_softmax.vjp
