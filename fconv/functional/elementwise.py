"""The common shape of functions of each element.

Such a function is written as two expressions side by side, its value and its pullback
``g -> g * f'(x)``; everything else that they share is here: options are numbers, infinities give
what the formula gives without a warning, large arrays are computed in pieces on all threads, and the
docstring's sections on arguments, result and errors are the same.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, cast

import numpy as np

from fconv.arrays import Array
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.one_pass import apply_formula, formulas_serve, traced
from fconv.functional.pieces import Pieces
from fconv.functional.planned import Planned
from fconv.functional.protocols import Differentiable
from fconv.options import number

if TYPE_CHECKING:
    from fconv.engine.compiled.formulas import Formula

P = ParamSpec("P")

Bend: TypeAlias = Callable[..., Array | float]
Curve: TypeAlias = (
    tuple[Callable[[], Array], Callable[..., Array]] | tuple[Callable[[], Array], Callable[..., Array], Bend]
)
"""The value, the pullback, and the second derivative, where `fconv.gradient_penalty` has a use for it."""


def elementwise(
    *, rounds: bool = True, by_value: bool = False, straight: bool = False, **options: str
) -> Callable[[Callable[P, Curve]], Differentiable[P]]:
    """Make a differentiable function from the curve of its elements, ``(x, **options) -> (value, pullback)``.

    Options annotated as float are checked and made Python floats, which leave the dtype of `x` alone.

    Parameters
    ----------
    rounds : bool
        The value is computed. False where each result is an element or an option as it is, so
        that float16 needs no wider arithmetic.
    by_value : bool
        The gradient follows from the value: the pullback takes the value after the gradient, and
        has no use for `x`, which then need not be kept. So does a second derivative.
    straight : bool
        Made of straight pieces: the second derivative is 0 but for where they meet, where it counts as 0.
    **options : str
        What each option is, for the docstring.
    """

    def decorate(curve: Callable[P, Curve]) -> Differentiable[P]:
        name = cast(Any, curve).__name__
        parameters = inspect.signature(curve).parameters
        order = list(parameters)
        make = cast("Callable[..., Curve]", curve)

        def checked(option: str, value: Any) -> Any:
            known = option in parameters and parameters[option].annotation == "float"
            return number(name, option, value) if known else value

        @functools.wraps(curve)
        def definition(*args: P.args, **kwargs: P.kwargs) -> Definition:
            rest: list[Any] = []
            named: dict[str, Any] = kwargs
            if len(args) == 1:
                x = args[0]
            else:
                named = dict(kwargs)
                x, *rest = args or (named.pop("x"),)
            if rest or named:
                names = (*order[1:], *("",) * len(rest))
                rest = [checked(option, value) for option, value in zip(names, rest, strict=False)]
                named = {option: checked(option, value) for option, value in named.items()}
            given: Any = x
            return _in_one_pass(name, given, make, rest, named, by_value) or _define(
                given, lambda part: make(part, *rest, **named), by_value
            )

        definition.__doc__ = _document(inspect.cleandoc(curve.__doc__ or ""), options, parameters)
        made = cast(Any, differentiable("x", widens=rounds, symmetric=True)(definition))
        made.curve = curve  # for what applies several in one pass

        def second(x: Array, **given: Any) -> Array | float | None:
            """Return the second derivative; None where it is not known."""
            named = {option: checked(option, value) for option, value in given.items()}
            value, _, *bends = cast("Callable[..., tuple[Any, ...]]", curve)(x, **named)
            if not bends:
                return 0.0 if straight else None
            return quietly(lambda: bends[0](*[value()] * by_value))

        made.second = second
        return cast("Differentiable[P]", made)

    return decorate


def _in_one_pass(
    name: str, x: Array, make: Callable[..., Curve], rest: list[Any], named: dict[str, Any], by_value: bool
) -> Definition | None:
    """Define a function by compiled kernels; None where there are none for it."""
    if not formulas_serve(x):
        return None
    if rest or named:
        options = [(None, v) for v in rest] + list(named.items())
        if not all(type(v) in _SIMPLE for _, v in options):
            return None
        # -0.0 and 0.0 are equal, and so are True and 1: the texts tell them apart.
        kernels = _formulas(make, by_value, x.dtype, *[(name, v, repr(v)) for name, v in options])
    else:
        kernels = _formulas(make, by_value, x.dtype)
    if kernels is None:
        return None
    forward, backward = kernels
    value = once(functools.partial(apply_formula, forward, x))
    kept = (lambda: x) if not by_value else None

    def pullback(g: Array) -> Array:
        return apply_formula(backward, g, value() if kept is None else kept())

    def planned() -> Planned:
        pulls = {"x": functools.partial(apply_formula, backward)}
        return Planned(name, shape, functools.partial(apply_formula, forward), pulls, by_value)

    shape = x.shape
    return shape, value, pullback, None, planned


_SIMPLE = frozenset((float, int, str, bool, type(None)))


@functools.lru_cache(maxsize=1024)
def _formulas(
    make: Callable[..., Curve], by_value: bool, dtype: np.dtype[Any], *options: tuple[str | None, Any, str]
) -> tuple[Formula, Formula] | None:
    """Trace the value, of x, and the pullback, of g and x or the value; None where that cannot be."""
    rest = [value for name, value, _ in options if name is None]
    named = {name: value for name, value, _ in options if name is not None}

    def pull(g: Array, x: Array) -> Array:
        pullback = make(x, *rest, **named)[1]
        return pullback(g, x) if by_value else pullback(g)

    value = traced(lambda x: make(x, *rest, **named)[0](), 1, dtype)
    pulled = traced(pull, 2, dtype)
    return None if value is None or pulled is None else (value, pulled)


def _define(x: Array, curve: Callable[[Array], Curve], by_value: bool) -> Definition:
    """Define a function by its curve, whose pullback takes the value where it says so."""
    pieces, dtype = Pieces(x), x.dtype
    curves = [curve(part) for part in pieces.of(x)]
    pulls: list[Any] = [each[1] for each in curves]

    def quiet(compute: Callable[[], Array]) -> Array:
        return quietly(lambda: compute().astype(dtype, copy=False))

    def join(values: list[Callable[[], Array]]) -> Array:
        return pieces.joined(lambda i: quiet(values[i]))

    value = once(functools.partial(join, [each[0] for each in curves]))  # which then lets go of x

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
