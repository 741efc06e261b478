"""Arrays, results and work space next to pages that must not be touched, for the tests of several files."""

from __future__ import annotations

import ctypes
import mmap
from contextlib import contextmanager
from math import prod

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from fconv.engine import threads
from tests.convolutions import computing


class Guarded:
    """NumPy, whose new arrays end where a page begins that must not be touched."""

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=np.float64, strides=None):
        dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, int) else shape
        flat = pages(prod(shape) * dtype.itemsize, behind=True).view(dtype)
        return flat.reshape(shape) if strides is None else as_strided(flat, shape, strides)

    def empty_like(self, like):
        order = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
        made = self.empty([like.shape[axis] for axis in order], like.dtype)
        return made.transpose(np.argsort(order))


@contextmanager
def guarding(engine):
    """Compute with one of the engines for the CPU, in one thread, work space and results guarded too."""
    before = threads.get_num_threads()
    with computing(engine), pytest.MonkeyPatch.context() as patch:
        threads.set_num_threads(1)
        if engine == "compiled":
            from fconv.engine.compiled import (
                by_channel,
                choosing,
                columns,
                convolution,
                few,
                gathered,
                heavy,
                heavy_filters,
                normal,
                pool,
                routes,
                weights,
                winograd_weights,
            )
            from fconv.engine.compiled.scratch import scratch

            patch.setattr(scratch, "take", work_space)
            patch.setattr(scratch, "array", work_array)
            patch.setattr(pool, "OWN_SCRATCH", -1)
            patch.setattr(scratch, "give_back", lambda memory: None)
            for module in (
                by_channel, choosing, convolution, few, gathered, heavy, normal, weights, winograd_weights,
            ):  # fmt: skip
                patch.setattr(module, "np", Guarded())
            for module in (choosing, columns, convolution, heavy_filters, normal, routes):
                patch.setattr(module, "empty", Guarded().empty)
            patch.setattr(gathered, "empty_like", Guarded().empty_like)
        yield engine
        threads.set_num_threads(before)


def pages(size, *, behind):
    """Return bytes at the end of memory that may be used, or at its beginning, aligned to cache lines."""
    page, size = mmap.PAGESIZE, max(1, size)
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for edge in (first, first + page + room):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
    return np.frombuffer(memory, np.uint8, size, page + (room - size if behind else 0))


def work_space(size):
    """Take the place of the engine's work space; what is not written to is not a number."""
    found = pages(-(-size // 64) * 64, behind=True)
    found[:] = 255
    return found


def work_array(count, dtype):
    """Take the place of an array in that work space."""
    size = count * dtype.itemsize
    return work_space(size)[:size].view(dtype)


def guarded(x, order, *, behind):
    """Copy an array to guarded memory, with its axes in this order."""
    laid = x.transpose(order)
    out = pages(x.nbytes, behind=behind).view(x.dtype).reshape(laid.shape)
    out[...] = laid
    return out.transpose(np.argsort(order))


def orders(ndim):
    """Return C order, channels-last and the reverse of all axes."""
    return list(range(ndim)), [0, *range(2, ndim), 1], list(range(ndim))[::-1]
