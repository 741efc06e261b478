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

A definition of which the shapes decide all but the numbers may return a fifth thing, a function that makes
its `Planned`, behind a push or None.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, cast

import numpy as np

from fconv.arrays import Array, Shape, check_floating, namespace, narrowed, native, widened, xp_of
from fconv.devices import with_memory_recovery
from fconv.functional.derivatives import (
    check_gradient,
    check_tangents,
    jvp_doc,
    missing,
    of_other_kind,
    pushed,
    signature_between,
    vjp_doc,
    wanted_of,
)
from fconv.functional.planned import Planned
from fconv.functional.protocols import Differentiable, Pullback, Wrt

P = ParamSpec("P")
T = TypeVar("T")

Thunks: TypeAlias = dict[str, Callable[[], Array]]
EACH, NORMS = ("of each",), ("norm of each", "of each")
"""Suffixes of the gradients to use instead of a sum over samples; the first that a function defines wins."""


_LIKE = {dtype: np.empty(0, dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}


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


Push: TypeAlias = Callable[[Any], Array] | Mapping[str, Callable[[Array], Array]]
Pushed: TypeAlias = tuple[Shape, Callable[[], Array], Callable[[Array], Any], Push]
"""Shape of the value, the value, the pullback, and the push."""
ByShape: TypeAlias = tuple[
    Shape, Callable[[], Array], Callable[[Array], Any], Push | None, Callable[[], Planned]
]
"""The same, and what makes the plan."""
Definition: TypeAlias = tuple[Shape, Callable[[], Array], Callable[[Array], Any]] | Pushed | ByShape
"""One of them, without the push where `differentiable` is told what it is."""


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
        name = defined.name

        def compute(*args: P.args, **kwargs: P.kwargs) -> Array:
            return defined.value(args, kwargs)

        def forward(*args: P.args, **kwargs: P.kwargs) -> tuple[Array, Pullback]:
            value, pull, like = defined.call(args, kwargs)
            if type(like) is not np.ndarray:  # NumPy's memory comes back by itself
                pull = with_memory_recovery(f"{name}_vjp", pull)
            return value(), pull

        def gradients(g: Any, *args: Any, wrt: Wrt = None, **kwargs: Any) -> Any:
            return defined.call(args, kwargs)[1](g, wrt)

        def derivative(tangents: Any, *args: Any, **kwargs: Any) -> Array:
            return defined.push(tangents, args, kwargs)[1]()

        def value_and_jvp(tangents: Any, *args: Any, **kwargs: Any) -> tuple[Array, Array]:
            value, along = defined.push(tangents, args, kwargs)
            return value(), along()

        made: Any = functools.wraps(definition)(with_memory_recovery(name, compute))
        made.forward = with_memory_recovery(name, forward)
        made.value_and_jvp = with_memory_recovery(f"{name}_jvp", value_and_jvp)
        made.planned = defined.planned
        made.pullback = defined.pullback
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

    `_given` finds the arrays of a call and checks them, `_taken` brings unusual ones into the form that
    definitions take. A small network spends its time here, so that the usual call makes few others.
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
        self._facts = [(a, self.places[a], a in self.optional, a in self.free) for a in self.arrays]

    def value(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Array:
        """Return the value of a call alone."""
        _, args, kwargs, like = self._entering(args, kwargs)
        value = self.definition(*args, **kwargs)[1]()
        return _halved(value) if self.widens and like.dtype.char == "e" else value

    def call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Callable[[], Array], Pullback, Array]:
        """Return the value of a call, not yet computed, its pullback, and an empty array like those given."""
        found, args, kwargs, like = self._entering(args, kwargs)
        shape, value, pullback, *_ = self.definition(*args, **kwargs)
        half = self.widens and like.dtype.char == "e"
        there = tuple([a for a, x in found.items() if x is not None])
        pull = self._pull(shape, pullback, like, self._still(found), there, half)
        return (lambda: _halved(value())) if half else value, pull, like

    def pullback(self, *args: Any, **kwargs: Any) -> Pullback:
        """Return the pullback of a call, whose value is not computed."""
        return self.call(args, kwargs)[1]

    def planned(self, *args: Any, **kwargs: Any) -> Planned | None:
        """Return what the shapes of a call decide; None where that is not all, or the arrays are unusual."""
        if self._given(args, kwargs)[1] is None:
            return None
        made = self.definition(*args, **kwargs)
        return made[4]() if len(made) > 4 else None

    def _still(self, found: dict[str, Any]) -> frozenset[str]:
        """Name the arrays of a call that have no gradient."""
        if not self.loose:
            return self.fixed
        still = [a for a in self.loose if of_other_kind(found.get(a))]
        return self.free if len(still) == len(self.loose) else self.fixed.union(still)

    def push(
        self, tangents: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Callable[[], Array], Callable[[], Array]]:
        """Return the value of a call and its derivative along tangents, neither of them computed yet."""
        found, args, kwargs, like = self._entering(args, kwargs)
        shape, value, pullback, *more = self.definition(*args, **kwargs)
        half = self.widens and like.dtype.char == "e"
        last: Any = more[0] if more and more[0] is not None else pullback if self.symmetric else None

        def along() -> Array:
            moved = check_tangents(self.name, self.arrays, self._still(found), found, tangents, like)
            moved = {a: self._entered(t) for a, t in moved.items()}
            if last is not None:
                dy = pushed(last, moved, len(self.arrays) == 1)
            elif self.linear:
                ((a, t),) = moved.items()
                swapped = tuple(t if place == self.places[a] else v for place, v in enumerate(args))
                dy = self.definition(*swapped, **(kwargs | {a: t} if a in kwargs else kwargs))[1]()
            else:
                raise TypeError(f"{self.name}_jvp: the definition has no push, and is not told to be linear")
            if dy.shape != shape:
                dy = xp_of(dy).broadcast_to(dy, shape).copy()
            return _halved(dy) if half else dy

        return (lambda: _halved(value())) if half else value, along

    def _entering(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], tuple[Any, ...], dict[str, Any], Array]:
        """Return a call's arrays, its arguments as definitions take them, and an empty array like those."""
        found, like = self._given(args, kwargs)
        if like is None:
            args, kwargs, like = self._taken(found, args, kwargs)
        return found, args, kwargs, like

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], Array | None]:
        """Find the array arguments of a call and check them.

        The second value is an empty array like them, if they are what mostly comes: NumPy's arrays of
        float32 or float64; those that are `free` may be integers or booleans too.
        """
        found: dict[str, Any] = {}
        dtype: Any
        count, plain, dtype = len(args), True, None
        for argument, place, optional, free in self._facts:
            if place < count:
                x = args[place]
            elif argument in kwargs:
                x = kwargs[argument]
            elif optional:
                continue
            else:
                missing(self.name, self.signature, args, kwargs)
            found[argument] = x
            if type(x) is np.ndarray:
                its = x.dtype
                if its is dtype or (free and its.kind in "iub" and its.isnative):
                    continue
                if dtype is None:
                    dtype = its
                elif its != dtype:
                    plain = False
            elif x is not None or not optional:
                plain = False
        like = _LIKE.get(dtype) if plain else None
        if like is None:
            self._check(found)
        return found, like

    def _check(self, found: dict[str, Any]) -> None:
        """Check array arguments of any kind."""
        for argument, x in found.items():
            if x is None and argument not in self.optional:
                raise TypeError(f"{self.name}: {argument} must be a NumPy or CuPy array, got NoneType")
        namespace(self.name, **found)
        free = self.fixed.union(a for a in self.loose if a in found and of_other_kind(found[a]))
        check_floating(self.name, **{a: x for a, x in found.items() if a not in free})

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
        there: tuple[str, ...], half: bool,
    ) -> Pullback:  # fmt: skip
        """Return the pullback of a call. It outlives the call, and so must not hold the call's arrays."""
        name, arrays, dtype = self.name, self.arrays, like.dtype
        lone = len(arrays) == 1

        def pull(g: Any, wrt: Wrt = None, each: tuple[str, ...] = ()) -> Any:
            wanted = wanted_of(name, arrays, still, wrt if wrt is None or type(wrt) is str else tuple(wrt))
            if shape == () and isinstance(g, (int, float)):  # as that of a loss mostly is
                g = xp_of(like).asarray(g, dtype=dtype)
            plain = type(g) is type(like) is np.ndarray and g.dtype == dtype and g.shape == shape
            if not plain or half:
                g = self._entered(check_gradient(name, g, shape, like))
            if lone:
                return (_halved(pullback(g)) if half else pullback(g)) if wanted else None
            thunks: Thunks = pullback(g)
            if each:
                named = {a: [f"{a} {what}" for what in each] for a in wanted}
                thunks |= {a: thunks[n] for a, ns in named.items() for n in ns[::-1] if n in thunks}
            results = [thunks[a]() if a in wanted and a in there else None for a in arrays]
            return tuple(map(_halved, results) if half else results)

        return pull


def _halved(result: Any) -> Any:
    """Return a result of float16 arrays, which was computed in float32, in their dtype."""
    if isinstance(result, tuple):
        return tuple(_halved(part) for part in result)
    return narrowed(result, np.float16) if result is not None and result.dtype.kind == "f" else result
