"""Attention, embeddings and the bilinear map as plain loops."""

from __future__ import annotations

from math import exp, sqrt

import numpy as np


def bilinear(x1, x2, weight, bias=None):
    y = np.zeros((*x1.shape[:-1], len(weight)))
    for i in np.ndindex(*y.shape):
        y[i] = 0.0 if bias is None else bias[i[-1]]
        for j, k in np.ndindex(*weight.shape[1:]):
            y[i] += x1[i[:-1]][j] * weight[i[-1], j, k] * x2[i[:-1]][k]
    return y


def embedding(x, weight, padding_idx=None, scale_grad_by_freq=False):
    y = np.zeros((*x.shape, weight.shape[1]))
    for i in np.ndindex(*x.shape):
        y[i] = weight[x[i]]
    return y


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, is_causal=False, scale=None, enable_gqa=False
):
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = np.repeat(key, repeats, -3), np.repeat(value, repeats, -3)
    rows, columns = query.shape[-2], key.shape[-2]
    batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    query, key, value = (np.broadcast_to(a, (*batch, *a.shape[-2:])) for a in (query, key, value))
    mask = None if attn_mask is None else np.broadcast_to(attn_mask, (*batch, rows, columns))
    factor = 1 / sqrt(query.shape[-1]) if scale is None else scale
    y = np.zeros((*batch, rows, value.shape[-1]))
    for i in np.ndindex(*batch, rows):
        powers = []
        for j in range(columns):
            score = factor * sum(a * b for a, b in zip(query[i], key[i[:-1]][j], strict=True))
            if mask is not None and mask.dtype != bool:
                score += mask[i][j]
            hidden = (is_causal and j > i[-1]) or (mask is not None and mask.dtype == bool and not mask[i][j])
            powers.append(0.0 if hidden else exp(score))
        for j, power in enumerate(powers):
            if power:
                y[i] += power / sum(powers) * value[i[:-1]][j]
    return y
