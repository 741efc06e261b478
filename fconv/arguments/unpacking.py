"""Explain mistaken uses of what `value_and_grad` returns: unpacked into too few names, or swapped."""

from __future__ import annotations

import dis
import functools
import sys
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_NAMES = ("loss", "grads", "params", "y")
_UNPACK = dis.opmap.get("UNPACK_SEQUENCE")
_GRADIENTS: dict[int, tuple[Any, Any]] = {}  # by the gradient's id: weak references to it and its parameter


class Values(tuple[Any, ...]):
    """Result of the function of `value_and_grad`: a tuple that explains itself when it is unpacked.

    Python's own message, "too many values to unpack (expected 2)", does not say that the parameters
    with their refreshed running statistics come third.
    """

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        """Iterate, or raise a ValueError where the caller unpacks into another number of names."""
        wanted = _targets(sys._getframe(1))
        if wanted is not None and wanted != len(self):
            names = ", ".join(_NAMES[: len(self)])
            raise ValueError(
                f"value_and_grad: expected {len(self)} names for ({names}), got {wanted}; write {names} = "
                f"f(...): the third value is the parameters with refreshed running statistics"
            )
        return super().__iter__()


def unpacked(function: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
    """Let a function return `Values`."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return Values(function(*args, **kwargs))

    return call


def _targets(frame: FrameType) -> int | None:
    """Return into how many names the running instruction of a frame unpacks; None where it does not.

    The compiler has put the number into the instruction, CPython's only note of it. Another
    interpreter gives its own message.
    """
    code, at = frame.f_code.co_code, frame.f_lasti
    if _UNPACK is None or not 0 <= at < len(code) - 1 or code[at] != _UNPACK:
        return None
    return code[at + 1]


def note_gradient(params: Any, grads: Any) -> None:
    """Remember, while both live, that `grads` is the gradient of `params`: the first arrays stand for all."""
    p, g = _first(params, grads)
    number = id(g)
    if type(g).__weakrefoffset__ and type(p).__weakrefoffset__:  # a NumPy scalar takes no weak reference
        _GRADIENTS[number] = weakref.ref(g, lambda _: _GRADIENTS.pop(number, None)), weakref.ref(p)


def changed_places(params: Any, grads: Any) -> bool:
    """Return whether the first argument is a gradient that was noted, and the second its parameters."""
    p, g = _first(params, grads)
    gradient, parameter = _GRADIENTS.get(id(p), (None, None))
    return gradient is not None and gradient() is p and parameter() is g


def _first(params: Any, grads: Any) -> tuple[Any, Any]:
    """Return the first parameter that has a gradient, and it; (None, None) where there is none."""
    if isinstance(params, dict) and isinstance(grads, dict):
        params, grads = params.values(), grads.values()
    elif not (isinstance(params, (tuple, list)) and isinstance(grads, (tuple, list))):
        return params, grads
    for a, b in zip(params, grads, strict=False):
        found = (None, None) if a is None or b is None else _first(a, b)
        if found[0] is not None:
            return found
    return None, None
