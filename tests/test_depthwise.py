"""Depthwise convolution by the compiled engine: in place, at borders, in every memory order."""

import numpy as np
import pytest

import fconv.functional as F
from fconv.engine import compiled, reference
from fconv.geometry import conv_geometry
from tests.convolutions import channels_last

pytestmark = pytest.mark.skipif(not compiled.wished(), reason="nothing is compiled")


@pytest.mark.parametrize("seed", range(64))
def test_depthwise_convolutions_are_the_definition_in_any_memory_order(seed):
    rng = np.random.default_rng(seed)
    ndim, dtype = 1 + seed % 3, ("float32", "float64")[seed // 3 % 2]
    channels = int(rng.choice([2, 16, 17, 40, 48, 100] if seed < 40 else [2, 4, 8]))
    kernel, stride, dilation, padding = (
        rng.integers(*limits, ndim) for limits in ((1, 6), (1, 4), (1, 4), (0, 5))
    )
    size = dilation * (kernel - 1) + 1 + rng.integers(0, (30, 20, 7)[ndim - 1], ndim)

    def draw(*shape):
        return rng.integers(-3, 4, shape).astype(dtype)

    x, weight, bias = draw(2, channels, *size), draw(channels, 1, *kernel), draw(channels)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    options = {name: tuple(map(int, values)) for name, values in options.items()} | {"groups": channels}
    geometry = conv_geometry("conv", ndim, x.shape, weight.shape, None, *options.values())
    g = draw(*geometry.out_shape)
    expected = (
        reference.convolve(x, weight, geometry) + bias.reshape(-1, *[1] * ndim),
        reference.input_gradient(g, weight, geometry),
        reference.weight_gradient(g, x, geometry),
    )
    function, vjp = getattr(F, f"conv{ndim}d"), getattr(F, f"conv{ndim}d_vjp")
    beside = channels_last(np.concatenate([x, x], 1))[:, :channels]  # pixels lie apart
    for xs, gs in ((x, g), (channels_last(x), channels_last(g)), (beside, channels_last(g))):
        found = function(xs, weight, bias, **options), *vjp(gs, xs, weight, bias, **options)[:2]
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("seed", range(24))
def test_scaled_channels_with_padding_are_the_definition(seed):
    """Padding may be wider than a vector, and the picture narrower; rows may lie apart in memory."""
    rng = np.random.default_rng(seed)
    ndim, dtype = 1 + seed % 3, ("float32", "float64")[seed // 3 % 2]
    channels, size = int(rng.choice([2, 3, 20])), rng.integers(1, (70, 24, 9)[ndim - 1], ndim)
    options = {
        "stride": tuple(map(int, rng.integers(1, 3, ndim))),
        "padding": tuple(map(int, rng.integers(0, 20 if ndim == 1 else 5, ndim))),
        "groups": channels,
    }
    x, weight, bias = (
        rng.integers(-3, 4, shape).astype(dtype)
        for shape in ((2, channels, *size), (channels, 1, *[1] * ndim), (channels,))
    )
    function = getattr(F, f"conv{ndim}d")
    expected = function(x, weight, bias, **options, algorithm="reference")
    g = rng.integers(-3, 4, expected.shape).astype(dtype)
    gradients = getattr(F, f"conv{ndim}d_vjp")
    theirs = gradients(g, x, weight, bias, **options, algorithm="reference")
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), dtype)
    wide[..., : x.shape[-1]] = x
    for xs, gs in ((x, g), (channels_last(x), channels_last(g)), (wide[..., : x.shape[-1]], g)):
        np.testing.assert_array_equal(function(xs, weight, bias, **options), expected)
        for ours, other in zip(gradients(gs, xs, weight, bias, **options), theirs, strict=True):
            np.testing.assert_array_equal(ours, other)


def test_infinite_filters_give_the_same_bits_in_any_memory_order():
    x = np.ones((1, 32, 9, 9), np.float32)
    weight = np.ones((32, 1, 3, 3), np.float32)
    weight[3, 0, 0, 1] = np.inf
    y = F.conv2d(x, weight, padding=1, groups=32)
    np.testing.assert_array_equal(F.conv2d(channels_last(x), weight, padding=1, groups=32), y)
    assert np.isnan(y[0, 3, 0]).all()  # infinity times a zero of the padding
    assert np.isinf(y[0, 3, 1:]).all()
