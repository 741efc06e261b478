"""Resampling as plain loops."""

from __future__ import annotations

from itertools import product
from math import floor

import numpy as np

from tests.naive.windows import pair


def interpolate(x, size=None, scale_factor=None, mode="nearest"):
    n = x.ndim - 2
    if size is not None:
        out_size, steps = pair(size, n), None
    else:
        factors = (scale_factor,) * n if isinstance(scale_factor, (int, float)) else scale_factor
        out_size = tuple(floor(length * f) for length, f in zip(x.shape[2:], factors, strict=True))
        steps = [np.float32(1 / f) for f in factors]
    ratios = [np.float32(i / o) for i, o in zip(x.shape[2:], out_size, strict=True)]
    steps = ratios if steps is None else steps
    if n == 2:  # PyTorch's own special case
        lengths = zip(x.shape[2:], out_size, steps, ratios, strict=True)
        steps = [ratio if o in (i, 2 * i) else step for i, o, step, ratio in lengths]
    y = np.zeros((*x.shape[:2], *out_size), x.dtype)
    for at in product(*map(range, out_size)):
        source = tuple(
            min(floor(np.float32(i) * step), length - 1)
            for i, step, length in zip(at, steps, x.shape[2:], strict=True)
        )
        y[(..., *at)] = x[(..., *source)]
    return y


def pixel_shuffle(x, upscale_factor):
    r, (n, c, h, w) = upscale_factor, x.shape
    y = np.zeros((n, c // r**2, h * r, w * r), x.dtype)
    for image, channel, row, column in product(*map(range, y.shape)):
        source = channel * r * r + (row % r) * r + column % r
        y[image, channel, row, column] = x[image, source, row // r, column // r]
    return y


def pixel_unshuffle(x, downscale_factor):
    r, (n, c, h, w) = downscale_factor, x.shape
    y = np.zeros((n, c * r**2, h // r, w // r), x.dtype)
    for image, channel, row, column in product(*map(range, x.shape)):
        target = channel * r * r + (row % r) * r + column % r
        y[image, target, row // r, column // r] = x[image, channel, row, column]
    return y
