"""The gradient check for functions of arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fconv import random, trees
from fconv.arrays import Array, describe, is_array, xp_of
from fconv.testing.borders import at_border
from fconv.testing.differences import Point, Subject, refilled
from fconv.testing.gradients import check_gradient
from fconv.testing.purity import call_purely, check_like

__all__ = ["check_vjp"]


def check_vjp(
    function: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    args: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    key: Array | None = None,
    directions: int = 2,
    rtol: float = 1e-6,
    constants: Sequence[int] = (),
) -> None:
    """Check a function's gradient against differences of its value.

    In float64, along random directions without small components, at points away from kinks:
    the arrays are moved a little until differences at several steps agree. Also checked: no
    argument is changed, no global random generator is used, gradients have the shapes and dtypes
    of their arrays, and both value and gradient depend on nothing but the numbers in the arrays:
    not on the memory layout of the arguments or of g (a broadcast one among them), nor on earlier
    calls, nor on whether arrays are new or written over; the gradient is proportional to g, and in
    float32 (and float16 where an argument is float16) about that of float64.

    Parameters
    ----------
    function : callable
        ``function(*args, **options) -> array``, or a tuple or dict of arrays. A torch.autograd.Function, a
        jax.custom_vjp and functions of PyTorch tensors or JAX arrays are called with arrays of their library.
    vjp : callable or None
        ``vjp(g, *args, **options)`` gives the gradient of each array argument in order, None
        for an array that has none (or that was not given); of a lone array argument, the
        gradient itself. None takes the backward pass that a function of PyTorch or JAX brings.
    args : sequence
        The arguments. Floating-point arrays are differentiated (in float64); integer arrays
        and None are passed on. NumPy or CuPy arrays; tensors or JAX arrays for functions of PyTorch or JAX.
    options : mapping, optional
        Keyword arguments of both.
    key : array of uint64, shape (2,), optional
        The directions are drawn from it.
    directions : int
        How many random directions to try.
    rtol : float
        Allowed difference, relative to the sum of the absolute contributions of all elements.
    constants : sequence of int
        Positions in `args` of floating-point arrays that have no gradient, such as running
        statistics. Those of the functions of `fconv.functional` are known. The gradient of any other
        array is None only where the value does not depend on it.

    Raises
    ------
    TypeError, ValueError
        `args` is no tuple or list, `constants` names no array among them, or `vjp` cannot be called so.
    AssertionError
        A check failed. For a wrong gradient the message shows the direction, the derivative
        by differences and by the gradient, and the worst element.

    References
    ----------
    The idea of random directional differences away from kinks is that of Chainer's gradient
    check (Tokui et al., "Chainer", 2019).

    Examples
    --------
    >>> from fconv import functional as F
    >>> check_vjp(F.tanh, F.tanh_vjp, [np.linspace(-1.0, 1.0, 5)])
    >>> check_vjp(F.tanh, lambda g, x: g * x, [np.linspace(-1.0, 1.0, 5)])
    Traceback (most recent call last):
    AssertionError: tanh: the gradient disagrees with differences of the value
    ...
    """
    function, given, args, options = at_border("check_vjp", function, vjp, args, options)
    subject, point = subject_of("check_vjp", function, given, args, options, constants)
    dtypes = [np.dtype(np.float32), *{a.dtype for a in args if floating(a) and a.dtype == np.float16}]
    start = random.key(0) if key is None else key
    check_gradient(subject, point, dtypes, key=start, directions=directions, rtol=rtol)


def subject_of(
    who: str,
    function: Callable[..., Any],
    vjp: Callable[..., Any],
    args: Sequence[Any],
    options: Mapping[str, Any] | None,
    constants: Sequence[int] = (),
) -> tuple[Subject, Point]:
    """Check the arguments of a check, as `check_vjp` says, and one call of the function and its gradient.

    Return what is checked, and its floating-point arguments in float64; error messages begin with `who`.
    """
    for i in constants:
        if not 0 <= i < len(args) or not floating(args[i]):
            raise ValueError(f"{who}: constants names argument {i}, which is no floating-point array of args")
    name = getattr(function, "__name__", repr(function))
    named = dict(options or {})
    wide = [a.astype(np.float64) if floating(a) else a for a in args]
    places = {f"args[{i}]": i for i, a in enumerate(wide) if floating(a)}
    if not places:
        raise AssertionError(f"{name}: there is no floating-point array among the arguments")
    lone = sum(is_array(a) for a in args) == 1
    # Gradients come in the order of the arrays; other arguments may stand between them.
    ranks = {i: rank for rank, i in enumerate(i for i, a in enumerate(args) if a is None or is_array(a))}

    def options_for(values: Sequence[Any]) -> dict[str, Any]:
        dtype = values[next(iter(places.values()))].dtype
        return {k: a.astype(dtype) if floating(a) else a for k, a in named.items()}

    def value(*values: Any) -> Any:
        return function(*values, **options_for(values))

    def gradients(g: Any, values: Sequence[Any]) -> dict[str, Array | None]:
        result = vjp(g, *values, **options_for(values))
        each = result if isinstance(result, tuple) else (result,)
        if isinstance(result, tuple) and len(each) <= ranks[max(places.values())]:
            raise AssertionError(f"{name}: the vjp gave {len(each)} gradients for {len(ranks)} arrays")
        if any(extra is not None for extra in each[len(ranks) :]):
            raise AssertionError(f"{name}: the vjp gave {len(each)} gradients for {len(ranks)} arrays")
        if not isinstance(result, tuple) and not lone:
            raise AssertionError(
                f"{name}: the vjp of several arrays must give a tuple, got {type(result).__name__}"
            )
        return {n: each[ranks[i] if isinstance(result, tuple) else 0] for n, i in places.items()}

    y = call_purely(name, value, *wide)
    if not trees.leaves(y) or not all(map(floating, trees.leaves(y))):
        raise AssertionError(f"{name}: expected a floating-point array for a value, got {describe(y)}")
    ones = trees.map(lambda part: xp_of(part).ones_like(part), y)
    grads = call_purely(f"{name}_vjp", lambda g, *values: gradients(g, values), ones, *wide)
    if all(grad is None for grad in grads.values()):
        raise AssertionError(f"{name}_vjp: no floating-point array got a gradient")
    for n, i in places.items():
        if grads[n] is not None:
            check_like(f"{name}_vjp", n, grads[n], wide[i])

    def placed(point: Point) -> list[Any]:
        values = list(wide)
        for n, x in point.items():
            values[places[n]] = x
        return values

    subject = Subject(
        name,
        lambda point: tuple(trees.leaves(value(*placed(point)))),
        lambda point, g: gradients(refilled(y, g), placed(point)),
        frozenset(f"args[{i}]" for i in (*constants, *_known_constants(function))),
    )
    return subject, {n: wide[i] for n, i in places.items()}


def floating(a: Any) -> bool:
    """Return whether `a` is a floating-point array."""
    return is_array(a) and a.dtype.kind == "f"


def _known_constants(function: Any) -> list[int]:
    """List the places of arguments that a function of `fconv.functional` has no gradient for."""
    known = getattr(function, "constants", ())
    return (
        [i for i, name in enumerate(inspect.signature(function).parameters) if name in known] if known else []
    )
