"""Loops compiled by Numba, where that is installed (the extra `jit`) and gains more than a fifth.

Only depthwise convolution does: there is no matrix product in it, and NumPy goes through memory
once for each kernel entry. Laying windows out was tried too and gained nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fconv.arrays import Array

_ENVIRONMENT = "FCONV_JIT"


@dataclass(frozen=True)
class Depthwise:
    """Compiled loops; all arrays are C-contiguous and of one dtype.

    Attributes
    ----------
    correlate : callable
        ``correlate(part, filters, bias, out, stride, dilation)`` writes
        ``out[n, i, j, c] = bias[c] + sum over k, l of part[n, i * stride + k * dilation, ..., c] *
        filters[k, l, c]``.
    filter_gradient : callable
        ``filter_gradient(g, part, out, stride, dilation)`` writes the gradient of the filters.
    """

    correlate: Callable[..., None]
    filter_gradient: Callable[..., None]


def depthwise() -> Depthwise | None:
    """Give the compiled loops, or None without Numba or with FCONV_JIT=0.

    The first call of each takes Numba about a second; it keeps the result on disk.

    Raises
    ------
    ValueError
        FCONV_JIT is neither 0 nor 1.
    """
    wish = os.environ.get(_ENVIRONMENT, "1").strip()
    if wish not in ("0", "1"):
        raise ValueError(f"{_ENVIRONMENT}: expected 0 or 1, got {wish!r}")
    return _depthwise() if wish == "1" else None


@lru_cache(maxsize=1)
def _depthwise() -> Depthwise | None:
    try:
        from numba import njit
    except ImportError:  # not there, or not for this Python or NumPy
        return None

    def compiled(loops: Callable[..., None]) -> Any:
        options: Any = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
        try:
            return njit(cache=True, **options)(loops)
        except RuntimeError:  # there is no folder that Numba could write to
            return njit(**options)(loops)

    def correlate(
        part: Array,
        filters: Array,
        bias: Array,
        out: Array,
        stride: tuple[int, int],
        dilation: tuple[int, int],
    ) -> None:
        channels = out.shape[3]
        for n in range(out.shape[0]):
            for i in range(out.shape[1]):
                for j in range(out.shape[2]):
                    sums = out[n, i, j]
                    for c in range(channels):
                        sums[c] = bias[c]
                    for k in range(filters.shape[0]):
                        for l in range(filters.shape[1]):  # noqa: E741
                            seen = part[n, i * stride[0] + k * dilation[0], j * stride[1] + l * dilation[1]]
                            factors = filters[k, l]
                            for c in range(channels):
                                sums[c] += seen[c] * factors[c]

    def filter_gradient(
        g: Array, part: Array, out: Array, stride: tuple[int, int], dilation: tuple[int, int]
    ) -> None:
        channels = out.shape[2]
        out[...] = 0
        for n in range(g.shape[0]):
            for i in range(g.shape[1]):
                for j in range(g.shape[2]):
                    slopes = g[n, i, j]
                    for k in range(out.shape[0]):
                        for l in range(out.shape[1]):  # noqa: E741
                            seen = part[n, i * stride[0] + k * dilation[0], j * stride[1] + l * dilation[1]]
                            sums = out[k, l]
                            for c in range(channels):
                                sums[c] += seen[c] * slopes[c]

    return Depthwise(compiled(correlate), compiled(filter_gradient))
