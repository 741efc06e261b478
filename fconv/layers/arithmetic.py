"""Layers of arithmetic with numbers, as networks write it between their layers."""

from __future__ import annotations

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.layer import Layer
from fconv.layers.activation import of_each

__all__ = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "clamp",
    "cos",
    "cosh",
    "erf",
    "exp",
    "floor",
    "log",
    "power",
    "power_of",
    "reciprocal",
    "round",
    "scale_shift",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "tan",
]


@constructor
def scale_shift(scale: float = 1.0, shift: float = 0.0) -> Layer:
    """Multiply by one number and add another; see `fconv.functional.scale_shift`."""
    return of_each(F.scale_shift, scale=scale, shift=shift)


@constructor
def power(exponent: float) -> Layer:
    """Raise to a power; see `fconv.functional.power`."""
    return of_each(F.power, exponent=exponent)


@constructor
def exp() -> Layer:
    """Exponential function; see `fconv.functional.exp`."""
    return of_each(F.exp)


@constructor
def log() -> Layer:
    """Natural logarithm; see `fconv.functional.log`."""
    return of_each(F.log)


@constructor
def sqrt() -> Layer:
    """Square root; see `fconv.functional.sqrt`."""
    return of_each(F.sqrt)


@constructor
def sin() -> Layer:
    """Sine; see `fconv.functional.sin`."""
    return of_each(F.sin)


@constructor
def cos() -> Layer:
    """Cosine; see `fconv.functional.cos`."""
    return of_each(F.cos)


@constructor
def reciprocal() -> Layer:
    """Reciprocal; see `fconv.functional.reciprocal`."""
    return of_each(F.reciprocal)


@constructor
def abs() -> Layer:
    """Absolute value; see `fconv.functional.abs`."""
    return of_each(F.abs)


@constructor
def erf() -> Layer:
    """Error function; see `fconv.functional.erf`."""
    return of_each(F.erf)


@constructor
def clamp(min: float | None = None, max: float | None = None) -> Layer:
    """Clip to an interval; see `fconv.functional.clamp`."""
    return of_each(F.clamp, min=min, max=max)


@constructor
def power_of(base: float) -> Layer:
    """Raise a number to the power of each element; see `fconv.functional.power_of`."""
    return of_each(F.power_of, base=base)


@constructor
def tan() -> Layer:
    """Tangent; see `fconv.functional.tan`."""
    return of_each(F.tan)


@constructor
def asin() -> Layer:
    """Arcsine; see `fconv.functional.asin`."""
    return of_each(F.asin)


@constructor
def acos() -> Layer:
    """Arccosine; see `fconv.functional.acos`."""
    return of_each(F.acos)


@constructor
def atan() -> Layer:
    """Arctangent; see `fconv.functional.atan`."""
    return of_each(F.atan)


@constructor
def sinh() -> Layer:
    """Hyperbolic sine; see `fconv.functional.sinh`."""
    return of_each(F.sinh)


@constructor
def cosh() -> Layer:
    """Hyperbolic cosine; see `fconv.functional.cosh`."""
    return of_each(F.cosh)


@constructor
def asinh() -> Layer:
    """Inverse hyperbolic sine; see `fconv.functional.asinh`."""
    return of_each(F.asinh)


@constructor
def acosh() -> Layer:
    """Inverse hyperbolic cosine; see `fconv.functional.acosh`."""
    return of_each(F.acosh)


@constructor
def atanh() -> Layer:
    """Inverse hyperbolic tangent; see `fconv.functional.atanh`."""
    return of_each(F.atanh)


@constructor
def floor() -> Layer:
    """Largest integer below; see `fconv.functional.floor`."""
    return of_each(F.floor)


@constructor
def ceil() -> Layer:
    """Smallest integer above; see `fconv.functional.ceil`."""
    return of_each(F.ceil)


@constructor
def round() -> Layer:
    """Nearest integer; see `fconv.functional.round`."""
    return of_each(F.round)


@constructor
def sign() -> Layer:
    """Sign; see `fconv.functional.sign`."""
    return of_each(F.sign)
