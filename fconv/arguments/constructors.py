"""Values that remember the call that made them: they are equal when made alike, and pickle as that call."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, ParamSpec, TypeVar, cast

import numpy as np

from fconv import trees
from fconv.arguments.signatures import explained, misfit, plain, require_flags
from fconv.arrays import asnumpy, is_array, library_of
from fconv.showing import options_shown

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="Constructed")


_signature = functools.lru_cache(maxsize=None)(inspect.signature)


class _Call(NamedTuple):
    """A call: what was called, and with what."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def arguments(self, defaults: bool) -> dict[str, Any]:
        """Return the arguments by name, those that were not given too where `defaults`."""
        bound = _signature(self.function).bind(*self.args, **self.kwargs)
        if defaults:
            bound.apply_defaults()
        return bound.arguments

    def defaults(self) -> dict[str, Any]:
        """Return what the arguments are by default, of those that have one."""
        parameters = _signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}


class Constructed:
    """An immutable value that remembers the call that made it.

    Equality, hash, pickle and, unless a subclass has a better one, repr follow from that call.
    It is the call of the class itself, or of the function that `constructor` decorates.
    """

    _call: _Call
    _instead: ClassVar[Mapping[str, str]] = {}
    """Methods that other libraries have, and the call to write instead, for the error message."""

    if not TYPE_CHECKING:  # for which there would be no missing attribute

        def __getattr__(self, name: str) -> Any:
            what = f"{type(self).__name__} has no attribute {name!r}"
            raise AttributeError(f"{what}: {self._instead[name]}" if name in self._instead else what)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Note the call of the class."""
        return super().__new__(cls)._made_by(_Call(cls, _owned(args), _owned(kwargs)))

    def _made_by(self: C, call: _Call) -> C:
        """Return this value as another call made it."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, _call=call)
        return made

    def _arguments(self) -> dict[str, Any]:
        """Return what tells this value from others of the same constructor."""
        return self._call.arguments(defaults=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constructed):
            return NotImplemented
        if self is other or self._call.function is not other._call.function:
            return self is other
        return bool(_comparable(self._arguments()) == _comparable(other._arguments()))

    def __hash__(self) -> int:
        return hash((self._call.function, _comparable(self._arguments())))

    def __reduce__(self) -> tuple[Any, ...]:
        for part in (*self._call.args, *self._call.kwargs.values()):
            # dataclasses.replace takes over the functions of what a constructor made.
            made_inside = "<locals>" in getattr(part, "__qualname__", "")
            if made_inside and part.__module__.startswith("fconv."):
                raise pickle.PicklingError(
                    f"{getattr(self, 'name', 'it')}: a {type(self).__name__} made of another's functions, as "
                    f"by dataclasses.replace, does not pickle; write it as a class with these functions"
                )
        return functools.partial(self._call.function, **self._call.kwargs), self._call.args

    def __copy__(self: C) -> C:
        return self

    def __deepcopy__(self: C, memo: object) -> C:
        return self  # nothing in it ever changes

    def __repr__(self) -> str:
        given = self._call.arguments(defaults=False)
        return f"{self._call.function.__name__}({options_shown(given, self._call.defaults())})"


class Function(Constructed):
    """A function made by a constructor, such as a schedule or an initializer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)


def constructor(function: Callable[P, T]) -> Callable[P, T]:
    """Let what a function makes remember the call: a decorator of functions at the top of a module.

    The function returns a `Constructed` value, or a function, which is made one, and the same for the same
    arguments; it is called with copies of lists, dicts and arrays, so that the value does not change with
    them. Results are equal, hash, print and pickle by their arguments. A call that does not fit the
    signature, or something else where it is annotated with bool, is a TypeError that says what to write.

    Examples
    --------
    >>> from fconv.optimizers import sgd
    >>> from fconv.schedules import cosine
    >>> opt = sgd(cosine(0.1, 100), momentum=0.9)
    >>> opt
    sgd(lr=cosine(lr=0.1, T_max=100), momentum=0.9)
    >>> opt == sgd(lr=cosine(0.1, T_max=100), momentum=0.9)
    True
    """

    signature, title = inspect.signature(function), function.__name__

    @functools.wraps(function)
    def construct(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            raise TypeError(misfit(title, signature, args, kwargs)) from None
        require_flags(title, signature, bound.arguments)
        call = _Call(construct, _owned(args), _owned(kwargs))
        made = function(*call.args, **call.kwargs)
        remembering = made if isinstance(made, Constructed) else Function(explained(f"{title}(...)", made))  # type: ignore[arg-type]
        return cast("T", remembering._made_by(call))

    return construct


def _owned(value: Any) -> Any:
    """Copy what its owner could change or use up."""
    if isinstance(value, Mapping):
        return {name: _owned(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return trees.rebuild(value, map(_owned, value))
    if isinstance(value, Iterator):
        return tuple(map(_owned, value))
    return value.copy() if is_array(value) else plain(value)


class _Same:
    """A value without a hash, which is compared as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(type(self.value))


def _comparable(value: Any) -> Any:
    """Return what stands for a value in comparisons: arrays are equal by their bits, NaN equals NaN."""
    if isinstance(value, Mapping):
        return tuple((name, _comparable(part)) for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_comparable, value))
    if is_array(value) and not isinstance(value, np.generic):
        x = asnumpy(value)
        return library_of(value), x.dtype.str, x.shape, x.tobytes()
    if isinstance(value, (float, np.floating)) and value != value:
        return "nan", float
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return value
