"""Bad input of attention, embedding and bilinear: what was expected, and what came."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F

KEY = fc.random.key(0)
Q, K, V = (np.ones(shape, np.float32) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 6)))
NAME = "scaled_dot_product_attention: "
T = np.ones((5, 2), np.float32)
W = np.ones((4, 2, 3), np.float32)
A = F.scaled_dot_product_attention

CASES = [
    (lambda: A(Q[0, 0], K, V), ValueError, NAME + "expected arrays of two axes or more, got query (4,)"),
    (lambda: A(Q[..., :2], K, V), ValueError, NAME + "expected the features of query and key to be as many"),
    (lambda: A(Q, K, V[:, :2]), ValueError, NAME + "expected a value for each key"),
    (lambda: A(Q, K[[0, 0, 0]], V), ValueError, NAME + "the leading axes do not broadcast"),
    (lambda: A(Q, K.astype(float), V), TypeError, NAME + "query is float32 but key is float64"),
    (lambda: A(Q, K, V, np.ones((3, 5), int)), TypeError, NAME + "expected a boolean or floating-point attn_mask, got numpy array of int64"),
    (lambda: A(Q, K, V, np.ones((3, 5))), TypeError, NAME + "query is float32 but attn_mask is float64"),
    (lambda: A(Q, K, V, np.ones((3, 4), bool)), ValueError, NAME + "expected an attn_mask that broadcasts to (2, 3, 5)"),
    (lambda: A(Q, K, V, np.ones((7, 2, 3, 5), bool)), ValueError, NAME + "expected an attn_mask that broadcasts to"),
    (lambda: A(Q, K, V, np.ones((3, 5), bool), is_causal=True), ValueError, NAME + "give either attn_mask or is_causal"),
    (lambda: A(Q, K, V, dropout_p=1.5), ValueError, NAME + "expected a probability"),
    (lambda: A(Q, K, V, dropout_p=0.5), ValueError, NAME + "dropout_p=0.5 needs rng"),
    (lambda: A(Q, K, V, dropout_p=0.5, rng=3), TypeError, NAME + "expected a key"),
    (lambda: A(Q, K[:1], V, enable_gqa=True), ValueError, NAME + "enable_gqa needs as many heads"),
    (lambda: A(Q[0], K[0], V[0], enable_gqa=True), ValueError, NAME + "enable_gqa needs arrays with heads"),
    (lambda: F.embedding(np.array([1.0]), T), TypeError, "embedding: expected integers from 0, got numpy array of float"),
    (lambda: F.embedding(np.array([True]), T), TypeError, "embedding: expected integers from 0"),
    (lambda: F.embedding(np.array([5]), T), ValueError, "embedding: expected numbers of rows from 0 to 4, got 5"),
    (lambda: F.embedding(np.array([-1]), T), ValueError, "embedding: expected numbers of rows from 0 to 4, got -1"),
    (lambda: F.embedding(np.array([0]), T[0]), ValueError, "embedding: expected a weight of shape (num_embeddings"),
    (lambda: F.embedding(np.array([0]), T, 5), ValueError, "embedding: expected a padding_idx from -5 to 4, got 5"),
    (lambda: F.embedding(np.array([0]), T.astype(int)), TypeError, "embedding: weight must be a real floating-point"),
    (lambda: fc.embedding(0, 2), ValueError, "embedding: num_embeddings must be at least 1"),
    (lambda: fc.embedding(3, 2, padding_idx=-4), ValueError, "embedding: padding_idx must be at least -3, got -4"),
    (lambda: F.bilinear(T, T[:, :1], W), ValueError, "bilinear: expected 2 and 3 input features on the last axes"),
    (lambda: F.bilinear(T, T[:3], W), ValueError, "bilinear: expected two inputs of shapes (..., in1_features)"),
    (lambda: F.bilinear(T[0, 0], T[0], W), ValueError, "bilinear: expected two inputs of shapes (..., in1_features)"),
    (lambda: F.bilinear(T[0], T[0, 0], W), ValueError, "bilinear: expected two inputs of shapes (..., in1_features)"),
    (lambda: F.bilinear(T, T, W[0]), ValueError, "bilinear: expected a weight of shape (out_features, in1_features"),
    (lambda: F.bilinear(T, np.ones((5, 3), np.float32), W, T[0]), ValueError, "bilinear: expected a bias of shape (4,)"),
    (lambda: fc.bilinear(0), ValueError, "bilinear: out_features must be at least 1"),
    (lambda: fc.bilinear(3).init(KEY, (2, 3, 4)), TypeError, "bilinear: expected a pair of shapes (x1, x2), got 3"),
    (lambda: fc.bilinear(3).apply({"weight": W, "bias": T}, T), TypeError, "bilinear: expected a pair of arrays (x1"),
    (lambda: fc.bilinear(3).out_shape(((2, 3), (4, 3))), ValueError, "bilinear: expected two inputs"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input_is_named(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()
