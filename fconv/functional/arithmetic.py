"""Arithmetic of each entry, as networks write it between their layers."""

from __future__ import annotations

from math import log as log_of
from math import nan, pi

from fconv.arrays import Array, special, xp_of
from fconv.functional.core import once
from fconv.functional.elementwise import Curve, elementwise
from fconv.functional.selecting import where
from fconv.options import number

__all__ = [
    "abs",
    "abs_vjp",
    "acos",
    "acos_vjp",
    "acosh",
    "acosh_vjp",
    "asin",
    "asin_vjp",
    "asinh",
    "asinh_vjp",
    "atan",
    "atan_vjp",
    "atanh",
    "atanh_vjp",
    "ceil",
    "ceil_vjp",
    "clamp",
    "clamp_vjp",
    "cos",
    "cos_vjp",
    "cosh",
    "cosh_vjp",
    "erf",
    "erf_vjp",
    "exp",
    "exp_vjp",
    "floor",
    "floor_vjp",
    "log",
    "log_vjp",
    "power",
    "power_of",
    "power_of_vjp",
    "power_vjp",
    "reciprocal",
    "reciprocal_vjp",
    "round",
    "round_vjp",
    "scale_shift",
    "scale_shift_vjp",
    "sign",
    "sign_vjp",
    "sin",
    "sin_vjp",
    "sinh",
    "sinh_vjp",
    "sqrt",
    "sqrt_vjp",
    "tan",
    "tan_vjp",
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


@elementwise(base="The number that is raised.")
def power_of(x: Array, base: float) -> Curve:
    """Raise a number to the power of each element, ``base ** x``; NaN where that is no real number."""
    slope = log_of(base) if base > 0 else 0.0 if base == 0 else nan
    y = once(lambda: xp_of(x).power(x.dtype.type(base), x))
    return y, lambda g: g * y() * slope


@elementwise()
def tan(x: Array) -> Curve:
    """Tangent of an angle in radians."""
    y = once(lambda: xp_of(x).tan(x))
    return y, lambda g: g * (1 + y() * y())


@elementwise()
def asin(x: Array) -> Curve:
    """Arcsine; NaN outside [-1, 1]."""
    return lambda: xp_of(x).arcsin(x), lambda g: g / xp_of(x).sqrt(1 - x * x)


@elementwise()
def acos(x: Array) -> Curve:
    """Arccosine; NaN outside [-1, 1]."""
    return lambda: xp_of(x).arccos(x), lambda g: -g / xp_of(x).sqrt(1 - x * x)


@elementwise()
def atan(x: Array) -> Curve:
    """Arctangent."""
    return lambda: xp_of(x).arctan(x), lambda g: g / (1 + x * x)


@elementwise()
def sinh(x: Array) -> Curve:
    """Hyperbolic sine."""
    return lambda: xp_of(x).sinh(x), lambda g: g * xp_of(x).cosh(x)


@elementwise()
def cosh(x: Array) -> Curve:
    """Hyperbolic cosine."""
    return lambda: xp_of(x).cosh(x), lambda g: g * xp_of(x).sinh(x)


@elementwise()
def asinh(x: Array) -> Curve:
    """Inverse hyperbolic sine."""
    return lambda: xp_of(x).arcsinh(x), lambda g: g / xp_of(x).sqrt(1 + x * x)


@elementwise()
def acosh(x: Array) -> Curve:
    """Inverse hyperbolic cosine; NaN below 1."""
    return lambda: xp_of(x).arccosh(x), lambda g: g / (xp_of(x).sqrt(x - 1) * xp_of(x).sqrt(x + 1))


@elementwise()
def atanh(x: Array) -> Curve:
    """Inverse hyperbolic tangent; NaN outside [-1, 1]."""
    return lambda: xp_of(x).arctanh(x), lambda g: g / (1 - x * x)


@elementwise(rounds=False)
def floor(x: Array) -> Curve:
    """Largest integer that is not above an element. The gradient is 0."""
    return lambda: xp_of(x).floor(x), lambda g: g * 0


@elementwise(rounds=False)
def ceil(x: Array) -> Curve:
    """Smallest integer that is not below an element. The gradient is 0."""
    return lambda: xp_of(x).ceil(x), lambda g: g * 0


@elementwise(rounds=False)
def round(x: Array) -> Curve:
    """Nearest integer, the even one of two that are as near. The gradient is 0."""
    return lambda: xp_of(x).rint(x), lambda g: g * 0


@elementwise(rounds=False)
def sign(x: Array) -> Curve:
    """Sign of an element, -1, 0 or 1. The gradient is 0."""
    return lambda: xp_of(x).sign(x), lambda g: g * 0


abs_vjp = abs.vjp
acos_vjp = acos.vjp
acosh_vjp = acosh.vjp
asin_vjp = asin.vjp
asinh_vjp = asinh.vjp
atan_vjp = atan.vjp
atanh_vjp = atanh.vjp
ceil_vjp = ceil.vjp
clamp_vjp = clamp.vjp
cos_vjp = cos.vjp
cosh_vjp = cosh.vjp
erf_vjp = erf.vjp
exp_vjp = exp.vjp
floor_vjp = floor.vjp
log_vjp = log.vjp
power_of_vjp = power_of.vjp
power_vjp = power.vjp
reciprocal_vjp = reciprocal.vjp
round_vjp = round.vjp
scale_shift_vjp = scale_shift.vjp
sign_vjp = sign.vjp
sin_vjp = sin.vjp
sinh_vjp = sinh.vjp
sqrt_vjp = sqrt.vjp
tan_vjp = tan.vjp
