"""The compiled loops of depthwise convolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fconv.arrays import Array
from fconv.conv.compiled import Compiler, built, wished


@dataclass(frozen=True)
class DepthwiseLoops:
    """Compiled loops; all arrays are C-contiguous and of one dtype.

    Attributes
    ----------
    correlate : callable
        ``correlate(x, filters, bias, out, first, stride, dilation)`` writes ``out[n, i, j, c] = bias[c] +
        sum over k, l of x[n, first + i * stride + k * dilation, ..., c] * filters[k, l, c]``, where x is
        zero outside.
    filter_gradient : callable
        ``filter_gradient(g, x, out, first, stride, dilation)`` writes the gradient of the filters.
    """

    correlate: Callable[..., None]
    filter_gradient: Callable[..., None]


def loops() -> DepthwiseLoops | None:
    """Give the compiled loops, or None without Numba or with FCONV_JIT=0."""
    return built(build) if wished() else None


def build(compiled: Compiler) -> DepthwiseLoops:
    """Make the loops with a decorator that compiles them."""

    def correlate(
        x: Array,
        filters: Array,
        bias: Array,
        out: Array,
        first: tuple[int, int],
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
                        h = first[0] + i * stride[0] + k * dilation[0]
                        if h < 0 or h >= x.shape[1]:
                            continue
                        for l in range(filters.shape[1]):  # noqa: E741
                            w = first[1] + j * stride[1] + l * dilation[1]
                            if w < 0 or w >= x.shape[2]:
                                continue
                            seen, factors = x[n, h, w], filters[k, l]
                            for c in range(channels):
                                sums[c] += seen[c] * factors[c]

    def filter_gradient(
        g: Array,
        x: Array,
        out: Array,
        first: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
    ) -> None:
        channels = out.shape[2]
        out[...] = 0
        for n in range(g.shape[0]):
            for i in range(g.shape[1]):
                for j in range(g.shape[2]):
                    slopes = g[n, i, j]
                    for k in range(out.shape[0]):
                        h = first[0] + i * stride[0] + k * dilation[0]
                        if h < 0 or h >= x.shape[1]:
                            continue
                        for l in range(out.shape[1]):  # noqa: E741
                            w = first[1] + j * stride[1] + l * dilation[1]
                            if w < 0 or w >= x.shape[2]:
                                continue
                            seen, sums = x[n, h, w], out[k, l]
                            for c in range(channels):
                                sums[c] += seen[c] * slopes[c]

    return DepthwiseLoops(compiled(correlate), compiled(filter_gradient))
