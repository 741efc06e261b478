"""Define a function and its gradient once, side by side.

A definition checks its arguments and returns two things: its value, wrapped in `once` so
that it is computed when first asked for and at most once, and its pullback, a function of
the gradient `g` of the value. From that follow, by `differentiable`:

- ``f(*args)``, which asks for the value alone;
- ``f.vjp(g, *args)``, which asks for the gradient alone (where the gradient needs the
  value, as that of the sigmoid does, the pullback asks for it);
- ``f.forward(*args)``, which gives the value and the pullback, and so computes nothing twice.

A pullback of several arrays returns a dict from argument name to a thunk, so that a gradient
that nobody wants costs nothing; a pullback of one array returns its gradient.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import numpy as np

from fconv.arrays import (
    Array,
    Shape,
    check_floating,
    describe,
    namespace,
    narrowed,
    native,
    widened,
    xp_of,
)
from fconv.device_memory import freed_at_its_end

P = ParamSpec("P")
T = TypeVar("T")

Thunks: TypeAlias = dict[str, Callable[[], Array]]
Wrt: TypeAlias = str | Iterable[str] | None


class once(Generic[T]):  # noqa: N801 - used as a decorator
    """A value that is computed when it is first asked for, and kept.

    Examples
    --------
    >>> value = once(lambda: print("computing") or 42)
    >>> value() + value()
    computing
    84
    """

    __slots__ = ("_compute", "_value")

    def __init__(self, compute: Callable[[], T]) -> None:
        self._compute: Callable[[], T] | None = compute

    def __call__(self) -> T:
        """Return the value."""
        if self._compute is not None:
            self._value = self._compute()
            self._compute = None  # frees what only the computation needed
        return self._value


Definition: TypeAlias = tuple[Shape, Callable[[], Array], Callable[[Array], Any]]
"""Shape of the value, the value, and the pullback."""


class Pullback(Protocol):
    """Pullback that `forward` returns: from the gradient of the value to those of the arrays."""

    def __call__(self, g: Any, wrt: Wrt = None) -> Any:
        """Return the gradients, as `Differentiable.vjp` does."""
        ...


class Differentiable(Protocol[P]):
    """A function of arrays together with its gradient."""

    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        """Return the value."""
        ...

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the array arguments, in order."""
        ...

    @property
    def constants(self) -> frozenset[str]:
        """Names of the array arguments that have no gradient."""
        ...

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Array, Pullback]:
        """Return the value and its pullback."""
        ...

    def vjp(self, g: Any, *args: Any, wrt: Wrt = None, **kwargs: Any) -> Any:
        """Return the gradients of the array arguments."""
        ...


def differentiable(
    *arrays: str,
    constants: Iterable[str] = (),
    sometimes: Iterable[str] = (),
    widens: bool = True,
) -> Callable[[Callable[P, Definition]], Differentiable[P]]:
    """Make a function and its gradient from one definition.

    Parameters
    ----------
    *arrays : str
        Names of the array arguments, in order.
    constants : iterable of str
        Those of `arrays` that have no gradient, such as labels or running statistics.
        They may be of another dtype than the rest.
    sometimes : iterable of str
        Those of `arrays` that have a gradient only where they are floating-point, such as masks
        that may be boolean and targets that may be class numbers. Their definition checks what
        else they may be.
    widens : bool
        Compute float16 in float32 and round each result once. False where no result is a sum,
        and where the definition widens what it sums itself, so that float16 is not copied.

    Returns
    -------
    callable
        A decorator for definitions. Whatever the byte order of the arrays is, a definition is
        given them in the machine's own.
    """
    fixed, loose = frozenset(constants), frozenset(sometimes)

    def decorate(definition: Callable[P, Definition]) -> Differentiable[P]:
        name = cast(Any, definition).__name__
        signature = inspect.signature(definition)
        places = {
            argument: place for place, argument in enumerate(signature.parameters) if argument in arrays
        }
        optional = {a for a in arrays if signature.parameters[a].default is not inspect.Parameter.empty}

        def given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
            """Find the array arguments of a call and check them."""
            found = {}
            for argument in arrays:
                place = places[argument]
                if place < len(args):
                    found[argument] = args[place]
                elif argument in kwargs:
                    found[argument] = kwargs[argument]
                elif argument not in optional:
                    _missing(name, signature, args, kwargs)
            for argument, x in found.items():
                if x is None and argument not in optional:
                    raise TypeError(f"{name}: {argument} must be a NumPy or CuPy array, got NoneType")
            if _plain(found) is not None:
                return found
            namespace(name, **found)
            rigid = {a: x for a, x in found.items() if a not in fixed and not (a in loose and _of_kind(x))}
            check_floating(name, **rigid)
            return found

        def entered(x: Any) -> Any:
            if x is None:
                return x
            x = native(x)
            return widened(x) if widens else x

        def define(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Callable[[], Array], Pullback]:
            found = given(args, kwargs)
            like = _plain(found)
            if like is None:
                taken = {a: entered(x) for a, x in found.items()}
                if any(taken[a] is not x for a, x in found.items()):
                    by_place = {places[a]: x for a, x in taken.items()}
                    args = tuple(by_place.get(place, v) for place, v in enumerate(args))
                    kwargs = {a: taken.get(a, v) for a, v in kwargs.items()}
                like = next(x for a, x in found.items() if a not in fixed | loose and x is not None)
                # The pullback must not keep the array for its dtype.
                like = xp_of(like).empty((0,), like.dtype.newbyteorder("="))
            shape, value, pullback = definition(*args, **kwargs)
            half = widens and like.dtype == np.float16
            still = fixed | {a for a in loose if _of_kind(found.get(a))} if loose else fixed
            there = [a for a in arrays if found.get(a) is not None]

            def pull(g: Any, wrt: Wrt = None) -> Any:
                wanted = _wanted(name, arrays, still, wrt)
                if type(g) is not np.ndarray or g.dtype is not like.dtype or g.shape != shape or half:
                    g = entered(_check_gradient(name, g, shape, like))
                if len(arrays) == 1:
                    return rounded(pullback(g)) if wanted else None
                thunks: Thunks = pullback(g)
                return tuple([rounded(thunks[a]()) if a in wanted and a in there else None for a in arrays])

            def rounded(result: Any) -> Any:
                """Return a result of float16 arrays, which was computed in float32, in their dtype."""
                if not half or result is None:
                    return result
                if isinstance(result, tuple):
                    return tuple(rounded(part) for part in result)
                return narrowed(result, np.float16) if result.dtype.kind == "f" else result

            return (lambda: rounded(value())) if half else value, pull

        def compute(*args: P.args, **kwargs: P.kwargs) -> Array:
            value, _ = define(args, kwargs)
            return value()

        def forward(*args: P.args, **kwargs: P.kwargs) -> tuple[Array, Pullback]:
            value, pull = define(args, kwargs)
            return value(), freed_at_its_end(f"{name}_vjp", pull)

        def gradients(g: Any, *args: Any, wrt: Wrt = None, **kwargs: Any) -> Any:
            _, pull = define(args, kwargs)
            return pull(g, wrt)

        function = functools.wraps(definition)(freed_at_its_end(name, compute))
        vjp = freed_at_its_end(f"{name}_vjp", gradients)
        vjp.__name__ = vjp.__qualname__ = f"{name}_vjp"
        vjp.__module__ = definition.__module__
        vjp.__doc__ = _vjp_doc(name, arrays, fixed, signature)
        cast(Any, vjp).__signature__ = _vjp_signature(signature)
        made = cast(Any, function)
        made.forward, made.vjp = freed_at_its_end(name, forward), vjp
        made.arrays, made.constants = arrays, fixed
        made.__signature__ = signature.replace(return_annotation="Array")
        return cast("Differentiable[P]", function)

    return decorate


def for_sample(x: Array, batched_ndim: int, define: Callable[[Array], Definition]) -> Definition:
    """Let a definition for batches serve a single sample too, as PyTorch's functions do.

    Parameters
    ----------
    x : array
        A batch of `batched_ndim` axes, or one sample of one axis less.
    batched_ndim : int
        Axes of a batch.
    define : callable
        The definition, a function of the batch. In its pullback's dict, only the gradient of
        ``x`` has a batch axis.

    Returns
    -------
    Definition
        That of the batch, or the one that adds a batch axis to `x` and takes it from the results.
    """
    if x.ndim != batched_ndim - 1:
        return define(x)
    shape, value, pullback = define(x[None])

    def lone_value() -> Any:
        y = value()
        return tuple(part[0] for part in y) if isinstance(y, tuple) else y[0]

    def lone_pullback(g: Array) -> Any:
        grads = pullback(g[None])
        return {**grads, "x": lambda: grads["x"]()[0]} if isinstance(grads, dict) else grads[0]

    return shape[1:], once(lone_value), lone_pullback


def _missing(name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise the TypeError that Python itself would, with the function's name."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


_LIKE = {dtype: np.empty(0, dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}


def _plain(found: dict[str, Any]) -> Array | None:
    """Return an empty array like all of `found`, if they are what mostly comes: NumPy's, of one dtype."""
    dtype = None
    for x in found.values():
        if x is not None:
            if type(x) is not np.ndarray or (dtype is not None and x.dtype is not dtype):
                return None
            dtype = x.dtype
    return None if dtype is None else _LIKE.get(dtype) if dtype.isnative else None


def _of_kind(x: Any) -> bool:
    """Return whether an array that may be of another kind is."""
    return x is not None and x.dtype.kind != "f"


def _wanted(name: str, arrays: tuple[str, ...], fixed: frozenset[str], wrt: Wrt) -> frozenset[str]:
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


def _check_gradient(name: str, g: Any, shape: Shape, like: Array) -> Array:
    """Require that a gradient has the shape, dtype and library of the value it belongs to."""
    if isinstance(g, (int, float)) and shape == ():
        g = xp_of(like).asarray(g, dtype=like.dtype)
    namespace(f"{name}_vjp", g=g, like=like)
    if g.shape != shape:
        raise ValueError(f"{name}_vjp: expected a gradient of the output's shape {shape}, got {g.shape}")
    if g.dtype.newbyteorder("=") != like.dtype:
        raise TypeError(f"{name}_vjp: expected a gradient of {like.dtype}, got {describe(g)}")
    return g


def _vjp_signature(signature: inspect.Signature) -> inspect.Signature:
    """Put `g` before the arguments of a function, and `wrt` after them."""
    kinds = inspect.Parameter
    g = kinds("g", kinds.POSITIONAL_OR_KEYWORD, annotation="Array")
    wrt = kinds("wrt", kinds.KEYWORD_ONLY, default=None, annotation="str | Iterable[str] | None")
    return inspect.Signature([g, *signature.parameters.values(), wrt])


def _vjp_doc(name: str, arrays: tuple[str, ...], fixed: frozenset[str], signature: inspect.Signature) -> str:
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
