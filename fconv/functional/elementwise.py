"""The common shape of functions of each entry.

Such a function is written as two expressions side by side, its value and its pullback
``g -> g * f'(x)``; everything else that they share is here: options are numbers, float16 is
computed in float32, infinities give what the formula gives without a warning, and the
docstring's sections on arguments, result and errors are the same for all.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias, cast

import numpy as np

from fconv.arrays import Array
from fconv.functional.core import Definition, Differentiable, differentiable, once
from fconv.options import number

P = ParamSpec("P")

Curve: TypeAlias = tuple[Callable[[], Array], Callable[[Array], Array]]
"""The value, and the pullback."""


def elementwise(*, rounds: bool = True, **options: str) -> Callable[[Callable[P, Curve]], Differentiable[P]]:
    """Make a differentiable function from the curve of its entries.

    Parameters
    ----------
    rounds : bool
        The value is computed. False where each result is an entry or an option as it is, so
        that float16 needs no wider arithmetic.
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

        def prepared(argument: str, value: Any) -> Any:
            if argument == "x":
                return value.astype(np.float32) if rounds and value.dtype == np.float16 else value
            if argument in parameters and parameters[argument].annotation == "float":
                return number(name, argument, value)
            return value

        @functools.wraps(curve)
        def definition(*args: P.args, **kwargs: P.kwargs) -> Definition:
            x = cast(Array, args[0] if args else kwargs["x"])
            positional: Any = (
                prepared(order[i] if i < len(order) else "", value) for i, value in enumerate(args)
            )
            named: Any = {argument: prepared(argument, value) for argument, value in kwargs.items()}
            value, pullback = curve(*positional, **named)
            return (
                x.shape,
                once(lambda: quietly(lambda: value().astype(x.dtype, copy=False))),
                lambda g: quietly(lambda: pullback(g).astype(x.dtype, copy=False)),
            )

        definition.__doc__ = _document(inspect.cleandoc(curve.__doc__ or ""), options, parameters)
        return differentiable("x")(definition)

    return decorate


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
