"""Power means, adaptive pooling and unpooling as plain loops."""

from __future__ import annotations

from itertools import product
from math import ceil, floor, isnan, prod

import numpy as np

from tests.naive.windows import pair, pool_windows


def lp_pool(x, norm_type, kernel_size, stride=None, ceil_mode=False):
    shape, windows = pool_windows(x, kernel_size, stride, 0, 1, ceil_mode)
    y = np.zeros(shape, x.dtype)
    elements_of_whole = prod(pair(kernel_size, x.ndim - 2))
    for index, elements, _ in windows:
        if norm_type in (np.inf, -np.inf):
            y[index] = max(map(abs, elements)) if norm_type > 0 else min(map(abs, elements))
        else:
            total = sum(e**norm_type for e in elements) * elements_of_whole / len(elements)
            y[index] = total ** (1 / norm_type)
    return y


def bins(x, output_size):
    """Yield (output index, elements in the order of the plane) of each bin."""
    n = x.ndim - 2
    sizes = output_size if isinstance(output_size, tuple) else (output_size,) * n
    sizes = [s if o is None else o for s, o in zip(x.shape[2:], sizes, strict=True)]
    found = []
    for index in product(*map(range, (*x.shape[:2], *sizes))):
        ranges = [
            range(floor(i * s / o), ceil((i + 1) * s / o))
            for i, s, o in zip(index[2:], x.shape[2:], sizes, strict=True)
        ]
        found.append((index, [x[(*index[:2], *at)] for at in product(*ranges)]))
    return (*x.shape[:2], *sizes), found


def adaptive_avg_pool(x, output_size):
    shape, found = bins(x, output_size)
    y = np.zeros(shape, x.dtype)
    for index, elements in found:
        y[index] = sum(elements) / len(elements)
    return y


def adaptive_max_pool(x, output_size):
    shape, found = bins(x, output_size)
    y = np.zeros(shape, x.dtype)
    for index, elements in found:
        y[index] = np.nan if any(isnan(e) for e in elements) else max(elements)
    return y


def global_avg_pool(x):
    return adaptive_avg_pool(x, 1)


def global_max_pool(x):
    return adaptive_max_pool(x, 1)


def max_unpool(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    n = x.ndim - 2
    kernel, padding = pair(kernel_size, n), pair(padding, n)
    stride = kernel if stride is None else pair(stride, n)
    size = output_size or [(x.shape[2 + a] - 1) * stride[a] - 2 * padding[a] + kernel[a] for a in range(n)]
    y = np.zeros((*x.shape[:2], *size), x.dtype)
    for index in product(*map(range, x.shape)):
        y[(*index[:2], *np.unravel_index(indices[index], tuple(size)))] = x[index]
    return y
