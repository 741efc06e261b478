"""Losses as plain loops."""

from __future__ import annotations

from math import exp, inf, log, log1p, pi, sqrt

import numpy as np

from tests.naive.activation import log_softmax


def reduced(losses, reduction, total=None):
    if reduction == "none":
        return losses
    summed = float(sum(losses.ravel()))
    if reduction == "batchmean":
        total = len(losses) if losses.ndim else 1
        reduction = "mean"
    total = losses.size if total is None else total
    return summed if reduction == "sum" else (summed / total if total else np.nan)


def each_element(loss):
    """Make a loss of arrays from that of single numbers."""

    def function(*args, reduction="mean", **options):
        x = args[0]
        losses = np.zeros(x.shape)
        spread = [a if a is None else np.broadcast_to(a, x.shape) for a in args]
        options = {
            k: np.broadcast_to(v, x.shape) if isinstance(v, np.ndarray) else v for k, v in options.items()
        }
        for index in np.ndindex(x.shape):
            here = {k: float(v[index]) if isinstance(v, np.ndarray) else v for k, v in options.items()}
            losses[index] = loss(*(None if a is None else float(a[index]) for a in spread), **here)
        return reduced(losses, reduction)

    return function


@each_element
def mse_loss(x, t):
    return (x - t) ** 2


@each_element
def l1_loss(x, t):
    return abs(x - t)


@each_element
def smooth_l1_loss(x, t, beta=1.0):
    d = abs(x - t)
    return d * d / (2 * beta) if d < beta else d - beta / 2


@each_element
def huber_loss(x, t, delta=1.0):
    d = abs(x - t)
    return d * d / 2 if d <= delta else delta * (d - delta / 2)


@each_element
def poisson_nll_loss(x, t, log_input=True, full=False, eps=1e-8):
    loss = exp(x) - t * x if log_input else x - t * log(x + eps)
    return loss + (t * log(t) - t + 0.5 * log(2 * pi * t) if full and t > 1 else 0.0)


def gaussian_nll_loss(x, target, var, full=False, eps=1e-6, reduction="mean"):
    if var.shape == x.shape[:-1] and var.shape != x.shape:
        var = var[..., None]
    x, target, var = np.broadcast_arrays(x, target, var)
    losses = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        v = max(var[index], eps)
        losses[index] = (log(v) + (x[index] - target[index]) ** 2 / v + (log(2 * pi) if full else 0.0)) / 2
    return reduced(losses, reduction)


@each_element
def binary_cross_entropy(x, t, weight=None):
    yes = -100.0 if x == 0 else max(log(x), -100.0)
    no = -100.0 if x == 1 else max(log1p(-x), -100.0)
    return -(1.0 if weight is None else weight) * (t * yes + (1 - t) * no)


def log_one_plus_exp(x):
    return max(x, 0.0) + log1p(exp(-abs(x)))


@each_element
def binary_cross_entropy_with_logits(x, t, weight=None, pos_weight=None):
    pos_weight = 1.0 if pos_weight is None else pos_weight
    loss = (1 - t) * x + (1 + (pos_weight - 1) * t) * log_one_plus_exp(-x)
    return loss * (1.0 if weight is None else weight)


@each_element
def kl_div(x, t, log_target=False):
    if log_target:
        return exp(t) * (t - x)
    return t * (log(t) - x) if t else 0.0


@each_element
def hinge_embedding_loss(x, t, margin=1.0):
    return (x if t != -1 else 0.0) + (max(margin - x, 0.0) if t != 1 else 0.0)


@each_element
def margin_ranking_loss(x1, x2, t, margin=0.0):
    return max(margin - t * (x1 - x2), 0.0)


@each_element
def soft_margin_loss(x, t):
    return log_one_plus_exp(-t * x)


def distance(u, v, p, eps):
    sizes = [abs(a - b + eps) for a, b in zip(u, v, strict=True)]
    if p == 0:
        return sum(size != 0 for size in sizes)
    return max(sizes, default=0.0) if p == inf else sum(size**p for size in sizes) ** (1 / p)


def triplet_margin_loss(a, p_, n, margin=1.0, p=2.0, eps=1e-6, swap=False, reduction="mean"):
    losses = np.zeros(a.shape[:-1])
    for index in np.ndindex(losses.shape):
        far = distance(a[index], n[index], p, eps)
        if swap:
            far = min(far, distance(p_[index], n[index], p, eps))
        losses[index] = max(distance(a[index], p_[index], p, eps) - far + margin, 0.0)
    return reduced(losses, reduction)


def cosine_embedding_loss(x1, x2, target, margin=0.0, reduction="mean"):
    losses = np.zeros(target.shape)
    for index in np.ndindex(target.shape):
        u, v = x1[index], x2[index]
        lengths = sqrt((sum(u * u) + 1e-12) * (sum(v * v) + 1e-12))
        cosine = sum(u * v) / lengths
        losses[index] = {1: 1 - cosine, -1: max(cosine - margin, 0.0)}.get(int(target[index]), 0.0)
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
    axis = 0 if x.ndim == 1 else 1
    log_p = log_softmax(x, axis)
    if target.dtype.kind != "f":
        return nll_loss(log_p, target, weight, ignore_index, reduction, label_smoothing)
    log_p, q = np.moveaxis(log_p, axis, -1), np.moveaxis(target, axis, -1)
    losses, classes = np.zeros(q.shape[:-1]), q.shape[-1]
    for index in np.ndindex(losses.shape):
        for c in range(classes):
            smooth = (1 - label_smoothing) * q[index][c] + label_smoothing / classes
            losses[index] -= (1.0 if weight is None else weight[c]) * smooth * log_p[index][c]
    return reduced(losses, reduction)


def psnr(x, target, data_range=1.0, reduction="mean"):
    losses = np.zeros(x.shape[:-3])
    for index in np.ndindex(losses.shape):
        differences = (x[index] - target[index]).ravel()
        error = sum(d * d for d in differences) / differences.size
        losses[index] = 10 * np.log10(data_range**2 / error) if error else inf
    return reduced(losses, reduction)


def total_variation(x, reduction="mean"):
    losses = np.zeros(x.shape[:-3])
    for (*index, c, i, j), value in np.ndenumerate(x):
        for k, m in ((i + 1, j), (i, j + 1)):
            if k < x.shape[-2] and m < x.shape[-1]:
                losses[tuple(index)] += abs(x[(*index, c, k, m)] - value)
    return reduced(losses, reduction)


def ssim(x, target, data_range=1.0, kernel_size=11, sigma=1.5, k1=0.01, k2=0.03, reduction="mean"):
    size = kernel_size
    away = [abs(i - size // 2) for i in range(size)]
    weights = np.array([[exp(-(i * i + j * j) / (2 * sigma**2)) for j in away] for i in away])
    weights /= weights.sum()
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    losses = np.zeros(x.shape[:-3])
    for index in np.ndindex(losses.shape):
        found = []
        for c, i, j in np.ndindex(x.shape[-3], x.shape[-2] - size + 1, x.shape[-1] - size + 1):
            a, b = (p[index][c, i : i + size, j : j + size] for p in (x, target))
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            both = (weights * (a - ma) * (b - mb)).sum()
            found.append((2 * ma * mb + c1) * (2 * both + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2)))
        losses[index] = sum(found) / len(found)
    return reduced(losses, reduction)
