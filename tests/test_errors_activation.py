"""Bad input to activations, dropouts and shape functions, named."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F

KEY = fc.random.key(0)
X = np.ones((2, 3, 4, 5), np.float32)
W = np.ones(3, np.float32)

CASES = [
    (lambda: F.elu(X, "1"), TypeError, "elu: expected alpha to be a number, got '1'"),
    (lambda: F.elu(X, alpha=None), TypeError, "elu: expected alpha to be a number, got None"),
    (
        lambda: F.leaky_relu(X, True),
        TypeError,
        "leaky_relu: expected negative_slope to be a number, got True",
    ),
    (lambda: F.elu(X, 1.0, 2.0), TypeError, "takes from 1 to 2 positional arguments but 3 were given"),
    (lambda: F.threshold(X), TypeError, "missing 2 required positional arguments: 'threshold' and 'value'"),
    (lambda: F.celu(X, 0), ValueError, "celu: expected alpha other than 0, got 0"),
    (lambda: F.softplus(X, beta=0.0), ValueError, "softplus: expected beta other than 0, got 0"),
    (lambda: F.gelu(X, "tan"), ValueError, 'gelu: expected approximate "none" or "tanh", got \'tan\''),
    (lambda: F.hardtanh(X, 2, 1), ValueError, "hardtanh: expected min_val of at most max_val, got 2.0 and"),
    (lambda: F.softshrink(X, -1), ValueError, "softshrink: expected lambd of 0 or more, got -1.0"),
    (lambda: F.prelu(X, W[:2]), ValueError, "prelu: expected 1 slope or 3, one for each channel, got 2"),
    (lambda: F.prelu(X[0, 0, 0], W), ValueError, "prelu: expected 1 slope or 1, one for each channel, got 3"),
    (lambda: F.prelu(X, W[None]), ValueError, "prelu: expected a weight of shape (C,), (1,) or (), got"),
    (lambda: F.prelu(X, W.astype(np.float64)), TypeError, "prelu: x is float32 but weight is float64"),
    (lambda: F.softmin(X, 4), ValueError, "softmin: expected an axis of an array of shape (2, 3, 4, 5)"),
    (lambda: F.glu(X), ValueError, "glu: expected an even size along dim 3, got input shape (2, 3, 4, 5)"),
    (lambda: F.glu(X[0, 0, 0, 0].reshape(())), ValueError, "glu: expected an axis of an array of shape ()"),
    (lambda: F.glu(X, 2.0), TypeError, "glu: dim must be an integer, got 2.0"),
    (
        lambda: F.dropout1d(X, key=KEY),
        ValueError,
        "dropout1d: expected an input of shape (N, C, W) or (C, W)",
    ),
    (
        lambda: F.dropout2d(X[0, 0], key=KEY),
        ValueError,
        "dropout2d: expected an input of shape",
    ),
    (lambda: F.dropout3d(X[0], key=KEY), ValueError, "or (C, D, H, W), got (3, 4, 5)"),
    (lambda: F.dropout2d(X, 1.5), ValueError, "dropout2d: expected a probability p from 0 to 1, got 1.5"),
    (lambda: F.dropout2d(X), ValueError, "dropout2d: a key is needed in training"),
    (lambda: F.alpha_dropout(X, -1.0), ValueError, "alpha_dropout: expected a probability p from 0 to 1"),
    (lambda: F.alpha_dropout(X, training=True), ValueError, "alpha_dropout: a key is needed in training"),
    (lambda: F.alpha_dropout(X, training=True, key=1), TypeError, "alpha_dropout: expected a key made by"),
    (
        lambda: F.unflatten(X, 1, (2, 2)),
        ValueError,
        "unflatten: cannot reshape an input of shape (3,) to (2, 2)",
    ),
    (lambda: F.unflatten(X, 4, (2, 2)), ValueError, "unflatten: expected an axis of an array of shape"),
    (lambda: F.unflatten(X, 1, ()), ValueError, "unflatten: expected a tuple of at least one size, got ()"),
    (lambda: F.unflatten(X, 1, 3), ValueError, "unflatten: expected a tuple of at least one size, got 3"),
    (lambda: fc.elu("1"), TypeError, "elu: expected alpha to be a number"),
    (lambda: fc.softshrink(-1), ValueError, "softshrink: expected lambd of 0 or more"),
    (lambda: fc.gelu("erf"), ValueError, "gelu: expected approximate"),
    (lambda: fc.prelu(0), ValueError, "prelu: num_parameters must be at least 1, got 0"),
    (lambda: fc.prelu(init="a"), TypeError, "prelu: expected init to be a number, got 'a'"),
    (
        lambda: fc.prelu(2).init(KEY, X.shape),
        ValueError,
        "prelu: expected 1 slope or 3, one for each channel",
    ),
    (lambda: fc.glu().out_shape(X.shape), ValueError, "glu: expected an even size along dim 3"),
    (lambda: fc.softmax(4).out_shape(X.shape), ValueError, "softmax: expected an axis of an array of shape"),
    (lambda: fc.dropout2d(2), ValueError, "dropout2d: expected a probability"),
    (
        lambda: fc.dropout2d().out_shape((2, 3)),
        ValueError,
        "dropout2d: expected an input of 4 axes (N, C, H, W)",
    ),
    (lambda: fc.dropout2d().apply((), X, train=True), ValueError, "dropout2d: a key is needed in training"),
    (lambda: fc.unflatten(1, (2, 2)).out_shape(X.shape), ValueError, "unflatten: cannot reshape"),
]


@pytest.mark.parametrize(("call", "kind", "text"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input_is_named(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()
