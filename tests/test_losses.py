"""Losses at their edges, as constructors, and beside other libraries' numbers."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F
from tests.convolutions import computing

KEY = fc.random.key(0)
X = fc.random.normal(KEY, (4, 3), np.float64)
UNIT = 0.5 + 0.4 * np.tanh(X)
LABELS = np.array([0, 1, 2, 0])
SIGNS = np.array([1, -1, 1, -1])
PICTURES = fc.random.uniform(KEY, (2, 3, 16, 13), np.float64)

LOSSES = {
    "mse": (fc.mse_loss(), X, X[::-1]),
    "l1": (fc.l1_loss(), X, X[::-1]),
    "smooth_l1": (fc.smooth_l1_loss(beta=0.5), X, X[::-1]),
    "huber": (fc.huber_loss(reduction="sum", delta=0.5), X, X[::-1]),
    "poisson_nll": (fc.poisson_nll_loss(full=True), X, 4 * UNIT),
    "gaussian_nll": (fc.gaussian_nll_loss(), (X, UNIT), X[::-1]),
    "bce": (fc.bce_loss(weight=UNIT[0]), UNIT, UNIT[::-1]),
    "bce_with_logits": (fc.bce_with_logits_loss(pos_weight=UNIT[0]), X, UNIT),
    "nll": (fc.nll_loss(), X, LABELS),
    "cross_entropy": (fc.cross_entropy_loss(reduction="sum"), X, LABELS),
    "cross_entropy of probabilities": (fc.cross_entropy_loss(label_smoothing=0.1), X, UNIT),
    "kl_div": (fc.kl_div_loss(reduction="batchmean"), X, UNIT),
    "hinge_embedding": (fc.hinge_embedding_loss(), X[:, 0], SIGNS),
    "margin_ranking": (fc.margin_ranking_loss(margin=0.5), (X[:, 0], X[:, 1]), SIGNS),
    "soft_margin": (fc.soft_margin_loss(), X[:, 0], SIGNS),
    "triplet_margin": (fc.triplet_margin_loss(swap=True), (X, X[::-1], X[:, ::-1]), None),
    "cosine_embedding": (fc.cosine_embedding_loss(), (X, X[::-1]), SIGNS),
    "ssim": (fc.ssim_loss(), PICTURES, PICTURES[::-1]),
    "total_variation": (fc.total_variation_loss(), PICTURES, None),
    "l1_penalty": (fc.l1_penalty(), X, None),
    "l2_penalty": (fc.l2_penalty(), X, None),
    "sum": (fc.mse_loss() + 0.1 * fc.l1_loss() + fc.total_variation_loss() * 3, PICTURES, PICTURES[::-1]),
    "sum of tuples": (
        0.5 * (fc.gaussian_nll_loss() + 2 * fc.gaussian_nll_loss(full=True)),
        (X, UNIT),
        X[::-1],
    ),
}


def test_every_constructor_is_here():
    built = {name if "penalty" in name else name.partition(" ")[0] + "_loss" for name in LOSSES}
    assert built - {"sum_loss"} == set(fc.losses.__all__) - {"Loss", "losses_by_name"}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_agree_with_their_forward_and_with_differences(name):
    loss, y, target = LOSSES[name]
    several = isinstance(y, tuple)
    value, pullback = loss.forward(y, target)
    assert value.shape == ()
    assert value == loss.apply(y, target)
    dy = pullback(2.0)
    assert isinstance(dy, tuple) == several
    expected, direction, step = 0.0, [], 1e-6
    for i, (mine, direct) in enumerate(
        zip(*((dy, loss.vjp(y, target, 2.0)) if several else ([dy], [loss.vjp(y, target, 2.0)])), strict=True)
    ):
        np.testing.assert_array_equal(mine, direct)
        direction.append(fc.random.normal(fc.random.fold_in(KEY, i), mine.shape, np.float64))
        expected += (mine * direction[-1]).sum()

    def along(t):
        moved = tuple(a + t * d for a, d in zip(y if several else (y,), direction, strict=True))
        return float(loss.apply(moved if several else moved[0], target))

    assert 2 * (along(step) - along(-step)) / (2 * step) == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_logits_of_any_size():
    for dtype in (np.float16, np.float32, np.float64):
        x, one = np.array([1e4, -1e4], dtype), np.ones(2, dtype)
        loss, pull = F.binary_cross_entropy_with_logits.forward(x, one, reduction="none")
        np.testing.assert_array_equal(loss, np.array([0, 1e4], dtype))
        np.testing.assert_array_equal(pull(one)[0], np.array([0, -1], dtype))
        loss, pull = F.binary_cross_entropy_with_logits.forward(x, 0 * one, reduction="none")
        np.testing.assert_array_equal(loss, np.array([1e4, 0], dtype))
        np.testing.assert_array_equal(pull(one)[0], np.array([1, 0], dtype))
        np.testing.assert_array_equal(F.soft_margin_loss(x, one, "none"), np.array([0, 1e4], dtype))
        assert loss.dtype == dtype
    # Not only their sizes: small probabilities keep their digits.
    dx = F.binary_cross_entropy_with_logits_vjp(1.0, np.array([-50.0]), np.array([0.0]))[0]
    np.testing.assert_allclose(dx, np.exp(-50.0), rtol=1e-12)


def test_huge_differences_do_not_overflow_where_a_line_bounds_them():
    x = np.array([1e30], np.float32)
    assert F.huber_loss(x, 0 * x) == np.float32(1e30)
    assert F.smooth_l1_loss(x, 0 * x) == np.float32(1e30)


def test_nan_passes_through():
    x = np.array([[np.nan, 0.5]])
    t = np.array([[1.0, 1.0]])
    for name in ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "kl_div"]:
        loss, pull = getattr(F, name).forward(x, t, reduction="none")
        assert np.isnan(loss[0, 0])
        assert np.isfinite(loss[0, 1])
        assert name == "kl_div" or np.isnan(pull(t)[0][0, 0])
    for name in ["binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss"]:
        loss, pull = getattr(F, name).forward(x, t, reduction="none")
        assert np.isnan(loss[0, 0])
        assert np.isnan(pull(t)[0][0, 0])
    assert np.isnan(F.hinge_embedding_loss(x, -t))
    assert np.isnan(F.margin_ranking_loss(x, t, t))
    assert np.isnan(F.triplet_margin_loss(x, t, t))
    assert np.isnan(F.cosine_embedding_loss(x, t, t[0, :1]))
    assert np.isnan(F.cross_entropy(x, t))


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "kl_div", "binary_cross_entropy"])
def test_the_mean_of_nothing_is_nan_without_a_gradient(name):
    x = np.zeros((0, 3), np.float32)
    loss, pull = getattr(F, name).forward(x, x)
    assert np.isnan(loss)
    assert pull(1.0)[0].shape == x.shape
    assert getattr(F, name)(x, x, reduction="sum") == 0


def test_likeness_agrees_with_scikit_image():
    """Its border treatment is mirrored pixels, and its mean leaves them out: only inner windows count."""
    metrics = pytest.importorskip("skimage.metrics")
    noisy = np.clip(PICTURES + 0.1 * fc.random.normal(KEY, PICTURES.shape, np.float64), 0, 1)
    for data_range in (1.0, 2.0):
        ours = F.ssim(PICTURES, noisy, data_range, reduction="none")
        for n in range(2):
            options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
            theirs = metrics.structural_similarity(
                PICTURES[n], noisy[n], data_range=data_range, channel_axis=0, **options
            )
            assert ours[n] == pytest.approx(theirs, rel=1e-12)
            theirs = metrics.peak_signal_noise_ratio(PICTURES[n], noisy[n], data_range=data_range)
            assert F.psnr(PICTURES[n], noisy[n], data_range) == pytest.approx(theirs, rel=1e-12)
    assert fc.metrics.ssim(PICTURES, noisy) == pytest.approx(float(F.ssim(PICTURES, noisy)))
    assert fc.metrics.psnr(PICTURES, noisy) == pytest.approx(float(F.psnr(PICTURES, noisy)))


def test_likeness_in_float32_of_bright_plain_pictures():
    """Variances that are small beside the means keep their digits."""
    x = 200 + PICTURES
    y = 200 + PICTURES[::-1]
    exact = F.ssim(x, y, 2.0)
    assert F.ssim(x.astype(np.float32), y.astype(np.float32), 2.0) == pytest.approx(float(exact), abs=2e-4)


def test_equal_pictures():
    assert F.ssim(PICTURES, PICTURES) == pytest.approx(1.0, abs=1e-12)
    assert not F.ssim_vjp(1.0, PICTURES, PICTURES)[0].round(12).any()
    assert np.isposinf(F.psnr(PICTURES, PICTURES))
    assert not F.psnr_vjp(1.0, PICTURES, PICTURES)[0].any()
    assert np.isnan(F.ssim(PICTURES[:0], PICTURES[:0]))
    assert F.ssim_vjp(1.0, PICTURES[:0], PICTURES[:0])[0].shape == (0, 3, 16, 13)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("engine", ["compiled", "numpy"])
def test_certain_probabilities_are_labels(engine, reduction):
    """Pass over what has the probability 0, whatever stands there, and take the mean over the samples."""
    x = fc.random.normal(fc.random.key(0), (5, 4, 3), np.float64)
    labels = np.arange(15).reshape(5, 3) * 7 % 4
    certain = np.moveaxis(np.eye(4)[labels], -1, 1)
    x[certain == 0] -= 1.0
    x[0, (labels[0, 0] + 1) % 4, 0] = -np.inf
    with computing(engine):
        expected = F.cross_entropy(x, labels, reduction=reduction)
        np.testing.assert_allclose(F.cross_entropy(x, certain, reduction=reduction), expected, 1e-12)
        g = np.ones_like(expected)
        expected = F.cross_entropy_vjp(g, x, labels, reduction=reduction)
        found = F.cross_entropy_vjp(g, x, certain, reduction=reduction)
    np.testing.assert_allclose(found[0], expected[0], 1e-12, 1e-15)


def test_cross_entropy_of_logits_anywhere_in_memory():
    x = fc.random.normal(fc.random.key(0), (3, 6, 20, 30), np.float64)
    labels = np.arange(3 * 20 * 30).reshape(3, 20, 30) * 7 % 6
    gaps, shifted = np.zeros((3, 6, 40, 30)), x - x.max(axis=1, keepdims=True)
    gaps[:, :, ::2] = x
    shares = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    chosen = np.moveaxis(np.eye(6)[labels], -1, 1)
    expected, gradient = -np.log((shares * chosen).sum(axis=1)).mean(), (shares - chosen) / labels.size
    for order in ([0, 1, 2, 3], [0, 2, 3, 1], [3, 2, 1, 0], [1, 3, 0, 2]):
        laid = x.transpose(order).copy().transpose(np.argsort(order))
        for given in (laid, gaps[:, :, ::2], x[:, ::-1].copy()[:, ::-1]):
            np.testing.assert_allclose(F.cross_entropy(given, labels), expected, 1e-12)
            np.testing.assert_allclose(F.cross_entropy_vjp(1.0, given, labels)[0], gradient, 1e-9, 1e-14)
    same = np.broadcast_to(x[:1], x.shape)
    np.testing.assert_allclose(F.cross_entropy(same, labels), F.cross_entropy(same.copy(), labels), 1e-12)
    lone, two = np.lib.stride_tricks.as_strided(x, (1, 3000), (0, 8)), np.array([2])
    np.testing.assert_allclose(F.cross_entropy(lone, two), F.cross_entropy(lone.copy(), two), 1e-12)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, np.inf])
def test_triplets_at_a_distance_of_1(p):
    """Nothing special happens there, and along an axis all p-norms are one."""
    far, near = np.array([[1.0, 0.0, 0.0]]), np.zeros((1, 3))
    other = np.array([[0.0, 0.0, 3.0]])
    options = {"margin": 5.0, "p": p, "eps": 0.0, "reduction": "sum"}
    np.testing.assert_allclose(F.triplet_margin_loss(near, far, other, **options), 1 - 3 + 5)
    grads = F.triplet_margin_loss_vjp(np.array(1.0), near, far, other, **options)
    np.testing.assert_allclose(grads[0], [[-1.0, 0.0, 1.0]], atol=1e-12)
    np.testing.assert_allclose(grads[1], [[1.0, 0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(grads[2], [[0.0, 0.0, -1.0]], atol=1e-12)


@pytest.mark.parametrize("engine", ["compiled", "numpy"])
def test_smoothed_labels_are_probabilities_and_are_smoothed_alike(engine):
    x = fc.random.normal(fc.random.key(0), (6, 4), np.float64)
    labels = np.arange(6) % 4
    certain, smoothed = np.eye(4)[labels], 0.8 * np.eye(4)[labels] + 0.2 / 4
    expected = -(smoothed * F.log_softmax(x, dim=1)).sum() / 6
    with computing(engine):
        for target, smoothing in ((labels, 0.2), (certain, 0.2), (smoothed, 0.0)):
            found = F.cross_entropy(x, target, label_smoothing=smoothing)
            np.testing.assert_allclose(found, expected, 1e-12)
