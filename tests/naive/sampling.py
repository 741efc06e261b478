"""Reading between pixels as plain loops."""

from __future__ import annotations

from itertools import product
from math import floor

import numpy as np

from tests.naive.resampling import cubic
from tests.naive.windows import pair


def reflected(at, low, high):
    """Fold a position back between two bounds."""
    if low == high:
        return 0.0
    while not low <= at <= high:
        at = 2 * low - at if at < low else 2 * high - at
    return at


def brought_in(at, size, padding, align):
    """Move a position to where a padded picture has its value."""
    if padding == "reflection":
        at = reflected(at, 0.0, size - 1.0) if align else reflected(at, -0.5, size - 0.5)
    return at if padding == "zeros" else min(max(at, 0), size - 1)


def reads(at, size, mode, padding, align):
    """List what a position reads along an axis: (pixel, weight)."""
    if mode == "bicubic":
        found = [(floor(at) + k, cubic(at - floor(at) - k)) for k in (-1, 0, 1, 2)]
        found = [(int(brought_in(i, size, padding, align)), w) for i, w in found]
    else:
        at = brought_in(at, size, padding, align)
        low = floor(at)
        found = [(int(np.rint(at)), 1.0)] if mode == "nearest" else [(low, 1 - at + low), (low + 1, at - low)]
    return [(i, w) for i, w in found if 0 <= i < size]


def read(picture, place, mode="bilinear", padding="zeros", align=False):
    """Read a picture of one channel at a position."""
    each = [reads(at, size, mode, padding, align) for at, size in zip(place, picture.shape, strict=True)]
    return sum(np.prod([w for _, w in taps]) * picture[tuple(i for i, _ in taps)] for taps in product(*each))


def grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False):
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for n, c, *p in np.ndindex(y.shape):
        places = [
            (z + 1) * (size - 1) / 2 if align_corners else ((z + 1) * size - 1) / 2
            for z, size in zip(grid[(n, *p)][::-1], x.shape[2:], strict=True)
        ]
        y[(n, c, *p)] = read(x[n, c], places, mode, padding_mode, align_corners)
    return y


def deform_conv2d(x, offset, weight, bias=None, stride=1, padding=0, dilation=1, mask=None):
    (sy, sx), (py, px), (dy, dx) = (pair(v, 2) for v in (stride, padding, dilation))
    o, each, kh, kw = weight.shape
    groups, parts = x.shape[1] // each, offset.shape[1] // (2 * kh * kw)
    y = np.zeros((x.shape[0], o, *offset.shape[2:]))
    for n, out, i, j in np.ndindex(y.shape):
        for c, a, b in np.ndindex(each, kh, kw):
            channel = out // (o // groups) * each + c
            k = (channel // (x.shape[1] // parts) * kh + a) * kw + b
            place = (
                i * sy - py + a * dy + offset[n, 2 * k, i, j],
                j * sx - px + b * dx + offset[n, 2 * k + 1, i, j],
            )
            factor = 1 if mask is None else mask[n, k, i, j]
            y[n, out, i, j] += weight[out, c, a, b] * factor * read(x[n, channel], place)
        y[n, out, i, j] += 0 if bias is None else bias[out]
    return y
