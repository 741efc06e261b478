"""Functions that read elements of an array at other places, once, several times or never.

Each is linear, and its adjoint adds what was read to where it was read from. Where several reads meet
one element they are summed in a fixed order, so that a gradient has the same bits on every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fconv.arrays import Array, Shape, asnumpy, is_array, xp_of
from fconv.functional.activation import check_axis_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.lookup import segment_sums
from fconv.functional.shape import as_sequence
from fconv.options import whole

__all__ = [
    "flip", "flip_jvp", "flip_vjp", "gather", "gather_jvp",
    "gather_vjp", "index", "index_jvp", "index_select", "index_select_jvp", "index_select_vjp", "index_vjp",
    "roll", "roll_jvp", "roll_vjp", "select", "select_jvp", "select_vjp",
]  # fmt: skip


def integers(name: str, what: str, value: Any) -> Array:
    """Return an array of integers, or of their nested sequences, as NumPy's int64."""
    found = asnumpy(value) if is_array(value) else np.asarray(value if np.size(value) else np.zeros(0, int))
    if found.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected {what} to be integers, got {found.dtype}")
    return found.astype(np.int64)


def positions(name: str, what: str, value: Any, size: int) -> Array:
    """Return integers that index an axis of `size` elements, counted from the front."""
    found = integers(name, what, value)
    if found.size and not (-size <= found.min() and found.max() < size):
        raise ValueError(
            f"{name}: expected {what} from {-size} to {size - 1}, got {found.min()} to {found.max()}"
        )
    return np.where(found < 0, found + size, found)


def added_at(g: Array, places: Array, size: int) -> Array:
    """Add each row of `g` to the row it was read from, of `size` rows."""
    xp = xp_of(g)
    number, rows, _ = segment_sums(xp.asarray(places), g)
    dx = xp.zeros((size, *g.shape[1:]), g.dtype)
    dx[number] = rows.astype(g.dtype, copy=False)
    return dx


@differentiable("x", widens=False, linear=True)
def flip(x: Array, dims: int | Sequence[int]) -> Definition:
    """Reverse the order along axes, as torch.flip.

    Parameters
    ----------
    x : array
        Floating-point.
    dims : int or sequence of int
        The axes.

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
    >>> flip(np.array([1.0, 2.0, 3.0]), 0)
    array([3., 2., 1.])
    """
    axes = {check_axis_of("flip", x.shape, dim) for dim in as_sequence(dims)}
    turned = tuple(slice(None, None, -1 if axis in axes else None) for axis in range(x.ndim))
    return x.shape, lambda: x[turned], lambda g: g[turned]


@differentiable("x", widens=False, linear=True)
def roll(x: Array, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Definition:
    """Move elements along axes; what leaves at one end comes in at the other, as torch.roll.

    Parameters
    ----------
    x : array
        Floating-point.
    shifts : int or sequence of int
        By how much along each of `dims`.
    dims : int or sequence of int, optional
        The axes; by default the elements move in their order over all axes.

    Returns
    -------
    array
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Axes that `x` lacks, another number of shifts than of axes, `x` that is not
        floating-point.

    Examples
    --------
    >>> roll(np.array([1.0, 2.0, 3.0]), 1, 0)
    array([3., 1., 2.])
    """
    by = tuple(whole("roll", "a shift", n, -(1 << 62)) for n in as_sequence(shifts))
    axes = None if dims is None else tuple(check_axis_of("roll", x.shape, d) for d in as_sequence(dims))
    if len(by) != (1 if axes is None else len(axes)):
        raise ValueError(f"roll: expected a shift for each axis, got shifts={shifts} and dims={dims}")

    def moved(v: Array, sign: int) -> Array:
        return xp_of(v).roll(v, sign * by[0] if axes is None else tuple(sign * n for n in by), axes)

    return x.shape, once(lambda: moved(x, 1)), lambda g: moved(g, -1)


@differentiable("x", widens=False, linear=True)
def select(x: Array, dim: int, index: int) -> Definition:
    """Return one element along an axis, which is left out, as torch.select; unbind gives all of them.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int
        The axis.
    index : int
        The element; a negative number counts from the end.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    ValueError, TypeError
        An axis or an element that `x` does not have, or an `x` that is not floating-point.

    Examples
    --------
    >>> select(np.array([[1.0, 2.0], [3.0, 4.0]]), 1, -1)
    array([2., 4.])
    """
    axis = check_axis_of("select", x.shape, dim)
    at = whole("select", "index", index, -x.shape[axis])
    if at >= x.shape[axis]:
        raise ValueError(f"select: expected an index below {x.shape[axis]} for shape {x.shape}, got {at}")
    place = (slice(None),) * axis + (at,)

    def pullback(g: Array) -> Array:
        dx = xp_of(g).zeros(x.shape, g.dtype)
        dx[place] = g
        return dx

    return (*x.shape[:axis], *x.shape[axis + 1 :]), lambda: xp_of(x).asarray(x[place]), pullback


@differentiable("x", widens=False, linear=True)
def index_select(x: Array, dim: int, index: Any) -> Definition:
    """Return the elements of an axis at given positions, as torch.index_select.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int
        The axis.
    index : array or sequence of int
        Positions along it, in any order and any number; negative ones count from the end.

    Returns
    -------
    array
        In the dtype of `x`, with as many elements along the axis as `index` has.

    Raises
    ------
    ValueError, TypeError
        An axis or a position that `x` does not have, an index that is no list of integers, `x` that is
        not floating-point.

    Examples
    --------
    >>> index_select(np.array([1.0, 2.0, 3.0]), 0, [2, 0, 0])
    array([3., 1., 1.])
    """
    axis = check_axis_of("index_select", x.shape, dim)
    at = positions("index_select", "index", index, x.shape[axis])
    if at.ndim != 1:
        raise ValueError(f"index_select: expected an index of one axis, got shape {at.shape}")
    xp = xp_of(x)

    def pullback(g: Array) -> Array:
        return xp.moveaxis(added_at(xp.moveaxis(g, axis, 0), at, x.shape[axis]), 0, axis)

    shape = (*x.shape[:axis], at.size, *x.shape[axis + 1 :])
    return shape, once(lambda: xp.take(x, xp.asarray(at), axis=axis)), pullback


def _read(x: Array, shape: Shape, read: Any) -> Definition:
    """Define a reading of single elements by how it acts on the numbers of the elements."""
    xp = xp_of(x)

    @once
    def places() -> Array:
        return np.asarray(read(np.arange(prod(x.shape)).reshape(x.shape)))

    def pullback(g: Array) -> Array:
        return added_at(g.reshape(-1), places().reshape(-1), prod(x.shape)).reshape(x.shape)

    return shape, once(lambda: x.reshape(-1)[xp.asarray(places())]), pullback


@differentiable("x", widens=False, linear=True)
def gather(x: Array, dim: int, index: Any) -> Definition:
    """Read along an axis at positions that differ from place to place, as torch.gather.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int
        The axis.
    index : array or nested sequence of int
        With the axes of `x`; along the others it may have fewer elements than `x`. Negative
        positions count from the end.

    Returns
    -------
    array
        In the dtype of `x` and the shape of `index`: ``y[i, j] = x[index[i, j], j]`` for axis 0.

    Raises
    ------
    ValueError, TypeError
        An axis or a position that `x` does not have, an index of another number of axes, `x` that is
        not floating-point.

    Examples
    --------
    >>> gather(np.array([[1.0, 2.0], [3.0, 4.0]]), 1, [[1, 1], [1, 0]])
    array([[2., 2.],
           [4., 3.]])
    """
    axis = check_axis_of("gather", x.shape, dim)
    at = positions("gather", "index", index, x.shape[axis])
    fits = at.ndim == x.ndim and all(
        a <= b or i == axis for i, (a, b) in enumerate(zip(at.shape, x.shape, strict=True))
    )
    if not fits:
        raise ValueError(f"gather: expected an index that fits shape {x.shape}, got one of shape {at.shape}")
    part = tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(at.shape))
    return _read(x, at.shape, lambda numbers: np.take_along_axis(numbers[part], at, axis))


@differentiable("x", widens=False, linear=True)
def index(x: Array, indices: Sequence[Any]) -> Definition:
    """Index several axes by arrays of integers at once, as ``x[i, :, j]``.

    Parameters
    ----------
    x : array
        Floating-point.
    indices : sequence
        For each axis in turn None, which keeps it, or an array or nested sequence of integers; these
        are stretched to one shape. Its axes stand where the first of them was, or in front where
        kept axes lie between them, as in NumPy and PyTorch.

    Returns
    -------
    array
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        More indices than axes, positions that `x` does not have, indices that do not stretch to one
        shape, or an `x` that is not floating-point.

    Examples
    --------
    >>> index(np.array([[1.0, 2.0], [3.0, 4.0]]), ([0, 1, 1], [1, 0, 0]))
    array([2., 3., 3.])
    """
    if not isinstance(indices, (tuple, list)) or len(indices) > x.ndim:
        raise ValueError(f"index: expected a tuple of at most {x.ndim} indices, got {indices!r}")
    at = [
        slice(None) if each is None else positions("index", f"indices[{axis}]", each, x.shape[axis])
        for axis, each in enumerate(indices)
    ]
    try:
        shape = np.broadcast_to(np.zeros((), np.int8), x.shape)[tuple(at)].shape
    except IndexError as error:
        raise ValueError(f"index: {error}") from None
    return _read(x, shape, lambda numbers: numbers[tuple(at)])


flip_jvp, flip_vjp = flip.jvp, flip.vjp
gather_jvp, gather_vjp = gather.jvp, gather.vjp
index_select_jvp, index_select_vjp = index_select.jvp, index_select.vjp
index_jvp, index_vjp = index.jvp, index.vjp
roll_jvp, roll_vjp = roll.jvp, roll.vjp
select_jvp, select_vjp = select.jvp, select.vjp
