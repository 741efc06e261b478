"""The gradient check for functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fconv import random
from fconv.arrays import Array, is_array
from fconv.testing.differences import Point, compare
from fconv.testing.purity import call_purely, check_close, check_like, strided_copy


def check_vjp(
    function: Callable[..., Any],
    vjp: Callable[..., Any],
    args: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    key: Array | None = None,
    directions: int = 2,
    rtol: float = 1e-6,
) -> None:
    """Check a function's gradient against differences of its value.

    In float64, along random directions without small components, at points away from kinks:
    the arrays are moved a little until differences at several steps agree. Also checked:
    no argument is changed, the same arguments give the same bits, gradients have the shapes
    and dtypes of their arrays, and arrays in another memory layout give the same results.

    Parameters
    ----------
    function : callable
        ``function(*args, **options) -> array``.
    vjp : callable
        ``vjp(g, *args, **options)`` gives the gradient of each array argument in order, None
        for an array that has none (or that was not given); of a lone array argument, the
        gradient itself.
    args : sequence
        The arguments. Floating-point arrays are differentiated (in float64); integer arrays
        and None are passed on.
    options : mapping, optional
        Keyword arguments of both.
    key : array of uint64, shape (2,), optional
        Directions follow from it.
    directions : int
        How many random directions to try.
    rtol : float
        Allowed difference, relative to the sum of the absolute contributions of all entries.

    Raises
    ------
    AssertionError
        A check failed. For a wrong gradient the message shows the direction, the derivative
        by differences and by the gradient, and the worst entry.

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
    name = getattr(function, "__name__", repr(function))
    named = dict(options or {})
    wide = [_widened(a) for a in args]
    places = {f"args[{i}]": i for i, a in enumerate(wide) if is_array(a) and a.dtype.kind == "f"}
    if not places:
        raise AssertionError(f"{name}: there is no floating-point array among the arguments")
    lone = sum(is_array(a) for a in args) == 1
    # Gradients come in the order of the arrays; other arguments may stand between them.
    ranks = {i: rank for rank, i in enumerate(i for i, a in enumerate(args) if a is None or is_array(a))}

    def call(values: Sequence[Any]) -> Array:
        return function(*values, **named)

    def gradients(g: Array, values: Sequence[Any]) -> dict[str, Array | None]:
        result = vjp(g, *values, **named)
        each = result if isinstance(result, tuple) else (result,)
        if isinstance(result, tuple) and len(each) <= ranks[max(places.values())]:
            raise AssertionError(f"{name}: the vjp gave {len(each)} gradients for {len(ranks)} arrays")
        if not isinstance(result, tuple) and not lone:
            raise AssertionError(
                f"{name}: the vjp of several arrays must give a tuple, got {type(result).__name__}"
            )
        return {n: each[ranks[i] if isinstance(result, tuple) else 0] for n, i in places.items()}

    y = call_purely(name, lambda *values: call(values), *wide)
    g = np.ones_like(y) if isinstance(y, (np.ndarray, np.generic)) else y * 0 + 1
    grads = call_purely(f"{name}_vjp", lambda g_, *values: gradients(g_, values), g, *wide)
    if all(grad is None for grad in grads.values()):
        raise AssertionError(f"{name}_vjp: no floating-point array got a gradient")
    for n, i in places.items():
        if grads[n] is not None:
            check_like(f"{name}_vjp", n, grads[n], wide[i])

    strided = [strided_copy(a) if is_array(a) else a for a in wide]
    check_close(name, "the value in another memory layout", call(strided), y, 1e-11, 1.0)
    for n, other in gradients(g, strided).items():
        if other is not None:
            check_close(
                f"{name}_vjp", f"the gradient of {n} in another memory layout", other, grads[n], 1e-11, 1.0
            )

    def placed(point: Point) -> list[Any]:
        values = list(wide)
        for n, x in point.items():
            values[places[n]] = x
        return values

    compare(
        name,
        lambda point: call(placed(point)),
        lambda point, g: gradients(g, placed(point)),
        {n: wide[i] for n, i in places.items()},
        key=random.key(0) if key is None else key,
        directions=directions,
        rtol=rtol,
    )


def _widened(a: Any) -> Any:
    return a.astype(np.float64) if is_array(a) and a.dtype.kind == "f" else a
