"""The table of Keras's and Flax's layouts, by the definition that those give their layers: channels last."""

from __future__ import annotations

import numpy as np

import fconv as fc

F = fc.functional
X = fc.random.normal(fc.random.key(0), (2, 5, 6, 3), np.float64)  # (N, H, W, C)
HERE = X.transpose(0, 3, 1, 2)


def windows(k):
    """Windows of X, (N, H', W', C, k, k)."""
    return np.lib.stride_tricks.sliding_window_view(X, (k, k), (1, 2))


def test_convolution():
    kernel = fc.random.normal(fc.random.key(1), (3, 3, 3, 4), np.float64)
    there = np.einsum("nhwcij,ijco->nhwo", windows(3), kernel)
    here = F.conv2d(HERE, kernel.transpose(3, 2, 0, 1))
    np.testing.assert_allclose(here.transpose(0, 2, 3, 1), there, 1e-10)


def test_depthwise_convolution():
    kernel = fc.random.normal(fc.random.key(2), (3, 3, 3, 2), np.float64)
    there = np.einsum("nhwcij,ijcm->nhwcm", windows(3), kernel).reshape(2, 3, 4, 6)
    here = F.conv2d(HERE, kernel.transpose(2, 3, 0, 1).reshape(6, 1, 3, 3), groups=3)
    np.testing.assert_allclose(here.transpose(0, 2, 3, 1), there, 1e-10)


def test_dense_after_flatten():
    kernel = fc.random.normal(fc.random.key(3), (5 * 6 * 3, 7), np.float64)
    weight = kernel.reshape(5, 6, 3, -1).transpose(3, 2, 0, 1).reshape(-1, 3 * 5 * 6)
    np.testing.assert_allclose(F.linear(F.flatten(HERE, 1), weight), X.reshape(2, -1) @ kernel, 1e-10)
