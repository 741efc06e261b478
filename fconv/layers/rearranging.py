"""Layers that permute, remove or add axes, batch axis included."""

from __future__ import annotations

from collections.abc import Sequence

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.activation import check_axis_of
from fconv.functional.rearranging import moved_axes, permuted_axes, squeezed_shape, unsqueezed_shape
from fconv.layer import Layer
from fconv.layers.from_function import from_function, frozen
from fconv.options import whole

__all__ = ["movedim", "permute", "squeeze", "transpose", "unsqueeze"]


@constructor
def permute(*dims: int | Sequence[int]) -> Layer:
    """Permute the axes; see `fconv.functional.permute`.

    Examples
    --------
    >>> permute(0, 2, 3, 1).out_shape((8, 3, 5, 6))
    (8, 5, 6, 3)
    """
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    axes = tuple(whole("permute", "an axis", axis, -64) for axis in given)
    return from_function(
        F.permute,
        call={"dims": axes},
        out_shape=lambda shape: tuple(shape[axis] for axis in permuted_axes("permute", shape, axes)),
    )


@constructor
def transpose(dim0: int, dim1: int) -> Layer:
    """Swap two axes; see `fconv.functional.transpose`.

    Examples
    --------
    >>> transpose(1, 2).out_shape((8, 3, 5))
    (8, 5, 3)
    """
    dim0, dim1 = whole("transpose", "dim0", dim0, -64), whole("transpose", "dim1", dim1, -64)

    def out_shape(shape: Shape) -> Shape:
        a, b = (check_axis_of("transpose", shape, dim) for dim in (dim0, dim1))
        order = list(shape)
        order[a], order[b] = shape[b], shape[a]
        return tuple(order)

    return from_function(F.transpose, call={"dim0": dim0, "dim1": dim1}, out_shape=out_shape)


@constructor
def movedim(source: int | Sequence[int], destination: int | Sequence[int]) -> Layer:
    """Move axes to other positions; see `fconv.functional.movedim`.

    Examples
    --------
    >>> movedim(1, -1).out_shape((8, 3, 5, 6))
    (8, 5, 6, 3)
    """
    source, destination = frozen(source), frozen(destination)
    return from_function(
        F.movedim,
        call={"source": source, "destination": destination},
        out_shape=lambda shape: tuple(shape[axis] for axis in moved_axes(shape, source, destination)),
    )


@constructor
def squeeze(dim: int | Sequence[int] | None = None) -> Layer:
    """Remove axes of size one; see `fconv.functional.squeeze`.

    Examples
    --------
    >>> squeeze((2, 3)).out_shape((8, 10, 1, 1))
    (8, 10)
    """
    dim = frozen(dim)
    return from_function(
        F.squeeze, call={"dim": dim}, out_shape=lambda shape: squeezed_shape("squeeze", shape, dim)
    )


@constructor
def unsqueeze(dim: int) -> Layer:
    """Add an axis of size one; see `fconv.functional.unsqueeze`.

    Examples
    --------
    >>> unsqueeze(-1).out_shape((8, 10))
    (8, 10, 1)
    """
    dim = whole("unsqueeze", "dim", dim, -64)
    return from_function(
        F.unsqueeze, call={"dim": dim}, out_shape=lambda shape: unsqueezed_shape("unsqueeze", shape, dim)
    )
