"""Reading at other places, element by element, and reductions and products that name their axes."""

from __future__ import annotations

from itertools import product
from math import exp, inf, log

import numpy as np

from tests.naive.rearranging import _built, _reduced


def expand(x, sizes):
    lead = len(sizes) - x.ndim
    shape = [x.shape[a - lead] if n == -1 else n for a, n in enumerate(sizes)]
    return _built(
        shape, x.dtype, lambda i: x[tuple(0 if x.shape[a] == 1 else i[lead + a] for a in range(x.ndim))]
    )


def tile(x, dims):
    rank = max(x.ndim, len(dims))
    x = x.reshape((1,) * (rank - x.ndim) + x.shape)
    times = (1,) * (rank - len(dims)) + tuple(dims)
    shape = [n * t for n, t in zip(x.shape, times, strict=True)]
    return _built(shape, x.dtype, lambda i: x[tuple(k % n for k, n in zip(i, x.shape, strict=True))])


def flip(x, dims):
    axes = {d % x.ndim for d in ((dims,) if isinstance(dims, int) else dims)}
    return _built(
        x.shape, x.dtype, lambda i: x[tuple(x.shape[a] - 1 - k if a in axes else k for a, k in enumerate(i))]
    )


def roll(x, shifts, dims=None):
    if dims is None:
        return roll(x.reshape(-1), shifts, 0).reshape(x.shape)
    shifts, dims = ((v,) if isinstance(v, int) else v for v in (shifts, dims))
    y = np.zeros_like(x)
    for i in product(*map(range, x.shape)):
        to = list(i)
        for by, d in zip(shifts, dims, strict=True):
            to[d] = (to[d] + by) % x.shape[d]
        y[tuple(to)] = x[i]
    return y


def select(x, dim, index):
    dim %= x.ndim
    shape = (*x.shape[:dim], *x.shape[dim + 1 :])
    return _built(shape, x.dtype, lambda i: x[(*i[:dim], index, *i[dim:])])


def index_select(x, dim, index):
    dim %= x.ndim
    shape = (*x.shape[:dim], len(index), *x.shape[dim + 1 :])
    return _built(shape, x.dtype, lambda i: x[(*i[:dim], index[i[dim]], *i[dim + 1 :])])


def gather(x, dim, index):
    dim, at = dim % x.ndim, np.asarray(index, int)
    return _built(at.shape, x.dtype, lambda i: x[(*i[:dim], at[i], *i[dim + 1 :])])


def index(x, indices):
    """Of lists beside each other, the axes kept before or after them."""
    held = [a for a, each in enumerate(indices) if each is not None]
    first, count = held[0], len(held)
    each = np.broadcast_arrays(*(np.asarray(indices[a], int) for a in held))
    inner = each[0].shape
    shape = (*x.shape[:first], *inner, *x.shape[first + count :])

    def element(i):
        at = i[first : first + len(inner)]
        return x[(*i[:first], *(e[at] for e in each), *i[first + len(inner) :])]

    return _built(shape, x.dtype, element)


def movedim(x, source, destination):
    shape = list(range(x.ndim))
    order = [a for a in shape if a != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return _built(
        [x.shape[a] for a in order], x.dtype, lambda i: x[tuple(i[order.index(a)] for a in range(x.ndim))]
    )


def masked_fill(x, mask, value):
    marked = np.broadcast_to(mask, x.shape)
    return _built(x.shape, x.dtype, lambda i: value if marked[i] else x[i])


def where(condition, input, other):
    c, a, b = np.broadcast_arrays(np.asarray(condition), input, other)
    return _built(c.shape, input.dtype, lambda i: a[i] if c[i] else b[i])


def cumsum(x, dim):
    return _up_to(x, dim, sum)


def cumprod(x, dim):
    return _up_to(x, dim, np.prod)


def _up_to(x, dim, rule):
    dim %= x.ndim
    return _built(
        x.shape,
        x.dtype,
        lambda i: rule([x[(*i[:dim], k, *i[dim + 1 :])] for k in range(i[dim] + 1)]),
    )


def pow(x, exponent):
    a, b = np.broadcast_arrays(x, exponent)
    return _built(a.shape, x.dtype, lambda i: float(a[i]) ** float(b[i]))


def einsum(equation, *arrays):
    """Of an equation without an ellipsis, with a result written out."""
    inside, _, out = equation.partition("->")
    names, sizes = inside.split(","), {}
    for letters, a in zip(names, arrays, strict=True):
        for letter, n in zip(letters, a.shape, strict=True):
            sizes[letter] = max(sizes.get(letter, n), n) if n else 0
    y = np.zeros([sizes[a] for a in out], arrays[0].dtype)
    for at in product(*(range(n) for n in sizes.values())):
        place = dict(zip(sizes, at, strict=True))
        y[tuple(place[a] for a in out)] += np.prod([
            a[tuple(place[k] if n > 1 else 0 for k, n in zip(letters, a.shape, strict=True))]
            for letters, a in zip(names, arrays, strict=True)
        ])  # fmt: skip
    return y


amin = _reduced(lambda elements: min(elements))
prod = _reduced(lambda elements: np.prod(elements))
max_along = _reduced(lambda elements: max(elements))
logsumexp = _reduced(lambda elements: log(sum(exp(e) for e in elements)) if elements else -inf)


def var(x, dim=None, correction=1, keepdim=False):
    def rule(elements):
        mean = sum(elements) / len(elements)
        return sum((e - mean) ** 2 for e in elements) / (len(elements) - correction)

    return _reduced(rule)(x, dim, keepdim)


def std(x, dim=None, correction=1, keepdim=False):
    return np.sqrt(var(x, dim, correction, keepdim))


def vector_norm(x, ord=2, dim=None, keepdim=False):
    def rule(elements):
        sizes = [abs(e) for e in elements]
        if ord == inf:
            return max(sizes)
        return min(sizes) if ord == -inf else sum(s**ord for s in sizes) ** (1 / ord)

    return _reduced(rule)(x, dim, keepdim)
