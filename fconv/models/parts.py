"""Blocks that several networks share."""

from __future__ import annotations

from fconv.initializers import kaiming_normal, normal, zeros
from fconv.layer import Layer
from fconv.layers import batch_norm, conv2d, linear
from fconv.networks import compose


def he_conv(
    channels: int, kernel_size: int, stride: int = 1, *, groups: int = 1, bias: bool = False
) -> Layer:
    """Convolve with padding that keeps the size, weights drawn by He's rule over fan_out, biases 0."""
    return conv2d(
        channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups, bias=bias,
        weight_init=kaiming_normal(mode="fan_out"), bias_init=zeros(),
    )  # fmt: skip


def small_linear(features: int) -> Layer:
    """Map affinely with weights drawn from a normal distribution of width 0.01, biases 0."""
    return linear(features, weight_init=normal(std=0.01), bias_init=zeros())


def conv_norm(channels: int, kernel_size: int, activation: Layer, stride: int = 1, groups: int = 1) -> Layer:
    """Convolve, normalise over the batch, apply an activation: named 0, 1 and 2."""
    return compose(he_conv(channels, kernel_size, stride, groups=groups), batch_norm(), activation)
