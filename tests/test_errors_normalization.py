"""Bad input of norms: a ValueError or TypeError that names the function, what was expected and what came."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F

KEY = fc.random.key(0)
X = np.ones((2, 4, 8, 8), np.float32)
B = np.ones(3, np.float32)

CASES = [
    (lambda: F.batch_norm(X, B, B), ValueError, "batch_norm: expected a running_mean of shape (4,) for 4"),
    (lambda: F.instance_norm(X[0, 0]), ValueError, "instance_norm: expected more than one position"),
    (lambda: F.instance_norm(X[0, 0, 0]), ValueError, "instance_norm: expected an input of shape (N, C,"),
    (lambda: F.instance_norm(X[..., :1, :1]), ValueError, "instance_norm: expected more than one position"),
    (lambda: F.instance_norm(X, weight=B), ValueError, "instance_norm: expected a weight of shape (4,)"),
    (
        lambda: F.instance_norm(X, use_input_stats=False),
        ValueError,
        "instance_norm: expected running_mean and running_var where use_input_stats is False",
    ),
    (lambda: F.layer_norm(X, (3,)), ValueError, "layer_norm: expected an input of shape (..., 3), got (2, 4,"),
    (lambda: F.layer_norm(X, ()), ValueError, "layer_norm: expected a normalized_shape of one axis or more"),
    (lambda: F.layer_norm(X, 8), TypeError, "layer_norm: normalized_shape must be a sequence of integers"),
    (lambda: F.layer_norm(X, (8.0,)), TypeError, "layer_norm: a size in normalized_shape must be an integer"),
    (lambda: F.layer_norm(X, (8,), B), ValueError, "layer_norm: expected a weight of shape (8,), got (3,)"),
    (lambda: F.layer_norm(X, (8,), None, B), ValueError, "layer_norm: expected a bias of shape (8,), got"),
    (lambda: F.rms_norm(X, (3,)), ValueError, "rms_norm: expected an input of shape (..., 3), got"),
    (lambda: F.group_norm(X, 3), ValueError, "group_norm: num_groups must divide the channels, got num_groups=3"),
    (lambda: F.group_norm(X, 0), ValueError, "group_norm: num_groups must be at least 1, got 0"),
    (lambda: F.group_norm(X[0, 0, 0], 1), ValueError, "group_norm: expected an input of shape (N, C, ...)"),
    (lambda: F.group_norm(X[:1, :, :1, :1], 4), ValueError, "group_norm: expected more than one value per group"),
    (lambda: F.group_norm(X, 2, B), ValueError, "group_norm: expected a weight of shape (4,), got (3,)"),
    (lambda: F.local_response_norm(X, 0), ValueError, "local_response_norm: size must be at least 1, got 0"),
    (lambda: F.local_response_norm(X[0, 0], 2), ValueError, "local_response_norm: expected an input of shape"),
    (lambda: F.normalize(X, dim=4), ValueError, "normalize: expected an axis of an array of shape"),
    (lambda: F.normalize(X, p="2"), TypeError, "normalize: expected p to be a number, got '2'"),
    (lambda: fc.instance_norm(ndim=0), ValueError, "instance_norm: ndim must be at least 1, got 0"),
    (lambda: fc.instance_norm(ndim=1).init(KEY, X.shape), ValueError, "instance_norm: expected an input of 3 axes (N, C, W)"),
    (lambda: fc.instance_norm().init(KEY, (3,)), ValueError, "instance_norm: expected an input of shape (N, C, L"),
    (lambda: fc.layer_norm(last_axes=0), ValueError, "layer_norm: last_axes must be at least 1, got 0"),
    (lambda: fc.layer_norm(last_axes=5).init(KEY, X.shape), ValueError, "layer_norm: expected an input of 5 axes"),
    (lambda: fc.layer_norm(7).init(KEY, X.shape), ValueError, "layer_norm: expected an input of shape (..., 7)"),
    (lambda: fc.layer_norm().apply({}, X), ValueError, "layer_norm: expected parameters weight, bias"),
    (lambda: fc.layer_norm().apply({"weight": B, "bias": B}, [1.0]), TypeError, "layer_norm: x must be a NumPy"),
    (lambda: fc.group_norm(3).init(KEY, X.shape), ValueError, "group_norm: num_groups must divide the channels"),
    (lambda: fc.group_norm(0), ValueError, "group_norm: num_groups must be at least 1"),
    (lambda: fc.local_response_norm(2).out_shape((2, 3)), ValueError, "local_response_norm: expected an input"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input_is_named(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()
