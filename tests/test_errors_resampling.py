"""Bad input of transposed convolution, padding, unfold, pooling and resampling."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F

X = np.ones((2, 3, 8, 8), np.float32)
W = np.ones((3, 2, 3, 3), np.float32)

REFUSED = [
    (lambda: F.conv_transpose2d(X[0, 0], W), "conv_transpose2d: expected an input of 4 axes (N, C, H, W)"),
    (lambda: F.conv_transpose2d(X, W[0]), "conv_transpose2d: expected a weight of 4 axes (in_channels"),
    (lambda: F.conv_transpose2d(X[:, :2], W), "conv_transpose2d: expected 3 input channels, got 2"),
    (lambda: F.conv_transpose2d(X, W, W[0, 0, 0]), "conv_transpose2d: expected a bias of shape (2,)"),
    (lambda: F.conv_transpose2d(X, W, groups=2), "conv_transpose2d: groups must divide in_channels"),
    (lambda: F.conv_transpose2d(X, W, output_padding=1), "conv_transpose2d: output_padding must be smaller"),
    (lambda: F.conv_transpose2d(X, W, padding=9), "conv_transpose2d: expected sizes that leave an output"),
    (lambda: F.conv_transpose2d(X, W, stride=0), "conv_transpose2d: stride must be at least 1, got 0"),
    (lambda: fc.conv_transpose2d(4, 3, groups=3), "conv_transpose2d: groups must divide out_channels"),
    (lambda: fc.conv_transpose2d(4, 3, output_padding=2), "conv_transpose2d: output_padding must be smaller"),
]


@pytest.mark.parametrize(("call", "text"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input_is_named(call, text):
    with pytest.raises((ValueError, TypeError), match=re.escape(text)):
        call()
