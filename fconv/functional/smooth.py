"""Smooth activations: exponentials, logistic functions and normal distributions of each element.

Exponentials are taken of numbers that are not above 0, so that none overflows.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Literal

from fconv.arrays import Array, special, xp_of
from fconv.functional.core import once
from fconv.functional.elementwise import Curve, elementwise
from fconv.functional.selecting import where

__all__ = [
    "celu", "celu_jvp", "celu_vjp",
    "elu", "elu_jvp", "elu_vjp",
    "gelu", "gelu_jvp", "gelu_vjp",
    "logsigmoid", "logsigmoid_jvp", "logsigmoid_vjp",
    "mish", "mish_jvp", "mish_vjp",
    "selu", "selu_jvp", "selu_vjp",
    "sigmoid", "sigmoid_jvp", "sigmoid_vjp",
    "silu", "silu_jvp", "silu_vjp",
    "softplus", "softplus_jvp", "softplus_vjp",
    "softsign", "softsign_jvp", "softsign_vjp",
    "tanh", "tanh_jvp", "tanh_vjp",
    "tanhshrink", "tanhshrink_jvp", "tanhshrink_vjp",
]  # fmt: skip

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def logistic(x: Array) -> Array:
    """Return ``1 / (1 + exp(-x))``."""
    xp = xp_of(x)
    small = xp.exp(-abs(x))
    return xp.maximum(small, x >= 0) / (1 + small)


def log1pexp(x: Array) -> Array:
    """Return ``log(1 + exp(x))``."""
    xp = xp_of(x)
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-abs(x)))


@elementwise(by_value=True)
def sigmoid(x: Array) -> Curve:
    """Logistic function, ``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(np.array([-1e4, 0.0, 1e4]))
    array([0. , 0.5, 1. ])
    """
    return lambda: logistic(x), lambda g, y: g * y * (1 - y), lambda y: y * (1 - y) * (1 - 2 * y)


@elementwise()
def logsigmoid(x: Array) -> Curve:
    """Logarithm of the logistic function, ``-log(1 + exp(-x))``.

    Examples
    --------
    >>> import numpy as np
    >>> logsigmoid(np.array([-1e4, 1e4]))
    array([-10000.,     -0.])
    """
    return lambda: -log1pexp(-x), lambda g: g * logistic(-x), lambda: -logistic(x) * logistic(-x)


@elementwise(by_value=True)
def tanh(x: Array) -> Curve:
    """Hyperbolic tangent.

    Examples
    --------
    >>> import numpy as np
    >>> tanh(np.array([0.0, 100.0]))
    array([0., 1.])
    """
    return lambda: xp_of(x).tanh(x), lambda g, y: g * (1 - y * y), lambda y: 2 * y * (y * y - 1)


@elementwise()
def tanhshrink(x: Array) -> Curve:
    """Remainder of the hyperbolic tangent, ``x - tanh(x)``."""
    tanh_x = once(lambda: xp_of(x).tanh(x))
    return (
        lambda: x - tanh_x(),
        lambda g: g * tanh_x() * tanh_x(),
        lambda: 2 * tanh_x() * (1 - tanh_x() * tanh_x()),
    )


@elementwise()
def softsign(x: Array) -> Curve:
    """Sign with a smooth step, ``x / (1 + abs(x))``.

    References
    ----------
    Turian, Bergstra and Bengio, "Quadratic features and deep architectures for chunking", 2009.
    """
    return (
        lambda: x / (1 + abs(x)),
        lambda g: g / (1 + abs(x)) / (1 + abs(x)),
        lambda: -2 * xp_of(x).sign(x) / (1 + abs(x)) ** 3,
    )


@elementwise(
    beta="Sharpness of the bend; not 0.",
    threshold="Where ``beta * x`` is above it, the value is `x` itself.",
)
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Curve:
    """Smooth rectified linear unit, ``log(1 + exp(beta * x)) / beta``.

    References
    ----------
    Dugas et al., "Incorporating second-order functional knowledge for better option pricing", 2000.

    Examples
    --------
    >>> import numpy as np
    >>> softplus(np.array([-1e4, 1e4]))
    array([    0., 10000.])
    """
    if beta == 0:
        raise ValueError("softplus: expected beta other than 0, got 0")
    z = once(lambda: beta * x)
    return (
        lambda: where(z() > threshold, x, log1pexp(z()) / beta),
        lambda g: where(z() > threshold, g, g * logistic(z())),
        lambda: where(z() > threshold, 0.0, beta * logistic(z()) * logistic(-z())),
    )


def _exponential_unit(x: Array, alpha: float, scale: float, rate: float) -> Curve:
    """``scale * x`` where positive, ``scale * alpha * (exp(rate * x) - 1)`` elsewhere."""
    xp = xp_of(x)
    return (
        lambda: where(x > 0, scale * x, scale * alpha * xp.expm1(rate * xp.minimum(x, 0))),
        lambda g: where(x > 0, scale * g, g * (scale * alpha * rate * xp.exp(rate * xp.minimum(x, 0)))),
        lambda: where(x > 0, 0.0, scale * alpha * rate * rate * xp.exp(rate * xp.minimum(x, 0))),
    )


@elementwise(alpha="The value far below 0 is ``-alpha``.")
def elu(x: Array, alpha: float = 1.0) -> Curve:
    """Exponential linear unit, ``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere.

    The gradient at 0 is `alpha`.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential
    linear units", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> elu(np.array([-1e4, 2.0]), 0.5)
    array([-0.5,  2. ])
    """
    return _exponential_unit(x, alpha, 1.0, 1.0)


@elementwise()
def selu(x: Array) -> Curve:
    """Scaled exponential linear unit: `elu` of a fixed alpha and times a fixed scale.

    The two keep the mean 0 and the variance 1 of standard normal elements. The gradient at 0 is
    their product.

    References
    ----------
    Klambauer et al., "Self-normalizing neural networks", 2017.
    """
    return _exponential_unit(x, SELU_ALPHA, SELU_SCALE, 1.0)


@elementwise(alpha="The value far below 0 is ``-alpha``; not 0.")
def celu(x: Array, alpha: float = 1.0) -> Curve:
    """Exponential linear unit with one slope at 0: ``x`` or ``alpha * (exp(x / alpha) - 1)``.

    References
    ----------
    Barron, "Continuously differentiable exponential linear units", 2017.
    """
    if alpha == 0:
        raise ValueError("celu: expected alpha other than 0, got 0")
    return _exponential_unit(x, alpha, 1.0, 1.0 / alpha)


@elementwise()
def silu(x: Array) -> Curve:
    """Sigmoid linear unit or swish, ``x * sigmoid(x)``.

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function
    approximation", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> silu(np.array([0.0, 1e4]))
    array([    0., 10000.])
    """
    share = once(lambda: logistic(x))
    return (
        lambda: x * share(),
        lambda g: g * (share() * (1 + x * (1 - share()))),
        lambda: share() * (1 - share()) * (2 + x * (1 - 2 * share())),
    )


@elementwise()
def mish(x: Array) -> Curve:
    """``x * tanh(softplus(x))``.

    References
    ----------
    Misra, "Mish: a self regularized non-monotonic activation function", 2020.
    """
    xp = xp_of(x)

    @once
    def share() -> Array:
        # tanh(log(u)) is (u**2 - 1) / (u**2 + 1), here with u = 1 + exp(x), and both sides of the
        # fraction times exp(-2x) where x is positive.
        small = xp.exp(-abs(x))
        above = where(x >= 0, 1 + 2 * small, small * (small + 2))
        return above / (above + 2 * where(x >= 0, small * small, 1.0))

    def second() -> Array:
        rate = (1 - share() * share()) * logistic(x)  # the derivative of the share
        return rate * (2 + x * (1 - logistic(x) - 2 * share() * logistic(x)))

    return (
        lambda: x * share(),
        lambda g: g * (share() + x * (1 - share() * share()) * logistic(x)),
        second,
    )


@elementwise(approximate='"none", or "tanh" for the approximation by a hyperbolic tangent.')
def gelu(x: Array, approximate: Literal["none", "tanh"] = "none") -> Curve:
    """Gaussian error linear unit, `x` times the standard normal distribution function at `x`.

    That is ``x * (1 + erf(x / sqrt(2))) / 2``, or with ``approximate="tanh"``
    ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2``.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> gelu(np.array([-1e4, 0.0, 1e4]))
    array([   -0.,     0., 10000.])
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: expected approximate "none" or "tanh", got {approximate!r}')
    xp = xp_of(x)
    if approximate == "none":
        # ndtr takes erfc below 0, where 1 + erf has no digits left.
        share = once(lambda: special(x).ndtr(x))

        @once
        def density() -> Array:
            bell = xp.bell(x) if hasattr(xp, "bell") else xp.exp(-0.5 * x * x)
            return bell * (1 / sqrt(2 * pi))

        return (
            lambda: x * share(),
            lambda g: g * (share() + x * density()),
            lambda: 2 * density() - density() * x * x,  # in this order 0 where x * x is infinite
        )
    bend, rate = 0.044715, sqrt(2 / pi)
    t = once(lambda: xp.tanh(rate * (x + bend * x * x * x)))

    def second() -> Array:
        near = xp.maximum(xp.minimum(x, 16), -16)  # beyond, t is 1 and x * x may be infinite
        rise, bent = rate * (1 + 3 * bend * near * near), 6 * rate * bend * near  # of what t is taken of
        return (1 - t() * t()) * (rise + 0.5 * near * (bent - 2 * t() * rise * rise))

    def first() -> Array:
        slope = x * (1 - t() * t())  # 0 before x * x is infinite
        return 0.5 * (1 + t()) + 0.5 * rate * (slope + 3 * bend * slope * x * x)

    return lambda: 0.5 * x * (1 + t()), lambda g: g * first(), second


celu_jvp, celu_vjp = celu.jvp, celu.vjp
elu_jvp, elu_vjp = elu.jvp, elu.vjp
gelu_jvp, gelu_vjp = gelu.jvp, gelu.vjp
logsigmoid_jvp, logsigmoid_vjp = logsigmoid.jvp, logsigmoid.vjp
mish_jvp, mish_vjp = mish.jvp, mish.vjp
selu_jvp, selu_vjp = selu.jvp, selu.vjp
sigmoid_jvp, sigmoid_vjp = sigmoid.jvp, sigmoid.vjp
silu_jvp, silu_vjp = silu.jvp, silu.vjp
softplus_jvp, softplus_vjp = softplus.jvp, softplus.vjp
softsign_jvp, softsign_vjp = softsign.jvp, softsign.vjp
tanh_jvp, tanh_vjp = tanh.jvp, tanh.vjp
tanhshrink_jvp, tanhshrink_vjp = tanhshrink.jvp, tanhshrink.vjp
