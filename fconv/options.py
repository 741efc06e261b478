"""Checks of options that are plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any


def nonnegative(name: str, **options: Any) -> list[float]:
    """Require numbers of 0 or more, and give them as Python floats.

    NumPy's own float64 would carry float32 arrays to float64; a Python float does not.

    Parameters
    ----------
    name : str
        Who asks; error messages begin with it.
    **options : float
        The numbers by option name.

    Returns
    -------
    list of float
        In the order given.

    Raises
    ------
    TypeError
        An option is no number.
    ValueError
        An option is negative or NaN.

    Examples
    --------
    >>> nonnegative("sgd", momentum=1, dampening=0.5)
    [1.0, 0.5]
    """
    return _numbers(name, "of 0 or more", lambda value: value >= 0, options)


def positive(name: str, **options: Any) -> list[float]:
    """Require numbers above 0, as `nonnegative` does."""
    return _numbers(name, "above 0", lambda value: value > 0, options)


def shares(name: str, **options: Any) -> list[float]:
    """Require numbers from 0 to 1, as `nonnegative` does."""
    return _numbers(name, "from 0 to 1", lambda value: 0 <= value <= 1, options)


def decays(name: str, values: Any) -> list[float]:
    """Require two decay rates from 0 to below 1, which optimizers call betas."""
    if not isinstance(values, (tuple, list)) or len(values) != 2:
        raise TypeError(f"{name}: expected betas to be two numbers, got {values!r}")
    options = {f"betas[{i}]": value for i, value in enumerate(values)}
    return _numbers(name, "from 0 to below 1", lambda value: 0 <= value < 1, options)


def whole(name: str, option: str, value: Any, least: int = 1) -> int:
    """Require an integer that is not too small."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected {option} to be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected {option} of {least} or more, got {value}")
    return int(value)


def _numbers(name: str, where: str, fits: Callable[[Any], bool], options: dict[str, Any]) -> list[float]:
    for option, value in options.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name}: expected {option} to be a number, got {value!r}")
        if not fits(value):
            raise ValueError(f"{name}: expected {option} {where}, got {value}")
    return [float(value) for value in options.values()]
