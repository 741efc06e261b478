"""Arithmetic of each element, as networks write it between their layers."""

from __future__ import annotations

from math import log as log_of
from math import nan, pi

from fconv.arrays import Array, special, xp_of
from fconv.functional.core import once
from fconv.functional.elementwise import Curve, elementwise
from fconv.functional.selecting import where
from fconv.options import number

__all__ = [
    "abs", "abs_jvp", "abs_vjp", "acos", "acos_jvp", "acos_vjp", "acosh", "acosh_jvp", "acosh_vjp", "asin",
    "asin_jvp", "asin_vjp", "asinh", "asinh_jvp", "asinh_vjp", "atan", "atan_jvp", "atan_vjp", "atanh",
    "atanh_jvp", "atanh_vjp", "ceil", "ceil_jvp", "ceil_vjp", "clamp", "clamp_jvp", "clamp_vjp", "cos",
    "cos_jvp", "cos_vjp", "cosh", "cosh_jvp", "cosh_vjp", "erf", "erf_jvp", "erf_vjp", "exp", "exp_jvp",
    "exp_vjp", "floor", "floor_jvp", "floor_vjp", "log", "log_jvp", "log_vjp", "power", "power_jvp",
    "power_of", "power_of_jvp", "power_of_vjp", "power_vjp", "reciprocal", "reciprocal_jvp",
    "reciprocal_vjp", "round", "round_jvp", "round_vjp", "scale_shift", "scale_shift_jvp",
    "scale_shift_vjp", "sign", "sign_jvp", "sign_vjp", "sin", "sin_jvp", "sin_vjp", "sinh", "sinh_jvp",
    "sinh_vjp", "sqrt", "sqrt_jvp", "sqrt_vjp", "tan", "tan_jvp", "tan_vjp",
]  # fmt: skip


@elementwise(straight=True, scale="Factor.", shift="Added after it.")
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
        return lambda: x**0.0, lambda g: g * 0, lambda: x * 0
    return (
        lambda: x**exponent,
        lambda g: g * (exponent * x ** (exponent - 1)),
        lambda: exponent * (exponent - 1) * x ** (exponent - 2) if exponent != 1 else x * 0,
    )


@elementwise(by_value=True)
def exp(x: Array) -> Curve:
    """Exponential function."""
    return lambda: xp_of(x).exp(x), lambda g, y: g * y, lambda y: y


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
    return lambda: xp_of(x).sin(x), lambda g: g * xp_of(x).cos(x), lambda: -xp_of(x).sin(x)


@elementwise()
def cos(x: Array) -> Curve:
    """Cosine of an angle in radians."""
    return lambda: xp_of(x).cos(x), lambda g: -g * xp_of(x).sin(x), lambda: -xp_of(x).cos(x)


@elementwise()
def reciprocal(x: Array) -> Curve:
    """Reciprocal, ``1 / x``."""
    y = once(lambda: 1 / x)
    return y, lambda g: -g * y() * y()


@elementwise(straight=True, rounds=False)
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
    straight=True,
    rounds=False,
    min="The smallest value; none by default.",
    max="The largest value; none by default.",
)
def clamp(x: Array, min: float | None = None, max: float | None = None) -> Curve:
    """Clip to an interval, ``min(max(x, min), max)``, as torch.clamp.

    The gradient passes at both ends. Where `min` is above `max`, every element becomes `max`.
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
    """Nearest integer; halves are rounded to the even one. The gradient is 0."""
    return lambda: xp_of(x).rint(x), lambda g: g * 0


@elementwise(rounds=False)
def sign(x: Array) -> Curve:
    """Sign of an element, -1, 0 or 1. The gradient is 0."""
    return lambda: xp_of(x).sign(x), lambda g: g * 0


abs_jvp, abs_vjp = abs.jvp, abs.vjp
acos_jvp, acos_vjp = acos.jvp, acos.vjp
acosh_jvp, acosh_vjp = acosh.jvp, acosh.vjp
asin_jvp, asin_vjp = asin.jvp, asin.vjp
asinh_jvp, asinh_vjp = asinh.jvp, asinh.vjp
atan_jvp, atan_vjp = atan.jvp, atan.vjp
atanh_jvp, atanh_vjp = atanh.jvp, atanh.vjp
ceil_jvp, ceil_vjp = ceil.jvp, ceil.vjp
clamp_jvp, clamp_vjp = clamp.jvp, clamp.vjp
cos_jvp, cos_vjp = cos.jvp, cos.vjp
cosh_jvp, cosh_vjp = cosh.jvp, cosh.vjp
erf_jvp, erf_vjp = erf.jvp, erf.vjp
exp_jvp, exp_vjp = exp.jvp, exp.vjp
floor_jvp, floor_vjp = floor.jvp, floor.vjp
log_jvp, log_vjp = log.jvp, log.vjp
power_of_jvp, power_of_vjp = power_of.jvp, power_of.vjp
power_jvp, power_vjp = power.jvp, power.vjp
reciprocal_jvp, reciprocal_vjp = reciprocal.jvp, reciprocal.vjp
round_jvp, round_vjp = round.jvp, round.vjp
scale_shift_jvp, scale_shift_vjp = scale_shift.jvp, scale_shift.vjp
sign_jvp, sign_vjp = sign.jvp, sign.vjp
sin_jvp, sin_vjp = sin.jvp, sin.vjp
sinh_jvp, sinh_vjp = sinh.jvp, sinh.vjp
sqrt_jvp, sqrt_vjp = sqrt.jvp, sqrt.vjp
tan_jvp, tan_vjp = tan.jvp, tan.vjp
