"""Layers of arithmetic with numbers, as networks write it between their layers."""

from __future__ import annotations

from fconv import functional as F
from fconv.constructors import constructor
from fconv.layer import Layer
from fconv.layers.activation import of_each

__all__ = ["abs", "clamp", "cos", "erf", "exp", "log", "power", "reciprocal", "scale_shift", "sin", "sqrt"]


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
