"""Splits, normalising and augmentation as functions of a key."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv import data
from fconv.testing.purity import same_bits

KEY = fc.random.key(0)
X = fc.random.uniform(KEY, (6, 3, 9, 8))


def test_a_split_holds_each_sample_once():
    x, t = np.arange(11), np.arange(11) * 2
    x_train, x_test, t_train, t_test = data.train_test_split(KEY, x, t, test_size=0.25)
    assert (len(x_train), len(x_test)) == (8, 3)
    assert sorted([*x_train, *x_test]) == list(x)
    assert same_bits((2 * x_train, 2 * x_test), (t_train, t_test))
    assert len(data.train_test_split(KEY, x, test_size=4)[1]) == 4
    assert same_bits(data.train_test_split(KEY, x), data.train_test_split(KEY, x))
    assert not same_bits(data.train_test_split(KEY, x), data.train_test_split(fc.random.key(1), x))


def test_normalize():
    mean, std = X.mean(axis=(0, 2, 3)), X.std(axis=(0, 2, 3))
    y = data.normalize(X, mean, std)
    assert y.dtype == X.dtype
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(data.normalize(X[0], 0.5, 0.5), 2 * X[0] - 1, rtol=1e-6)


def test_rotations_beside_scipy():
    from scipy.ndimage import rotate

    x = fc.random.uniform(KEY, (3, 2, 9, 8), np.float64)
    y, again = data.random_rotations(KEY, x, x[:, :1], degrees=60, fill=0.3)
    angles = (2 * fc.random.uniform(KEY, (3,), np.float64) - 1) * 60
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.3)
    for i, angle in enumerate(angles):
        expected = rotate(padded[i], angle, axes=(1, 2), reshape=False, order=1, mode="constant", cval=0.3)
        inside = rotate(np.ones((9, 8)), angle, reshape=False, order=1) > 0.999
        np.testing.assert_allclose(y[i][:, inside], expected[:, 1:-1, 1:-1][:, inside], atol=1e-9)
    assert same_bits(again, y[:, :1])
    assert (y == 0.3).any()


def test_color_jitter_blends():
    assert same_bits(data.color_jitter(KEY, X), X)
    brighter = data.color_jitter(KEY, X / 2, brightness=0.5)
    shares = brighter / (X / 2)
    np.testing.assert_allclose(shares, np.broadcast_to(shares[:, :1, :1, :1], X.shape), rtol=1e-5)
    assert shares.min() >= 0.5
    assert len(np.unique(shares[:, 0, 0, 0].round(5))) == 6
    grey = np.array([0.299, 0.587, 0.114], np.float32)
    middle = 0.4 + X / 5
    flat = data.color_jitter(KEY, middle, contrast=0.9)
    np.testing.assert_allclose(
        np.tensordot(flat, grey, (1, 0)).mean(axis=(1, 2)), np.tensordot(middle, grey, (1, 0)).mean(axis=(1, 2)), rtol=1e-5
    )  # fmt: skip
    dull = data.color_jitter(KEY, middle, saturation=0.9)
    np.testing.assert_allclose(
        np.tensordot(dull, grey, (1, 0)), np.tensordot(middle, grey, (1, 0)), rtol=1e-5
    )
    assert data.color_jitter(KEY, X[:, :1], contrast=5.0, brightness=3.0).max() <= 1


def test_cutout_blanks_one_square():
    y = data.cutout(KEY, X + 1, 3, fill=0.5)
    blank = y == 0.5
    assert same_bits(y[~blank], (X + 1)[~blank])
    for picture in blank:
        rows, columns = picture[0].any(axis=1), picture[0].any(axis=0)
        assert 2 <= rows.sum() <= 3
        assert 2 <= columns.sum() <= 3
        assert (picture == rows[:, None] & columns).all()


def test_mixup_mixes_both_alike():
    t = np.eye(6, dtype=np.float32)
    y, mixed = data.mixup(KEY, X, t, alpha=1.0)
    np.testing.assert_allclose(np.tensordot(mixed, X, (1, 0)), y, rtol=1e-5)
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-6)
    assert len(np.unique(mixed.max(axis=1))) > 2


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: data.train_test_split(KEY), ValueError, "train_test_split: expected arrays of one length, got lengths []"),
    (lambda: data.train_test_split(KEY, X, X[:2]), ValueError, "got lengths [6, 2]"),
    (lambda: data.train_test_split(KEY, X, test_size=6), ValueError, "train_test_split: expected samples in both parts"),
    (lambda: data.train_test_split(KEY, X, test_size=1.5), ValueError, "train_test_split: expected test_size from 0 to 1"),
    (lambda: data.normalize(X, (0.5, 0.5), 1), ValueError, "normalize: expected mean for 3 channels, got 2 numbers"),
    (lambda: data.normalize(X, 0.5, 0), ValueError, "normalize: expected std above 0, got 0"),
    (lambda: data.normalize(X.astype(np.uint8), 0, 1), TypeError, "normalize: expected floating-point pictures"),
    (lambda: data.random_rotations(KEY, X, degrees=-1), ValueError, "random_rotations: expected degrees of 0 or more, got -1"),
    (lambda: data.random_rotations(KEY, X[0], degrees=1), ValueError, "random_rotations: expected pictures (N, C, H, W)"),
    (lambda: data.color_jitter(KEY, X[:, :2]), ValueError, "color_jitter: expected pictures of 1 or 3 channels"),
    (lambda: data.color_jitter(KEY, X, contrast=-1), ValueError, "color_jitter: expected contrast of 0 or more, got -1"),
    (lambda: data.cutout(KEY, X, 0), ValueError, "cutout: size must be at least 1, got 0"),
    (lambda: data.cutout(3, X, 1), TypeError, "cutout"),
    (lambda: data.mixup(KEY, X, np.arange(6)), TypeError, "mixup: expected target in floating point, got int64; one-hot labels"),
    (lambda: data.mixup(KEY, X, np.eye(6), alpha=0), ValueError, "mixup: expected alpha above 0, got 0"),
])  # fmt: skip
def test_errors(make, kind, message):
    with pytest.raises(kind) as caught:
        make()
    assert message in str(caught.value)
