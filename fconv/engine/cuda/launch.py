"""Compile and launch our own kernels on the GPU; their text stands beside what uses it.

Every element of a result is made by one thread, in one order, so that there are no atomic additions
and the bits are the same on every run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fconv.arrays import Array, xp_of
from fconv.geometry import Windows

TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_THREADS = 256
_MOST_BLOCKS = 1 << 20

COMMON = r"""
typedef NUMBER T;  // not a macro of that name: NVRTC's own headers have templates of a T

#define EACH(i, count) \
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < count; \
         i += (long long)blockDim.x * gridDim.x)

// Take the last axis, of size n, off the number of an element.
__device__ inline int last(long long &i, int n) { int at = (int)(i % n); i /= n; return at; }

"""

# Windows over one and two axes are windows over three of which the first have size 1.
WINDOWS = r"""
// C channels of D x H x W come in, OD x OH x OW go out; kernels of
// KD x KH x KW, strides S, zeros before P, dilation E.
#define SIZES int C, int D, int H, int W, int OD, int OH, int OW, int KD, int KH, int KW, \
              int SD, int SH, int SW, int PD, int PH, int PW, int ED, int EH, int EW
// The window position whose element k lies at x, or -1.
__device__ inline int window_at(int x, int k, int stride, int before, int dilation, int out) {
    int t = x + before - k * dilation;
    return t < 0 || t % stride || t / stride >= out ? -1 : t / stride;
}
"""


@lru_cache(maxsize=32)
def _module(cupy: Any, source: str, dtype: np.dtype[Any]) -> Any:
    return cupy.RawModule(code=COMMON + source, options=(f"-DNUMBER={TYPES[dtype]}",))


def launch(source: str, name: str, *arrays: Array, count: int, numbers: tuple[int, ...]) -> None:
    """Run a kernel on the current stream: a thread for each of `count` elements, up to a limit.

    Parameters
    ----------
    source : str
        CUDA, to which `COMMON` is put: numbers of type T, EACH element, the `last` axis of its number.
    name : str
        Of the kernel.
    *arrays : array
        What it reads and then what it writes, C-contiguous; the first's dtype is the kernel's.
    count : int
        Elements that it makes: its first argument, before the arrays.
    numbers : tuple of int
        Its arguments after the arrays.
    """
    first = arrays[0]
    kernel = _module(xp_of(first), source, first.dtype).get_function(name)
    arguments = (np.int64(count), *arrays, *map(np.int32, numbers))
    kernel((min(-(-count // _THREADS), _MOST_BLOCKS),), (_THREADS,), arguments)


def start(
    source: str, name: str, *arrays: Array, count: int, numbers: tuple[int, ...], windows: Windows
) -> None:
    """Run a kernel as `launch` does, with the sizes of windows, channels last, as its last arguments.

    Its source begins with `WINDOWS`: SIZES in a kernel's parameters, and `window_at`.
    """
    missing, sizes = 3 - windows.ndim, []
    for ahead, axes in (
        (1, windows.in_size), (1, windows.out_size), (1, windows.kernel), (1, windows.stride),
        (0, tuple(lo for lo, _ in windows.padding)), (1, windows.dilation),
    ):  # fmt: skip
        sizes += [*(ahead,) * missing, *axes]
    launch(source, name, *arrays, count=count, numbers=(*numbers, *sizes))
