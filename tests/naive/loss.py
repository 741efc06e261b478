"""Loss as plain loops."""

from __future__ import annotations

import numpy as np

from tests.naive.activation import log_softmax


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
