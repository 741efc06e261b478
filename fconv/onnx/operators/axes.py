"""Axes moved, joined, divided and summed over."""

from __future__ import annotations

import numpy as np

from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.sites import Site
from fconv.onnx.values import Value


@reads("Transpose", becomes="permute")
def transpose(node: Node) -> Value:
    """Axes in another order."""
    x = node.value()
    order = node.integers("perm", tuple(range(x.rank))[::-1])
    if order is None or sorted(order) != list(range(x.rank)):
        raise UnfitError(f"perm {order} is no order of {x.rank} axes")
    return node.layer(make("permute", *order), x)


@writes("permute", "transpose", operators="Transpose")
def write_transpose(at: Site) -> str:
    """Write axes in another order."""
    rank = len(at.shape)
    if at.layer.name == "permute":
        order = [axis % rank for axis in at.options["dims"]]
    else:
        order = list(range(rank))
        a, b = at.options["dim0"] % rank, at.options["dim1"] % rank
        order[a], order[b] = order[b], order[a]
    return at.node("Transpose", at.x, perm=order)


@reads("Squeeze", becomes="squeeze")
def squeeze(node: Node) -> Value:
    """Leave out axes of one element."""
    y, axes = node.value(), node.listed("axes", 1, 13)
    if axes is None:
        axes = node.shape_of(
            "what it leaves out", lambda shape: tuple(i for i, size in enumerate(shape) if size == 1), y
        )
    dims = tuple(sorted({y.axis(a) for a in axes}))
    if any(size != 1 for d in dims for size in y.sizes(d)):
        raise UnfitError(f"axes {dims} of shape {y.shapes[0]} have more than one element")
    return node.layer(make("squeeze", dims[0] if len(dims) == 1 else dims), y) if dims else node.same(y)


@reads("Unsqueeze", becomes="unsqueeze, one for each axis")
def unsqueeze(node: Node) -> Value:
    """Add axes of one element."""
    y, axes = node.value(), node.listed("axes", 1, 13) or ()
    rank = y.rank + len(axes)
    for axis in sorted(a + rank if a < 0 else a for a in axes):
        y = node.layer(make("unsqueeze", axis), y)
    return y


@writes("squeeze", "unsqueeze", operators="Squeeze, Unsqueeze")
def write_squeeze(at: Site) -> str:
    """Write an axis of one element, left out or added."""
    if len(at.out_shape) == len(at.shape):
        return at.node("Identity", at.x)
    dim = at.options["dim"]
    if at.layer.name == "unsqueeze":
        return at.node("Unsqueeze", at.x, at.integers(dim))
    rank = len(at.shape)
    if dim is None:
        dims = [axis for axis, size in enumerate(at.shape) if size == 1]
    else:
        # PyTorch passes over the axes of more than one element.
        dims = [d for d in (dim if isinstance(dim, tuple) else (dim,)) if at.shape[d] == 1]
    return at.node("Squeeze", at.x, at.integers(*sorted(d % rank for d in dims)))


@reads("Concat", becomes="concat")
def concat(node: Node) -> Value:
    """One after another along an axis."""
    values = [node.value(i) for i in range(len(node.inputs))]
    if len(values) == 1:
        return node.same(values[0])
    return node.layer(make("concat", values[0].axis(node.integer("axis", 0))), *values)


@writes("concat", operators="Concat")
def write_concat(at: Site) -> str:
    """Write arrays one after another."""
    return at.node("Concat", *at.sources, axis=at.options["dim"])


@writes("stack", operators="Unsqueeze, Concat")
def write_stack(at: Site) -> str:
    """Write arrays one after another along a new axis."""
    dim = at.options["dim"] % len(at.out_shape)
    parts = [at.node("Unsqueeze", source, at.integers(dim)) for source in at.sources]
    return at.node("Concat", *parts, axis=dim)


@reads("Split", becomes="narrow for each part", refused="sizes that the file leaves open")
def split(node: Node) -> tuple[Value | None, ...]:
    """Divide along an axis."""
    x = node.value()
    axis = x.axis(node.integer("axis", 0))
    sizes, count = node.listed("split", 1, 13), len(node.outputs)
    if sizes is None:
        each = -(-x.size(axis) // node.integer("num_outputs", count))
        sizes = tuple(min(each, x.size(axis) - i * each) for i in range(count))
    if len(sizes) != count or sum(sizes) != x.size(axis) or min(sizes, default=0) < 0:
        raise UnfitError(f"parts of sizes {sizes} for {count} outputs do not make up {x.size(axis)}")
    starts = np.cumsum((0, *sizes)).tolist()
    used = [bool(name) and bool(node.graph.followers(name)) for name in node.outputs]
    return tuple(
        node.layer(make("narrow", axis, start, size), x) if use else None
        for start, size, use in zip(starts, sizes, used, strict=False)
    )


@reads(
    "Slice", becomes="slice_along for each axis, flip for negative steps", refused="bounds that are computed"
)
def slice_(node: Node) -> Value:
    """Take a range along some axes."""
    y = node.value()
    starts, ends = (node.listed(what, i, 10) or () for i, what in ((1, "starts"), (2, "ends")))
    axes = node.listed("axes", 3, 10) or tuple(range(len(starts)))
    steps = node.whole(4) if node.opset >= 10 and node.has(4) else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise UnfitError(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} have no layer")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = y.axis(axis)
        if step < 0:
            y = node.layer(make("slice_along", axis, *_turned(y, axis, start, end), -step),
                           node.step(make("flip", axis), y))  # fmt: skip
            continue
        # What lies beyond any axis means its end; layers say None for it.
        stop = None if end >= 2**31 - 1 else end
        y = node.layer(make("slice_along", axis, max(start, -(2**31)), stop, step), y)
    return y if starts else node.same(y)


def _turned(x: Value, axis: int, start: int, end: int) -> tuple[int, int | None]:
    """Return where a part that is read backwards starts and ends in the reversed axis."""

    def counted(place: int) -> int:
        # From the end of the axis; a place beyond an end stays beyond it.
        return -1 - place if place < 0 else x.size(axis) - 1 - place

    far = 2**31 - 1
    start = 0 if start >= far else max(counted(start), 0)
    return start, None if end <= -far else max(counted(end), 0)


def _sliced(at: Site, dim: int, start: int, end: int, step: int = 1) -> str:
    parts = (at.integers(i) for i in (start, end, dim, step))
    return at.node("Slice", at.x, *parts)


@writes("narrow", "slice_along", "chunk", "split", operators="Slice")
def write_slice(at: Site) -> str:
    """Write a range along an axis."""
    options, name = at.options, at.layer.name
    dim = options["dim"] % len(at.shape)
    size, wanted, step = at.shape[dim], at.out_shape[dim], 1
    if name == "narrow":
        start = options["start"]
    elif name == "slice_along":
        start, step = options["start"] or 0, options["step"] or 1
    elif name == "chunk":
        start = options["index"] * -(-size // options["chunks"])
    else:
        sizes, index = options["sizes"], options["index"]
        start = sum(sizes[:index]) if isinstance(sizes, tuple) else sizes * index
    start = max(start + size, 0) if start < 0 else min(start, size)
    if dim == 0 and name == "slice_along" and options["end"] is None:
        return _sliced(at, dim, options["start"] or 0, 2**63 - 1, step)
    return _sliced(at, dim, start, start + (wanted - 1) * step + 1 if wanted else start, step)
