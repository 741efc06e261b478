"""Rearrangements, parts and reductions, element by element."""

from __future__ import annotations

from itertools import product

import numpy as np


def _built(shape, dtype, element):
    y = np.zeros(shape, dtype)
    for index in product(*map(range, shape)):
        y[index] = element(index)
    return y


def permute(x, dims):
    dims = [d % x.ndim for d in dims]
    shape = [x.shape[d] for d in dims]
    return _built(shape, x.dtype, lambda i: x[tuple(i[dims.index(a)] for a in range(x.ndim))])


def transpose(x, dim0, dim1):
    dims = list(range(x.ndim))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permute(x, dims)


def squeeze(x, dim=None):
    dims = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {d % x.ndim for d in dims if x.shape[d] == 1}
    kept = [a for a in range(x.ndim) if a not in gone]
    return _built(
        [x.shape[a] for a in kept], x.dtype,
        lambda i: x[tuple(0 if a in gone else i[kept.index(a)] for a in range(x.ndim))],
    )  # fmt: skip


def unsqueeze(x, dim):
    place = dim % (x.ndim + 1)
    shape = (*x.shape[:place], 1, *x.shape[place:])
    return _built(shape, x.dtype, lambda i: x[(*i[:place], *i[place + 1 :])])


def narrow(x, dim, start, length):
    start += x.shape[dim] if start < 0 else 0
    return _taken(x, dim, [start + i for i in range(length)])


def slice_along(x, dim, start=None, end=None, step=1):
    return _taken(x, dim, list(range(x.shape[dim]))[start:end:step])


def _taken(x, dim, which):
    dim %= x.ndim
    shape = (*x.shape[:dim], len(which), *x.shape[dim + 1 :])
    return _built(shape, x.dtype, lambda i: x[(*i[:dim], which[i[dim]], *i[dim + 1 :])])


def _reduced(rule):
    def reduce(x, dim=None, keepdim=False):
        dims = range(x.ndim) if dim is None or dim == () else [dim] if isinstance(dim, int) else dim
        axes = {d % x.ndim for d in dims}
        kept = [1 if a in axes else size for a, size in enumerate(x.shape)]
        found = {index: [] for index in product(*map(range, kept))}
        for index in product(*map(range, x.shape)):
            found[tuple(0 if a in axes else i for a, i in enumerate(index))].append(x[index])
        y = _built(kept, x.dtype, lambda i: rule(found[i]))
        return y if keepdim else y.reshape([size for a, size in enumerate(x.shape) if a not in axes])

    return reduce


sum = _reduced(lambda elements: np.sum(elements))
mean = _reduced(lambda elements: np.sum(elements) / len(elements) if elements else np.nan)
amax = _reduced(lambda elements: max(elements))
