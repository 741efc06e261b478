"""Blocks that networks are built of, as compositions of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape
from fconv.geometry import Padding, Size, check_rank
from fconv.initializers import kaiming_normal, normal, zeros
from fconv.layer import Layer, LayerPullback, Params, Rebuilding, Wiring, as_layer, buffers_of
from fconv.layers import adaptive_avg_pool2d, batch_norm, conv2d, linear, relu, sigmoid
from fconv.layers.from_function import check_shape
from fconv.networks import compose, graph, multiply
from fconv.options import whole

__all__ = ["depthwise_separable_conv2d", "squeeze_excitation"]


@constructor
def depthwise_separable_conv2d(
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    bias: bool = True,
    depth_multiplier: int = 1,
    between: Layer | None = None,
) -> Layer:
    """Convolve each channel by itself, then mix the channels by a 1x1 convolution.

    Parameters
    ----------
    out_channels : int
        Number of channels after mixing.
    kernel_size, stride, padding, dilation
        Of the convolution of each channel, as for `conv2d`.
    bias : bool
        Add a bias in both convolutions.
    depth_multiplier : int
        How many filters each channel has.
    between : Layer, optional
        Layer between the two, such as ``compose(batch_norm(), relu())`` in MobileNet.

    Returns
    -------
    Layer
        For (N, C, H, W). Its children, and so the names of its parameters, are ``depthwise``
        with ``weight`` (depth_multiplier * C, 1, kH, kW), ``between`` where there is one, and
        ``pointwise`` with ``weight`` (out_channels, depth_multiplier * C, 1, 1): two
        torch.nn.Conv2d, the first with ``groups=C``.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when the layer is used.

    References
    ----------
    Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision
    applications", 2017.

    Examples
    --------
    >>> from fconv import random
    >>> params = depthwise_separable_conv2d(8, 3).init(random.key(0), (1, 4, 9, 9))
    >>> params["depthwise"]["weight"].shape, params["pointwise"]["weight"].shape
    ((4, 1, 3, 3), (8, 4, 1, 1))
    """
    name = "depthwise_separable_conv2d"
    multiplier = whole(name, "depth_multiplier", depth_multiplier, 1)
    middle = {} if between is None else {"between": as_layer(f"{name}[between]", between)}

    def build(channels: int) -> Layer:
        wide = multiplier * channels
        depthwise = conv2d(
            wide, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=channels, bias=bias
        )
        return compose(depthwise=depthwise, **middle, pointwise=conv2d(out_channels, 1, bias=bias))

    return _by_channels(
        name,
        build,
        {
            "out_channels": out_channels,
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "bias": bias,
            "depth_multiplier": multiplier,
            "between": between,
        },
    )


@constructor
def squeeze_excitation(
    reduction: int = 16,
    *,
    squeeze_channels: int | None = None,
    activation: Layer | None = None,
    scale_activation: Layer | None = None,
) -> Layer:
    """Weight each channel by a gate that the means of all channels set.

    ``y = x * scale_activation(fc2(activation(fc1(mean of x over positions))))``

    Parameters
    ----------
    reduction : int
        The gate is computed in ``max(1, C // reduction)`` channels.
    squeeze_channels : int, optional
        Their number itself, in place of `reduction`.
    activation, scale_activation : Layer, optional
        relu and sigmoid by default.

    Returns
    -------
    Layer
        For (N, C, H, W) or (C, H, W), with the parameters of torchvision's SqueezeExcitation:
        ``fc1.weight``, ``fc1.bias``, ``fc2.weight`` and ``fc2.bias`` of two 1x1 convolutions.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when the layer is used.

    References
    ----------
    Hu, Shen and Sun, "Squeeze-and-excitation networks", 2018.

    Examples
    --------
    >>> from fconv import random
    >>> params = squeeze_excitation(4).init(random.key(0), (1, 8, 5, 5))
    >>> params["fc1"]["weight"].shape, params["fc2"]["weight"].shape
    ((2, 8, 1, 1), (8, 2, 1, 1))
    """
    name = "squeeze_excitation"
    reduction = whole(name, "reduction", reduction, 1)
    if squeeze_channels is not None:
        squeeze_channels = whole(name, "squeeze_channels", squeeze_channels, 1)
    between = relu() if activation is None else as_layer(f"{name}[activation]", activation)
    last = sigmoid() if scale_activation is None else as_layer(f"{name}[scale_activation]", scale_activation)

    def build(channels: int) -> Layer:
        squeezed = max(1, channels // reduction) if squeeze_channels is None else squeeze_channels
        return graph(
            {
                "avgpool": (adaptive_avg_pool2d(1), "x"),
                "fc1": (conv2d(squeezed, 1), "avgpool"),
                "activation": (between, "fc1"),
                "fc2": (conv2d(channels, 1), "activation"),
                "scale_activation": (last, "fc2"),
                "scaled": (multiply(), "x", "scale_activation"),
            }
        )

    options = {"reduction": reduction} if squeeze_channels is None else {"squeeze_channels": squeeze_channels}
    return _by_channels(name, build, {**options, "activation": between, "scale_activation": last})


def _by_channels(name: str, build: Callable[[int], Layer], options: Mapping[str, Any]) -> Layer:
    """Make a layer of pictures that is built once the number of input channels is known."""
    built = lru_cache(maxsize=16)(build)
    # What options say against each other needs no input, and is said at once, by name.
    try:
        built(1)
    except (ValueError, TypeError) as error:
        error.args = (f"{name}: {error}",)
        raise

    def of(shape: Shape) -> Layer:
        shape = check_shape(name, shape)
        check_rank(name, "input", shape, 2)
        if shape[1] == 0:
            raise ValueError(f"{name}: expected channels on axis 1, got shape {shape}")
        return built(shape[1])

    def init(key: Array, shape: Shape, dtype: Any = np.float32) -> Params:
        return of(shape).init(key, shape, dtype)

    def apply(params: Params, x: Array, *, train: bool = False, key: Array | None = None) -> Array:
        return of(x.shape).apply(params, x, train=train, key=key)

    def vjp(
        params: Params, x: Array, g: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Any]:
        return of(x.shape).vjp(params, x, g, train=train, key=key)

    def forward(
        params: Params, x: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Params, LayerPullback]:
        return of(x.shape).forward(params, x, train=train, key=key)

    def out_shape(shape: Shape) -> Shape:
        return of(shape).out_shape(shape)

    def rebuilt(f: Callable[[tuple[str, ...], Layer], Layer]) -> Layer:
        def inside(channels: int) -> Layer:
            layer = build(channels)
            return layer if layer.rebuilding is None else layer.rebuilding.of(f)

        return _by_channels(name, inside, options)

    def wiring(shape: Shape | None) -> Wiring | None:
        if shape is None:
            raise ValueError(
                f"{name}: what it is made of depends on the input's channels; give the input shape"
            )
        return of(shape).wiring(shape)

    return Layer(
        init=init,
        apply=apply,
        vjp=vjp,
        out_shape=out_shape,
        forward=forward,
        name=name,
        options=options,
        wiring=wiring,
        rebuilding=Rebuilding(forward, rebuilt),
        buffers=buffers_of(built(1)),
    )


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
