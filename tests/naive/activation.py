"""Activation as plain loops."""

from __future__ import annotations

from itertools import product
from math import exp, log, tanh

import numpy as np


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
