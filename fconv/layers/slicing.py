"""Layers that return a part of their input along one axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.activation import check_axis_of
from fconv.functional.slicing import narrowed_part, sliced_part
from fconv.layer import Layer
from fconv.layers.from_function import from_function
from fconv.options import whole

__all__ = ["chunk", "narrow", "slice_along", "split"]


def _cut(shape: Shape, axis: int, part: slice) -> Shape:
    return (*shape[:axis], len(range(*part.indices(shape[axis]))), *shape[axis + 1 :])


@constructor
def narrow(dim: int, start: int, length: int) -> Layer:
    """Return `length` elements along an axis; see `fconv.functional.narrow`.

    Examples
    --------
    >>> narrow(1, 2, 3).out_shape((8, 6, 4))
    (8, 3, 4)
    """
    dim, start = whole("narrow", "dim", dim, -64), whole("narrow", "start", start, -(1 << 62))
    length = whole("narrow", "length", length, 0)
    return from_function(
        F.narrow,
        call={"dim": dim, "start": start, "length": length},
        out_shape=lambda shape: _cut(shape, *narrowed_part("narrow", shape, dim, start, length)),
    )


@constructor
def slice_along(dim: int, start: int | None = None, end: int | None = None, step: int = 1) -> Layer:
    """Return every `step`-th element of a part of an axis; see `fconv.functional.slice_along`.

    Examples
    --------
    >>> slice_along(2, None, None, 2).out_shape((8, 3, 9))
    (8, 3, 5)
    """
    sliced_part("slice_along", (1,) * 64, dim, start, end, step)  # refuses at once what cannot be
    return from_function(
        F.slice_along,
        call={"dim": dim, "start": start, "end": end, "step": step},
        out_shape=lambda shape: _cut(shape, *sliced_part("slice_along", shape, dim, start, end, step)),
    )


@constructor
def chunk(chunks: int, index: int, *, dim: int = 0) -> Layer:
    """Return one of the pieces that torch.chunk divides an axis into.

    Parameters
    ----------
    chunks : int
        Into how many pieces; all but the last have ``ceil(size / chunks)`` elements.
    index : int
        Which piece.
    dim : int
        The axis.

    Returns
    -------
    Layer
        A `fconv.functional.narrow`.

    Raises
    ------
    ValueError, TypeError
        Invalid options; an axis that has no such piece, when the layer is used.

    Examples
    --------
    >>> chunk(2, 1, dim=1).out_shape((8, 5, 4))
    (8, 2, 4)
    """
    chunks, index = whole("chunk", "chunks", chunks, 1), whole("chunk", "index", index, 0)

    def part(size: int) -> tuple[int, int]:
        step = -(-size // chunks)
        start = index * step
        if start >= size and not (size == 0 and index < chunks):
            raise ValueError(f"chunk: an axis of {size} has no piece {index} of {chunks}")
        return start, min(step, size - start)

    return _piece("chunk", {"chunks": chunks, "index": index}, dim, part)


@constructor
def split(sizes: int | Sequence[int], index: int, *, dim: int = 0) -> Layer:
    """Return one of the pieces that torch.split divides an axis into.

    Parameters
    ----------
    sizes : int or sequence of int
        Length of every piece (the last may be shorter), or a list of the lengths, whose sum is the axis's
        length.
    index : int
        Which piece.
    dim : int
        The axis.

    Returns
    -------
    Layer
        A `fconv.functional.narrow`.

    Raises
    ------
    ValueError, TypeError
        Invalid options; an axis that has no such piece, when the layer is used.

    Examples
    --------
    >>> split((2, 3), 1, dim=1).out_shape((8, 5, 4))
    (8, 3, 4)
    """
    index = whole("split", "index", index, 0)
    if isinstance(sizes, (tuple, list)):
        each = sizes = tuple(whole("split", "a size", size, 0) for size in sizes)
        if index >= len(each):
            raise ValueError(f"split: expected an index below {len(each)}, got {index}")
        start = (0, *accumulate(each))[index]

        def part(size: int) -> tuple[int, int]:
            if sum(each) != size:
                raise ValueError(f"split: expected sizes that sum to the axis, {size}, got {each}")
            return start, each[index]

    else:
        step = sizes = whole("split", "sizes", sizes, 1)

        def part(size: int) -> tuple[int, int]:
            if index * step >= size and not size == index == 0:
                raise ValueError(f"split: an axis of {size} has no piece {index} of {step} elements")
            return index * step, min(step, size - index * step)

    return _piece("split", {"sizes": sizes, "index": index}, dim, part)


def _piece(
    name: str, options: Mapping[str, object], dim: int, part: Callable[[int], tuple[int, int]]
) -> Layer:
    """Make the layer that narrows an axis to what `part` says of its size."""
    dim = whole(name, "dim", dim, -64)

    def call(shape: Shape) -> Mapping[str, int]:
        axis = check_axis_of(name, shape, dim)
        start, length = part(shape[axis])
        return {"dim": axis, "start": start, "length": length}

    def out_shape(shape: Shape) -> Shape:
        found = call(shape)
        axis = found["dim"]
        return (*shape[:axis], found["length"], *shape[axis + 1 :])

    return from_function(F.narrow, name=name, call=call, options={**options, "dim": dim}, out_shape=out_shape)
