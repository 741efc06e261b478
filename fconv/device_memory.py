"""Recovery where a GPU's memory runs out in the middle of a call."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def freed_at_its_end(name: str, call: Callable[P, T]) -> Callable[P, T]:
    """Make a function leave a GPU usable where its memory ends, and say who asked for how much.

    CuPy keeps memory for later arrays. What the interrupted call had made is let go, and all that
    CuPy keeps unused goes back to the device, so that a smaller batch can be tried at once.

    Parameters
    ----------
    name : str
        What is computed; the message begins with it.
    call : callable
        The function.

    Returns
    -------
    callable
        The same function, but for a MemoryError in the place of CuPy's ``OutOfMemoryError`` (which
        is one too). NumPy's, which says what it asked for, is left as it is.

    Examples
    --------
    >>> def fill():
    ...     raise MemoryError("Unable to allocate 8.00 TiB")
    >>> freed_at_its_end("conv2d", fill)()
    Traceback (most recent call last):
    MemoryError: Unable to allocate 8.00 TiB
    """

    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except MemoryError as error:
            if type(error).__module__.partition(".")[0] != "cupy":
                raise
            message = f"{name}: the GPU has no memory left: {error}; try a smaller batch"
            traceback.clear_frames(error.__traceback__)  # whose variables hold arrays
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
        raise MemoryError(message)

    return guarded
