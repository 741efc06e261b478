"""Windows as plain loops."""

from __future__ import annotations

from itertools import product
from math import inf, isnan

import numpy as np


def pair(value, n):
    return (value,) * n if isinstance(value, int) else tuple(value)


def pads(padding, kernel, dilation):
    """Elements added before and after each axis."""
    n = len(kernel)
    if padding == "valid":
        return [(0, 0)] * n
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in pair(padding, n)]


def conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    n = weight.ndim - 2
    if x.ndim == n + 1:
        return conv(x[None], weight, bias, stride, padding, dilation, groups)[0]
    batch, _, *size = x.shape
    filters, per_group, *kernel = weight.shape
    stride, dilation = pair(stride, n), pair(dilation, n)
    around = pads(padding, kernel, dilation)
    out_size = [
        (size[a] + sum(around[a]) - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in range(n)
    ]
    y = np.zeros((batch, filters, *out_size), x.dtype)
    for image, o, *at in product(range(batch), range(filters), *map(range, out_size)):
        group = o // (filters // groups)
        total = 0.0 if bias is None else bias[o]
        for c, *k in product(range(per_group), *map(range, kernel)):
            where = [at[a] * stride[a] + k[a] * dilation[a] - around[a][0] for a in range(n)]
            if all(0 <= where[a] < size[a] for a in range(n)):
                total += x[(image, group * per_group + c, *where)] * weight[(o, c, *k)]
        y[(image, o, *at)] = total
    return y


def pool_windows(x, kernel_size, stride, padding, dilation, ceil_mode):
    """Yield (output index, elements inside, elements counting padding) of each window of each channel."""
    n = x.ndim - 2
    kernel, dilation, padding = pair(kernel_size, n), pair(dilation, n), pair(padding, n)
    stride = kernel if stride is None else pair(stride, n)
    size, out_size = x.shape[2:], []
    for a in range(n):
        room = size[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1
        out = (-(-room // stride[a]) if ceil_mode else room // stride[a]) + 1
        if ceil_mode and (out - 1) * stride[a] >= size[a] + padding[a]:
            out -= 1
        out_size.append(out)
    shape = (*x.shape[:2], *out_size)
    windows = []
    for index in product(*map(range, shape)):
        elements, counted = [], 0
        for k in product(*map(range, kernel)):
            where = [index[2 + a] * stride[a] + k[a] * dilation[a] - padding[a] for a in range(n)]
            if all(where[a] < size[a] + padding[a] for a in range(n)):
                counted += 1
                if all(0 <= where[a] < size[a] for a in range(n)):
                    elements.append(x[(*index[:2], *where)])
        windows.append((index, elements, counted))
    return shape, windows


def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    shape, windows = pool_windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    y = np.zeros(shape, x.dtype)
    for index, elements, _ in windows:
        y[index] = np.nan if any(isnan(e) for e in elements) else max(elements, default=-inf)
    return y


def avg_pool(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    shape, windows = pool_windows(x, kernel_size, stride, padding, 1, ceil_mode)
    y = np.zeros(shape, x.dtype)
    for index, elements, counted in windows:
        y[index] = sum(elements) / (divisor_override or (counted if count_include_pad else len(elements)))
    return y


def linear(x, weight, bias=None):
    y = np.zeros((*x.shape[:-1], len(weight)), x.dtype)
    for index in product(*map(range, x.shape[:-1])):
        for o in range(len(weight)):
            total = sum(x[(*index, i)] * weight[o, i] for i in range(x.shape[-1]))
            y[(*index, o)] = total + (0.0 if bias is None else bias[o])
    return y
