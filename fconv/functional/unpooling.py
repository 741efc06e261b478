"""Putting maxima back where max pooling found them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from fconv.arrays import Array, Shape, describe, xp_of
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.single import for_sample
from fconv.geometry import Size, check_rank, whole_tuple
from fconv.options import whole

__all__ = [
    "max_unpool1d", "max_unpool1d_jvp", "max_unpool1d_vjp",
    "max_unpool2d", "max_unpool2d_jvp", "max_unpool2d_vjp",
    "max_unpool3d", "max_unpool3d_jvp", "max_unpool3d_vjp",
]  # fmt: skip


def unpooled_size(
    name: str, in_size: Shape, kernel_size: Size, stride: Size | None, padding: Size, output_size: Any
) -> Shape:
    """Work out the size of the plane that was pooled.

    `output_size` is the size wanted, with or without the batch and channel axes, less than a stride from the
    default ``(in - 1) stride - 2 padding + kernel``; one that cannot have been pooled is a ValueError.
    """
    n = len(in_size)
    kernel = whole_tuple(name, "kernel_size", kernel_size, n, 1)
    steps = kernel if stride is None else whole_tuple(name, "stride", stride, n, 1)
    pads = whole_tuple(name, "padding", padding, n, 0)
    size = tuple((i - 1) * s - 2 * p + k for i, s, p, k in zip(in_size, steps, pads, kernel, strict=True))
    if output_size is not None:
        if not isinstance(output_size, (tuple, list)) or len(output_size) not in (n, n + 2):
            raise ValueError(f"{name}: expected an output_size of {n} integers, got {output_size!r}")
        wanted = tuple(whole(name, "output_size", out, 0) for out in output_size[-n:])
        if any(abs(out - usual) >= s for out, usual, s in zip(wanted, size, steps, strict=True)):
            raise ValueError(
                f"{name}: expected an output_size less than a stride {steps} from {size}, got {output_size}"
            )
        size = wanted
    if min(size) < 0:
        raise ValueError(f"{name}: an input of size {in_size} leaves no output, got a size of {size}")
    return size


def _unpool(
    name: str,
    ndim: int,
    x: Array,
    indices: Array,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    output_size: Sequence[int] | None,
) -> Definition:
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer indices, got {describe(indices)}")
    if indices.shape != x.shape:
        raise ValueError(f"{name}: expected indices of the input's shape {x.shape}, got {indices.shape}")

    def define(x: Array) -> Definition:
        check_rank(name, "input", x.shape, ndim)
        size = unpooled_size(name, x.shape[2:], kernel_size, stride, padding, output_size)
        xp, plane, planes = xp_of(x), prod(size), x.shape[0] * x.shape[1]
        if indices.size and not (int(indices.min()) >= 0 and int(indices.max()) < plane):
            raise ValueError(
                f"{name}: expected indices from 0 to {plane - 1} for a plane of {size}, "
                f"got {int(indices.min())} to {int(indices.max())}"
            )
        columns = indices.reshape(planes, prod(x.shape[2:]))
        rows = xp.arange(planes).reshape(-1, 1)

        def value() -> Array:
            y = xp.zeros((planes, plane), x.dtype)
            y[rows, columns] = x.reshape(columns.shape)
            return y.reshape(*x.shape[:2], *size)

        def pullback(g: Array) -> Thunks:
            return {"x": lambda: g.reshape(planes, plane)[rows, columns].reshape(x.shape)}

        return (*x.shape[:2], *size), once(value), pullback

    return for_sample(x, ndim + 2, define)


@differentiable("x", "indices", constants=("indices",), widens=False, linear=True)
def max_unpool2d(
    x: Array,
    indices: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Definition:
    """Put the elements of `x` where `indices` say, and 0 elsewhere: a partial inverse of `max_pool2d`.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Floating-point.
    indices : array of int, shape of `x`
        Places in the flat plane of the output, as `max_pool2d` gives them.
    kernel_size, stride, padding : int or (int, int)
        Those of the pooling; they give the size of the output.
    output_size : (int, int), optional
        The size itself, where pooling rounded it: less than a stride from
        ``(H - 1) stride - 2 padding + kernel``.

    Returns
    -------
    array, shape (N, C, H', W')
        In the dtype of `x`. Of several elements for one place the last stays; each of them gets
        the place's gradient, as in PyTorch.

    Raises
    ------
    ValueError, TypeError
        Indices outside the plane, an invalid size, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool2d(np.array([[[[7.0]]]]), np.array([[[[2]]]]), 2)
    array([[[[0., 0.],
             [7., 0.]]]])
    """
    return _unpool("max_unpool2d", 2, x, indices, kernel_size, stride, padding, output_size)


@differentiable("x", "indices", constants=("indices",), widens=False, linear=True)
def max_unpool1d(
    x: Array,
    indices: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Definition:
    """Put maxima back over one spatial axis: `max_unpool2d` for x (N, C, L)."""
    return _unpool("max_unpool1d", 1, x, indices, kernel_size, stride, padding, output_size)


@differentiable("x", "indices", constants=("indices",), widens=False, linear=True)
def max_unpool3d(
    x: Array,
    indices: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Definition:
    """Put maxima back over three spatial axes: `max_unpool2d` for x (N, C, D, H, W)."""
    return _unpool("max_unpool3d", 3, x, indices, kernel_size, stride, padding, output_size)


max_unpool1d_jvp, max_unpool1d_vjp = max_unpool1d.jvp, max_unpool1d.vjp
max_unpool2d_jvp, max_unpool2d_vjp = max_unpool2d.jvp, max_unpool2d.vjp
max_unpool3d_jvp, max_unpool3d_vjp = max_unpool3d.jvp, max_unpool3d.vjp
