"""Compile and launch our own kernels on the GPU; their text stands beside what uses it.

Every entry of a result is made by one thread, in one order, so that there are no atomic additions
and the bits are the same on every run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fconv.arrays import Array, xp_of

TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_THREADS = 256
_MOST_BLOCKS = 1 << 20

COMMON = r"""
typedef NUMBER T;  // not a macro of that name: NVRTC's own headers have templates of a T

#define EACH(i, count) \
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < count; \
         i += (long long)blockDim.x * gridDim.x)

// Take the last axis, of size n, off the number of an entry.
__device__ inline int last(long long &i, int n) { int at = (int)(i % n); i /= n; return at; }

"""


@lru_cache(maxsize=32)
def _module(cupy: Any, source: str, dtype: np.dtype[Any]) -> Any:
    return cupy.RawModule(code=COMMON + source, options=(f"-DNUMBER={TYPES[dtype]}",))


def launch(source: str, name: str, *arrays: Array, count: int, numbers: tuple[int, ...]) -> None:
    """Run a kernel on the current stream: a thread for each of `count` entries, up to a limit.

    Parameters
    ----------
    source : str
        CUDA, to which `COMMON` is put: numbers of type T, EACH entry, the `last` axis of its number.
    name : str
        Of the kernel.
    *arrays : array
        What it reads and then what it writes, C-contiguous; the first's dtype is the kernel's.
    count : int
        Entries that it makes: its first argument, before the arrays.
    numbers : tuple of int
        Its arguments after the arrays.
    """
    first = arrays[0]
    kernel = _module(xp_of(first), source, first.dtype).get_function(name)
    arguments = (np.int64(count), *arrays, *map(np.int32, numbers))
    kernel((min(-(-count // _THREADS), _MOST_BLOCKS),), (_THREADS,), arguments)
