"""PyTorch's functions and methods that move entries and ask for sizes, as `fconv.torch.functions`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from fconv.torch.functions import FUNCTIONS, also, function, make
from fconv.torch.indexing import indexed
from fconv.torch.values import Expanded, Pieces, Size, UnfitError, Value, computed, sizes_of


def _given_sizes(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


@function
def reshape(input: Any, *sizes: Any, shape: Any = None) -> Any:
    """Lay out in another shape, which may follow the batch."""
    wanted = _given_sizes(sizes if shape is None else (shape,))
    moving = [i for i, size in enumerate(wanted) if isinstance(size, Size)]
    if not moving:
        return make("view", *wanted), input
    if moving == [0] and isinstance(input, Value) and wanted[0].of(input):
        rest = wanted[1:]
        return make("flatten") if rest == (-1,) else make("reshape", *rest), input
    if len(moving) == 1 and wanted[moving[0]].counts is not None and -1 not in wanted:
        return make("view", *(-1 if isinstance(size, Size) else size for size in wanted)), input
    if any(wanted[i].counts is None for i in moving):
        raise UnfitError(
            "the batch size of another tensor stands in the new shape; give from_torch shape= to tell "
            "that they are one"
        )
    raise UnfitError("more than one size of the new shape goes with the batch")


also("reshape", "view")


@function
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Make several axes one."""
    return make("flatten", start_dim, end_dim), input


@function
def squeeze(input: Any, dim: Any = None) -> Any:
    """Leave out axes of one entry."""
    if dim is None:
        raise UnfitError("squeeze without dim depends on the sizes of all axes")
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    if len(dims) > 1 and len({axis < 0 for axis in dims}) > 1:
        raise UnfitError("squeeze with axes counted from both ends has no layer")
    # Each axis is left out before those that it would move.
    for axis in sorted(dims, reverse=dims[0] >= 0):
        input = (make("squeeze", axis), input)
    return input


@function
def unsqueeze(input: Any, dim: int) -> Any:
    """Add an axis of one entry."""
    return make("unsqueeze", dim), input


@function
def permute(input: Any, *dims: Any) -> Any:
    """Put the axes into another order."""
    return make("permute", *_given_sizes(dims)), input


@function
def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Swap two axes."""
    return make("transpose", dim0, dim1), input


also("transpose", "swapaxes", "swapdims")
FUNCTIONS["t"] = lambda x: transpose(x, 0, 1)


@function
def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """Take some entries along an axis."""
    return make("narrow", dim, start, length), input


@function
def select(input: Any, dim: int, index: int) -> Any:
    """Take one entry along an axis, and leave the axis out."""
    return _one(input, dim, index)


def _one(input: Any, dim: int, index: int) -> Any:
    end = index + 1 if index != -1 else None
    return make("squeeze", dim), (make("slice_along", dim, index, end, 1), input)


def getitem(input: Any, index: Any) -> Any:
    """``input[index]`` for numbers, slices, None and an ellipsis."""
    return indexed(make, input, index)


@function
def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Put tensors one after another."""
    found = _several(tensors)
    return (make("concat", dim), *found) if len(found) > 1 else (make("identity"), *found)


@function
def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Put tensors one after another along a new axis."""
    found = _several(tensors)
    return (make("stack", dim), *found) if len(found) > 1 else (make("unsqueeze", dim), *found)


def _several(tensors: Any) -> list[Any]:
    if isinstance(tensors, Pieces):
        if tensors.count is None:
            raise UnfitError("how many pieces there are depends on the input's shape; give from_torch shape=")
        return [tensors.piece(i) for i in range(tensors.count)]
    return list(tensors)


also("cat", "concat", "concatenate")


@function
def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Widen or crop the last axes."""
    if not any(pad):
        return make("identity"), input
    return make("pad", tuple(pad), mode=mode, value=value), input


@function
def chunk(input: Any, chunks: int, dim: int = 0) -> Pieces:
    """Divide an axis into so many pieces."""
    count = chunks
    if isinstance(input, Value) and input.shapes is not None:
        size = input.shape[dim]
        each = -(-size // chunks) or 1
        count = -(-size // each)
    return Pieces(lambda i: (make("chunk", chunks, i % count, dim=dim), input), count)


@function
def split(input: Any, split_size_or_sections: Any = None, dim: int = 0, **named: Any) -> Pieces:
    """Divide an axis into pieces of given sizes."""
    sizes = named.get("split_size", split_size_or_sections)
    if isinstance(sizes, (tuple, list)):
        sections = tuple(sizes)
        return Pieces(
            lambda i: (make("split", sections, i % len(sections), dim=dim), input), len(sections)
        )  # fmt: skip
    known = isinstance(input, Value) and input.shapes is not None
    count = -(-input.shape[dim] // sizes) if known else None

    def piece(i: int) -> Any:
        if i < 0 and count is None:
            raise UnfitError(
                "a piece counted from the end depends on the input's shape; give from_torch shape="
            )
        i = i % count if count is not None else i
        return make("slice_along", dim, i * sizes, (i + 1) * sizes, 1), input

    return Pieces(piece, count)


@function
def unbind(input: Any, dim: int = 0) -> Pieces:
    """Give the entries along an axis."""
    known = isinstance(input, Value) and input.shapes is not None
    return Pieces(lambda i: _one(input, dim, i), input.shape[dim] if known else None)


@function
def expand_as(input: Any, other: Any) -> Expanded:
    """Stretch to another tensor's shape, which the arithmetic beside that tensor does by itself."""
    return Expanded(input, other)


@function
def size(input: Value, dim: int | None = None) -> Any:
    """One size, or all."""
    return sizes_of(input) if dim is None else sizes_of(input)[dim]


@function
def dim(input: Value) -> int:
    """Count the axes."""
    return len(input.shape)


also("dim", "ndimension")


@function
def numel(input: Value) -> Any:
    """Count the entries."""
    assert input.shape is not None  # refuses where it is not known
    sizes: Any = sizes_of(input)
    return reduce(lambda a, b: computed(operator.mul, a, b), sizes, 1)


def _turned(input: Value) -> Any:
    """Turn the order of all axes round, as ``x.T`` does."""
    return permute(input, *range(len(input.shape))[::-1])


def _sliding(input: Any, dimension: int, size: int, step: int) -> Any:
    """Read windows along one axis, as Tensor.unfold does: to (..., windows, ..., size)."""
    if not all(isinstance(n, int) for n in (dimension, size, step)) or size < 1 or step < 1:
        raise UnfitError(f"expected an axis, a size and a step, got {dimension}, {size} and {step}")
    # Entry k of every window; the last window is the last that fits whole.
    ends = [k - size + 1 or None for k in range(size)]
    return make("stack", -1), *(
        (make("slice_along", dimension, k, ends[k], step), input) for k in range(size)
    )


METHODS: dict[str, Callable[..., Any]] = {"unfold": _sliding}
"""Methods whose meaning is another than that of the function of the same name."""

ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "shape": sizes_of,
    "ndim": dim,
    "T": _turned,
    "mT": lambda x: transpose(x, -2, -1),
}
