"""Layers that read elements of their input at other places, batch axis included, or replace some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.indexing import integers
from fconv.functional.protocols import Differentiable
from fconv.layer import Layer
from fconv.layers.from_function import from_function, frozen
from fconv.options import number, whole

__all__ = ["expand", "flip", "gather", "index", "index_select", "masked_fill", "roll", "select", "tile"]


def _of(function: Differentiable[...], **call: Any) -> Layer:
    """Make a layer whose output shape is what the function's definition says of it."""

    def out_shape(shape: Shape) -> Shape:
        blank = np.broadcast_to(np.zeros(()), shape)
        found: Shape = cast(Any, function).__wrapped__(blank, **call)[0]
        return found

    return from_function(function, call=call, out_shape=out_shape)


@constructor
def expand(*sizes: int | Sequence[int]) -> Layer:
    """Broadcast axes of size one to other sizes; see `fconv.functional.expand`.

    Examples
    --------
    >>> expand(-1, -1, 7).out_shape((8, 3, 1))
    (8, 3, 7)
    """
    given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    return _of(F.expand, sizes=tuple(whole("expand", "a size", size, -1) for size in given))


@constructor
def tile(*dims: int | Sequence[int]) -> Layer:
    """Repeat the input along its axes; see `fconv.functional.tile`.

    Examples
    --------
    >>> tile(1, 2).out_shape((8, 3))
    (8, 6)
    """
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    return _of(F.tile, dims=tuple(whole("tile", "a number of repeats", n, 0) for n in given))


@constructor
def flip(*dims: int | Sequence[int]) -> Layer:
    """Reverse the order along axes; see `fconv.functional.flip`."""
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    return _of(F.flip, dims=tuple(whole("flip", "an axis", dim, -64) for dim in given))


@constructor
def roll(shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Layer:
    """Move elements along axes, round the end; see `fconv.functional.roll`."""
    return _of(F.roll, shifts=frozen(shifts), dims=frozen(dims))


@constructor
def select(dim: int, index: int) -> Layer:
    """Return one element along an axis, which is left out; see `fconv.functional.select`.

    Examples
    --------
    >>> select(1, 0).out_shape((8, 3, 5))
    (8, 5)
    """
    dim, index = whole("select", "dim", dim, -64), whole("select", "index", index, -(1 << 62))
    return _of(F.select, dim=dim, index=index)


@constructor
def index_select(dim: int, index: Any) -> Layer:
    """Return the elements of an axis at given positions; see `fconv.functional.index_select`.

    Examples
    --------
    >>> index_select(1, [2, 0]).out_shape((8, 3))
    (8, 2)
    """
    return _of(F.index_select, dim=whole("index_select", "dim", dim, -64),
               index=integers("index_select", "index", index))  # fmt: skip


@constructor
def gather(dim: int, index: Any) -> Layer:
    """Read along an axis at positions that differ from place to place; see `fconv.functional.gather`."""
    return _of(F.gather, dim=whole("gather", "dim", dim, -64), index=integers("gather", "index", index))


@constructor
def index(indices: Sequence[Any]) -> Layer:
    """Index several axes by constant integers at once; see `fconv.functional.index`.

    Examples
    --------
    >>> index((None, [[0, 1], [2, 0]])).out_shape((8, 3))
    (8, 2, 2)
    """
    each = (None if i is None else integers("index", f"indices[{a}]", i) for a, i in enumerate(indices))
    return _of(F.index, indices=tuple(each))


@constructor
def masked_fill(mask: Any, value: float) -> Layer:
    """Put a number where a constant mask is true; see `fconv.functional.masked_fill`.

    Examples
    --------
    >>> import numpy as np
    >>> masked_fill([True, False], 0.0).apply((), np.ones((1, 2)))
    array([[0., 1.]])
    """
    return _of(F.masked_fill, mask=np.asarray(mask), value=number("masked_fill", "value", value))
