"""Activations that look along an axis: softmax, its kin, and gates.

NaN passes through all of them. Those of each element alone are in `piecewise` and `smooth`.
"""

from __future__ import annotations

from fconv.arrays import Array, Shape, xp_of
from fconv.engine.sweeps import Program, Sweep
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.elementwise import quietly
from fconv.functional.segments import LOG_TOTAL, along_axis
from fconv.functional.single import for_sample
from fconv.functional.smooth import logistic

__all__ = [
    "glu", "glu_jvp", "glu_vjp",
    "log_softmax", "log_softmax_jvp", "log_softmax_vjp",
    "softmax", "softmax_jvp", "softmax_vjp",
    "softmin", "softmin_jvp", "softmin_vjp",
]  # fmt: skip


@differentiable("x", symmetric=True)
def softmax(x: Array, dim: int = 1) -> Definition:
    """Exponentials along an axis, divided by their sum.

    Parameters
    ----------
    x : array
        Floating-point. One number is taken for an axis of size 1, as PyTorch does.
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
    return for_sample(x, 1, lambda x: _shares(x, check_axis("softmax", x, dim), 1))


@differentiable("x", symmetric=True)
def softmin(x: Array, dim: int = 1) -> Definition:
    """Softmax of ``-x``: the smallest element has the largest share.

    Parameters
    ----------
    x : array
        Floating-point. One number is taken for an axis of size 1, as PyTorch does.
    dim : int
        The axis; channels by default.

    Returns
    -------
    array
        In the shape and dtype of `x`; sums to 1 along `dim`.

    Raises
    ------
    TypeError, ValueError
        As for `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> softmin(np.array([[0.0, 0.0, 1e4]]))
    array([[0.5, 0.5, 0. ]])
    """
    return for_sample(x, 1, lambda x: _shares(x, check_axis("softmin", x, dim), -1))


# Compiled, the exponentials are written once and divided where they are.
_SOFTMAX = Program(
    (
        Sweep("max", lambda x, y, sign: x * sign),
        Sweep("sum", lambda x, y, sign, highest: xp_of(x).exp(x * sign - highest), stored=True),
        Sweep("write", lambda x, y, sign, highest, total: y / total),
    ),
    arrays=2,
    numbers=1,
)
_SOFTMAX_PULLBACK = Program(
    (
        Sweep("sum", lambda y, g, sign: g * y),
        Sweep("write", lambda y, g, sign, total: y * ((g - total) * sign)),
    ),
    arrays=2,
    numbers=1,
)
_LOG_SOFTMAX = Program(
    (
        *LOG_TOTAL,
        Sweep("write", lambda x, highest, total, logarithm: x - highest - logarithm),
    ),
)
_LOG_SOFTMAX_PULLBACK = Program(
    (
        Sweep("sum", lambda y, g: g),
        Sweep("write", lambda y, g, total: g - xp_of(y).exp(y) * total),
    ),
    arrays=2,
)


def _shares(x: Array, dim: int, sign: int) -> Definition:
    """Define the softmax of ``sign * x``."""
    xp, segments = xp_of(x), along_axis(x, dim)
    if segments is not None:
        value = once(lambda: segments.write(_SOFTMAX, x, numbers=[sign])[0])
        return (
            x.shape,
            value,
            lambda g: segments.write(_SOFTMAX_PULLBACK, value(), g, numbers=[sign])[0],
        )

    @once
    def y() -> Array:
        if x.size == 0:
            return x.copy()
        powers = xp.exp(_lowered(x, dim, sign))
        return powers / powers.sum(axis=dim, keepdims=True)

    return x.shape, y, lambda g: y() * (sign * (g - (g * y()).sum(axis=dim, keepdims=True)))


def _lowered(x: Array, dim: int, sign: int = 1) -> Array:
    """Return ``sign * x`` less its maximum along an axis: never above 0, so that exp cannot overflow."""
    highest = x.max(axis=dim, keepdims=True) if sign > 0 else x.min(axis=dim, keepdims=True)
    return quietly(lambda: x - highest if sign > 0 else highest - x)  # inf - inf is NaN


@differentiable("x")
def log_softmax(x: Array, dim: int = 1) -> Definition:
    """Logarithm of `softmax`, without loss where the softmax underflows.

    Parameters
    ----------
    x : array
        Floating-point. One number is taken for an axis of size 1, as PyTorch does.
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
    return for_sample(x, 1, lambda x: _log_shares(x, check_axis("log_softmax", x, dim)))


def _log_shares(x: Array, dim: int) -> Definition:
    xp, segments = xp_of(x), along_axis(x, dim)

    def push(t: Array) -> Array:
        return t - (xp.exp(value()) * t).sum(axis=dim, keepdims=True)

    if segments is not None:
        value = once(lambda: segments.write(_LOG_SOFTMAX, x)[0])
        return x.shape, value, lambda g: segments.write(_LOG_SOFTMAX_PULLBACK, value(), g)[0], push

    def logarithms() -> Array:
        if x.size == 0:
            return x.copy()
        lowered = _lowered(x, dim)
        return lowered - xp.log(xp.exp(lowered).sum(axis=dim, keepdims=True))

    value = once(logarithms)
    return x.shape, value, lambda g: g - xp.exp(value()) * g.sum(axis=dim, keepdims=True), push


@differentiable("x")
def glu(x: Array, dim: int = -1) -> Definition:
    """Gated linear unit: the first half along an axis times the sigmoid of the second half.

    Parameters
    ----------
    x : array
        Floating-point, of an even size along `dim`.
    dim : int
        The axis.

    Returns
    -------
    array
        In the dtype of `x`, half as long along `dim`.

    Raises
    ------
    TypeError
        `x` is not a floating-point array, or `dim` no integer.
    ValueError
        `x` has no axis `dim`, or an odd size along it.

    References
    ----------
    Dauphin et al., "Language modeling with gated convolutional networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> glu(np.array([[3.0, 4.0, 0.0, 1e4]]))
    array([[1.5, 4. ]])
    """
    dim = check_axis("glu", x, dim)
    shape = halved_shape("glu", x.shape, dim)
    xp, before, half = xp_of(x), (slice(None),) * dim, shape[dim]
    a, b = x[(*before, slice(half))], x[(*before, slice(half, None))]
    gate = once(lambda: logistic(b))

    def pullback(g: Array) -> Array:
        da = g * gate()
        return xp.concatenate((da, da * a * (1 - gate())), axis=dim)

    def push(t: Array) -> Array:
        ta, tb = t[(*before, slice(half))], t[(*before, slice(half, None))]
        return gate() * (ta + a * (1 - gate()) * tb)

    return shape, once(lambda: a * gate()), pullback, push


def halved_shape(name: str, shape: Shape, dim: int) -> Shape:
    """Return `shape` with half the size along `dim`, counted from the front."""
    if shape[dim] % 2:
        raise ValueError(f"{name}: expected an even size along dim {dim}, got input shape {shape}")
    return (*shape[:dim], shape[dim] // 2, *shape[dim + 1 :])


def check_axis(name: str, x: Array, dim: int) -> int:
    """Require that `x` has an axis `dim`, and give it counted from the front."""
    return check_axis_of(name, x.shape, dim)


def check_axis_of(name: str, shape: Shape, dim: int) -> int:
    """Require that an array of a shape has an axis `dim`, and give it counted from the front."""
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"{name}: dim must be an integer, got {dim!r}")
    if not -len(shape) <= dim < len(shape):
        raise ValueError(f"{name}: expected an axis of an array of shape {shape}, got dim={dim}")
    return dim % len(shape)


glu_jvp, glu_vjp = glu.jvp, glu.vjp
log_softmax_jvp, log_softmax_vjp = log_softmax.jvp, log_softmax.vjp
softmax_jvp, softmax_vjp = softmax.jvp, softmax.vjp
softmin_jvp, softmin_vjp = softmin.jvp, softmin.vjp
