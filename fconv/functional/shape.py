"""Functions that only rearrange entries."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fconv.arrays import Array, Shape
from fconv.functional.activation import check_axis, check_axis_of
from fconv.functional.core import Definition, differentiable

__all__ = [
    "flatten", "flatten_jvp", "flatten_vjp",
    "reshape", "reshape_jvp", "reshape_vjp",
    "unflatten", "unflatten_jvp", "unflatten_vjp",
]  # fmt: skip


def flattened_shape(name: str, shape: Shape, start: int, end: int) -> Shape:
    """Return `shape` with the axes `start` to `end`, both included, made one."""
    if start > end:
        raise ValueError(f"{name}: start_dim comes after end_dim for an input of shape {shape}")
    return (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])


@differentiable("x", widens=False, linear=True)
def flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Definition:
    """Make the axes from `start_dim` to `end_dim` one, as torch.flatten.

    Parameters
    ----------
    x : array
        Floating-point.
    start_dim, end_dim : int
        First and last axis, both included.

    Returns
    -------
    array
        In the dtype of `x`, entries in the order of the axes whatever the memory order.

    Raises
    ------
    ValueError, TypeError
        Axes that `x` does not have, `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> flatten(np.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    if x.ndim == 0:
        return (1,), lambda: x.reshape(1), lambda g: g.reshape(())
    shape = flattened_shape(
        "flatten", x.shape, check_axis("flatten", x, start_dim), check_axis("flatten", x, end_dim)
    )
    return shape, lambda: x.reshape(shape), lambda g: g.reshape(x.shape)


def reshaped_shape(name: str, in_shape: Shape, shape: Sequence[int]) -> Shape:
    """Resolve one -1 in a shape, and require that the entries fit."""
    wanted = tuple(shape)
    unknown = [i for i, size in enumerate(wanted) if size == -1]
    known, total = prod(size for size in wanted if size != -1), prod(in_shape)
    fits = len(unknown) < 2 and all(isinstance(s, int) and s >= -1 for s in wanted)
    if fits and unknown:
        fits = known != 0 and total % known == 0
        wanted = tuple(total // known if size == -1 else size for size in wanted) if fits else wanted
    if not fits or prod(wanted) != total:
        raise ValueError(f"{name}: cannot reshape an input of shape {in_shape} to {tuple(shape)}")
    return wanted


@differentiable("x", widens=False, linear=True)
def reshape(x: Array, shape: Sequence[int]) -> Definition:
    """Lay the entries out in another shape, as torch.reshape.

    Parameters
    ----------
    x : array
        Floating-point.
    shape : sequence of int
        The new shape; one size may be -1.

    Returns
    -------
    array
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        A shape that does not fit, `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> reshape(np.zeros((2, 6)), (2, 3, -1)).shape
    (2, 3, 2)
    """
    resolved = reshaped_shape("reshape", x.shape, shape)
    return resolved, lambda: x.reshape(resolved), lambda g: g.reshape(x.shape)


def unflattened_shape(shape: Shape, dim: int, sizes: Sequence[int]) -> Shape:
    """Return `shape` with the axis `dim` divided into several."""
    dim = check_axis_of("unflatten", shape, dim)
    if not isinstance(sizes, (tuple, list)) or not sizes:
        raise ValueError(f"unflatten: expected a tuple of at least one size, got {sizes!r}")
    return (*shape[:dim], *reshaped_shape("unflatten", shape[dim : dim + 1], sizes), *shape[dim + 1 :])


@differentiable("x", widens=False, linear=True)
def unflatten(x: Array, dim: int, sizes: Sequence[int]) -> Definition:
    """Divide one axis into several, as torch.unflatten: the opposite of `flatten`.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int
        The axis.
    sizes : sequence of int
        What it becomes; one size may be -1.

    Returns
    -------
    array
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        An axis that `x` does not have, sizes that do not fit, `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> unflatten(np.zeros((2, 12, 5)), 1, (3, -1)).shape
    (2, 3, 4, 5)
    """
    shape = unflattened_shape(x.shape, dim, sizes)
    return shape, lambda: x.reshape(shape), lambda g: g.reshape(x.shape)


flatten_jvp, flatten_vjp = flatten.jvp, flatten.vjp
reshape_jvp, reshape_vjp = reshape.jvp, reshape.vjp
unflatten_jvp, unflatten_vjp = unflatten.jvp, unflatten.vjp
