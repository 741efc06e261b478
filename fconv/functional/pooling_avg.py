"""The mean and the power mean of each window."""

from __future__ import annotations

from itertools import repeat
from math import isinf, isnan, prod

import numpy as np

from fconv.arrays import Array, full_like_order, xp_of
from fconv.engine.windows import crop, pad
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.one_pass import formulas_serve
from fconv.functional.pieces import over_batch
from fconv.functional.pooling_max import max_pool1d, max_pool2d, max_pool3d
from fconv.functional.pooling_windows import pool_geometry, spread_over_windows, window_elements
from fconv.functional.single import for_sample
from fconv.geometry import Size, Windows, check_rank
from fconv.options import number, whole

__all__ = [
    "avg_pool1d", "avg_pool1d_jvp", "avg_pool1d_vjp",
    "avg_pool2d", "avg_pool2d_jvp", "avg_pool2d_vjp",
    "avg_pool3d", "avg_pool3d_jvp", "avg_pool3d_vjp",
    "lp_pool1d", "lp_pool1d_jvp", "lp_pool1d_vjp",
    "lp_pool2d", "lp_pool2d_jvp", "lp_pool2d_vjp",
    "lp_pool3d", "lp_pool3d_jvp", "lp_pool3d_vjp",
]  # fmt: skip

MAX_POOLS = (max_pool1d, max_pool2d, max_pool3d)


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
    def define(x: Array) -> Definition:
        check_rank(name, "input", x.shape, ndim)
        windows = pool_geometry(name, x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
        if divisor_override is not None and not whole(name, "divisor_override", divisor_override, -(1 << 62)):
            raise ValueError(f"{name}: divisor_override must not be 0")
        xp, out_shape = xp_of(x), (*x.shape[:2], *windows.out_size)
        compiled = formulas_serve(x)

        @once
        def scale() -> Array:
            if divisor_override is not None:
                return xp.asarray(1.0 / divisor_override, dtype=x.dtype)
            counts = np.ones((1,) * ndim)
            for axis in range(ndim):
                along = [-1 if other == axis else 1 for other in range(ndim)]
                counts = counts * _elements_counted(windows, axis, count_include_pad).reshape(along)
            return xp.asarray(1.0 / counts, dtype=x.dtype)

        def value() -> Array:
            by = scale()
            if compiled:
                from fconv.engine.compiled.pooling import pooling

                y = pooling(windows).sums(x)
                y *= by
                return y
            y = full_like_order(x, out_shape, 0.0)

            def work(samples: slice) -> None:
                part = y[samples]
                for element in window_elements(pad(x[samples], windows.padding), windows):
                    part += element
                part *= by

            over_batch(x, work)
            return y

        def pullback(g: Array) -> Array:
            if compiled:
                from fconv.engine.compiled.pooling import pooling

                return pooling(windows).repeat(x, g * scale())
            dx, by = full_like_order(x, (*x.shape[:2], *windows.padded_size)), scale()

            def work(samples: slice) -> None:
                spread_over_windows(dx[samples], windows, repeat(g[samples] * by, prod(windows.kernel)))

            over_batch(x, work)
            return crop(dx, windows.padding)

        return out_shape, once(value), pullback

    return for_sample(x, ndim + 2, define)


def _elements_counted(windows: Windows, axis: int, count_include_pad: bool) -> Array:
    """Count the elements of each window along an axis that an average divides by.

    The symmetric padding may count; what `ceil_mode` adds after it never does.
    """
    before, size = windows.padding[axis][0], windows.in_size[axis]
    low, high = (0, size + 2 * before) if count_include_pad else (before, before + size)
    starts = np.arange(windows.out_size[axis]) * windows.stride[axis]
    return np.minimum(starts + windows.kernel[axis], high) - np.maximum(starts, low)


@differentiable("x", linear=True)
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
    x : array, shape (N, C, H, W) or (C, H, W)
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
        Count the padding's zeros as elements of the mean.
    divisor_override : int, optional
        Divide the sums by this instead; not 0.

    Returns
    -------
    array, shape (N, C, H', W')
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Shapes or options that do not fit; an `x` that is not floating-point.

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


@differentiable("x", linear=True)
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


@differentiable("x", linear=True)
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


def _lp_pool(
    name: str, ndim: int, x: Array, norm_type: float, kernel_size: Size, stride: Size | None, ceil_mode: bool
) -> Definition:
    def define(x: Array) -> Definition:
        check_rank(name, "input", x.shape, ndim)
        windows = pool_geometry(name, x.shape[2:], kernel_size, stride, 0, 1, ceil_mode)
        p, xp = check_norm_type(name, norm_type), xp_of(x)
        elements = prod(windows.kernel)
        if isinf(p):
            sign = 1.0 if p > 0 else -1.0
            maxima = once(
                lambda: MAX_POOLS[ndim - 1].forward(sign * abs(x), kernel_size, stride, 0, 1, ceil_mode)
            )
            return (
                (*x.shape[:2], *windows.out_size),
                once(lambda: sign * maxima()[0]),
                lambda g: maxima()[1](g) * xp.sign(x),
                lambda t: MAX_POOLS[ndim - 1].jvp(
                    t * xp.sign(x), sign * abs(x), kernel_size, stride, 0, 1, ceil_mode
                ),
            )

        @once
        def powers() -> Definition:
            with np.errstate(divide="ignore", invalid="ignore"):
                return _avg_pool(name, ndim, x**p, kernel_size, stride, 0, ceil_mode, True, None)

        @once
        def total() -> Array:
            """Sum the powers of each window; one that hangs over the end counts as if it were whole."""
            return powers()[1]() * elements

        def value() -> Array:
            with np.errstate(divide="ignore", invalid="ignore"):
                return total() ** (1.0 / p)

        @once
        def outer() -> Array:
            return xp.where(total() == 0, xp.zeros((), x.dtype), total() ** (1.0 / p - 1.0))

        def pullback(g: Array) -> Array:
            with np.errstate(divide="ignore", invalid="ignore"):
                return powers()[2](g * outer() * elements) * x ** (p - 1.0)

        def push(t: Array) -> Array:
            with np.errstate(divide="ignore", invalid="ignore"):
                summed = _avg_pool(
                    name, ndim, t * x ** (p - 1.0), kernel_size, stride, 0, ceil_mode, True, None
                )[1]()
                return outer() * (summed * elements)

        return (*x.shape[:2], *windows.out_size), once(value), pullback, push

    return for_sample(x, ndim + 2, define)


def check_norm_type(name: str, norm_type: float) -> float:
    """Require an exponent other than 0."""
    p = number(name, "norm_type", norm_type)
    if p == 0 or isnan(p):
        raise ValueError(f"{name}: expected a norm_type other than 0, got {norm_type}")
    return p


@differentiable("x")
def lp_pool2d(
    x: Array, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Definition:
    """Power mean over windows of two spatial axes, ``y = (sum of x**p) ** (1/p)``.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Floating-point.
    norm_type : float
        The exponent p; inf for the largest absolute value, -inf for the smallest.
    kernel_size : int or (int, int)
        Size of a window.
    stride : int or (int, int), optional
        Steps between windows; the kernel size by default.
    ceil_mode : bool
        Let the last window hang over the end. As in PyTorch, the mean of the powers that it
        sees then counts for a whole window.

    Returns
    -------
    array, shape (N, C, H', W')
        NaN for a negative sum, as of an odd p. Where the sum is 0, the gradient is 0.

    Raises
    ------
    ValueError, TypeError
        Shapes or options that do not fit; an `x` that is not floating-point.

    Examples
    --------
    >>> lp_pool2d(np.array([[[[3.0, 4.0]]]]), 2, (1, 2))
    array([[[[5.]]]])
    """
    return _lp_pool("lp_pool2d", 2, x, norm_type, kernel_size, stride, ceil_mode)


@differentiable("x")
def lp_pool1d(
    x: Array, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Definition:
    """Power mean over windows of one spatial axis: `lp_pool2d` for x (N, C, L)."""
    return _lp_pool("lp_pool1d", 1, x, norm_type, kernel_size, stride, ceil_mode)


@differentiable("x")
def lp_pool3d(
    x: Array, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Definition:
    """Power mean over windows of three spatial axes: `lp_pool2d` for x (N, C, D, H, W)."""
    return _lp_pool("lp_pool3d", 3, x, norm_type, kernel_size, stride, ceil_mode)


avg_pool1d_jvp, avg_pool1d_vjp = avg_pool1d.jvp, avg_pool1d.vjp
avg_pool2d_jvp, avg_pool2d_vjp = avg_pool2d.jvp, avg_pool2d.vjp
avg_pool3d_jvp, avg_pool3d_vjp = avg_pool3d.jvp, avg_pool3d.vjp
lp_pool1d_jvp, lp_pool1d_vjp = lp_pool1d.jvp, lp_pool1d.vjp
lp_pool2d_jvp, lp_pool2d_vjp = lp_pool2d.jvp, lp_pool2d.vjp
lp_pool3d_jvp, lp_pool3d_vjp = lp_pool3d.jvp, lp_pool3d.vjp
