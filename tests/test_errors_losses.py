"""Bad input to losses: a ValueError or TypeError that names what was expected and what came."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F

X = np.ones((2, 3), np.float32)
HALF = X / 2
T = np.array([1, -1])
P = np.ones((2, 3, 16, 16), np.float32)

SHAPED = ["l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "binary_cross_entropy"]
SHAPED += ["binary_cross_entropy_with_logits", "kl_div", "hinge_embedding_loss", "soft_margin_loss"]

CALLS = [
    *((lambda n=n: getattr(F, n)(X, X[0]), ValueError, f"{n}: expected a target of the input's shape (2, 3), got (3,)") for n in SHAPED),
    *((lambda n=n: getattr(F, n)(HALF, HALF, reduction="abc"), ValueError, f"{n}: expected reduction") for n in SHAPED),
    *((lambda n=n: getattr(F, n)(X, X.astype(complex)), TypeError, f"{n}: ") for n in SHAPED),
    (lambda: F.mse_loss(X, X, "batchmean"), ValueError, 'mse_loss: expected reduction "mean", "sum" or "none", got \'batchmean\''),
    (lambda: F.kl_div(X, X, "abc"), ValueError, 'kl_div: expected reduction "mean", "batchmean", "sum" or "none", got \'abc\''),
    (lambda: F.smooth_l1_loss(X, X, beta=-1), ValueError, "smooth_l1_loss: expected beta of 0 or more, got -1"),
    (lambda: F.smooth_l1_loss(X, X, beta="1"), TypeError, "smooth_l1_loss: expected beta to be a number, got '1'"),
    (lambda: F.huber_loss(X, X, delta=0), ValueError, "huber_loss: expected delta above 0, got 0"),
    (lambda: F.poisson_nll_loss(X, X, eps=-1), ValueError, "poisson_nll_loss: expected eps of 0 or more, got -1"),
    (lambda: F.binary_cross_entropy(2 * X, X), ValueError, "binary_cross_entropy: expected probabilities from 0 to 1, got 2"),
    (lambda: F.binary_cross_entropy(X, X, X[:, :2]), ValueError, "binary_cross_entropy: expected a weight that broadcasts to the input's shape (2, 3), got (2, 2)"),
    (lambda: F.binary_cross_entropy(X, X, X[None]), ValueError, "binary_cross_entropy: expected a weight that broadcasts"),
    (lambda: F.binary_cross_entropy(X, X, X.astype(float)), TypeError, "binary_cross_entropy: x is float32 but weight is float64"),
    (lambda: F.binary_cross_entropy_with_logits(X, X, pos_weight=X[:, :2]), ValueError, "binary_cross_entropy_with_logits: expected a pos_weight that broadcasts"),
    (lambda: F.cross_entropy(X, X, ignore_index=0), ValueError, "cross_entropy: expected a negative ignore_index for probabilities, got 0"),
    (lambda: F.cross_entropy(X, X.astype(float)), TypeError, "cross_entropy: x is float32 but target is float64"),
    (lambda: F.cross_entropy(X, X, X[:, 0]), ValueError, "cross_entropy: expected a weight of shape (3,), got (2,)"),
    (lambda: F.cross_entropy(X, X, label_smoothing="1"), TypeError, "cross_entropy: expected label_smoothing to be a number"),
    (lambda: F.cross_entropy_vjp(1.0, X, np.array([0, 1]), wrt="target"), ValueError, "cross_entropy_vjp: wrt names target, which have no gradient"),
    (lambda: F.gaussian_nll_loss(X, X, -X), ValueError, "gaussian_nll_loss: expected variances of 0 or more"),
    (lambda: F.gaussian_nll_loss(X, X, X[:, :2]), ValueError, "gaussian_nll_loss: expected variances of the input's shape (2, 3)"),
    (lambda: F.gaussian_nll_loss(X, X[:, :2], X), ValueError, "gaussian_nll_loss: expected a target that broadcasts with the input's shape (2, 3), got (2, 2)"),
    (lambda: F.gaussian_nll_loss(X, X, X, eps=0), ValueError, "gaussian_nll_loss: expected eps above 0, got 0"),
    (lambda: F.gaussian_nll_loss(X, X, X, reduction="abc"), ValueError, "gaussian_nll_loss: expected reduction"),
    (lambda: F.margin_ranking_loss(X, X, T), ValueError, "margin_ranking_loss: expected a target of the input's shape"),
    (lambda: F.margin_ranking_loss(X, X[0], X), ValueError, "margin_ranking_loss: expected an x2 of the input's shape"),
    (lambda: F.margin_ranking_loss(X, X, X, margin=None), TypeError, "margin_ranking_loss: expected margin to be a number, got None"),
    (lambda: F.triplet_margin_loss(X, X, X[:, :2]), ValueError, "triplet_margin_loss: expected a negative of the input's shape (2, 3), got (2, 2)"),
    (lambda: F.triplet_margin_loss(X, X[0], X), ValueError, "triplet_margin_loss: expected a positive of the input's shape"),
    (lambda: F.triplet_margin_loss(*[X[0, 0].reshape(())] * 3), ValueError, "triplet_margin_loss: expected an anchor of shape (..., D), got shape ()"),
    (lambda: F.triplet_margin_loss(X, X, X, margin=-1.0), ValueError, "triplet_margin_loss: expected margin above 0, got -1"),
    (lambda: F.triplet_margin_loss(X, X, X, p=-1), ValueError, "triplet_margin_loss: expected p of 0 or more, got -1"),
    (lambda: F.triplet_margin_loss(X, X, X, reduction="abc"), ValueError, "triplet_margin_loss: expected reduction"),
    (lambda: F.cosine_embedding_loss(X, X, X), ValueError, "cosine_embedding_loss: expected a target of shape (2,), got (2, 3)"),
    (lambda: F.cosine_embedding_loss(X[None], X[None], T), ValueError, "cosine_embedding_loss: expected an x1 of shape (N, D) or (D,), got (1, 2, 3)"),
    (lambda: F.cosine_embedding_loss(X, X[0], T), ValueError, "cosine_embedding_loss: expected an x2 of the input's shape"),
    (lambda: F.ssim(X, X), ValueError, "ssim: expected pictures of shape (N, C, H, W) or (C, H, W), got (2, 3)"),
    (lambda: F.ssim(P, P[:1]), ValueError, "ssim: expected a target of the input's shape"),
    (lambda: F.ssim(P[..., :5], P[..., :5]), ValueError, "ssim: expected pictures of at least 11 x 11, got shape (2, 3, 16, 5)"),
    (lambda: F.ssim(P, P, kernel_size=4), ValueError, "ssim: expected an odd kernel_size, got 4"),
    (lambda: F.ssim(P, P, kernel_size=3.0), TypeError, "ssim: kernel_size must be an integer, got 3.0"),
    (lambda: F.ssim(P, P, 0), ValueError, "ssim: expected data_range above 0, got 0"),
    (lambda: F.ssim(P, P, sigma=0), ValueError, "ssim: expected sigma above 0, got 0"),
    (lambda: F.ssim(P, P, k2=-1), ValueError, "ssim: expected k2 of 0 or more, got -1"),
    (lambda: F.psnr(P, P, -1), ValueError, "psnr: expected data_range above 0, got -1"),
    (lambda: F.total_variation(X), ValueError, "total_variation: expected pictures of shape"),
    (lambda: F.total_variation(P, "abc"), ValueError, "total_variation: expected reduction"),
    (lambda: fc.l1_loss(reduction="abc"), ValueError, "l1_loss: expected reduction"),
    (lambda: fc.smooth_l1_loss(beta=-1), ValueError, "smooth_l1_loss: expected beta of 0 or more"),
    (lambda: fc.huber_loss(delta=0), ValueError, "huber_loss: expected delta above 0"),
    (lambda: fc.bce_loss(reduction="abc"), ValueError, "bce_loss: expected reduction"),
    (lambda: fc.bce_with_logits_loss(reduction="abc"), ValueError, "bce_with_logits_loss: expected reduction"),
    (lambda: fc.kl_div_loss(reduction="abc"), ValueError, "kl_div_loss: expected reduction"),
    (lambda: fc.triplet_margin_loss(margin=0), ValueError, "triplet_margin_loss: expected margin above 0"),
    (lambda: fc.hinge_embedding_loss(margin="1"), TypeError, "hinge_embedding_loss: expected margin to be a number"),
    (lambda: fc.ssim_loss(sigma=0), ValueError, "ssim_loss: expected sigma above 0"),
    (lambda: fc.ssim_loss(kernel_size=2), ValueError, "ssim_loss: expected an odd kernel_size"),
    (lambda: fc.cross_entropy_loss(label_smoothing=2), ValueError, "cross_entropy_loss: expected label_smoothing from 0 to 1, got 2"),
    (lambda: fc.margin_ranking_loss().apply(X, X), TypeError, "margin_ranking_loss: expected y to be a tuple (x1, x2), got ndarray"),
    (lambda: fc.triplet_margin_loss().vjp((X, X), None), TypeError, "triplet_margin_loss: expected y to be a tuple (anchor, positive, negative), got a tuple of 2"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), CALLS, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input_is_named(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()
