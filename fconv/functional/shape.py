"""Functions that change the shape of an array, or stretch and repeat it along its axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fconv.arrays import Array, Shape, xp_of
from fconv.functional.activation import check_axis, check_axis_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.planned import Planned
from fconv.functional.sums import accurate_sum, sum_to
from fconv.options import whole

__all__ = [
    "expand", "expand_jvp", "expand_vjp",
    "flatten", "flatten_jvp", "flatten_vjp",
    "reshape", "reshape_jvp", "reshape_vjp",
    "tile", "tile_jvp", "tile_vjp",
    "unflatten", "unflatten_jvp", "unflatten_vjp",
]  # fmt: skip


def flattened_shape(name: str, shape: Shape, start: int, end: int) -> Shape:
    """Return `shape` with the axes `start` to `end`, both included, made one."""
    if start > end:
        raise ValueError(f"{name}: start_dim comes after end_dim for an input of shape {shape}")
    return (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])


@differentiable("x", widens=False, linear=True)
def flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Definition:
    """Merge the axes from `start_dim` to `end_dim`, as torch.flatten.

    Parameters
    ----------
    x : array
        Floating-point.
    start_dim, end_dim : int
        First and last axis, both included.

    Returns
    -------
    array
        In the dtype of `x`, elements in the order of the axes whatever the memory order.

    Raises
    ------
    ValueError, TypeError
        Axes that `x` lacks, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> flatten(np.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    if x.ndim == 0:
        return _reshaped("flatten", x, (1,))
    shape = flattened_shape(
        "flatten", x.shape, check_axis("flatten", x, start_dim), check_axis("flatten", x, end_dim)
    )
    return _reshaped("flatten", x, shape)


def _reshaped(name: str, x: Array, shape: Shape) -> Definition:
    def planned() -> Planned:
        return Planned(name, shape, lambda x: x.reshape(shape), {"x": lambda g, x: g.reshape(x.shape)})

    return shape, lambda: x.reshape(shape), lambda g: g.reshape(x.shape), None, planned


def reshaped_shape(name: str, in_shape: Shape, shape: Sequence[int]) -> Shape:
    """Resolve one -1 in a shape, and require that the elements fit."""
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
    """Lay the elements out in another shape, as torch.reshape.

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
        A shape that does not fit, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> reshape(np.zeros((2, 6)), (2, 3, -1)).shape
    (2, 3, 2)
    """
    resolved = reshaped_shape("reshape", x.shape, shape)
    return _reshaped("reshape", x, resolved)


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
        An axis that `x` lacks, sizes that do not fit, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> unflatten(np.zeros((2, 12, 5)), 1, (3, -1)).shape
    (2, 3, 4, 5)
    """
    shape = unflattened_shape(x.shape, dim, sizes)
    return _reshaped("unflatten", x, shape)


def as_sequence(value: int | Sequence[int]) -> tuple[int, ...]:
    """Return one integer, or several, as a tuple."""
    return (value,) if isinstance(value, int) else tuple(value)


@differentiable("x", widens=False, linear=True)
def expand(x: Array, sizes: Sequence[int]) -> Definition:
    """Stretch axes of one element to other sizes, as torch.Tensor.expand.

    Parameters
    ----------
    x : array
        Floating-point.
    sizes : sequence of int
        The new shape, which may have further axes in front; -1 keeps the size of an axis.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    ValueError, TypeError
        Sizes to which `x` cannot be stretched, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> expand(np.array([[1.0], [2.0]]), (2, 2, -1)).shape
    (2, 2, 1)
    """
    wanted = tuple(whole("expand", "a size", size, -1) for size in as_sequence(sizes))
    lead = len(wanted) - x.ndim
    held = (-1,) * lead + tuple(x.shape)
    shape = tuple(old if new == -1 else new for new, old in zip(wanted, held, strict=False))
    if (
        lead < 0
        or -1 in shape
        or any(a not in (b, 1) for a, b in zip(held[lead:], shape[lead:], strict=True))
    ):
        raise ValueError(f"expand: cannot stretch an input of shape {x.shape} to {wanted}")
    return shape, lambda: xp_of(x).broadcast_to(x, shape), lambda g: sum_to(g, x.shape)


@differentiable("x", widens=False, linear=True)
def tile(x: Array, dims: Sequence[int]) -> Definition:
    """Repeat an array along its axes, as torch.tile and torch.Tensor.repeat.

    Parameters
    ----------
    x : array
        Floating-point.
    dims : sequence of int
        How often along each axis, counted from the last; more numbers than axes add axes in front.

    Returns
    -------
    array
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Numbers below 0, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> tile(np.array([1.0, 2.0]), (2, 2))
    array([[1., 2., 1., 2.],
           [1., 2., 1., 2.]])
    """
    times = tuple(whole("tile", "a number of repeats", n, 0) for n in as_sequence(dims))
    rank = max(x.ndim, len(times))
    times, sizes = (1,) * (rank - len(times)) + times, (1,) * (rank - x.ndim) + tuple(x.shape)
    apart = tuple(n for pair in zip(times, sizes, strict=True) for n in pair)

    def pullback(g: Array) -> Array:
        return accurate_sum(g.reshape(apart), axis=tuple(range(0, 2 * rank, 2))).reshape(x.shape)

    return (
        tuple(n * size for n, size in zip(times, sizes, strict=True)),
        once(lambda: xp_of(x).tile(x, times)),
        pullback,
    )


flatten_jvp, flatten_vjp = flatten.jvp, flatten.vjp
reshape_jvp, reshape_vjp = reshape.jvp, reshape.vjp
unflatten_jvp, unflatten_vjp = unflatten.jvp, unflatten.vjp
expand_jvp, expand_vjp = expand.jvp, expand.vjp
tile_jvp, tile_vjp = tile.jvp, tile.vjp
