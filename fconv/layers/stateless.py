"""Layers without parameters: activations, pooling, resampling, shapes and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fconv import functional as F
from fconv.arrays import Shape
from fconv.conv.geometry import AMPLE, Size, check_rank, whole
from fconv.functional.core import Differentiable
from fconv.functional.masking import check_probability
from fconv.functional.pooling import pool_geometry
from fconv.functional.resampling import resampled_size
from fconv.functional.shape import flattened_shape, reshaped_shape
from fconv.layer import Layer
from fconv.layers.from_function import from_function


def relu() -> Layer:
    """Rectified linear unit; see `fconv.functional.relu`."""
    return from_function(F.relu)


def sigmoid() -> Layer:
    """Logistic function; see `fconv.functional.sigmoid`."""
    return from_function(F.sigmoid)


def tanh() -> Layer:
    """Hyperbolic tangent; see `fconv.functional.tanh`."""
    return from_function(F.tanh)


def softmax(dim: int = 1) -> Layer:
    """Softmax along `dim`; see `fconv.functional.softmax`."""
    return from_function(F.softmax, call={"dim": dim})


def log_softmax(dim: int = 1) -> Layer:
    """Logarithm of the softmax along `dim`; see `fconv.functional.log_softmax`."""
    return from_function(F.log_softmax, call={"dim": dim})


def identity() -> Layer:
    """Give the input as it is.

    Examples
    --------
    >>> identity().out_shape((2, 3))
    (2, 3)
    """
    return Layer(
        init=lambda key, shape, dtype=None: (),
        apply=lambda params, x, *, train=False, key=None: x,
        vjp=lambda params, x, g, *, train=False, key=None: ((), g),
        out_shape=lambda shape: tuple(shape),
        name="identity",
    )


def _pool(function: Differentiable[...], ndim: int, **call: Any) -> Layer:
    """Make a pooling layer; `call` holds the options of the function."""
    name = function.__name__

    def windows(spatial: Shape) -> Shape:
        return pool_geometry(
            name, spatial, call["kernel_size"], call["stride"], call["padding"],
            call.get("dilation", 1), call["ceil_mode"],
        ).out_size  # fmt: skip

    def out_shape(shape: Shape) -> Shape:
        check_rank(name, "input", shape, ndim)
        return (*shape[:2], *windows(shape[2:]))

    windows(AMPLE[:ndim])
    return from_function(function, call=call, out_shape=out_shape)


def max_pool2d(
    kernel_size: Size,
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


def max_pool1d(
    kernel_size: Size,
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


def max_pool3d(
    kernel_size: Size,
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


def avg_pool2d(
    kernel_size: Size,
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


def avg_pool1d(
    kernel_size: Size,
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


def avg_pool3d(
    kernel_size: Size,
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


def upsample(
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
) -> Layer:
    """Resample the spatial axes; see `fconv.functional.interpolate`.

    Examples
    --------
    >>> upsample(scale_factor=1.5).out_shape((8, 3, 7, 7))
    (8, 3, 10, 10)
    """
    given = scale_factor if size is None else size
    axes = len(given) if isinstance(given, (tuple, list)) else 1
    resampled_size("upsample", AMPLE[:axes], size, scale_factor)

    def out_shape(shape: Shape) -> Shape:
        if not 3 <= len(shape) <= 5:
            raise ValueError(f"upsample: expected an input of 3 to 5 axes (N, C, ...), got shape {shape}")
        return (*shape[:2], *resampled_size("upsample", shape[2:], size, scale_factor)[0])

    call = {"size": size, "scale_factor": scale_factor, "mode": mode}
    return from_function(F.interpolate, name="upsample", call=call, out_shape=out_shape)


def pixel_shuffle(upscale_factor: int) -> Layer:
    """Move channels into space; see `fconv.functional.pixel_shuffle`.

    Examples
    --------
    >>> pixel_shuffle(3).out_shape((1, 9, 20, 30))
    (1, 1, 60, 90)
    """
    r = whole("pixel_shuffle", "upscale_factor", upscale_factor, 1)

    def out_shape(shape: Shape) -> Shape:
        check_rank("pixel_shuffle", "input", shape, 2)
        n, c, h, w = shape
        if c % r**2:
            raise ValueError(f"pixel_shuffle: expected channels that {r}**2 divides, got input shape {shape}")
        return (n, c // r**2, h * r, w * r)

    return from_function(F.pixel_shuffle, call={"upscale_factor": r}, out_shape=out_shape)


def pixel_unshuffle(downscale_factor: int) -> Layer:
    """Move space into channels; see `fconv.functional.pixel_unshuffle`."""
    r = whole("pixel_unshuffle", "downscale_factor", downscale_factor, 1)

    def out_shape(shape: Shape) -> Shape:
        check_rank("pixel_unshuffle", "input", shape, 2)
        n, c, h, w = shape
        if h % r or w % r:
            raise ValueError(f"pixel_unshuffle: expected a picture that {r} divides, got input shape {shape}")
        return (n, c * r**2, h // r, w // r)

    return from_function(F.pixel_unshuffle, call={"downscale_factor": r}, out_shape=out_shape)


def flatten(start_dim: int = 1, end_dim: int = -1) -> Layer:
    """Make the axes from `start_dim` to `end_dim` one; by default all but the batch axis.

    Examples
    --------
    >>> flatten().out_shape((8, 64, 7, 7))
    (8, 3136)
    """

    def out_shape(shape: Shape) -> Shape:
        n = len(shape)
        if not (-n <= start_dim < n and -n <= end_dim < n):
            raise ValueError(
                f"flatten: an input of shape {shape} lacks start_dim {start_dim} or end_dim {end_dim}"
            )
        return flattened_shape("flatten", shape, start_dim % n, end_dim % n)

    return from_function(F.flatten, call={"start_dim": start_dim, "end_dim": end_dim}, out_shape=out_shape)


def reshape(*shape: int) -> Layer:
    """Lay the entries of each sample out in another shape; one size may be -1.

    Examples
    --------
    >>> reshape(64, 7, -1).out_shape((8, 3136))
    (8, 64, 7, 7)
    """

    def whole_shape(x_shape: Shape) -> Shape:
        return (*x_shape[:1], *reshaped_shape("reshape", x_shape[1:], shape))

    return Layer(
        init=lambda key, x_shape, dtype=None: whole_shape(tuple(x_shape)) and (),
        apply=lambda params, x, *, train=False, key=None: F.reshape(x, whole_shape(x.shape)),
        vjp=lambda params, x, g, *, train=False, key=None: (
            (),
            F.reshape_vjp(g, x, whole_shape(x.shape)),
        ),
        out_shape=lambda x_shape: whole_shape(tuple(x_shape)),
        name="reshape",
        options={"shape": shape},
    )


def dropout(p: float = 0.5) -> Layer:
    """In training, set entries to 0 with probability `p`; see `fconv.functional.dropout`.

    Raises
    ------
    ValueError
        `p` is outside [0, 1]; when used in training, no key is given.

    Examples
    --------
    >>> import numpy as np
    >>> dropout(0.5).apply((), np.ones(3), train=True)
    Traceback (most recent call last):
    ValueError: dropout: a key is needed in training (train=True); pass key=fconv.random.key(seed)
    """
    check_probability("dropout", p)
    return from_function(F.dropout, call={"p": p}, random_key=True)
