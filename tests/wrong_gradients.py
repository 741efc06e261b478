"""Wrong gradients, each a kind of mistake that people make, beside the right one of the same function.

Each value of `KINDS` makes again ``(function, wrong vjp, args)``, because some keep what they were called with.
"""

from __future__ import annotations

import numpy as np

from fconv import functional as F

R = np.random.default_rng(0)
X, Y = R.normal(size=(2, 3, 4, 4)), R.normal(size=(2, 3, 4, 4))
X32 = X.astype(np.float32)
SCALE = R.normal(size=(3, 1, 1))
WEIGHT, BIAS = R.normal(size=(4, 3, 3, 3)), R.normal(size=4)
SQUARE = R.normal(size=(4, 4))
EPS = 1e-3


def tanh_vjp(g, x):
    return g * (1 - np.tanh(x) ** 2)


def scaled(x, w):
    return x * w


def scaled_vjp(g, x, w):
    return g * w, (g * x).sum((0, 2, 3)).reshape(w.shape)


def normed(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPS)


def normed_vjp(g, x, mean=1.0, var=1.0, ddof=0, eps=EPS):
    n = x.shape[-1]
    root = np.sqrt(x.var(-1, keepdims=True) + eps)
    y = (x - x.mean(-1, keepdims=True)) / root
    terms = g - mean * g.mean(-1, keepdims=True) - var * y * (g * y).sum(-1, keepdims=True) / (n - ddof)
    return terms / root


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x):
    return F.gelu(x)


def pooled_vjp(g, x):
    return np.repeat(np.repeat(g, 2, 2), 2, 3) / 4


def max_pooled(x):
    return x.reshape(2, 3, 2, 2, 2, 2).max((3, 5))


def conv_vjp(change):
    return lambda g, x, w, b: change(*F.conv2d_vjp(g, x, w, b), g, x, w)


def unflipped(g, x, w):
    return F.conv2d(np.pad(g, ((0, 0), (0, 0), (2, 2), (2, 2))), w.transpose(1, 0, 2, 3))


def bumped(x, factor=1.001):
    y = x.copy()
    y[(0,) * y.ndim] *= factor
    return y


def zeroed(x, index):
    y = x.copy()
    y[index] = 0
    return y


def put(x, value, at):
    y = x.copy()
    y[at] = value
    return y


def written(x, change):
    """Write into an array and give it back."""
    x *= change
    return x


def for_a_while(g, x):
    x += 1
    x -= 1
    return tanh_vjp(g, x)


def of_tanh(vjp, x=X):
    return lambda: (np.tanh, vjp, [x])


def of_scaled(vjp):
    return lambda: (scaled, vjp, [X, SCALE])


def of_conv(change):
    return lambda: (F.conv2d, conv_vjp(change), [X, WEIGHT, BIAS])


def last_value():
    """The gradient takes the x that the function was called with last."""
    kept = []

    def function(x):
        kept[:] = [x]
        return np.tanh(x)

    return function, lambda g, x: tanh_vjp(g, kept[0]), [X]


def last_vjp():
    """The gradient takes the x of its own previous call."""
    kept = []

    def vjp(g, x):
        kept.append(x)
        return tanh_vjp(g, kept[max(0, len(kept) - 2)] if len(kept) > 2 else x)

    return np.tanh, vjp, [X]


def cached(name):
    """The gradient keeps what it computed by a key that does not tell arrays apart."""
    kept = {}

    def vjp(g, x):
        slope = kept.setdefault(name(x), 1 - np.tanh(x) ** 2)
        return g * slope

    return lambda: (kept.clear(), (np.tanh, vjp, [X]))[1]


def own_memory():
    """Every gradient stands in the same memory."""
    memory = {}

    def vjp(g, x):
        y = memory.setdefault((x.shape, x.dtype), np.empty_like(x))
        y[...] = tanh_vjp(g, x)
        return y

    return np.tanh, vjp, [X]


def every_other_call():
    calls = []

    def vjp(g, x):
        calls.append(1)
        return tanh_vjp(g, x) * (1 if len(calls) % 2 else 2)

    return np.tanh, vjp, [X]


def after_ten_calls():
    calls = []

    def vjp(g, x):
        calls.append(1)
        return tanh_vjp(g, x) * (1 if len(calls) < 10 else 0)

    return np.tanh, vjp, [X]


def seeds(g, x):
    np.random.seed(0)  # noqa: NPY002
    return tanh_vjp(g, x)


def draws(g, x):
    return tanh_vjp(g, x) * (np.random.random(x.shape) > 0.5) * 2  # noqa: NPY002


def one_for_two(g, x, w):
    return g * w, None


def in_float32(right, wrong):
    return lambda g, x: (wrong if x.dtype == np.float32 else right)(g, x)


def axis_forgotten():
    return (
        lambda x, *, axis: x.sum(axis, keepdims=True) * x,
        lambda g, x, *, axis: g * x.sum(-1, keepdims=True) + (g * x).sum(-1, keepdims=True),
        [X],
        {"axis": 1},
    )


KINDS = {
    # Mathematics.
    "wrong sign": of_tanh(lambda g, x: -tanh_vjp(g, x)),
    "a factor of 2 forgotten": lambda: (np.square, lambda g, x: g * x, [X]),
    "g forgotten": of_tanh(lambda g, x: tanh_vjp(np.ones_like(x), x)),
    "the derivative at y in place of x": of_tanh(lambda g, x: tanh_vjp(g, np.tanh(x))),
    "x and g exchanged": of_tanh(lambda g, x: x * (1 - np.tanh(g) ** 2)),
    "no gradient: zeros": of_tanh(lambda g, x: 0 * x),
    "no derivative: g itself": of_tanh(lambda g, x: g),
    "the inner derivative forgotten": lambda: (lambda x: np.tanh(3 * x), lambda g, x: tanh_vjp(g, 3 * x), [X]),
    "a term of the product rule forgotten": lambda: (lambda x: x * np.sin(x), lambda g, x: g * np.sin(x), [X]),
    "the wrong power of the denominator": lambda: (np.reciprocal, lambda g, x: -g / x, [1 + X**2]),
    "half of a quotient's gradient": lambda: (np.divide, lambda g, x, y: (g / y, g * x / y**2), [X, 1 + Y**2]),
    "the slope of positive elements for all": lambda: (np.abs, lambda g, x: g, [X]),
    "the mask of g in place of x": lambda: (F.relu, lambda g, x: g * (g > 0), [X]),
    "a slope forgotten for negative elements": lambda: (F.leaky_relu, lambda g, x: g * (x > 0), [X]),
    "passed where values are clipped": lambda: (lambda x: np.clip(x, -1, 1), lambda g, x: g, [X]),
    "an approximate derivative": lambda: (gelu, lambda g, x: F.gelu_vjp(g, x, approximate="tanh"), [X]),
    "the diagonal of a softmax alone": lambda: (softmax, lambda g, x: g * softmax(x) * (1 - softmax(x)), [X]),
    "a softmax without its normalisation": lambda: (
        lambda x: np.log(np.exp(x).sum(-1)), lambda g, x: g[..., None] * np.exp(x), [X]),
    "a cumulative sum in the same direction": lambda: (lambda x: x.cumsum(-1), lambda g, x: g.cumsum(-1), [X]),
    "rolled in the same direction": lambda: (lambda x: np.roll(x, 1, -1), lambda g, x: np.roll(g, 1, -1), [X]),
    "a permutation in place of its inverse": lambda: (
        lambda x: x.transpose(1, 2, 0), lambda g, x: g.transpose(1, 2, 0), [R.normal(size=(3, 3, 3))]),
    "a transpose forgotten in a matrix product": lambda: (
        np.matmul, lambda g, a, b: (g @ b, a.T @ g), [SQUARE, SQUARE[::-1]]),
    "a norm without the term of the mean": lambda: (normed, lambda g, x: normed_vjp(g, x, mean=0), [X]),
    "a norm without the term of the variance": lambda: (normed, lambda g, x: normed_vjp(g, x, var=0), [X]),
    "n - 1 in place of n": lambda: (normed, lambda g, x: normed_vjp(g, x, ddof=1), [X]),
    "eps left out": lambda: (normed, lambda g, x: normed_vjp(g, x, eps=0), [X]),
    "an option ignored": axis_forgotten,
    # Sums and windows.
    "a mean in place of a sum": of_conv(lambda dx, dw, db, g, x, w: (dx, dw, g.mean((0, 2, 3)))),
    "divided by the batch size": of_conv(lambda dx, dw, db, g, x, w: (dx, dw / 2, db / 2)),
    "the first sample alone": of_conv(lambda dx, dw, db, g, x, w: (zeroed(dx, slice(1, None)), dw, db)),
    "the last row left out": of_conv(lambda dx, dw, db, g, x, w: (zeroed(dx, (..., -1, slice(None))), dw, db)),
    "the last column of the filters left out": of_conv(lambda dx, dw, db, g, x, w: (dx, zeroed(dw, (..., -1)), db)),
    "filters transposed": of_conv(lambda dx, dw, db, g, x, w: (dx, dw.swapaxes(2, 3), db)),
    "filters not turned round": of_conv(lambda dx, dw, db, g, x, w: (unflipped(g, x, w), dw, db)),
    "gradients of two arrays exchanged": lambda: (np.multiply, lambda g, x, y: (g * x, g * y), [X, Y]),
    "one sample taken where a sum over all belongs": of_scaled(
        lambda g, x, w: (g * w, (g * x)[0].sum((1, 2)).reshape(w.shape))),
    "the size of the window forgotten": lambda: (
        lambda x: F.avg_pool2d(x, 2), lambda g, x: 4 * pooled_vjp(g, x), [X]),
    "the mean's gradient for the maximum": lambda: (max_pooled, pooled_vjp, [X]),
    "one element off by 0.1 %": of_conv(lambda dx, dw, db, g, x, w: (dx, bumped(dw), db)),
    "wrong in the smaller of two gradients": lambda: (
        lambda x, y: 1e3 * x + 1e-2 * np.sin(y), lambda g, x, y: (1e3 * g, 1.1e-2 * g * np.cos(y)), [X, Y]),
    "NaN": of_tanh(lambda g, x: tanh_vjp(g, x) * np.nan),
    "NaN in one element": of_tanh(lambda g, x: put(tanh_vjp(g, x), np.nan, (0, 0, 0, 0))),
    "rounded to three digits": of_tanh(lambda g, x: tanh_vjp(g, x).round(3)),
    # Dependence on g.
    "clipped": of_tanh(lambda g, x: np.clip(tanh_vjp(g, x), -100, 100)),
    "small gradients flushed to zero": of_tanh(lambda g, x: tanh_vjp(g, x) * (abs(g) > 1e-6)),
    "the size of g ignored": of_tanh(lambda g, x: tanh_vjp(np.sign(g), x)),
    # Dtypes, shapes, structure.
    "float64 for float32 arrays": of_tanh(lambda g, x: tanh_vjp(g, x).astype(np.float64), X32),
    "float32 for float64 arrays": of_tanh(lambda g, x: tanh_vjp(g, x).astype(np.float32)),
    "wrong for float32 arrays": of_tanh(in_float32(tanh_vjp, lambda g, x: 2 * tanh_vjp(g, x)), X32),
    "wrong for float32 arrays, checked with float64": of_tanh(in_float32(tanh_vjp, lambda g, x: -tanh_vjp(g, x))),
    "an error for float32 arrays": of_tanh(in_float32(tanh_vjp, lambda g, x: tanh_vjp(g, x)[..., None] @ x)),
    "a shape that only broadcasts": of_scaled(lambda g, x, w: (g * w, (g * x).sum((0, 2, 3)))),
    "not summed over the batch": of_scaled(lambda g, x, w: (g * w, (g * x).sum((2, 3), keepdims=True))),
    "a list of gradients": of_scaled(lambda g, x, w: list(scaled_vjp(g, x, w))),
    "one gradient for two arrays": of_scaled(lambda g, x, w: (g * w,)),
    "three gradients for two arrays": of_scaled(lambda g, x, w: (*scaled_vjp(g, x, w), g)),
    "None for one of two arrays": of_scaled(one_for_two),
    "None for the first of two arrays": of_scaled(lambda g, x, w: (None, scaled_vjp(g, x, w)[1])),
    "None for all": of_tanh(lambda g, x: None),
    # Memory.
    "wrong for column-major x": of_tanh(
        lambda g, x: g * (1 - np.tanh(x.ravel(order="K").reshape(x.shape)) ** 2)),
    "wrong for x that is not contiguous": of_tanh(lambda g, x: tanh_vjp(g, x if x.flags.forc else 0 * x)),
    "wrong for channels-last x": of_tanh(
        lambda g, x: tanh_vjp(g, x) * (2 if x.ndim == 4 and x.strides[1] == x.itemsize else 1)),
    "wrong for x with negative strides": of_tanh(lambda g, x: tanh_vjp(g, x) * (1 if min(x.strides) > 0 else 2)),
    "wrong for g in another order": of_tanh(lambda g, x: tanh_vjp(g.ravel(order="K").reshape(x.shape), x)),
    "wrong for a g that broadcasts": of_tanh(lambda g, x: tanh_vjp(g, x) * (1 if 0 not in g.strides else 0)),
    "wrong for a g that broadcasts one sample": of_tanh(
        lambda g, x: tanh_vjp(g, x) * (2 if g.strides[0] == 0 and g.strides[-1] else 1)),
    "the weight's memory in another order": lambda: (
        F.conv2d, lambda g, x, w, b: F.conv2d_vjp(g, x, w.ravel(order="K").reshape(w.shape), b), [X, WEIGHT, BIAS]),
    "g written to": of_tanh(lambda g, x: written(g, 1 - np.tanh(x) ** 2)),
    "x written to": of_tanh(lambda g, x: (written(x, 0.5), g)[1]),
    "x written to for a while": lambda: (np.tanh, for_a_while, [np.ones((2, 3, 4))]),
    "one memory for all results": own_memory,
    # Earlier calls.
    "a stale x: that of the last value": last_value,
    "a stale x: that of the last gradient": last_vjp,
    "a stale x: kept by its shape": cached(lambda x: (x.shape, x.dtype)),
    "a stale x: kept by its identity": cached(id),
    "a stale x: kept by its first element": cached(lambda x: (x.dtype, int(x.flat[0]))),
    "wrong at its second call": every_other_call,
    "wrong after ten calls": after_ten_calls,
    "a random mask of its own": of_tanh(draws),
    "the global generator seeded": of_tanh(seeds),
}  # fmt: skip

RIGHT = {
    "tanh": (np.tanh, tanh_vjp, [X]),
    "tanh of float32": (np.tanh, tanh_vjp, [X32]),
    "scaled": (scaled, scaled_vjp, [X, SCALE]),
    "normed": (normed, normed_vjp, [X]),
    "softmax": (
        softmax, lambda g, x: softmax(x) * (g - (g * softmax(x)).sum(-1, keepdims=True)), [X]),
    "conv2d": (F.conv2d, F.conv2d_vjp, [X, WEIGHT, BIAS]),
    "sum": (lambda x: x.sum(), lambda g, x: np.broadcast_to(g, x.shape), [X]),
    "of no axes": (np.sin, lambda g, x: np.asarray(g * np.cos(x)), [np.array(0.3)]),
    "identity": (lambda x: x, lambda g, x: g, [X]),
    "logarithm": (np.log, lambda g, x: g / x, [np.linspace(0.01, 1, 12)]),
    "arc sine": (np.arcsin, lambda g, x: g / np.sqrt(1 - x * x), [np.linspace(-0.9, 0.9, 12)]),
    "entropy": (F.binary_cross_entropy, F.binary_cross_entropy_vjp, [softmax(X), softmax(Y)]),
    "batch_norm outside training": (
        F.batch_norm, F.batch_norm_vjp, [X, R.normal(size=3), 1 + R.random(3), R.normal(size=3), R.normal(size=3)]),
    "independent of one array": (lambda x, y: x * np.sign(1 + y**2), lambda g, x, y: (g, None), [X, Y]),
    "integers beside": (F.embedding, F.embedding_vjp, [np.array([0, 2, 1]), SQUARE]),
    "relu at its kink": (F.relu, F.relu_vjp, [np.zeros((3, 4))]),
    "max_pool of ties": (lambda x: F.max_pool2d(x, 2), lambda g, x: F.max_pool2d_vjp(g, x, 2), [np.ones((1, 1, 4, 4))]),
    "nothing": (np.tanh, tanh_vjp, [np.zeros((0, 3))]),
    "several outputs": (
        lambda x: (np.sin(x), x**2), lambda g, x: g[0] * np.cos(x) + 2 * g[1] * x, [X]),
}  # fmt: skip
