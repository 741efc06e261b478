"""Functions that put the axes of an array in another order, or take away and add axes of one element."""

from __future__ import annotations

from collections.abc import Sequence

from fconv.arrays import Array, Shape
from fconv.functional.activation import check_axis_of
from fconv.functional.core import Definition, differentiable
from fconv.options import whole

__all__ = [
    "movedim", "movedim_jvp", "movedim_vjp",
    "permute", "permute_jvp", "permute_vjp",
    "squeeze", "squeeze_jvp", "squeeze_vjp",
    "transpose", "transpose_jvp", "transpose_vjp",
    "unsqueeze", "unsqueeze_jvp", "unsqueeze_vjp",
]  # fmt: skip


def permuted_axes(name: str, shape: Shape, dims: Sequence[int]) -> tuple[int, ...]:
    """Require every axis of a shape once, and give them counted from the front."""
    if not isinstance(dims, (tuple, list)):
        raise TypeError(f"{name}: expected dims to be a sequence of axes, got {dims!r}")
    axes = tuple(check_axis_of(name, shape, dim) for dim in dims)
    if sorted(axes) != list(range(len(shape))):
        raise ValueError(f"{name}: expected every axis of shape {shape} once, got dims={tuple(dims)}")
    return axes


@differentiable("x", widens=False, linear=True)
def permute(x: Array, dims: Sequence[int]) -> Definition:
    """Put the axes in another order, as torch.permute; the memory stays as it is.

    Parameters
    ----------
    x : array
        Floating-point.
    dims : sequence of int
        The axis of `x` that each axis of the result is.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    ValueError, TypeError
        `dims` does not name every axis once, `x` is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> permute(np.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    axes = permuted_axes("permute", x.shape, dims)
    back = tuple(axes.index(axis) for axis in range(x.ndim))
    return (
        tuple(x.shape[axis] for axis in axes),
        lambda: x.transpose(axes),
        lambda g: g.transpose(back),
    )


@differentiable("x", widens=False, linear=True)
def transpose(x: Array, dim0: int, dim1: int) -> Definition:
    """Swap two axes, as torch.transpose: a `permute` of them.

    Examples
    --------
    >>> import numpy as np
    >>> transpose(np.zeros((2, 3, 4)), 0, -1).shape
    (4, 3, 2)
    """
    a, b = (check_axis_of("transpose", x.shape, dim) for dim in (dim0, dim1))
    shape = list(x.shape)
    shape[a], shape[b] = shape[b], shape[a]
    return tuple(shape), lambda: x.swapaxes(a, b), lambda g: g.swapaxes(a, b)


def moved_axes(shape: Shape, source: int | Sequence[int], destination: int | Sequence[int]) -> Shape:
    """Return, for each axis of the result of `movedim`, which axis of the input it was."""
    here, there = (
        tuple(check_axis_of("movedim", shape, dim) for dim in (d if isinstance(d, (tuple, list)) else (d,)))
        for d in (source, destination)
    )
    if len(here) != len(there) or len(set(here)) != len(here) or len(set(there)) != len(there):
        raise ValueError(
            f"movedim: expected as many places as axes, each once, got {source} to {destination}"
        )
    order = [axis for axis in range(len(shape)) if axis not in here]
    for place, axis in sorted(zip(there, here, strict=True)):
        order.insert(place, axis)
    return tuple(order)


@differentiable("x", widens=False, linear=True)
def movedim(x: Array, source: int | Sequence[int], destination: int | Sequence[int]) -> Definition:
    """Move axes to other places, the others keeping their order, as torch.movedim: a `permute`.

    Examples
    --------
    >>> import numpy as np
    >>> movedim(np.zeros((2, 3, 4)), 1, -1).shape
    (2, 4, 3)
    """
    axes = moved_axes(x.shape, source, destination)
    back = tuple(axes.index(axis) for axis in range(x.ndim))
    return tuple(x.shape[axis] for axis in axes), lambda: x.transpose(axes), lambda g: g.transpose(back)


def squeezed_shape(name: str, shape: Shape, dim: int | Sequence[int] | None) -> Shape:
    """Return a shape without its axes of one element, or without those of them that `dim` names."""
    dims = range(len(shape)) if dim is None else (dim,) if not isinstance(dim, (tuple, list)) else dim
    gone = {check_axis_of(name, shape, axis) for axis in dims}
    return tuple(size for axis, size in enumerate(shape) if size != 1 or axis not in gone)


@differentiable("x", widens=False, linear=True)
def squeeze(x: Array, dim: int | Sequence[int] | None = None) -> Definition:
    """Take away axes of one element, as torch.squeeze.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int or sequence of int, optional
        The axes; those of more elements stay. All axes by default.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    ValueError, TypeError
        Axes that `x` lacks, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> squeeze(np.zeros((2, 1, 3, 1)), 1).shape
    (2, 3, 1)
    """
    shape = squeezed_shape("squeeze", x.shape, dim)
    return shape, lambda: x.reshape(shape), lambda g: g.reshape(x.shape)


def unsqueezed_shape(name: str, shape: Shape, dim: int) -> Shape:
    """Return a shape with an axis of one element put before axis `dim`; -1 puts it last."""
    dim = whole(name, "dim", dim, -64)
    if not -len(shape) - 1 <= dim <= len(shape):
        raise ValueError(f"{name}: expected a place among the axes of shape {shape}, got dim={dim}")
    place = dim % (len(shape) + 1)
    return (*shape[:place], 1, *shape[place:])


@differentiable("x", widens=False, linear=True)
def unsqueeze(x: Array, dim: int) -> Definition:
    """Add an axis of one element, as torch.unsqueeze.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int
        Its place in the result.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    ValueError, TypeError
        A place outside of the shape, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> unsqueeze(np.zeros((2, 3)), -1).shape
    (2, 3, 1)
    """
    shape = unsqueezed_shape("unsqueeze", x.shape, dim)
    return shape, lambda: x.reshape(shape), lambda g: g.reshape(x.shape)


movedim_jvp, movedim_vjp = movedim.jvp, movedim.vjp
permute_jvp, permute_vjp = permute.jvp, permute.vjp
squeeze_jvp, squeeze_vjp = squeeze.jvp, squeeze.vjp
transpose_jvp, transpose_vjp = transpose.jvp, transpose.vjp
unsqueeze_jvp, unsqueeze_vjp = unsqueeze.jvp, unsqueeze.vjp
