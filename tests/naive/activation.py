"""Activation as plain loops."""

from __future__ import annotations

import math
from itertools import product
from math import erf, exp, expm1, log, log1p, pi, sqrt

import numpy as np


def each(f):
    """Make a function of arrays from one of numbers."""

    def function(x, *args, **options):
        y = np.zeros(x.shape, x.dtype)
        for index in np.ndindex(x.shape):
            y[index] = f(float(x[index]), *args, **options)
        return y

    return function


def sigmoid_of(x):
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def softplus_of(x, beta=1.0, threshold=20.0):
    return x if beta * x > threshold else log1p(exp(beta * x)) / beta


def elu_of(x, alpha=1.0):
    return x if x > 0 else alpha * expm1(x)


def gelu_of(x, approximate="none"):
    if approximate == "none":
        return x * (1 + erf(x / sqrt(2))) / 2
    return x * (1 + math.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2


relu = each(lambda x: x if x > 0 else 0.0)
relu6 = each(lambda x: min(max(x, 0.0), 6.0))
hardtanh = each(lambda x, min_val=-1.0, max_val=1.0: min(max(x, min_val), max_val))
leaky_relu = each(lambda x, negative_slope=0.01: x if x > 0 else negative_slope * x)
threshold = each(lambda x, threshold, value: x if x > threshold else value)
hardsigmoid = each(lambda x: min(max(x + 3, 0), 6) / 6)
hardswish = each(lambda x: x * min(max(x + 3, 0), 6) / 6)
hardshrink = each(lambda x, lambd=0.5: 0.0 if -lambd <= x <= lambd else x)
softshrink = each(lambda x, lambd=0.5: x - lambd if x > lambd else x + lambd if x < -lambd else 0.0)
sigmoid = each(sigmoid_of)
logsigmoid = each(lambda x: -log1p(exp(-x)))
tanh = each(math.tanh)
tanhshrink = each(lambda x: x - math.tanh(x))
softsign = each(lambda x: x / (1 + abs(x)))
softplus = each(softplus_of)
elu = each(elu_of)
celu = each(lambda x, alpha=1.0: x if x > 0 else alpha * expm1(x / alpha))
selu = each(lambda x: 1.0507009873554805 * elu_of(x, 1.6732632423543772))
silu = each(lambda x: x * sigmoid_of(x))
mish = each(lambda x: x * math.tanh(log1p(exp(x))))
gelu = each(gelu_of)


def prelu(x, weight):
    y = np.zeros(x.shape, x.dtype)
    slopes = weight.reshape(-1)
    for index in np.ndindex(x.shape):
        slope = slopes[0] if slopes.size == 1 else slopes[index[1]]
        y[index] = x[index] if x[index] > 0 else slope * x[index]
    return y


def lines(x, dim):
    """Yield the index of each line of `x` along an axis."""
    dim %= x.ndim
    for index in product(*(range(s) for a, s in enumerate(x.shape) if a != dim)):
        yield (*index[:dim], slice(None), *index[dim:])


def log_softmax(x, dim=1):
    if x.ndim == 0:
        return np.zeros((), x.dtype)
    y = np.zeros(x.shape, x.dtype)
    for line in lines(x, dim):
        highest = max(x[line], default=0.0)
        y[line] = x[line] - highest - log(sum(exp(v - highest) for v in x[line])) if x[line].size else 0
    return y


def softmax(x, dim=1):
    return np.exp(log_softmax(x, dim))


def softmin(x, dim=1):
    return softmax(-x, dim)


def glu(x, dim=-1):
    dim %= x.ndim
    half = x.shape[dim] // 2
    y = np.zeros((*x.shape[:dim], half, *x.shape[dim + 1 :]), x.dtype)
    for index in np.ndindex(y.shape):
        gate = (*index[:dim], index[dim] + half, *index[dim + 1 :])
        y[index] = x[index] * sigmoid_of(float(x[gate]))
    return y
