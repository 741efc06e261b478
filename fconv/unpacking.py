"""Say which values were forgotten where several are unpacked into too few names."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_NAMES = ("loss", "grads", "params", "y")
_UNPACK = dis.opmap.get("UNPACK_SEQUENCE")


class Values(tuple[Any, ...]):
    """What the function of `value_and_grad` returns: a tuple that explains itself when it is unpacked.

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
