"""Bad input of transposed convolution, padding, unfold, pooling and resampling."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F

X = np.ones((2, 3, 8, 8), np.float32)
PLACES = np.zeros(X.shape, np.int64)
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
    (lambda: F.pad(X, 3), "pad: expected a sequence of widths, the last axis first, got 3"),
    (lambda: F.pad(X, (1, 2, 3)), "pad: expected two widths an axis, the last first, got (1, 2, 3)"),
    (lambda: F.pad(X, (1,) * 10), "pad: expected two widths an axis"),
    (lambda: F.pad(X, (1, 1.5)), "pad: a width must be an integer, got 1.5"),
    (lambda: F.pad(X, (1, 1), "mirror"), "pad: expected a mode of constant, reflect, replicate, circular"),
    (lambda: F.pad(X, (1, 1), "reflect"), "pad: expected widths for all spatial axes of (C, ...) or (N"),
    (lambda: F.pad(X, (8, 0, 0, 0), "reflect"), "pad: widths 8 and 0 do not fit an axis of 8 with mode"),
    (lambda: F.pad(X, (0, 9, 0, 0), "circular"), "pad: widths 0 and 9 do not fit an axis of 8"),
    (lambda: F.pad(X, (-5, -4)), "pad: widths -5 and -4 do not fit an axis of 8 with mode 'constant'"),
    (lambda: F.pad(X, (1, 1, 1, 1), "reflect", 1.0), 'pad: only mode "constant" takes a value'),
    (lambda: fc.pad((1, 1), mode="mirror"), "pad: expected a mode of constant"),
    (lambda: fc.conv2d(4, 3, padding_mode="constant"), "conv2d: expected a padding_mode of zeros, reflect"),
    (
        lambda: fc.conv2d(4, 3, padding=8, padding_mode="reflect").init(fc.random.key(0), X.shape),
        "conv2d: widths 8 and 8 do not fit an axis of 8 with mode 'reflect'",
    ),
    (lambda: F.unfold(X[0, 0], 2), "unfold: expected an input of 4 axes (N, C, H, W), got shape (8, 8)"),
    (lambda: F.unfold(X, 9), "unfold: a window of 9"),
    (lambda: F.fold(X, 4, 2), "fold: expected an input of 3 axes (N, C kH kW, L)"),
    (lambda: F.fold(X[0], 4, 2), "fold: expected columns of a multiple of 4 elements and 9 windows (3, 3)"),
    (lambda: fc.unfold(0), "unfold: kernel_size must be at least 1"),
    (lambda: fc.fold(2, 3), "fold: a window of 3"),
    (lambda: F.max_pool2d(X[0, 0], 2), "max_pool2d: expected an input of 4 axes"),
    (
        lambda: F.max_pool2d(X[:, :0], 2),
        "max_pool2d: expected an input of which only the batch axis is empty",
    ),
    (lambda: F.lp_pool2d(X, 0, 2), "lp_pool2d: expected a norm_type other than 0, got 0"),
    (lambda: F.lp_pool2d(X, "2", 2), "lp_pool2d: expected norm_type to be a number, got '2'"),
    (
        lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)),
        "adaptive_avg_pool2d: output_size must be one integer or 2",
    ),
    (lambda: F.adaptive_max_pool2d(X, -1), "adaptive_max_pool2d: output_size must be at least 0, got -1"),
    (lambda: F.adaptive_max_pool2d(X[:, :, :0], 2), "adaptive_max_pool2d: expected at least one element"),
    (lambda: F.global_avg_pool(X[0, 0]), "global_avg_pool: expected an input of 3 to 5 axes (N, C, ...)"),
    (
        lambda: F.max_unpool2d(X, PLACES[:1], 2),
        "max_unpool2d: expected indices of the input's shape (2, 3, 8, 8)",
    ),
    (lambda: F.max_unpool2d(X, X, 2), "max_unpool2d: expected integer indices, got numpy array of float32"),
    (
        lambda: F.max_unpool2d(X, PLACES - 1, 2),
        "max_unpool2d: expected indices from 0 to 255 for a plane of (16",
    ),
    (
        lambda: F.max_unpool2d(X, PLACES, 2, output_size=(18, 16)),
        "max_unpool2d: expected an output_size less than",
    ),
    (
        lambda: F.max_unpool2d(X, PLACES, 2, output_size=(16,)),
        "max_unpool2d: expected an output_size of 2 integers",
    ),
    (lambda: fc.lp_pool2d(0, 2), "lp_pool2d: expected a norm_type other than 0"),
    (lambda: fc.adaptive_avg_pool2d("7"), "adaptive_avg_pool2d: output_size must be an integer, got '7'"),
    (
        lambda: F.interpolate(X, 3, mode="linear"),
        "interpolate: expected an input of 3 axes (N, C, ...) for mode",
    ),
    (lambda: F.interpolate(X[0], 3, mode="bicubic"), "interpolate: expected an input of 4 axes (N, C, ...)"),
    (
        lambda: F.interpolate(X, 3, align_corners=True),
        "interpolate: align_corners goes with the modes linear",
    ),
    (lambda: F.interpolate(X, 3, recompute_scale_factor=True), "interpolate: recompute_scale_factor goes"),
    (
        lambda: fc.upsample(size=3, mode="cubist"),
        "upsample: expected mode nearest, nearest-exact, area, linear",
    ),
    (lambda: fc.upsample(size=3, align_corners=False), "upsample: align_corners goes with the modes linear"),
    (lambda: F.channel_shuffle(X, 2), "channel_shuffle: groups must divide the channels, got groups=2 and 3"),
    (
        lambda: F.channel_shuffle(X[0, 0], 2),
        "channel_shuffle: expected an input of 3 axes or more (N, C, ...)",
    ),
    (
        lambda: F.pixel_unshuffle(X[0, 0], 2),
        "pixel_unshuffle: expected an input of 3 axes or more (..., C, H",
    ),
    (lambda: fc.channel_shuffle(0), "channel_shuffle: groups must be at least 1, got 0"),
]


@pytest.mark.parametrize(("call", "text"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input_is_named(call, text):
    with pytest.raises((ValueError, TypeError), match=re.escape(text)):
        call()
