"""Loops compiled by Numba, where that is installed (the extra `jit`) and gains more than a fifth.

Depthwise convolution does, in which there is no matrix product, and convolution between few
channels, whose products are too thin for one. Laying windows out was tried too and gained nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Compiler: TypeAlias = Callable[..., Any]

_ENVIRONMENT = "FCONV_JIT"


def wished() -> bool:
    """Tell whether loops may be compiled; FCONV_JIT=0 forbids it.

    Raises
    ------
    ValueError
        FCONV_JIT is neither 0 nor 1.
    """
    wish = os.environ.get(_ENVIRONMENT, "1").strip()
    if wish not in ("0", "1"):
        raise ValueError(f"{_ENVIRONMENT}: expected 0 or 1, got {wish!r}")
    return wish == "1"


@lru_cache(maxsize=8)
def built(build: Callable[[Compiler], T]) -> T | None:
    """Give compiled loops, or None without Numba.

    Parameters
    ----------
    build : callable
        Takes a decorator that compiles a function, and gives the loops. The first call of each
        takes Numba about a second; it keeps the result on disk.
    """
    try:
        import numba
    except ImportError:  # not there, or not for this Python or NumPy
        return None

    def compile_loops(loops: Callable[..., Any], *, reordered: bool = False) -> Any:
        """Compile; `reordered` lets a sum be made in several parts at once."""
        fast = {"contract", "reassoc"} if reordered else {"contract"}
        options: Any = {"nogil": True, "fastmath": fast, "error_model": "numpy"}
        try:
            return numba.njit(cache=True, **options)(loops)
        except RuntimeError:  # there is no folder that Numba could write to
            return numba.njit(**options)(loops)

    return build(compile_loops)
