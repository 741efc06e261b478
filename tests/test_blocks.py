"""Blocks keep the contract of layers, and are what their names say."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F
from fconv.testing import check_layer

KEY = fc.random.key(0)
X = fc.random.normal(KEY, (2, 4, 5, 6))

BLOCKS = {
    "squeeze_excitation": fc.squeeze_excitation(2),
    "squeeze_excitation of one channel": fc.squeeze_excitation(16),
    "squeeze_excitation otherwise": fc.squeeze_excitation(
        squeeze_channels=3, activation=fc.tanh(), scale_activation=fc.tanh()
    ),
    "depthwise_separable_conv2d": fc.depthwise_separable_conv2d(3, 3, padding=1),
    "depthwise_separable_conv2d as in MobileNet": fc.depthwise_separable_conv2d(
        3,
        3,
        stride=2,
        padding=1,
        bias=False,
        depth_multiplier=2,
        between=fc.compose(fc.batch_norm(), fc.tanh()),
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (1, 4, 3, 3)])
def test_block_keeps_the_contract(name, shape):
    check_layer(BLOCKS[name], fc.random.normal(KEY, shape))


@pytest.mark.parametrize("name", BLOCKS)
def test_block_takes_empty_batches_and_no_samples(name):
    layer = BLOCKS[name]
    params = layer.init(KEY, X.shape)
    empty = layer.apply(params, X[:0])
    assert empty.shape == layer.out_shape((0, 4, 5, 6))
    assert repr(layer).startswith(layer.name)
    with pytest.raises(ValueError, match=rf"^{layer.name}: .*; the batch axis seems to be missing"):
        layer.apply(params, X[0])


def test_squeeze_excitation_is_its_definition():
    layer = fc.squeeze_excitation(2)
    params = layer.init(KEY, X.shape, np.float64)
    x = X.astype(np.float64)
    names = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert list(fc.to_state_dict(params)) == names
    one, two = params["fc1"], params["fc2"]
    hidden = F.relu(F.linear(x.mean((2, 3)), one["weight"][:, :, 0, 0], one["bias"]))
    gate = F.sigmoid(F.linear(hidden, two["weight"][:, :, 0, 0], two["bias"]))
    np.testing.assert_allclose(layer.apply(params, x), x * gate[:, :, None, None], rtol=1e-12)


def test_depthwise_separable_convolution_is_two_convolutions():
    layer = fc.depthwise_separable_conv2d(3, (3, 2), stride=2, padding=1, depth_multiplier=2)
    params = layer.init(KEY, X.shape)
    first, second = params["depthwise"], params["pointwise"]
    assert first["weight"].shape == (8, 1, 3, 2)
    y = F.conv2d(
        F.conv2d(X, first["weight"], first["bias"], 2, 1, groups=4), second["weight"], second["bias"]
    )
    np.testing.assert_array_equal(layer.apply(params, X), y)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: fc.squeeze_excitation(0), ValueError, "squeeze_excitation: reduction must be at least 1"),
        (
            lambda: fc.squeeze_excitation(squeeze_channels=0),
            ValueError,
            "squeeze_excitation: squeeze_channels must be at least 1",
        ),
        (
            lambda: fc.squeeze_excitation(activation=fc.relu),
            TypeError,
            "squeeze_excitation[activation]: expected a layer, got function relu",
        ),
        (
            lambda: fc.squeeze_excitation().init(KEY, (2, 3)),
            ValueError,
            "squeeze_excitation: expected an input of 4 axes (N, C, H, W)",
        ),
        (
            lambda: fc.depthwise_separable_conv2d(0, 3),
            ValueError,
            "depthwise_separable_conv2d: conv2d: out_channels must be at least 1",
        ),
        (
            lambda: fc.depthwise_separable_conv2d(3, 3).out_shape((2, 3)),
            ValueError,
            "depthwise_separable_conv2d: expected an input of 4 axes (N, C, H, W)",
        ),
        (
            lambda: fc.depthwise_separable_conv2d(3, 3, depth_multiplier=0),
            ValueError,
            "depthwise_separable_conv2d: depth_multiplier must be at least 1",
        ),
    ],
)
def test_bad_input_is_named(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()
