"""The common shape of functions of each entry.

Such a function is written as two expressions side by side, its value and its pullback
``g -> g * f'(x)``; everything else that they share is here: options are numbers, infinities give
what the formula gives without a warning, large arrays are computed in pieces on all threads, and the
docstring's sections on arguments, result and errors are the same.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias, cast

import numpy as np

from fconv.arrays import Array
from fconv.functional.core import Definition, Differentiable, differentiable, once
from fconv.functional.pieces import Pieces
from fconv.options import number

P = ParamSpec("P")

Curve: TypeAlias = tuple[Callable[[], Array], Callable[..., Array]]
"""The value, and the pullback."""


def elementwise(
    *, rounds: bool = True, by_value: bool = False, **options: str
) -> Callable[[Callable[P, Curve]], Differentiable[P]]:
    """Make a differentiable function from the curve of its entries.

    Parameters
    ----------
    rounds : bool
        The value is computed. False where each result is an entry or an option as it is, so
        that float16 needs no wider arithmetic.
    by_value : bool
        The gradient follows from the value: the pullback takes the value after the gradient, and
        has no use for `x`, which then need not be kept.
    **options : str
        What each option is, for the docstring.

    Returns
    -------
    callable
        A decorator for functions ``(x, **options) -> (value, pullback)``. Options annotated as
        float are checked and made Python floats, which leave the dtype of `x` alone.
    """

    def decorate(curve: Callable[P, Curve]) -> Differentiable[P]:
        name = cast(Any, curve).__name__
        parameters = inspect.signature(curve).parameters
        order = list(parameters)

        def checked(option: str, value: Any) -> Any:
            known = option in parameters and parameters[option].annotation == "float"
            return number(name, option, value) if known else value

        @functools.wraps(curve)
        def definition(*args: P.args, **kwargs: P.kwargs) -> Definition:
            named: dict[str, Any] = dict(kwargs)
            x, *given = args or (named.pop("x"),)
            names = (*order[1:], *("",) * len(given))
            rest = [checked(option, value) for option, value in zip(names, given, strict=False)]
            named = {option: checked(option, value) for option, value in named.items()}
            make = cast("Callable[..., Curve]", curve)
            return _define(cast(Array, x), lambda part: make(part, *rest, **named), by_value)

        definition.__doc__ = _document(inspect.cleandoc(curve.__doc__ or ""), options, parameters)
        return differentiable("x", widens=rounds)(definition)

    return decorate


def _define(x: Array, curve: Callable[[Array], Curve], by_value: bool) -> Definition:
    """Define a function by its curve, whose pullback takes the value where it says so."""
    pieces, dtype = Pieces(x), x.dtype
    curves = [curve(part) for part in pieces.of(x)]
    pulls: list[Any] = [pull for _, pull in curves]

    def quiet(compute: Callable[[], Array]) -> Array:
        return quietly(lambda: compute().astype(dtype, copy=False))

    def join(values: list[Callable[[], Array]]) -> Array:
        return pieces.joined(lambda i: quiet(values[i]))

    value = once(functools.partial(join, [value for value, _ in curves]))  # which then lets go of x

    def pullback(g: Array) -> Array:
        each = pieces.of(g)
        if not by_value:
            return pieces.joined(lambda i: quiet(lambda: pulls[i](each[i])))
        values = pieces.of(value())
        return pieces.joined(lambda i: quiet(lambda: pulls[i](each[i], values[i])))

    return x.shape, value, pullback


def quietly(compute: Callable[[], Array]) -> Array:
    """Compute at infinities and NaN without a warning: the result shows them."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return compute()


def _document(written: str, options: dict[str, str], parameters: Any) -> str:
    """Put the sections that all elementwise functions share behind the written summary."""
    described = "".join(
        f"\n{option} : {parameters[option].annotation}\n    {text}" for option, text in options.items()
    )
    shared = f"""

Parameters
----------
x : array
    Any shape, floating-point.{described}

Returns
-------
array
    In the shape, dtype and memory order of `x`.

Raises
------
TypeError, ValueError
    `x` is not a floating-point array, or an option is not of its kind or range.
"""
    starts = [written.find(f"\n{title}\n---") for title in ("References", "Examples")]
    end = min((start for start in starts if start >= 0), default=len(written))
    return written[:end].rstrip() + shared + written[end:]
