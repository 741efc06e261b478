"""Pooling."""

from __future__ import annotations

from typing import Any

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.pooling_avg import check_norm_type
from fconv.functional.pooling_windows import pool_geometry
from fconv.functional.protocols import Differentiable
from fconv.geometry import AMPLE, Size
from fconv.layer import Layer
from fconv.layers.from_function import from_function, frozen

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]


def _pool(function: Differentiable[...], ndim: int, **call: Any) -> Layer:
    """Make a pooling layer; `call` holds the options of the function."""
    name = function.__name__
    call = {option: frozen(value) for option, value in call.items()}

    def windows(spatial: Shape) -> Shape:
        return pool_geometry(
            name, spatial, call["kernel_size"], call["stride"], call.get("padding", 0),
            call.get("dilation", 1), call["ceil_mode"],
        ).out_size  # fmt: skip

    def out_shape(shape: Shape) -> Shape:
        return (*shape[:2], *windows(shape[2:]))

    windows(AMPLE[:ndim])
    return from_function(function, call=call, out_shape=out_shape, ndim=ndim)


@constructor
def max_pool1d(
    kernel_size: Size,
    *,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Layer:
    """Maximum over windows of one spatial axis; see `fconv.functional.max_pool1d`."""
    return _pool(
        F.max_pool1d,
        1,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


@constructor
def max_pool2d(
    kernel_size: Size,
    *,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Layer:
    """Maximum over windows of two spatial axes; see `fconv.functional.max_pool2d`.

    Examples
    --------
    >>> max_pool2d(2).out_shape((8, 3, 28, 28))
    (8, 3, 14, 14)
    """
    return _pool(
        F.max_pool2d,
        2,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


@constructor
def max_pool3d(
    kernel_size: Size,
    *,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Layer:
    """Maximum over windows of three spatial axes; see `fconv.functional.max_pool3d`."""
    return _pool(
        F.max_pool3d,
        3,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


@constructor
def avg_pool1d(
    kernel_size: Size,
    *,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer:
    """Mean over windows of one spatial axis; see `fconv.functional.avg_pool1d`."""
    return _pool(
        F.avg_pool1d,
        1,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


@constructor
def avg_pool2d(
    kernel_size: Size,
    *,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Layer:
    """Mean over windows of two spatial axes; see `fconv.functional.avg_pool2d`.

    Examples
    --------
    >>> avg_pool2d(3, stride=2, padding=1).out_shape((8, 3, 28, 28))
    (8, 3, 14, 14)
    """
    return _pool(
        F.avg_pool2d,
        2,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )


@constructor
def avg_pool3d(
    kernel_size: Size,
    *,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Layer:
    """Mean over windows of three spatial axes; see `fconv.functional.avg_pool3d`."""
    return _pool(
        F.avg_pool3d,
        3,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )


@constructor
def lp_pool1d(
    norm_type: float, kernel_size: Size, *, stride: Size | None = None, ceil_mode: bool = False
) -> Layer:
    """Power mean over windows of one spatial axis; see `fconv.functional.lp_pool1d`."""
    check_norm_type("lp_pool1d", norm_type)
    return _pool(
        F.lp_pool1d, 1, norm_type=norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode
    )


@constructor
def lp_pool2d(
    norm_type: float, kernel_size: Size, *, stride: Size | None = None, ceil_mode: bool = False
) -> Layer:
    """Power mean over windows of two spatial axes; see `fconv.functional.lp_pool2d`."""
    check_norm_type("lp_pool2d", norm_type)
    return _pool(
        F.lp_pool2d, 2, norm_type=norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode
    )


@constructor
def lp_pool3d(
    norm_type: float, kernel_size: Size, *, stride: Size | None = None, ceil_mode: bool = False
) -> Layer:
    """Power mean over windows of three spatial axes; see `fconv.functional.lp_pool3d`."""
    check_norm_type("lp_pool3d", norm_type)
    return _pool(
        F.lp_pool3d, 3, norm_type=norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode
    )
