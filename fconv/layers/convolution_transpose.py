"""Transposed convolution layers."""

from __future__ import annotations

from typing import Any

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.engine.plans import check_algorithm
from fconv.functional.protocols import Differentiable
from fconv.geometry import ConvGeometry, Size, check_groups, check_rank, conv_transpose_geometry, whole_tuple
from fconv.initializers import Initializer
from fconv.layer import Layer
from fconv.layers.convolution import affine_leaves
from fconv.layers.from_function import Leaves, from_function, frozen
from fconv.options import whole

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def _conv_transpose(
    function: Differentiable[...],
    ndim: int,
    out_channels: int,
    kernel_size: Size,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    bias: bool,
    dilation: Size,
    weight_init: Initializer | None,
    bias_init: Initializer | None,
    algorithm: str,
) -> Layer:
    name = function.__name__
    out_channels = whole(name, "out_channels", out_channels, 1)
    kernel = whole_tuple(name, "kernel_size", kernel_size, ndim, 1)
    groups = whole(name, "groups", groups, 1)
    check_groups(name, groups, out_channels=out_channels)
    stride, padding, output_padding, dilation = map(frozen, (stride, padding, output_padding, dilation))
    call: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": dilation,
        "groups": groups,
    }

    def weight_shape(shape: Shape) -> Shape:
        check_rank(name, "input", shape, ndim)
        return (shape[1], out_channels // groups, *kernel)

    def geometry(shape: Shape) -> ConvGeometry:
        return conv_transpose_geometry(
            name, ndim, shape, weight_shape(shape), None, stride, padding, output_padding, dilation, groups
        )

    def out_shape(shape: Shape) -> Shape:
        return geometry(shape).in_shape

    def multiply_adds(shape: Shape) -> int:
        return geometry(shape).multiply_adds

    def leaves(shape: Shape) -> Leaves:
        return affine_leaves(weight_shape(shape), out_channels if bias else None, weight_init, bias_init)

    # Checks the options that need no input: an input that is surely large enough.
    large = 1 + max(whole_tuple(name, "padding", padding, ndim, 0)) * 2
    check_algorithm(name, algorithm, geometry((1, groups, *(large,) * ndim)))
    if algorithm != "auto":
        call["algorithm"] = algorithm
    return from_function(
        function,
        call=call,
        options={"out_channels": out_channels, "kernel_size": kernel, **call, "bias": bias},
        out_shape=out_shape,
        ndim=ndim,
        trained=("weight", "bias") if bias else ("weight",),
        leaves=leaves,
        multiply_adds=multiply_adds,
    )


@constructor
def conv_transpose2d(
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    bias: bool = True,
    dilation: Size = 1,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    algorithm: str = "auto",
) -> Layer:
    """Transposed convolution over two spatial axes, (N, C, H, W) to (N, out_channels, H', W').

    Parameters
    ----------
    out_channels : int
        Number of output channels. That of input channels comes from the shape given to `init`.
    kernel_size, stride, padding, output_padding, dilation : int or (int, int)
        As for `fconv.functional.conv_transpose2d`.
    groups : int
        Number of channel groups, each convolved separately.
    bias : bool
        Add a bias to each output channel.
    weight_init, bias_init : Initializer, optional
        From `fconv.initializers`; PyTorch's default U(-1/sqrt(fan), 1/sqrt(fan)) with the fan
        ``out_channels/groups * kH * kW``.
    algorithm : str
        How it is computed on the CPU; see `fconv.functional.conv2d`.

    Returns
    -------
    Layer
        With the parameters ``weight`` (C, out_channels/groups, kH, kW) and ``bias``
        (out_channels,), as torch.nn.ConvTranspose2d has them.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs that do not fit, when the layer is used.

    Examples
    --------
    >>> conv_transpose2d(16, 4, stride=2, padding=1).out_shape((8, 32, 14, 14))
    (8, 16, 28, 28)
    """
    return _conv_transpose(F.conv_transpose2d, 2, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, weight_init, bias_init, algorithm)  # fmt: skip  # noqa: E501


@constructor
def conv_transpose1d(
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    bias: bool = True,
    dilation: Size = 1,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    algorithm: str = "auto",
) -> Layer:
    """Transposed convolution over one spatial axis: `conv_transpose2d` for (N, C, L)."""
    return _conv_transpose(F.conv_transpose1d, 1, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, weight_init, bias_init, algorithm)  # fmt: skip  # noqa: E501


@constructor
def conv_transpose3d(
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    bias: bool = True,
    dilation: Size = 1,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    algorithm: str = "auto",
) -> Layer:
    """Transposed convolution over three spatial axes: `conv_transpose2d` for (N, C, D, H, W)."""
    return _conv_transpose(F.conv_transpose3d, 3, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, weight_init, bias_init, algorithm)  # fmt: skip  # noqa: E501
