"""Normalization as plain loops."""

from __future__ import annotations

import numpy as np


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
