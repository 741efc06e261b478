"""Arrays that never change, and what an engine makes of them: it is made once and kept as long as the array.

The filters of a network for inference are laid out, or transformed, in each call otherwise.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

MOST = 4
"""Things that are kept for one array: other shapes of the input need others."""


class Constant:
    """An array that does not change, and what was made of it."""

    __slots__ = ("_array", "_made")

    def __init__(self, array: Array) -> None:
        number = id(array)
        self._array = weakref.ref(array, lambda _: _known.pop(number, None))
        self._made: dict[Hashable, Any] = {}

    def of(self, array: Array) -> bool:
        """Return whether this is of an array."""
        return self._array() is array

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, as it did for the same key before."""
        made = self._made.get(key)
        if made is None:
            held = list(self._made)  # a copy, as other threads may be here too
            for oldest in held[: max(0, len(held) + 1 - MOST)]:
                self._made.pop(oldest, None)
            made = self._made[key] = make()
        return made


_known: dict[int, Constant] = {}


def constant(array: Array) -> Array:
    """Return a copy of an array that is read-only, and of which engines keep what they make of it.

    Who makes it writeable and read-only again, without a call between, gets what was made before.

    Examples
    --------
    >>> fixed = constant(np.ones(3))
    >>> fixed.flags.writeable, constant_of(fixed) is None, constant_of(np.ones(3)) is None
    (False, False, True)
    """
    fixed = array.copy(order="K")
    fixed.flags.writeable = False
    _known[id(fixed)] = Constant(fixed)
    return fixed


def constant_of(array: Array) -> Constant | None:
    """Return what is kept for an array; None where it may change."""
    found = _known.get(id(array))
    if found is None or not found.of(array):
        return None
    if array.flags.writeable:
        _known.pop(id(array), None)
        return None
    return found
