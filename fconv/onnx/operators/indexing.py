"""Elements read at other places: stretched, repeated, reversed, rolled, looked up, chosen by a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv.functional.rearranging import moved_axes
from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.sites import Site
from fconv.onnx.values import Value

LAST = 2**63 - 1


@reads("Expand", becomes="expand, identity where it changes nothing", refused="sizes that follow the input's")
def expand(node: Node) -> Value:
    """Stretching to a shape."""
    x, wanted = node.value(), node.value(1)
    if wanted.data is None:
        raise UnfitError("its shape is computed from more than the input's shape")
    shapes = [
        np.broadcast_shapes(shape, tuple(int(s) for s in data.reshape(-1)))
        for shape, data in zip(x.shapes, wanted.data, strict=True)
    ]
    if shapes == list(x.shapes):
        return node.same(x)
    lead, sizes = len(shapes[0]) - x.rank, []
    for axis, each in enumerate(zip(*shapes, strict=True)):
        kept = axis >= lead and x.sizes(axis - lead) == each
        if not kept and len(set(each)) > 1:
            raise UnfitError(f"the size of axis {axis} to which it is stretched depends on the input's")
        sizes.append(-1 if kept else each[0])
    return node.layer(make("expand", *sizes), x)


@writes("expand", operators="Expand")
def write_expand(at: Site) -> str:
    """Write a stretching; a size of 1 keeps the axis in ONNX."""
    return at.node("Expand", at.x, at.integers(*(1 if n == -1 else n for n in at.options["sizes"])))


@writes("expand_like", operators="Shape, Gather, Concat, Expand")
def write_expand_like(at: Site) -> str:
    """Write a stretching to sizes of a second value."""
    x, like = at.sources
    shape = at.node("Shape", like)
    parts = [
        at.node("Gather", shape, at.integers(axis)) if n is None else at.integers(1 if n == -1 else n)
        for axis, n in enumerate(at.options["sizes"])
    ]
    return at.node("Expand", x, at.node("Concat", *parts, axis=0))


@reads("Tile", becomes="tile", refused="numbers of repeats that are computed")
def tile(node: Node) -> Value:
    """Repetition along axes; before opset 7 there was another."""
    x, dims = node.value(), node.whole(1)
    if len(dims) != x.rank:
        raise UnfitError(f"expected {x.rank} numbers of repeats, got {len(dims)}")
    return node.layer(make("tile", *dims), x)


@writes("tile", operators="Tile, Unsqueeze before it where axes are added")
def write_tile(at: Site) -> str:
    """Write a repetition along axes."""
    rank, dims = len(at.out_shape), at.options["dims"]
    added = rank - len(at.shape)
    x = at.node("Unsqueeze", at.x, at.integers(*range(added))) if added else at.x
    return at.node("Tile", x, at.integers(*(1,) * (rank - len(dims)), *dims))


@writes("flip", operators="Slice with steps of -1")
def write_flip(at: Site) -> str:
    """Write the reverse order along axes."""
    dims = sorted({dim % len(at.shape) for dim in at.options["dims"]})
    n = len(dims)
    if not n:
        return at.node("Identity", at.x)
    return at.node(
        "Slice", at.x, at.integers(*(-1,) * n), at.integers(*(-LAST,) * n), at.integers(*dims),
        at.integers(*(-1,) * n),
    )  # fmt: skip


@writes("roll", operators="Slice and Concat for each axis")
def write_roll(at: Site) -> str:
    """Write a roll: the last elements before the others."""
    shifts, dims = ((v,) if isinstance(v, int) else v for v in (at.options["shifts"], at.options["dims"]))
    y, sizes = at.x, at.shape
    if dims is None:
        y, dims, sizes = at.node("Reshape", y, at.integers(-1)), (0,), (at.count(*range(len(at.shape))),)
    for shift, dim in zip(shifts, dims, strict=True):
        size = sizes[dim]
        by = int(np.fmod(shift, size)) if size else 0
        at.any_batch &= by == shift or (dim % len(sizes) != 0 and at.options["dims"] is not None)
        if by:
            ends = [(-by, LAST), (0, -by)]
            parts = [
                at.node("Slice", y, at.integers(a), at.integers(b), at.integers(dim % len(sizes)))
                for a, b in ends
            ]
            y = at.node("Concat", *parts, axis=dim % len(sizes))
    if at.options["dims"] is None:
        return at.node("Reshape", y, at.integers(-1, *at.shape[1:]) if at.shape else at.integers())
    return y if y != at.x else at.node("Identity", y)


@reads(
    "Gather",
    becomes="select for one constant index, index_select or index for several; embedding where the table is "
    "constant",
    refused="indices that are computed, but of a table's rows",
)
def gather(node: Node) -> Value:
    """Rows of a table, or elements along an axis."""
    data, indices = node.value(0), node.value(1)
    axis = data.axis(node.integer("axis", 0))
    if data.data is not None and indices.data is None:
        table = node.constant(0)
        if axis or table.ndim != 2:
            raise UnfitError("only the rows of a matrix are looked up by a layer")
        return node.layer(make("embedding", *table.shape), indices, params={"weight": (0, table)})
    at = node.constant(1)
    if at.ndim == 0:
        return node.layer(make("select", axis, int(at)), data)
    layer = make("index_select", axis, at) if at.ndim == 1 else make("index", (*(None,) * axis, at))
    return node.layer(layer, data)


@reads("GatherElements", becomes="gather", refused="indices that are computed")
def gather_elements(node: Node) -> Value:
    """Elements along an axis at positions that differ from place to place."""
    x = node.value()
    return node.layer(make("gather", x.axis(node.integer("axis", 0)), node.constant(1)), x)


@reads(
    "GatherND",
    becomes="index; batch_dims: index with the batch's own numbers",
    refused="indices that are computed",
)
def gather_nd(node: Node) -> Value:
    """Elements or parts at positions along several axes."""
    x, at, batch = node.value(), node.constant(1), node.integer("batch_dims", 0)
    if at.ndim <= batch or at.shape[-1] + batch > x.rank:
        raise UnfitError(f"indices of shape {at.shape} do not fit an input of {x.rank} axes")
    inner = at.ndim - 1
    own = [np.arange(n).reshape(-1, *(1,) * (inner - 1 - i)) for i, n in enumerate(at.shape[:batch])]
    held = [np.broadcast_to(each, at.shape[:-1]) for each in own]
    return node.layer(make("index", (*held, *np.moveaxis(at, -1, 0))), x)


@writes("select", operators="Gather")
def write_select(at: Site) -> str:
    """Write one element along an axis."""
    return at.node("Gather", at.x, at.constant(at.options["index"], np.int64), axis=at.options["dim"])


@writes("index_select", operators="Gather")
def write_index_select(at: Site) -> str:
    """Write elements of an axis at given positions."""
    return at.node("Gather", at.x, at.constant(at.options["index"], np.int64), axis=at.options["dim"])


@writes("gather", operators="GatherElements")
def write_gather(at: Site) -> str:
    """Write elements along an axis at positions that differ from place to place."""
    return at.node("GatherElements", at.x, at.constant(at.options["index"], np.int64), axis=at.options["dim"])


@writes("index", operators="Gather for one axis; Transpose and GatherND for several")
def write_index(at: Site) -> str:
    """Write an indexing of several axes: they come first, are looked up, and what they give moves back."""
    indices: tuple[Any, ...] = at.options["indices"]
    held = [axis for axis, each in enumerate(indices) if each is not None]
    if not held:
        return at.node("Identity", at.x)
    if len(held) == 1:
        return at.node("Gather", at.x, at.constant(indices[held[0]], np.int64), axis=held[0])
    places = np.stack(np.broadcast_arrays(*(indices[axis] for axis in held)), -1)
    rest = [axis for axis in range(len(at.shape)) if axis not in held]
    x = at.node("Transpose", at.x, perm=[*held, *rest])
    y = at.node("GatherND", x, at.constant(places, np.int64))
    inner, before = places.ndim - 1, [axis for axis in rest if axis < held[0]]
    if held[-1] - held[0] + 1 != len(held) or not before:  # what was looked up stands in front
        return y
    n = len(before)
    order = [*range(inner, inner + n), *range(inner), *range(inner + n, inner + len(rest))]
    return at.node("Transpose", y, perm=order)


@writes("movedim", operators="Transpose")
def write_movedim(at: Site) -> str:
    """Write axes moved to other places."""
    return at.node(
        "Transpose", at.x, perm=moved_axes(at.shape, at.options["source"], at.options["destination"])
    )


@writes("masked_fill", operators="Where")
def write_masked_fill(at: Site) -> str:
    """Write a number in the place of what a mask marks."""
    return at.node("Where", at.constant(at.options["mask"], np.bool_), at.constant(at.options["value"]), at.x)


@writes("where", operators="Where")
def write_where(at: Site) -> str:
    """Write a choice between two values."""
    return at.node("Where", at.constant(at.options["condition"], np.bool_), *at.sources)


@writes("constant", operators="Constant")
def write_constant(at: Site) -> str:
    """Write a constant, which is no initializer: the others are parameters."""
    return at.node("Constant", value=at.tensor(at.options["value"]))


@writes("embedding", operators="Gather")
def write_embedding(at: Site) -> str:
    """Write rows of a table."""
    return at.node("Gather", at.parameter("weight"), at.x, axis=0)
