"""Functions that give a part of an array along one axis; their gradients are zero elsewhere."""

from __future__ import annotations

from fconv.arrays import Array, Shape, xp_of
from fconv.functional.activation import check_axis_of
from fconv.functional.core import Definition, differentiable
from fconv.options import whole

__all__ = [
    "narrow", "narrow_jvp", "narrow_vjp",
    "slice_along", "slice_along_jvp", "slice_along_vjp",
]  # fmt: skip


def _part(x: Array, axis: int, part: slice) -> Definition:
    index = (slice(None),) * axis + (part,)
    shape = (*x.shape[:axis], len(range(*part.indices(x.shape[axis]))), *x.shape[axis + 1 :])

    def pullback(g: Array) -> Array:
        dx = xp_of(g).zeros(x.shape, g.dtype)
        dx[index] = g
        return dx

    return shape, lambda: x[index], pullback


def narrowed_part(name: str, shape: Shape, dim: int, start: int, length: int) -> tuple[int, slice]:
    """Return the axis and the part of it that `narrow` takes, and refuse what is not there."""
    axis = check_axis_of(name, shape, dim)
    size = shape[axis]
    start, length = whole(name, "start", start, -size), whole(name, "length", length, 0)
    first = start + size if start < 0 else start
    if first + length > size:
        raise ValueError(
            f"{name}: expected a part of axis {axis} of shape {shape}, got start={start} and length={length}"
        )
    return axis, slice(first, first + length)


@differentiable("x", widens=False, linear=True)
def narrow(x: Array, dim: int, start: int, length: int) -> Definition:
    """Return `length` elements along an axis, as torch.narrow.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int
        The axis.
    start : int
        The first element; a negative number counts from the end.
    length : int
        How many.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    ValueError, TypeError
        A range outside the axis, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> narrow(np.arange(5.0), 0, 1, 2)
    array([1., 2.])
    """
    axis, part = narrowed_part("narrow", x.shape, dim, start, length)
    return _part(x, axis, part)


def sliced_part(
    name: str, shape: Shape, dim: int, start: int | None, end: int | None, step: int
) -> tuple[int, slice]:
    """Return the axis and the part of it that `slice_along` takes."""
    axis = check_axis_of(name, shape, dim)
    start = None if start is None else whole(name, "start", start, -(1 << 63))
    end = None if end is None else whole(name, "end", end, -(1 << 63))
    return axis, slice(start, end, whole(name, "step", step, 1))


@differentiable("x", widens=False, linear=True)
def slice_along(
    x: Array, dim: int, start: int | None = None, end: int | None = None, step: int = 1
) -> Definition:
    """Return every `step`-th element from `start` to before `end` along an axis, as ``x[start:end:step]``.

    Parameters
    ----------
    x : array
        Floating-point.
    dim : int
        The axis.
    start, end : int, optional
        Negative numbers count from the end; those beyond an end are clipped to it.
    step : int
        1 or more.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    ValueError, TypeError
        An axis that `x` lacks, a step below 1, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> slice_along(np.arange(6.0), 0, 1, None, 2)
    array([1., 3., 5.])
    """
    axis, part = sliced_part("slice_along", x.shape, dim, start, end, step)
    return _part(x, axis, part)


narrow_jvp, narrow_vjp = narrow.jvp, narrow.vjp
slice_along_jvp, slice_along_vjp = slice_along.jvp, slice_along.vjp
