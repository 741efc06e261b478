"""The compiled loops of convolution between few channels.

All images of a tile, with their zeros around them, lie behind each other as one signal, and an
entry of the kernel is a shift of it: every inner loop runs along some thousand neighbouring
numbers, which the processor takes eight at a time, and what it adds to stays in the nearest cache.
The positions at the end of a row, whose windows reach over into the next, are made and not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fconv.arrays import Array
from fconv.conv.compiled import Compiler, built, wished


@dataclass(frozen=True)
class NarrowLoops:
    """Compiled loops, of stride 1. Numbers of all arrays are of one dtype, but for `sums`.

    Attributes
    ----------
    correlate : callable
        ``correlate(part, filters, bias, work, out, dilation)`` writes ``out[n, o, i, j] = bias[o] +
        sum over c, k, l of part[c, n, i + k * dilation[0], j + l * dilation[1]] * filters[o, c, k, l]``.
    filter_gradient : callable
        ``filter_gradient(g, part, work, sums, dilation)`` writes the gradient of the filters; `sums`
        is float64.

    Notes
    -----
    `part` (C, N, H, W), `filters` and `work`, in which there is room for a row of `part` at least,
    are C-contiguous; `out` and `g` (N, O, OH, OW) may have any strides.
    """

    correlate: Callable[..., None]
    filter_gradient: Callable[..., None]


def loops() -> NarrowLoops | None:
    """Give the compiled loops, or None without Numba or with FCONV_JIT=0."""
    return built(build) if wished() else None


def build(compiled: Compiler) -> NarrowLoops:
    """Make the loops with a decorator that compiles them.

    Nine or five entries of the kernel at once keep what is added to in a register for as long. They
    stand in the loops rather than in functions, which Numba could not keep on disk.
    """

    def correlate(
        part: Array, filters: Array, bias: Array, work: Array, out: Array, dilation: tuple[int, int]
    ) -> None:
        inner, count, height, width = part.shape
        down, across = filters.shape[2:]
        dense = dilation[0] == 1 and dilation[1] == 1
        signal = part.reshape(inner, count * height * width)
        total = count * height - (down - 1) * dilation[0]
        step = max(1, len(work) // width)
        for top in range(0, total, step):
            rows = min(step, total - top)
            length = (rows - 1) * width + out.shape[3]
            sums = work[:length]
            for o in range(out.shape[1]):
                sums[:] = bias[o]
                for ck in range(inner * down):
                    c, k = ck // down, ck % down
                    w = filters[o, c]
                    x = signal[c, (top + k * dilation[0]) * width :]
                    if down == 3 and across == 3 and dense:
                        if k > 0:
                            continue
                        y, z = x[width:], x[2 * width :]
                        w0, w1, w2 = w[0, 0], w[0, 1], w[0, 2]
                        w3, w4, w5 = w[1, 0], w[1, 1], w[1, 2]
                        w6, w7, w8 = w[2, 0], w[2, 1], w[2, 2]
                        for p in range(length):
                            sums[p] = (
                                sums[p] + w0 * x[p] + w1 * x[p + 1] + w2 * x[p + 2]
                                + w3 * y[p] + w4 * y[p + 1] + w5 * y[p + 2]
                                + w6 * z[p] + w7 * z[p + 1] + w8 * z[p + 2]
                            )  # fmt: skip
                    elif across == 5 and dense:
                        w0, w1, w2, w3, w4 = w[k, 0], w[k, 1], w[k, 2], w[k, 3], w[k, 4]
                        for p in range(length):
                            sums[p] = (
                                sums[p] + w0 * x[p] + w1 * x[p + 1] + w2 * x[p + 2]
                                + w3 * x[p + 3] + w4 * x[p + 4]
                            )  # fmt: skip
                    else:
                        for l in range(across):  # noqa: E741
                            w0, seen = w[k, l], x[l * dilation[1] :]
                            for p in range(length):
                                sums[p] += w0 * seen[p]
                n = top // height
                i = top - n * height
                for r in range(rows):
                    if i < out.shape[2]:
                        row = out[n, o, i]
                        for j in range(out.shape[3]):
                            row[j] = sums[r * width + j]
                    i += 1
                    if i == height:
                        i = 0
                        n += 1

    def filter_gradient(g: Array, part: Array, work: Array, sums: Array, dilation: tuple[int, int]) -> None:
        inner, count, height, width = part.shape
        down, across = sums.shape[2:]
        dense = dilation[0] == 1 and dilation[1] == 1
        signal = part.reshape(inner, count * height * width)
        total = count * height - (down - 1) * dilation[0]
        step = max(1, len(work) // width)
        zero = part.dtype.type(0)
        sums[...] = 0
        for top in range(0, total, step):
            rows = min(step, total - top)
            length = (rows - 1) * width + g.shape[3]
            wide = work[:length]
            for o in range(g.shape[1]):
                wide[:] = 0  # also where a window would reach over into the next row
                n = top // height
                i = top - n * height
                for r in range(rows):
                    if i < g.shape[2]:
                        row = g[n, o, i]
                        for j in range(g.shape[3]):
                            wide[r * width + j] = row[j]
                    i += 1
                    if i == height:
                        i = 0
                        n += 1
                for ck in range(inner * down):
                    c, k = ck // down, ck % down
                    w = sums[o, c]
                    x = signal[c, (top + k * dilation[0]) * width :]
                    if down == 3 and across == 3 and dense:
                        if k > 0:
                            continue
                        y, z = x[width:], x[2 * width :]
                        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = zero
                        for p in range(length):
                            v = wide[p]
                            s0 += v * x[p]
                            s1 += v * x[p + 1]
                            s2 += v * x[p + 2]
                            s3 += v * y[p]
                            s4 += v * y[p + 1]
                            s5 += v * y[p + 2]
                            s6 += v * z[p]
                            s7 += v * z[p + 1]
                            s8 += v * z[p + 2]
                        for l, s in enumerate((s0, s1, s2, s3, s4, s5, s6, s7, s8)):  # noqa: E741
                            w[l // 3, l % 3] += s
                    elif across == 5 and dense:
                        s0 = s1 = s2 = s3 = s4 = zero
                        for p in range(length):
                            v = wide[p]
                            s0 += v * x[p]
                            s1 += v * x[p + 1]
                            s2 += v * x[p + 2]
                            s3 += v * x[p + 3]
                            s4 += v * x[p + 4]
                        for l, s in enumerate((s0, s1, s2, s3, s4)):  # noqa: E741
                            w[k, l] += s
                    else:
                        for l in range(across):  # noqa: E741
                            s0, seen = zero, x[l * dilation[1] :]
                            for p in range(length):
                                s0 += wide[p] * seen[p]
                            w[k, l] += s0

    return NarrowLoops(compiled(correlate), compiled(filter_gradient, reordered=True))
