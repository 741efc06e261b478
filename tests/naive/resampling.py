"""Resampling as plain loops."""

from __future__ import annotations

from itertools import product
from math import floor

import numpy as np

from tests.naive.pooling import adaptive_avg_pool
from tests.naive.windows import pair


def cubic(d, a=-0.75):
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def smoothed(i, size, out, factor, mode, align):
    """List what output pixel i of an axis is made of under a kernel as wide as the picture shrinks."""
    if align:
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    else:
        scale = size / out if factor is None else 1 / factor
    centre, wide = (i + 0.5) * scale, max(scale, 1.0)
    reach = (2 if mode == "bicubic" else 1) * wide
    found = []
    for k in range(max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)):
        d = (k + 0.5 - centre) / wide
        found.append((k, cubic(d, -0.5) if mode == "bicubic" else max(1 - abs(d), 0.0)))
    total = sum(w for _, w in found)
    return [(k, w / total) for k, w in found]


def pixels(i, size, out, factor, mode, align, real):
    """List what output pixel i of an axis is made of: (input pixel, weight)."""
    if mode.startswith("nearest"):
        step = real(size) / real(out) if factor is None else real(1 / factor)
        place = np.float32((real(i) + real(0.5 if mode == "nearest-exact" else 0)) * step)
        return [(min(floor(place), size - 1), 1.0)]
    if align:
        place = i * (size - 1) / (out - 1) if out > 1 else 0.0
    else:
        place = (i + 0.5) * (size / out if factor is None else 1 / factor) - 0.5
    if mode == "bicubic":
        at = min(floor(place), size - 1)
        share = min(place - at, 1.0)
        return [(min(max(at + k, 0), size - 1), cubic(share - k)) for k in (-1, 0, 1, 2)]
    if size == out:
        return [(i, 1.0)]
    place = max(place, 0.0)
    at = min(floor(place), size - 1)
    share = min(place - at, 1.0)
    return [(at, 1 - share), (min(at + 1, size - 1), share)]


def interpolate(
    x, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None,
    antialias=False,
):  # fmt: skip
    n, in_size = x.ndim - 2, x.shape[2:]
    if size is not None:
        out_size, factors = pair(size, n), (None,) * n
    else:
        factors = (scale_factor,) * n if isinstance(scale_factor, (int, float)) else scale_factor
        out_size = tuple(floor(length * f) for length, f in zip(in_size, factors, strict=True))
        factors = (None,) * n if recompute_scale_factor else factors
    if mode == "area":
        return adaptive_avg_pool(x, tuple(out_size))
    real = x.dtype.type
    if n == 2 and sum(out_size) <= 128:  # PyTorch's own special case
        real = np.float32
        if mode == "nearest":
            lengths = zip(in_size, out_size, factors, strict=True)
            factors = [None if o in (i, 2 * i) else f for i, o, f in lengths]
    tables = [
        [
            smoothed(i, s, o, f, mode, align_corners)
            if antialias
            else pixels(i, s, o, f, mode, align_corners, real)
            for i in range(o)
        ]
        for s, o, f in zip(in_size, out_size, factors, strict=True)
    ]
    y = np.zeros((*x.shape[:2], *out_size), x.dtype)
    for at in product(*map(range, out_size)):
        for elements in product(*(table[i] for table, i in zip(tables, at, strict=True))):
            weight = np.prod([w for _, w in elements])
            y[(..., *at)] += weight * x[(..., *(source for source, _ in elements))]
    return y


def pixel_shuffle(x, upscale_factor):
    r, (*leading, c, h, w) = upscale_factor, x.shape
    y = np.zeros((*leading, c // r**2, h * r, w * r), x.dtype)
    for channel, row, column in product(*map(range, y.shape[-3:])):
        source = channel * r * r + (row % r) * r + column % r
        y[..., channel, row, column] = x[..., source, row // r, column // r]
    return y


def pixel_unshuffle(x, downscale_factor):
    r, (*leading, c, h, w) = downscale_factor, x.shape
    y = np.zeros((*leading, c * r**2, h // r, w // r), x.dtype)
    for channel, row, column in product(*map(range, x.shape[-3:])):
        target = channel * r * r + (row % r) * r + column % r
        y[..., target, row // r, column // r] = x[..., channel, row, column]
    return y


def channel_shuffle(x, groups):
    y, each = np.zeros_like(x), x.shape[1] // groups
    for group, i in product(range(groups), range(each)):
        y[:, i * groups + group] = x[:, group * each + i]
    return y
