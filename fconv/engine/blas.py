"""The BLAS libraries of this process, and how many threads each computes on."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Blas:
    """One BLAS library.

    Attributes
    ----------
    path : str
        Its file.
    get_threads, set_threads : callable
        Read and set the number of threads.
    of_one_thread : bool
        The number holds for the thread that sets it alone, as OpenMP's does.
    """

    path: str
    get_threads: Callable[[], int]
    set_threads: Callable[[int], object]
    of_one_thread: bool


def find_blas() -> list[Blas]:
    """Find the BLAS libraries that are loaded now.

    Examples
    --------
    >>> all(blas.get_threads() >= 1 for blas in find_blas())
    True
    """
    from threadpoolctl import ThreadpoolController

    found = []
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        setter = library.set_num_threads
        per_thread = getattr(library, "threading_layer", None) == "openmp"
        if library.internal_api == "openblas" and not per_thread:
            # threadpoolctl lets only the first thread that asks set this number, and ignores the others.
            setter = _openblas_setter(library.filepath) or setter
        found.append(Blas(library.filepath, library.get_num_threads, setter, per_thread))
    return found


def _openblas_setter(path: str) -> Callable[[int], object] | None:
    with suppress(OSError):
        library = ctypes.CDLL(path)
        for prefix in ("", "scipy_"):
            for suffix in ("", "64_", "_64", "64"):
                setter = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
                if setter is not None:
                    setter.argtypes, setter.restype = [ctypes.c_int], None
                    return setter
    return None
