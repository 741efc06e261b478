"""Normalization as plain loops."""

from __future__ import annotations

from itertools import product

import numpy as np


def standardised(x, groups, weight, bias, eps, centred=True):
    """Normalise each set of indices of `groups`; weight and bias are functions of an index."""
    y = np.zeros(x.shape, x.dtype)
    for indices in groups:
        values = [float(x[i]) for i in indices]
        mean = sum(values) / max(1, len(values)) if centred else 0.0
        var = sum((v - mean) ** 2 for v in values) / max(1, len(values))
        for i in indices:
            y[i] = (x[i] - mean) / (var + eps) ** 0.5 * weight(i) + bias(i)
    return y


def grouped(shape, label):
    """Part the indices of an array by a label."""
    groups = {}
    for i in np.ndindex(*shape):
        groups.setdefault(label(i), []).append(i)
    return groups.values()


def parameter(values, place, otherwise):
    """Return a parameter's element for an index, or what stands in its place."""
    return lambda i: otherwise if values is None else values[place(i)]


def batch_norm(
    x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    channel = lambda i: i[1]  # noqa: E731
    w, b = parameter(weight, channel, 1.0), parameter(bias, channel, 0.0)
    if training or running_mean is None:
        return standardised(x, grouped(x.shape, channel), w, b, eps)
    return by_running(x, running_mean, running_var, w, b, eps)


def by_running(x, mean, var, w, b, eps):
    y = np.zeros(x.shape, x.dtype)
    for i in np.ndindex(*x.shape):
        y[i] = (x[i] - mean[i[1]]) / (var[i[1]] + eps) ** 0.5 * w(i) + b(i)
    return y


def instance_norm(
    x,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    w, b = parameter(weight, lambda i: i[1], 1.0), parameter(bias, lambda i: i[1], 0.0)
    if use_input_stats:
        return standardised(x, grouped(x.shape, lambda i: i[:2]), w, b, eps)
    return by_running(x, running_mean, running_var, w, b, eps)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5, centred=True):
    before = x.ndim - len(normalized_shape)
    w, b = (parameter(v, lambda i: i[before:], o) for v, o in ((weight, 1.0), (bias, 0.0)))
    return standardised(x, grouped(x.shape, lambda i: i[:before]), w, b, eps, centred)


def rms_norm(x, normalized_shape, weight=None, eps=None):
    return layer_norm(x, normalized_shape, weight, None, 2.0**-52 if eps is None else eps, centred=False)


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    w, b = parameter(weight, lambda i: i[1], 1.0), parameter(bias, lambda i: i[1], 0.0)
    size = max(1, x.shape[1] // num_groups)
    return standardised(x, grouped(x.shape, lambda i: (i[0], i[1] // size)), w, b, eps)


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    y = np.zeros(x.shape, x.dtype)
    for i in np.ndindex(*x.shape):
        squares = 0.0
        for c in range(i[1] - size // 2, i[1] + (size - 1) // 2 + 1):
            if 0 <= c < x.shape[1]:
                squares += x[(i[0], c, *i[2:])] ** 2
        y[i] = x[i] / (k + alpha / size * squares) ** beta
    return y


def normalize(x, p=2.0, dim=1, eps=1e-12):
    y = np.zeros(x.shape, x.dtype)
    dim = dim % max(1, x.ndim)
    others = [range(n) for axis, n in enumerate(x.shape) if axis != dim]
    for other in product(*others):
        line = (*other[:dim], slice(None), *other[dim:])
        size = [abs(float(v)) for v in x[line]]
        if p == 0:
            norm = sum(v != 0 for v in size)
        elif p == np.inf or p == -np.inf:
            norm = (max if p > 0 else min)(size, default=0.0)
        else:
            norm = sum(v**p if v or p > 0 else np.inf for v in size)
            norm = 0.0 if norm == np.inf else norm ** (1 / p) if norm else 0.0
        y[line] = x[line] / max(norm, eps)
    return y
