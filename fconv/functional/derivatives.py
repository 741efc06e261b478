"""Arguments of a function and of its two derivatives: their checks, errors and docstrings."""

from __future__ import annotations

import inspect
import operator
from functools import lru_cache, reduce
from typing import Any, NoReturn

from fconv.arrays import Array, Shape, describe, namespace


def missing(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> NoReturn:
    """Raise the TypeError that Python itself would, with the function's name."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        problem = f"{name}: {error}"
    raise TypeError(problem)


def of_other_kind(x: Any) -> bool:
    """Return whether an array that need not be floating-point is none."""
    return x is not None and x.dtype.kind != "f"


@lru_cache(maxsize=1024)
def wanted_of(
    name: str, arrays: tuple[str, ...], fixed: frozenset[str], wrt: str | tuple[str, ...] | None
) -> frozenset[str]:
    """Resolve `wrt` to the names of the arrays whose gradients are asked for."""
    if wrt is None:
        return frozenset(arrays) - fixed if fixed else frozenset(arrays)
    wanted = frozenset((wrt,) if isinstance(wrt, str) else wrt)
    unknown = sorted(wanted - (frozenset(arrays) - fixed))
    if unknown:
        raise ValueError(
            f"{name}_vjp: wrt names {', '.join(unknown)}, which have no gradient; "
            f"there are {', '.join(a for a in arrays if a not in fixed)}"
        )
    return wanted


def check_gradient(name: str, g: Any, shape: Shape, like: Array) -> Array:
    """Require that a gradient has the shape, dtype and library of the value it belongs to."""
    namespace(f"{name}_vjp", g=g, like=like)
    if g.shape != shape:
        raise ValueError(f"{name}_vjp: expected a gradient of the output's shape {shape}, got {g.shape}")
    if g.dtype.newbyteorder("=") != like.dtype:
        raise TypeError(f"{name}_vjp: expected a gradient of {like.dtype}, got {describe(g)}")
    return g


def check_tangents(
    name: str,
    arrays: tuple[str, ...],
    still: frozenset[str],
    found: dict[str, Any],
    tangents: Any,
    like: Array,
) -> dict[str, Array]:
    """Return the tangents by name, and require that each fits its array."""
    title, listed = f"{name}_jvp", ", ".join(arrays)
    if len(arrays) == 1 and not isinstance(tangents, (tuple, list)):
        tangents = (tangents,)
    if not isinstance(tangents, (tuple, list)):
        raise TypeError(f"{title}: expected a tuple of tangents for {listed}, got {describe(tangents)}")
    absent = [a for a in arrays[len(tangents) :] if found.get(a) is not None]
    if len(tangents) > len(arrays) or absent:
        raise ValueError(
            f"{title}: expected tangents for {listed}, None for those without, got {len(tangents)}"
        )
    moved = {a: t for a, t in zip(arrays, tangents, strict=False) if t is not None}
    for a, t in moved.items():
        x = found.get(a)
        if x is None or a in still:
            why = "was not given" if x is None else "has no gradient"
            raise ValueError(f"{title}: {a} {why}; its tangent is None")
        namespace(title, **{f"the tangent of {a}": t, a: x})
        if t.shape != x.shape:
            raise ValueError(f"{title}: expected a tangent of {a} of its shape {x.shape}, got {t.shape}")
        if t.dtype.newbyteorder("=") != like.dtype:
            raise TypeError(f"{title}: expected a tangent of {a} of {like.dtype}, got {describe(t)}")
    if not moved:
        raise ValueError(f"{title}: expected a tangent of {listed}, got None alone")
    return moved


def pushed(push: Any, moved: dict[str, Array], lone: bool = False) -> Array:
    """Return the derivative along tangents."""
    if isinstance(push, dict):
        return reduce(operator.add, [push[a](t) for a, t in moved.items()])
    return push(*moved.values()) if lone else push(moved)


def signature_between(first: str, signature: inspect.Signature, last: str | None) -> inspect.Signature:
    """Put an argument before those of a function, and an option after them."""
    kinds = inspect.Parameter
    before = kinds(first, kinds.POSITIONAL_OR_KEYWORD, annotation="Array" if last else "Any")
    after = kinds(last or "wrt", kinds.KEYWORD_ONLY, default=None, annotation="str | Iterable[str] | None")
    return inspect.Signature([before, *signature.parameters.values(), *[after] * bool(last)])


def vjp_doc(name: str, arrays: tuple[str, ...], fixed: frozenset[str], signature: inspect.Signature) -> str:
    """Return the docstring of a function's gradient."""
    if len(arrays) == 1:
        result = f"The gradient of `{arrays[0]}`, in its shape and dtype."
    else:
        each = ", ".join(f"None for {a}" if a in fixed else a for a in arrays)
        result = (
            f"The gradients in the order of the arrays: {each}. None stands for an array that was not given."
        )
    arguments = ", ".join(signature.parameters)
    return f"""Gradient of `{name}`: takes the gradient of its value to those of its arrays.

    Parameters
    ----------
    g : array
        Gradient of the output, in its shape and dtype.
    {arguments}
        As for `{name}`.
    wrt : str or iterable of str, optional
        Names of the arrays whose gradients are wanted; the others are None and cost nothing.

    Returns
    -------
    array or tuple
        {result}

    Raises
    ------
    ValueError, TypeError
        As `{name}` does, and where `g` does not fit the output.
    """


def jvp_doc(name: str, arrays: tuple[str, ...], fixed: frozenset[str], signature: inspect.Signature) -> str:
    """Return the docstring of a function's derivative along tangents."""
    each = ", ".join(f"None for {a}" if a in fixed else a for a in arrays)
    lone = "; the array itself serves, too" if len(arrays) == 1 else ""
    arguments = ", ".join(signature.parameters)
    return f"""Derivative of `{name}` along tangents of its arrays (forward mode).

    Parameters
    ----------
    tangents : tuple of array
        In the order of the arrays, each in the shape and dtype of its array: {each}. None stands for a
        tangent of 0{lone}.
    {arguments}
        As for `{name}`.

    Returns
    -------
    array
        The tangent of the value, in its shape and dtype: ``sum(g * {name}_jvp(t, ...))`` is the sum of
        ``{name}_vjp(g, ...)`` times `t`.

    Raises
    ------
    ValueError, TypeError
        As `{name}` does, and where a tangent does not fit its array or all are None.
    """
