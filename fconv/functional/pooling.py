"""Pooling over windows: one loop over kernel positions for every rank."""

from __future__ import annotations

from math import inf

import numpy as np

from fconv.arrays import Array, full_like_order, xp_of
from fconv.conv.geometry import Size, Windows, check_rank, whole, whole_tuple, window_geometry
from fconv.conv.windows import crop, kernel_offsets, pad
from fconv.functional.core import Definition, differentiable, once

__all__ = [
    "avg_pool1d",
    "avg_pool1d_vjp",
    "avg_pool2d",
    "avg_pool2d_vjp",
    "avg_pool3d",
    "avg_pool3d_vjp",
    "max_pool1d",
    "max_pool1d_vjp",
    "max_pool2d",
    "max_pool2d_vjp",
    "max_pool3d",
    "max_pool3d_vjp",
]


def pool_geometry(
    name: str,
    spatial: tuple[int, ...],
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
) -> Windows:
    """Work out pooling windows; the stride is the kernel size where none is given."""
    n = len(spatial)
    kernel = whole_tuple(name, "kernel_size", kernel_size, n, 1)
    pads = whole_tuple(name, "padding", padding, n, 0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ValueError(
            f"{name}: padding must be at most half the kernel_size, "
            f"got padding {pads} and kernel_size {kernel}"
        )
    return window_geometry(
        name, spatial, kernel, kernel if stride is None else stride, pads, dilation, ceil_mode
    )


def _max_pool(
    name: str,
    ndim: int,
    x: Array,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
) -> Definition:
    check_rank(name, "input", x.shape, ndim)
    windows = pool_geometry(name, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    xp = xp_of(x)
    offsets = [index for _, index in kernel_offsets(windows)]
    padded = once(lambda: pad(x, windows.padding, -inf))

    def value() -> Array:
        y = padded()[offsets[0]].copy(order="K")
        for index in offsets[1:]:
            xp.maximum(y, padded()[index], out=y)  # NaN wins, as in PyTorch
        return y

    @once
    def choice() -> Array:
        """Find the kernel position that each window takes: the first maximum, or the last NaN."""
        best = padded()[offsets[0]].copy(order="K")
        chosen = xp.zeros_like(best, dtype=np.int32)
        for number, index in enumerate(offsets[1:], 1):
            entry = padded()[index]
            better = (entry > best) | xp.isnan(entry)
            xp.copyto(best, entry, where=better)
            xp.copyto(chosen, number, where=better)
        return chosen

    def pullback(g: Array) -> Array:
        dx = full_like_order(x, (*x.shape[:2], *windows.padded_size))
        for number, index in enumerate(offsets):
            dx[index] += xp.where(choice() == number, g, xp.zeros((), g.dtype))
        return crop(dx, windows.padding)

    return (*x.shape[:2], *windows.out_size), once(value), pullback


@differentiable("x")
def max_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Definition:
    """Maximum over windows of two spatial axes.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating-point.
    kernel_size : int or (int, int)
        Size of a window.
    stride : int or (int, int), optional
        Steps between windows; the kernel size by default.
    padding : int or (int, int)
        Entries of -inf on both sides, at most half the kernel size.
    dilation : int or (int, int)
        Steps between a window's entries.
    ceil_mode : bool
        Let the last window hang over the end.

    Returns
    -------
    array, shape (N, C, H', W')
        NaN where a window holds a NaN. The gradient goes to the first maximum of a window
        (to the last NaN where there is one), as in PyTorch.

    Raises
    ------
    ValueError, TypeError
        Shapes or options that do not fit; `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode)


@differentiable("x")
def max_pool1d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Definition:
    """Maximum over windows of one spatial axis: `max_pool2d` for x (N, C, L)."""
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode)


@differentiable("x")
def max_pool3d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Definition:
    """Maximum over windows of three spatial axes: `max_pool2d` for x (N, C, D, H, W)."""
    return _max_pool("max_pool3d", 3, x, kernel_size, stride, padding, dilation, ceil_mode)


def _avg_pool(
    name: str,
    ndim: int,
    x: Array,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Definition:
    check_rank(name, "input", x.shape, ndim)
    windows = pool_geometry(name, x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is not None:
        whole(name, "divisor_override", divisor_override, 1)
    xp = xp_of(x)

    @once
    def scale() -> Array:
        if divisor_override is not None:
            return xp.asarray(1.0 / divisor_override, dtype=x.dtype)
        counts = np.ones((1,) * ndim)
        for axis in range(ndim):
            along = [-1 if other == axis else 1 for other in range(ndim)]
            counts = counts * _entries_counted(windows, axis, count_include_pad).reshape(along)
        return xp.asarray(1.0 / counts, dtype=x.dtype)

    def value() -> Array:
        padded = pad(x, windows.padding)
        y = full_like_order(x, (*x.shape[:2], *windows.out_size))
        for _, index in kernel_offsets(windows):
            y += padded[index]
        y *= scale()
        return y

    def pullback(g: Array) -> Array:
        dx = full_like_order(x, (*x.shape[:2], *windows.padded_size))
        share = g * scale()
        for _, index in kernel_offsets(windows):
            dx[index] += share
        return crop(dx, windows.padding)

    return (*x.shape[:2], *windows.out_size), once(value), pullback


def _entries_counted(windows: Windows, axis: int, count_include_pad: bool) -> Array:
    """Count the entries of each window along an axis that an average divides by.

    The symmetric padding may count; what `ceil_mode` adds after it never does.
    """
    before, size = windows.padding[axis][0], windows.in_size[axis]
    low, high = (0, size + 2 * before) if count_include_pad else (before, before + size)
    starts = np.arange(windows.out_size[axis]) * windows.stride[axis]
    return np.minimum(starts + windows.kernel[axis], high) - np.maximum(starts, low)


@differentiable("x")
def avg_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Definition:
    """Mean over windows of two spatial axes.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating-point.
    kernel_size : int or (int, int)
        Size of a window.
    stride : int or (int, int), optional
        Steps between windows; the kernel size by default.
    padding : int or (int, int)
        Zeros on both sides, at most half the kernel size.
    ceil_mode : bool
        Let the last window hang over the end.
    count_include_pad : bool
        Count the padding's zeros as entries of the mean.
    divisor_override : int, optional
        Divide the sums by this instead.

    Returns
    -------
    array, shape (N, C, H', W')
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Shapes or options that do not fit; `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    return _avg_pool(
        "avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@differentiable("x")
def avg_pool1d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Definition:
    """Mean over windows of one spatial axis: `avg_pool2d` for x (N, C, L)."""
    return _avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@differentiable("x")
def avg_pool3d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Definition:
    """Mean over windows of three spatial axes: `avg_pool2d` for x (N, C, D, H, W)."""
    return _avg_pool(
        "avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


max_pool1d_vjp = max_pool1d.vjp
max_pool2d_vjp = max_pool2d.vjp
max_pool3d_vjp = max_pool3d.vjp
avg_pool1d_vjp = avg_pool1d.vjp
avg_pool2d_vjp = avg_pool2d.vjp
avg_pool3d_vjp = avg_pool3d.vjp
