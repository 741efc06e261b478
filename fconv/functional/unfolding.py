"""Windows as columns (im2col), and columns added back to a picture: each the other's adjoint."""

from __future__ import annotations

from math import prod

from fconv.arrays import Array, Shape
from fconv.engine.windows import pad, window_view, windows_adjoint
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.single import for_sample
from fconv.geometry import Size, Windows, check_rank, whole_tuple, window_geometry

__all__ = [
    "fold", "fold_jvp", "fold_vjp",
    "unfold", "unfold_jvp", "unfold_vjp",
]  # fmt: skip


def unfolded_shape(
    shape: Shape, kernel_size: Size, dilation: Size, padding: Size, stride: Size
) -> tuple[Shape, Windows]:
    """Return the shape (N, C kH kW, L) of the columns of a picture (N, C, H, W), and their windows."""
    check_rank("unfold", "input", shape, 2)
    windows = window_geometry("unfold", shape[2:], kernel_size, stride, padding, dilation)
    return (shape[0], shape[1] * prod(windows.kernel), prod(windows.out_size)), windows


def folded_shape(
    shape: Shape, output_size: Size, kernel_size: Size, dilation: Size, padding: Size, stride: Size
) -> tuple[Shape, Windows]:
    """Return the shape (N, C, H, W) of the picture of columns (N, C kH kW, L), and their windows."""
    if len(shape) != 3:
        raise ValueError(f"fold: expected an input of 3 axes (N, C kH kW, L), got shape {shape}")
    size = whole_tuple("fold", "output_size", output_size, 2, 1)
    windows = window_geometry("fold", size, kernel_size, stride, padding, dilation)
    elements, count = prod(windows.kernel), prod(windows.out_size)
    if shape[1] % elements or shape[2] != count:
        raise ValueError(
            f"fold: expected columns of a multiple of {elements} elements and {count} windows "
            f"{windows.out_size}, got input shape {shape}"
        )
    return (shape[0], shape[1] // elements, *size), windows


def _columns(x: Array, windows: Windows) -> Array:
    """Copy the windows of (N, C, H, W) to (N, C kH kW, L)."""
    view = window_view(pad(x, windows.padding), windows).transpose(0, 1, 4, 5, 2, 3)
    return view.reshape(len(x), x.shape[1] * prod(windows.kernel), prod(windows.out_size))


def _picture(columns: Array, windows: Windows) -> Array:
    """Add the windows (N, C kH kW, L) back to (N, C, H, W)."""
    channels = columns.shape[1] // prod(windows.kernel)
    apart = columns.reshape(len(columns), channels, *windows.kernel, *windows.out_size)
    return windows_adjoint(apart.transpose(0, 1, 4, 5, 2, 3), windows)


@differentiable("x", linear=True)
def unfold(
    x: Array, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Definition:
    """Lay the windows of a picture out as columns (im2col), as torch.nn.functional.unfold.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Floating-point.
    kernel_size, dilation, padding, stride : int or (int, int)
        The windows, as for `conv2d`.

    Returns
    -------
    array, shape (N, C kH kW, L)
        Column l holds the elements of window l, channel by channel.

    Raises
    ------
    ValueError, TypeError
        Windows that do not fit, a wrong rank, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> unfold(np.arange(6.0).reshape(1, 1, 2, 3), 2)
    array([[[0., 1.],
            [1., 2.],
            [3., 4.],
            [4., 5.]]])
    """

    def define(x: Array) -> Definition:
        shape, windows = unfolded_shape(x.shape, kernel_size, dilation, padding, stride)
        return shape, once(lambda: _columns(x, windows)), lambda g: _picture(g, windows)

    return for_sample(x, 4, define)


@differentiable("x", linear=True)
def fold(
    x: Array, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Definition:
    """Add columns of windows back to a picture: the adjoint of `unfold`, as torch.nn.functional.fold.

    Parameters
    ----------
    x : array, shape (N, C kH kW, L) or (C kH kW, L)
        Floating-point.
    output_size : int or (int, int)
        Height and width of the picture.
    kernel_size, dilation, padding, stride : int or (int, int)
        The windows, as for `unfold`.

    Returns
    -------
    array, shape (N, C, H, W)
        Each element is the sum over the windows that contain it.

    Raises
    ------
    ValueError, TypeError
        Columns that do not fit the windows, a wrong rank, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> fold(np.ones((1, 4, 2)), (2, 3), 2)
    array([[[[1., 2., 1.],
             [1., 2., 1.]]]])
    """

    def define(x: Array) -> Definition:
        shape, windows = folded_shape(x.shape, output_size, kernel_size, dilation, padding, stride)
        return shape, once(lambda: _picture(x, windows)), lambda g: _columns(g, windows)

    return for_sample(x, 3, define)


fold_jvp, fold_vjp = fold.jvp, fold.vjp
unfold_jvp, unfold_vjp = unfold.jvp, unfold.vjp
