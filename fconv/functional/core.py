"""Define a function and its gradient once, side by side.

A definition checks its arguments and returns two things: its value, wrapped in `once` so
that it is computed when first asked for and at most once, and its pullback, a function of
the gradient `g` of the value. From that follow, by `differentiable`:

- ``f(*args)``, which asks for the value alone;
- ``f.vjp(g, *args)``, which asks for the gradient alone (where the gradient needs the
  value, as that of the sigmoid does, the pullback asks for it);
- ``f.forward(*args)``, which gives the value and the pullback, and so computes nothing twice;
- ``f.jvp(tangents, *args)``, which asks for the derivative of the value along tangents of the arrays,
  and ``f.value_and_jvp(tangents, *args)``, which computes what the two share once.

A pullback of several arrays returns a dict from argument name to a thunk, so that a gradient
that nobody wants costs nothing; a pullback of one array returns its gradient. A parameter, whose
gradient is a sum over the samples of a batch, has a second entry: ``"weight of each"`` is the
gradient by each sample alone, with a leading axis of samples; and where the norm of that is had for
less, ``"weight norm of each"``, the norm in the same number of axes.

The derivative along tangents (forward mode) follows from the definition where one expression gives
both: a linear function is its own, and where the matrix of derivatives is symmetric, as that of every
elementwise function is, it is the pullback. Any other definition returns a fourth thing, its push: of one
array a function of the tangent; of several a dict from argument name to such functions, whose results
broadcast to the value's shape and are added, or one function of the dict of tangents.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import numpy as np

from fconv.arrays import Array, Shape, check_floating, namespace, narrowed, native, widened, xp_of
from fconv.devices import with_memory_recovery
from fconv.functional.derivatives import (
    check_gradient,
    check_tangents,
    jvp_doc,
    missing,
    of_other_kind,
    plain_like,
    signature_between,
    vjp_doc,
    wanted_of,
)

P = ParamSpec("P")
T = TypeVar("T")

Thunks: TypeAlias = dict[str, Callable[[], Array]]
Wrt: TypeAlias = str | Iterable[str] | None
EACH, NORMS = ("of each",), ("norm of each", "of each")
"""Suffixes of the gradients to use instead of a sum over samples; the first that a function defines wins."""


class once(Generic[T]):  # noqa: N801 - used as a decorator
    """A lazy value: computed when it is first needed, and kept.

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


Push: TypeAlias = Callable[[Any], Array] | dict[str, Callable[[Array], Array]]
Pushed: TypeAlias = tuple[Shape, Callable[[], Array], Callable[[Array], Any], Push]
"""Shape of the value, the value, the pullback, and the push."""
Definition: TypeAlias = tuple[Shape, Callable[[], Array], Callable[[Array], Any]] | Pushed
"""The same, without the push where `differentiable` is told what it is."""


class Pullback(Protocol):
    """Pullback that `forward` returns: from the gradient of the value to those of the arrays."""

    def __call__(self, g: Any, wrt: Wrt = None, each: tuple[str, ...] = ()) -> Any:
        """Return the gradients, as `Differentiable.vjp` does; with `EACH` or `NORMS` by each sample."""
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

    def jvp(self, tangents: Any, *args: Any, **kwargs: Any) -> Array:
        """Return the derivative of the value along tangents of the array arguments."""
        ...

    def value_and_jvp(self, tangents: Any, *args: Any, **kwargs: Any) -> tuple[Array, Array]:
        """Return the value, and what `jvp` returns."""
        ...


def differentiable(
    *arrays: str,
    constants: Iterable[str] = (),
    sometimes: Iterable[str] = (),
    widens: bool = True,
    linear: bool = False,
    symmetric: bool = False,
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
    linear : bool
        The value is linear in the one array that has a gradient, so that its derivative along a tangent is
        the function itself of the tangent. (A definition that returns a push overrides this.)
    symmetric : bool
        The matrix of derivatives is symmetric, so that the pullback is the derivative along a tangent, too.

    Returns
    -------
    callable
        A decorator for definitions. Whatever the byte order of the arrays is, a definition is
        given them in the machine's own.
    """

    def decorate(definition: Callable[P, Definition]) -> Differentiable[P]:
        defined = _Defined(
            definition, arrays, frozenset(constants), frozenset(sometimes), widens, linear, symmetric
        )
        name, call = defined.name, defined.call

        def compute(*args: P.args, **kwargs: P.kwargs) -> Array:
            return call(args, kwargs)[0]()

        def forward(*args: P.args, **kwargs: P.kwargs) -> tuple[Array, Pullback]:
            value, pull, _ = call(args, kwargs)
            return value(), with_memory_recovery(f"{name}_vjp", pull)

        def gradients(g: Any, *args: Any, wrt: Wrt = None, **kwargs: Any) -> Any:
            return call(args, kwargs)[1](g, wrt)

        def derivative(tangents: Any, *args: Any, **kwargs: Any) -> Array:
            return call(args, kwargs)[2](tangents)

        def value_and_jvp(tangents: Any, *args: Any, **kwargs: Any) -> tuple[Array, Array]:
            value, _, push = call(args, kwargs)
            return value(), push(tangents)

        made: Any = functools.wraps(definition)(with_memory_recovery(name, compute))
        made.forward = with_memory_recovery(name, forward)
        made.value_and_jvp = with_memory_recovery(f"{name}_jvp", value_and_jvp)
        for kind, plain, first, last, doc in (
            ("vjp", gradients, "g", "wrt", vjp_doc),
            ("jvp", derivative, "tangents", None, jvp_doc),
        ):
            part: Any = with_memory_recovery(f"{name}_{kind}", plain)
            part.__name__ = part.__qualname__ = f"{name}_{kind}"
            part.__module__ = definition.__module__
            part.__doc__ = doc(name, arrays, defined.fixed, defined.signature)
            part.__signature__ = signature_between(first, defined.signature, last)
            setattr(made, kind, part)
        made.arrays, made.constants, made.linear = arrays, defined.fixed, linear
        made.__signature__ = defined.signature.replace(return_annotation="Array")
        return cast("Differentiable[P]", made)

    return decorate


@dataclass(eq=False)
class _Defined:
    """A definition, with what `differentiable` was told of it: a call of the function and its derivatives.

    Every call takes the same way: `_given` finds its arrays and checks them, `_entered` brings unusual ones
    into the form that definitions take, then the definition says what value, pullback and push are.
    """

    definition: Callable[..., Any]
    arrays: tuple[str, ...]
    fixed: frozenset[str]
    loose: frozenset[str]
    widens: bool
    linear: bool
    symmetric: bool

    def __post_init__(self) -> None:
        self.name: str = self.definition.__name__
        self.signature = inspect.signature(self.definition)
        parameters = self.signature.parameters
        self.free = self.fixed | self.loose  # whose dtype need not be that of the rest
        self.places = {a: place for place, a in enumerate(parameters) if a in self.arrays}
        self.optional = {a for a in self.arrays if parameters[a].default is not inspect.Parameter.empty}

    def call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Callable[[], Array], Pullback, Callable[[Any], Array]]:
        """Return the value, not yet computed, the pullback and the push of a call."""
        found, like = self._given(args, kwargs)
        if like is None:
            args, kwargs, like = self._taken(found, args, kwargs)
        shape, value, pullback, *pushes = self.definition(*args, **kwargs)
        half = self.widens and like.dtype == np.float16
        fixed = self.fixed
        still = fixed | {a for a in self.loose if of_other_kind(found.get(a))} if self.loose else fixed
        there = [a for a in self.arrays if found.get(a) is not None]
        last: Any = pushes[0] if pushes else pullback if self.symmetric else None

        def push(tangents: Any) -> Array:
            moved = check_tangents(self.name, self.arrays, still, found, tangents, like)
            moved = {a: self._entered(t) for a, t in moved.items()}
            if last is not None:
                dy = pushed(last, moved, len(self.arrays) == 1)
            elif self.linear:
                ((a, t),) = moved.items()
                swapped = tuple(t if place == self.places[a] else v for place, v in enumerate(args))
                dy = self.definition(*swapped, **(kwargs | {a: t} if a in kwargs else kwargs))[1]()
            else:
                raise TypeError(
                    f"{self.name}_jvp: the definition returns no push, and is not told to be linear"
                )
            if dy.shape != shape:
                dy = xp_of(dy).broadcast_to(dy, shape).copy()
            return _halved(dy) if half else dy

        pull = self._pull(shape, pullback, like, still, there, half)
        return (lambda: _halved(value())) if half else value, pull, push

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], Array | None]:
        """Find the array arguments of a call and check them; the second value is that of `plain_like`."""
        found = {}
        for argument in self.arrays:
            place = self.places[argument]
            if place < len(args):
                found[argument] = args[place]
            elif argument in kwargs:
                found[argument] = kwargs[argument]
            elif argument not in self.optional:
                missing(self.name, self.signature, args, kwargs)
        for argument, x in found.items():
            if x is None and argument not in self.optional:
                raise TypeError(f"{self.name}: {argument} must be a NumPy or CuPy array, got NoneType")
        like = plain_like(found, self.free)
        if like is None:
            namespace(self.name, **found)
            free = self.fixed.union(a for a in self.loose if a in found and of_other_kind(found[a]))
            check_floating(self.name, **{a: x for a, x in found.items() if a not in free})
        return found, like

    def _entered(self, x: Any) -> Any:
        """Return an array in the machine's byte order, and in float32 where float16 is to be widened."""
        if x is None:
            return x
        x = native(x)
        return widened(x) if self.widens else x

    def _taken(
        self, found: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], Array]:
        """Return a call's arguments with arrays that have entered, and an empty array like those given."""
        taken = {a: self._entered(x) for a, x in found.items()}
        if any(taken[a] is not x for a, x in found.items()):
            by_place = {self.places[a]: x for a, x in taken.items()}
            args = tuple(by_place.get(place, v) for place, v in enumerate(args))
            kwargs = {a: taken.get(a, v) for a, v in kwargs.items()}
        first = next(x for a, x in found.items() if a not in self.free and x is not None)
        return args, kwargs, xp_of(first).empty((0,), first.dtype.newbyteorder("="))

    def _pull(
        self, shape: Shape, pullback: Callable[[Array], Any], like: Array, still: frozenset[str],
        there: list[str], half: bool,
    ) -> Pullback:  # fmt: skip
        """Return the pullback of a call. It outlives the call, and so must not hold the call's arrays."""
        name, arrays = self.name, self.arrays

        def pull(g: Any, wrt: Wrt = None, each: tuple[str, ...] = ()) -> Any:
            wanted = wanted_of(name, arrays, still, wrt)
            plain = type(g) is type(like) is np.ndarray and g.dtype == like.dtype and g.shape == shape
            if not plain or half:
                g = self._entered(check_gradient(name, g, shape, like))
            if len(arrays) == 1:
                return (_halved(pullback(g)) if half else pullback(g)) if wanted else None
            thunks: Thunks = pullback(g)
            if each:
                named = {a: [f"{a} {what}" for what in each] for a in wanted}
                thunks |= {a: thunks[n] for a, ns in named.items() for n in ns[::-1] if n in thunks}
            results = [thunks[a]() if a in wanted and a in there else None for a in arrays]
            return tuple(map(_halved, results) if half else results)

        return pull


def for_sample(x: Array, batched_ndim: int, define: Callable[[Array], Definition]) -> Definition:
    """Let a definition for batches serve a single sample too, as PyTorch's functions do.

    Where `x` has an axis less than a batch, a batch axis is added to it and taken from the results. In the
    pullback's dict, only the gradient of ``x`` has a batch axis; the push, if there is one, is a function.
    """
    if x.ndim != batched_ndim - 1:
        return define(x)
    shape, value, pullback, *pushes = define(x[None])

    def lone_value() -> Any:
        y = value()
        return tuple(part[0] for part in y) if isinstance(y, tuple) else y[0]

    def lone_pullback(g: Array) -> Any:
        grads = pullback(g[None])
        return {**grads, "x": lambda: grads["x"]()[0]} if isinstance(grads, dict) else grads[0]

    if not pushes:
        return shape[1:], once(lone_value), lone_pullback
    push: Any = pushes[0]

    def lone_push(t: Any) -> Array:
        if isinstance(t, dict):
            return push({a: v[None] if a == "x" else v for a, v in t.items()})[0]
        return push(t[None])[0]

    return shape[1:], once(lone_value), lone_pullback, lone_push


def _halved(result: Any) -> Any:
    """Return a result of float16 arrays, which was computed in float32, in their dtype."""
    if isinstance(result, tuple):
        return tuple(_halved(part) for part in result)
    return narrowed(result, np.float16) if result is not None and result.dtype.kind == "f" else result


def pushed(push: Any, moved: dict[str, Array], lone: bool = False) -> Array:
    """Return the derivative along tangents."""
    if isinstance(push, dict):
        return functools.reduce(operator.add, [push[a](t) for a, t in moved.items()])
    return push(*moved.values()) if lone else push(moved)
