"""Convolution and affine layers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape, namespace
from fconv.engine.cpu.filters import laid_out
from fconv.engine.plans import check_algorithm
from fconv.functional.padding import MODES, check_mode, pad_pairs, padded_shape
from fconv.functional.protocols import Differentiable
from fconv.geometry import (
    AMPLE,
    ConvGeometry,
    Padding,
    Pairs,
    Size,
    check_groups,
    check_rank,
    conv_geometry,
    whole_tuple,
    window_geometry,
)
from fconv.initializers import Initializer, fan_in_uniform
from fconv.layer import Layer, LayerPullback, Params
from fconv.layers.from_function import Leaves, check_shape, from_function, frozen
from fconv.options import whole
from fconv.tangents import layer_jvp

__all__ = ["conv1d", "conv2d", "conv3d", "linear"]


def _conv(
    function: Differentiable[...],
    ndim: int,
    out_channels: int,
    kernel_size: Size,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
    bias: bool,
    padding_mode: str,
    weight_init: Initializer | None,
    bias_init: Initializer | None,
    algorithm: str,
) -> Layer:
    name = function.__name__
    check_mode(name, "a padding_mode", padding_mode, ("zeros", *MODES[1:]))
    if padding_mode != "zeros":
        # The padding goes before the convolution, as a step of its own.
        window = window_geometry(name, AMPLE[:ndim], kernel_size, stride, padding, dilation)
        bare = _conv(
            function, ndim, out_channels, kernel_size, stride, 0, dilation, groups, bias, "zeros",
            weight_init, bias_init, algorithm,
        )  # fmt: skip
        options = {**bare.options, "padding": frozen(padding), "padding_mode": padding_mode}
        return replace(_padded(bare, window.padding, padding_mode), options=options)
    out_channels = whole(name, "out_channels", out_channels, 1)
    kernel = whole_tuple(name, "kernel_size", kernel_size, ndim, 1)
    groups = whole(name, "groups", groups, 1)
    stride = whole_tuple(name, "stride", stride, ndim, 1)
    dilation = whole_tuple(name, "dilation", dilation, ndim, 1)
    if not isinstance(padding, str):
        padding = whole_tuple(name, "padding", padding, ndim, 0)
    call: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    # Checks the options that need no input: a window over an input that is surely large enough.
    ample = conv_geometry(
        name, ndim, (1, groups, *AMPLE[:ndim]), (groups, 1, *kernel), None, stride, padding, dilation, groups
    )
    check_algorithm(name, algorithm, ample)
    if algorithm != "auto":
        call["algorithm"] = algorithm
    check_groups(name, groups, out_channels=out_channels)

    def weight_shape(shape: Shape) -> Shape:
        check_rank(name, "input", shape, ndim)
        check_groups(name, groups, in_channels=shape[1])
        return (out_channels, shape[1] // groups, *kernel)

    def geometry(shape: Shape) -> ConvGeometry:
        weight = weight_shape(shape)
        return conv_geometry(name, ndim, shape, weight, None, stride, padding, dilation, groups)

    def out_shape(shape: Shape) -> Shape:
        return geometry(shape).out_shape

    def multiply_adds(shape: Shape) -> int:
        return geometry(shape).multiply_adds

    def leaves(shape: Shape) -> Leaves:
        return affine_leaves(weight_shape(shape), out_channels if bias else None, weight_init, bias_init)

    return from_function(
        function,
        call=call,
        options={"out_channels": out_channels, "kernel_size": kernel, **call, "bias": bias},
        out_shape=out_shape,
        multiply_adds=multiply_adds,
        trained=("weight", "bias") if bias else ("weight",),
        leaves=leaves,
        ndim=ndim,
        doubt=_channels_last,
    )


def _channels_last(shape: Shape) -> str | None:
    """Return a warning where the last axis seems to hold channels: 3, or 1 or 4 after equal sizes."""
    if len(shape) != 4 or min(shape[1:3]) < 16 or shape[3] not in (1, 3, 4):
        return None
    if shape[3] != 3 and shape[1] != shape[2]:
        return None
    return (
        f"the input of shape {shape} looks channels-last, and {shape[1]} is taken for the channels; "
        f"write x.transpose(0, 3, 1, 2)"
    )


def _padded(layer: Layer, pairs: Pairs, mode: str) -> Layer:
    """Pad the input of a layer; its parameters stay as they are."""
    widths = [width for pair in reversed(pairs) for width in pair]

    def out_shape(shape: Shape) -> Shape:
        check_rank(layer.name, "input", shape, len(pairs))
        return layer.out_shape(padded_shape(shape, pad_pairs(layer.name, shape, widths, mode)))

    def batch(x: Array) -> Array:
        namespace(layer.name, x=x)
        check_rank(layer.name, "input", x.shape, len(pairs))
        return x

    def init(key: Array, shape: Shape, dtype: Any = np.float32) -> Params:
        shape = check_shape(layer.name, shape)
        out_shape(shape)
        return layer.init(key, padded_shape(shape, pairs), dtype)

    def apply(params: Params, x: Array, *, train: bool = False, key: Array | None = None) -> Array:
        return layer.apply(params, F.pad(batch(x), widths, mode), train=train, key=key)

    def vjp(
        params: Params, x: Array, g: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Array]:
        padded, unpad = F.pad.forward(batch(x), widths, mode)
        dparams, dpadded = layer.vjp(params, padded, g, train=train, key=key)
        return dparams, unpad(dpadded)

    def forward(
        params: Params, x: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Params, LayerPullback]:
        padded, unpad = F.pad.forward(batch(x), widths, mode)
        y, params, pull = layer.forward(params, padded, train=train, key=key)

        def pullback(
            g: Array,
            input_grad: bool = True,
            *,
            wrt: Collection[str] | None = None,
            each: tuple[str, ...] = (),
        ) -> tuple[Params, Any]:
            # `from_function` takes these.
            dparams, dpadded = pull(g, input_grad, wrt=wrt, each=each)  # type: ignore[call-arg]
            return dparams, unpad(dpadded) if input_grad else None

        return y, params, pullback

    def jvp(
        params: Params, x: Array, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Any]:
        padded, moved = F.pad(batch(x), widths, mode), None if dx is None else F.pad(dx, widths, mode)
        return layer_jvp(layer, params, padded, dparams, moved, train, key)

    return replace(
        layer,
        init=init,
        apply=apply,
        vjp=vjp,
        jvp=jvp,
        forward=forward,
        out_shape=lambda shape: out_shape(check_shape(layer.name, shape)),
    )


def affine_leaves(
    weight: Shape, bias: int | None, weight_init: Initializer | None, bias_init: Initializer | None
) -> Leaves:
    """Return a weight and a bias with PyTorch's default U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for both."""
    fan_in = prod(weight[1:])
    draw = weight_init or fan_in_uniform(fan_in)

    def filters(key: Array, shape: Shape, dtype: Any) -> Array:
        drawn = draw(key, shape, dtype)
        return laid_out(drawn) if len(shape) > 2 else drawn

    leaves: dict[str, tuple[Shape, Initializer]] = {"weight": (weight, filters)}
    if bias is not None:
        leaves["bias"] = ((bias,), bias_init or fan_in_uniform(fan_in))
    return leaves


@constructor
def conv2d(
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    algorithm: str = "auto",
) -> Layer:
    """Convolution over two spatial axes, (N, C, H, W) to (N, out_channels, H', W').

    Parameters
    ----------
    out_channels : int
        Number of filters. The number of input channels comes from the shape given to `init`.
    kernel_size, stride, dilation : int or (int, int)
        As for `fconv.functional.conv2d`.
    padding : int, (int, int), "same" or "valid"
        Elements around the picture.
    groups : int
        Number of channel groups, each convolved separately.
    bias : bool
        Add a bias to each output channel.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What the padding holds; see `fconv.functional.pad`.
    weight_init, bias_init : Initializer, optional
        From `fconv.initializers`; PyTorch's default U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
    algorithm : str
        How it is computed on the CPU; see `fconv.functional.conv2d`.

    Returns
    -------
    Layer
        With the parameters ``weight`` (out_channels, C/groups, kH, kW) and ``bias``
        (out_channels,), as torch.nn.Conv2d has them.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when the layer is used.

    Examples
    --------
    >>> conv2d(32, 3, padding=1).out_shape((8, 3, 28, 28))
    (8, 32, 28, 28)
    """
    return _conv(F.conv2d, 2, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, weight_init, bias_init, algorithm)  # fmt: skip  # noqa: E501


@constructor
def conv1d(
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    algorithm: str = "auto",
) -> Layer:
    """Convolution over one spatial axis: `conv2d` for (N, C, L)."""
    return _conv(F.conv1d, 1, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, weight_init, bias_init, algorithm)  # fmt: skip  # noqa: E501


@constructor
def conv3d(
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "zeros",
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    algorithm: str = "auto",
) -> Layer:
    """Convolution over three spatial axes: `conv2d` for (N, C, D, H, W)."""
    return _conv(F.conv3d, 3, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, weight_init, bias_init, algorithm)  # fmt: skip  # noqa: E501


@constructor
def linear(
    out_features: int,
    *,
    bias: bool = True,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> Layer:
    """Affine map of the last axis, (..., in_features) to (..., out_features).

    Parameters
    ----------
    out_features : int
        Size of the output's last axis.
    bias : bool
        Add a bias.
    weight_init, bias_init : Initializer, optional
        From `fconv.initializers`; PyTorch's default U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Returns
    -------
    Layer
        With the parameters ``weight`` (out_features, in_features) and ``bias`` (out_features,).

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when the layer is used.

    Examples
    --------
    >>> linear(10).out_shape((8, 64))
    (8, 10)
    """
    out_features = whole("linear", "out_features", out_features, 1)

    def out_shape(shape: Shape) -> Shape:
        if not shape:
            raise ValueError("linear: expected an input of shape (..., in_features), got ()")
        return (*shape[:-1], out_features)

    def leaves(shape: Shape) -> Leaves:
        return affine_leaves(
            (out_features, shape[-1]), out_features if bias else None, weight_init, bias_init
        )

    options: dict[str, Any] = {"out_features": out_features, "bias": bias}
    return from_function(
        F.linear,
        options=options,
        out_shape=out_shape,
        multiply_adds=lambda shape: prod(shape) * out_features,
        trained=("weight", "bias") if bias else ("weight",),
        leaves=leaves,
    )
