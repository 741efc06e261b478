"""Shape as plain loops."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np


def reshape(x, shape):
    elements = iter([x[index] for index in product(*map(range, x.shape))])
    known = prod(s for s in shape if s != -1)
    full = [x.size // known if s == -1 else s for s in shape]
    y = np.zeros(full, x.dtype)
    for index in product(*map(range, full)):
        y[index] = next(elements)
    return y


def flatten(x, start_dim=0, end_dim=-1):
    start, end = start_dim % x.ndim, end_dim % x.ndim
    return reshape(x, (*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def dropout(x, p=0.5, training=True, key=None):
    """Not a definition but what must hold: each element is 0 or scaled, by a mask of the key alone."""
    from fconv import random

    if not training or p == 0:
        return x.copy()
    scale = 0.0 if p == 1 else 1 / (1 - p)
    kept = random.bernoulli(key, 1 - p, x.shape)
    y = np.zeros(x.shape, x.dtype)
    for index in product(*map(range, x.shape)):
        y[index] = x[index] * scale if kept[index] else 0.0
    return y


def unflatten(x, dim, sizes):
    dim %= x.ndim
    known = prod(s for s in sizes if s != -1)
    full = [x.shape[dim] // known if s == -1 else s for s in sizes]
    return reshape(x, (*x.shape[:dim], *full, *x.shape[dim + 1 :]))


def channel_dropout(channel_axes):
    """Drop whole channels; `channel_axes` counts the leading axes that have a draw of their own."""

    def function(x, p=0.5, training=True, key=None):
        leading = x.shape[: channel_axes(x.ndim)]
        if not training or p == 0:
            return x.copy()
        factors = dropout(np.ones(leading), p, training, key)
        y = np.zeros(x.shape, x.dtype)
        for index in product(*map(range, x.shape)):
            y[index] = x[index] * factors[index[: len(leading)]]
        return y

    return function


def stochastic_depth(x, p, mode="row", training=True, key=None):
    if mode == "row":
        return channel_dropout(lambda ndim: 1)(x, p, training, key)
    return channel_dropout(lambda ndim: 1)(x[None], p, training, key)[0]


dropout1d = channel_dropout(lambda ndim: ndim - 1)
dropout2d = channel_dropout(lambda ndim: 2)
dropout3d = channel_dropout(lambda ndim: ndim - 3)


def alpha_dropout(x, p=0.5, training=False, key=None):
    """Dropped elements become selu(-inf); then all are shifted and scaled to mean 0 and variance 1."""
    from fconv import random

    if not training or p == 0:
        return x.copy()
    y = np.zeros(x.shape, x.dtype)
    if p == 1:
        return y
    low = -1.7580993408473766
    variance = (1 - p) + p * low**2 - (p * low) ** 2
    kept = random.bernoulli(key, 1 - p, x.shape)
    for index in product(*map(range, x.shape)):
        y[index] = ((x[index] if kept[index] else low) - p * low) / variance**0.5
    return y
