"""Arithmetic of each entry, as networks write it between their layers."""

from __future__ import annotations

from math import pi

from fconv.arrays import Array, special, xp_of
from fconv.functional.core import once
from fconv.functional.elementwise import Curve, elementwise
from fconv.functional.selecting import where
from fconv.options import number

__all__ = [
    "abs",
    "abs_vjp",
    "clamp",
    "clamp_vjp",
    "cos",
    "cos_vjp",
    "erf",
    "erf_vjp",
    "exp",
    "exp_vjp",
    "log",
    "log_vjp",
    "power",
    "power_vjp",
    "reciprocal",
    "reciprocal_vjp",
    "scale_shift",
    "scale_shift_vjp",
    "sin",
    "sin_vjp",
    "sqrt",
    "sqrt_vjp",
]


@elementwise(scale="Factor.", shift="Added after it.")
def scale_shift(x: Array, scale: float = 1.0, shift: float = 0.0) -> Curve:
    """Multiply by one number and add another, ``x * scale + shift``.

    Examples
    --------
    >>> import numpy as np
    >>> scale_shift(np.ones(2), 3.0, -1.0)
    array([2., 2.])
    """
    return lambda: x * scale + shift if shift else x * scale, lambda g: g * scale


@elementwise(exponent="The exponent.")
def power(x: Array, exponent: float) -> Curve:
    """Raise to a power, ``x ** exponent``; NaN where that is no real number."""
    if exponent == 0:
        return lambda: x**0.0, lambda g: g * 0
    return lambda: x**exponent, lambda g: g * (exponent * x ** (exponent - 1))


@elementwise(by_value=True)
def exp(x: Array) -> Curve:
    """Exponential function."""
    return lambda: xp_of(x).exp(x), lambda g, y: g * y


@elementwise()
def log(x: Array) -> Curve:
    """Natural logarithm; NaN below 0."""
    return lambda: xp_of(x).log(x), lambda g: g / x


@elementwise()
def sqrt(x: Array) -> Curve:
    """Square root; NaN below 0. The gradient at 0 is infinite."""
    y = once(lambda: xp_of(x).sqrt(x))
    return y, lambda g: g / (2 * y())


@elementwise()
def sin(x: Array) -> Curve:
    """Sine of an angle in radians."""
    return lambda: xp_of(x).sin(x), lambda g: g * xp_of(x).cos(x)


@elementwise()
def cos(x: Array) -> Curve:
    """Cosine of an angle in radians."""
    return lambda: xp_of(x).cos(x), lambda g: -g * xp_of(x).sin(x)


@elementwise()
def reciprocal(x: Array) -> Curve:
    """Reciprocal, ``1 / x``."""
    y = once(lambda: 1 / x)
    return y, lambda g: -g * y() * y()


@elementwise(rounds=False)
def abs(x: Array) -> Curve:
    """Absolute value. The gradient at 0 is 0."""
    xp = xp_of(x)
    return lambda: xp.abs(x), lambda g: g * xp.sign(x)


@elementwise()
def erf(x: Array) -> Curve:
    """Error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t^2)`` from 0 to x.

    References
    ----------
    Abramowitz and Stegun, "Handbook of mathematical functions", 1964, 7.1.1.
    """
    return lambda: special(x).erf(x), lambda g: g * (2 / pi**0.5) * xp_of(x).exp(-x * x)


@elementwise(
    rounds=False, min="The smallest value; none by default.", max="The largest value; none by default."
)
def clamp(x: Array, min: float | None = None, max: float | None = None) -> Curve:
    """Clip to an interval, ``min(max(x, min), max)``, as torch.clamp.

    The gradient passes at both ends. Where `min` is above `max`, every entry becomes `max`.
    """
    low = None if min is None else number("clamp", "min", min)
    high = None if max is None else number("clamp", "max", max)
    if low is None and high is None:
        raise ValueError("clamp: expected min, max or both, got neither")
    xp = xp_of(x)

    def value() -> Array:
        y = x if low is None else xp.maximum(x, low)
        return y if high is None else xp.minimum(y, high)

    def pullback(g: Array) -> Array:
        for limit, outside in ((low, x.__lt__), (high, x.__gt__)):  # false for NaN, which passes
            g = g if limit is None else where(outside(limit), 0.0, g)
        return g

    return value, pullback


abs_vjp = abs.vjp
clamp_vjp = clamp.vjp
cos_vjp = cos.vjp
erf_vjp = erf.vjp
exp_vjp = exp.vjp
log_vjp = log.vjp
power_vjp = power.vjp
reciprocal_vjp = reciprocal.vjp
scale_shift_vjp = scale_shift.vjp
sin_vjp = sin.vjp
sqrt_vjp = sqrt.vjp
