"""Padding, unfold and fold as plain loops."""

from __future__ import annotations

from itertools import product

import numpy as np

from tests.naive.windows import pair


def padded_source(at, size, lo, hi, mode):
    """Find what a padded element repeats, by walking step by step; None for a new element."""
    if mode == "circular":  # what is cropped does not come round
        first, last = max(-lo, 0), size - max(-hi, 0) - 1
        while not first <= at <= last:
            at += (last - first + 1) * (1 if at < first else -1)
        return at
    while not 0 <= at < size:
        if mode == "constant":
            return None
        if mode == "reflect":
            at = -at if at < 0 else 2 * (size - 1) - at
        else:
            at += 1 if at < 0 else -1
    return at


def pad(x, pad, mode="constant", value=None):
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    y = np.zeros([s + lo + hi for s, (lo, hi) in zip(x.shape, widths, strict=True)], x.dtype)
    for index in product(*map(range, y.shape)):
        source = [
            padded_source(i - lo, s, lo, hi, mode)
            for i, s, (lo, hi) in zip(index, x.shape, widths, strict=True)
        ]
        y[index] = (value or 0.0) if None in source else x[tuple(source)]
    return y


def window_elements(size, channels, kernel_size, dilation, padding, stride):
    """Yield (row, column of the unfolded windows, channel, place in the picture)."""
    kernel, dilation, padding, stride = (pair(v, 2) for v in (kernel_size, dilation, padding, stride))
    counts = [(size[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in (0, 1)]
    for row, (c, *k) in enumerate(product(range(channels), *map(range, kernel))):
        for column, at in enumerate(product(*map(range, counts))):
            yield row, column, c, [at[a] * stride[a] + k[a] * dilation[a] - padding[a] for a in (0, 1)]


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    if x.ndim == 3:
        return unfold(x[None], kernel_size, dilation, padding, stride)[0]
    places = list(window_elements(x.shape[2:], x.shape[1], kernel_size, dilation, padding, stride))
    y = np.zeros((len(x), places[-1][0] + 1, places[-1][1] + 1), x.dtype)
    for row, column, c, (i, j) in places:
        if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
            y[:, row, column] = x[:, c, i, j]
    return y


def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    if x.ndim == 2:
        return fold(x[None], output_size, kernel_size, dilation, padding, stride)[0]
    size, kernel = pair(output_size, 2), pair(kernel_size, 2)
    y = np.zeros((len(x), x.shape[1] // (kernel[0] * kernel[1]), *size), x.dtype)
    for row, column, c, (i, j) in window_elements(size, y.shape[1], kernel, dilation, padding, stride):
        if 0 <= i < size[0] and 0 <= j < size[1]:
            y[:, c, i, j] += x[:, row, column]
    return y
