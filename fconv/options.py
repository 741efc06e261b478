"""Checks of options: integers and real numbers."""

from __future__ import annotations

import operator
from math import inf
from numbers import Real
from typing import Any

from fconv.arguments.signatures import shown


def nonnegative(name: str, **options: Any) -> list[float]:
    """Require numbers of 0 or more by name, and give them as Python floats, in the order given.

    NumPy's own float64 would carry float32 arrays to float64; a Python float does not.

    Examples
    --------
    >>> nonnegative("sgd", momentum=1, dampening=0.5)
    [1.0, 0.5]
    """
    return [number(name, option, value, least=0) for option, value in options.items()]


def positive(name: str, **options: Any) -> list[float]:
    """Require numbers above 0, as `nonnegative` does."""
    return [number(name, option, value, least=0, above=True) for option, value in options.items()]


def shares(name: str, **options: Any) -> list[float]:
    """Require numbers from 0 to 1, as `nonnegative` does."""
    return [number(name, option, value, least=0, most=1) for option, value in options.items()]


def decays(name: str, values: Any) -> list[float]:
    """Require two decay rates from 0 to below 1, which optimizers call betas."""
    if not isinstance(values, (tuple, list)) or len(values) != 2:
        raise TypeError(f"{name}: expected betas to be two numbers, got {shown(values)}")
    found = [number(name, f"betas[{i}]", value, least=0) for i, value in enumerate(values)]
    for i, value in enumerate(found):
        if not value < 1:
            raise ValueError(f"{name}: expected betas[{i}] from 0 to below 1, got {value}")
    return found


def whole(name: str, what: str, value: object, least: int = 1) -> int:
    """Return `value` as an int of at least `least`, or raise an error that names it.

    Examples
    --------
    >>> whole("conv2d", "groups", 0, 1)
    Traceback (most recent call last):
    ValueError: conv2d: groups must be at least 1, got 0
    """
    if isinstance(value, bool):
        raise TypeError(f"{name}: {what} must be an integer, got {value}")
    try:
        found = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: {what} must be an integer, got {shown(value)}") from None
    if found < least:
        raise ValueError(f"{name}: {what} must be at least {least}, got {found}")
    return found


def number(
    name: str, what: str, value: object, least: float = -inf, above: bool = False, most: float = inf
) -> float:
    """Require a real number from `least` to `most` (with `above`, not `least` itself).

    It comes back as a Python float, because NumPy's own float64 would carry a float32 array
    to float64.
    """
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
        raise TypeError(f"{name}: expected {what} to be a number, got {shown(value)}")
    found = float(value)
    low = found > least if above else found >= least
    if not (low and found <= most) and not (least == -inf and most == inf):
        allowed = f"above {least:g}" if above else f"of {least:g} or more"
        if most < inf:
            allowed = f"from {least:g} to {most:g}"
        raise ValueError(f"{name}: expected {what} {allowed}, got {value}")
    return found
