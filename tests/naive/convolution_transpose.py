"""Transposed convolution as plain loops."""

from __future__ import annotations

from itertools import product

import numpy as np

from tests.naive.windows import pair


def conv_transpose(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    n = weight.ndim - 2
    if x.ndim == n + 1:
        return conv_transpose(x[None], weight, bias, stride, padding, output_padding, groups, dilation)[0]
    kernel, filters = weight.shape[2:], weight.shape[1] * groups
    stride, padding, dilation = pair(stride, n), pair(padding, n), pair(dilation, n)
    extra = pair(output_padding, n)
    size = [
        (x.shape[2 + a] - 1) * stride[a] - 2 * padding[a] + dilation[a] * (kernel[a] - 1) + extra[a] + 1
        for a in range(n)
    ]
    y = np.zeros((len(x), filters, *size), x.dtype)
    if bias is not None:
        y += bias.reshape(-1, *(1,) * n)
    for image, c, *at in product(*map(range, x.shape)):
        group = c // (x.shape[1] // groups)
        for o, *k in product(*map(range, weight.shape[1:])):
            where = [at[a] * stride[a] + k[a] * dilation[a] - padding[a] for a in range(n)]
            if all(0 <= where[a] < size[a] for a in range(n)):
                y[(image, group * weight.shape[1] + o, *where)] += x[(image, c, *at)] * weight[(c, o, *k)]
    return y
