"""Definitions as plain loops over single entries: slow, and clear enough to trust at a glance."""

from __future__ import annotations

from itertools import product
from math import exp, floor, inf, isnan, log, prod, tanh

import numpy as np


def pair(value, n):
    return (value,) * n if isinstance(value, int) else tuple(value)


def pads(padding, kernel, dilation):
    """Entries added before and after each axis."""
    n = len(kernel)
    if padding == "valid":
        return [(0, 0)] * n
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in pair(padding, n)]


def conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    n = x.ndim - 2
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
    """Yield (output index, entries inside, entries counting padding) of each window of each channel."""
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
        entries, counted = [], 0
        for k in product(*map(range, kernel)):
            where = [index[2 + a] * stride[a] + k[a] * dilation[a] - padding[a] for a in range(n)]
            if all(where[a] < size[a] + padding[a] for a in range(n)):
                counted += 1
                if all(0 <= where[a] < size[a] for a in range(n)):
                    entries.append(x[(*index[:2], *where)])
        windows.append((index, entries, counted))
    return shape, windows


def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    shape, windows = pool_windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    y = np.zeros(shape, x.dtype)
    for index, entries, _ in windows:
        y[index] = np.nan if any(isnan(e) for e in entries) else max(entries, default=-inf)
    return y


def avg_pool(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    shape, windows = pool_windows(x, kernel_size, stride, padding, 1, ceil_mode)
    y = np.zeros(shape, x.dtype)
    for index, entries, counted in windows:
        y[index] = sum(entries) / (divisor_override or (counted if count_include_pad else len(entries)))
    return y


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


def linear(x, weight, bias=None):
    y = np.zeros((*x.shape[:-1], len(weight)), x.dtype)
    for index in product(*map(range, x.shape[:-1])):
        for o in range(len(weight)):
            total = sum(x[(*index, i)] * weight[o, i] for i in range(x.shape[-1]))
            y[(*index, o)] = total + (0.0 if bias is None else bias[o])
    return y


def each(f):
    """Make a function of arrays from one of numbers."""

    def function(x):
        y = np.zeros(x.shape, x.dtype)
        for index in np.ndindex(x.shape):
            y[index] = f(float(x[index]))
        return y

    return function


relu = each(lambda x: x if x > 0 else 0.0)
sigmoid = each(lambda x: 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x)))
tanh = each(tanh)


def lines(x, dim):
    """Yield the index of each line of `x` along an axis."""
    dim %= x.ndim
    for index in product(*(range(s) for a, s in enumerate(x.shape) if a != dim)):
        yield (*index[:dim], slice(None), *index[dim:])


def log_softmax(x, dim=1):
    y = np.zeros(x.shape, x.dtype)
    for line in lines(x, dim):
        highest = max(x[line], default=0.0)
        y[line] = x[line] - highest - log(sum(exp(v - highest) for v in x[line])) if x[line].size else 0
    return y


def softmax(x, dim=1):
    return np.exp(log_softmax(x, dim))


def batch_norm(
    x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    y = np.zeros(x.shape, x.dtype)
    for c in range(x.shape[1]):
        values = [float(v) for v in x[:, c].ravel()]
        if training or running_mean is None:
            mean = sum(values) / max(1, len(values))
            var = sum((v - mean) ** 2 for v in values) / max(1, len(values))
        else:
            mean, var = running_mean[c], running_var[c]
        scale = (1.0 if weight is None else weight[c]) / (var + eps) ** 0.5
        y[:, c] = (x[:, c] - mean) * scale + (0.0 if bias is None else bias[c])
    return y


def reduced(losses, reduction, total=None):
    if reduction == "none":
        return losses
    summed = float(sum(losses.ravel()))
    total = losses.size if total is None else total
    return summed if reduction == "sum" else (summed / total if total else np.nan)


def mse_loss(x, target, reduction="mean"):
    losses = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        losses[index] = (x[index] - target[index]) ** 2
    return reduced(losses, reduction)


def nll_loss(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    classes = x.shape[0 if x.ndim == 1 else 1]
    losses, total = np.zeros(target.shape), 0.0
    for index in np.ndindex(target.shape):
        t = int(target[index])
        if t == ignore_index:
            continue
        scores = x if x.ndim == 1 else x[(index[0], slice(None), *index[1:])]
        w = np.ones(classes) if weight is None else weight
        total += w[t]
        spread = sum(-w[c] * scores[c] for c in range(classes)) / classes if label_smoothing else 0.0
        losses[index] = (1 - label_smoothing) * -w[t] * scores[t] + label_smoothing * spread
    return reduced(losses, reduction, total)


def cross_entropy(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    log_p = log_softmax(x, 0 if x.ndim == 1 else 1)
    return nll_loss(log_p, target, weight, ignore_index, reduction, label_smoothing)


def reshape(x, shape):
    entries = iter([x[index] for index in product(*map(range, x.shape))])
    known = prod(s for s in shape if s != -1)
    full = [x.size // known if s == -1 else s for s in shape]
    y = np.zeros(full, x.dtype)
    for index in product(*map(range, full)):
        y[index] = next(entries)
    return y


def flatten(x, start_dim=0, end_dim=-1):
    start, end = start_dim % x.ndim, end_dim % x.ndim
    return reshape(x, (*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def dropout(x, p=0.5, training=True, key=None):
    """Not a definition but what must hold: each entry is 0 or scaled, by a mask of the key alone."""
    from fconv import random

    if not training or p == 0:
        return x.copy()
    scale = 0.0 if p == 1 else 1 / (1 - p)
    kept = random.bernoulli(key, 1 - p, x.shape)
    y = np.zeros(x.shape, x.dtype)
    for index in product(*map(range, x.shape)):
        y[index] = x[index] * scale if kept[index] else 0.0
    return y
