"""Changes of shape, padding, and what changes nothing."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.convolution import MODES, write_pad
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.sites import Site
from fconv.onnx.values import Value


def _laid_out(node: Node, x: Value, targets: list[tuple[int, ...]]) -> Value:
    """Append the change to a shape that is known in each trial."""
    if all(target == shape for target, shape in zip(targets, x.shapes, strict=True)):
        return node.same(x)
    for target, shape in zip(targets, x.shapes, strict=True):
        if prod(target) != prod(shape):
            raise UnfitError(f"cannot reshape an input of shape {shape} to {target}")
    columns = list(zip(*targets, strict=True))
    keeps = bool(columns) and x.rank > 0 and columns[0] == x.sizes(0)
    sizes = [column[0] if len(set(column)) == 1 else -1 for column in columns[1 if keeps else 0 :]]
    if sizes.count(-1) > 1:
        raise UnfitError("more than one size of the new shape depends on the input's")
    if keeps and len(columns) == 2 and x.rank > 1:
        return node.layer(make("flatten"), x)
    return node.layer(make("reshape" if keeps else "view", *sizes), x)


@reads(
    "Reshape",
    becomes="reshape, flatten, identity; view where the batch axis changes",
    refused="a shape that is computed from elements, or with two sizes that the file leaves open",
)
def reshape(node: Node) -> Value:
    """Change of shape, constant or computed from the shape of the input."""
    x, wanted = node.value(), node.value(1)
    if wanted.data is None:
        raise UnfitError("its shape is computed from more than the input's shape")
    zero_copies, targets = not node.flag("allowzero"), []
    for shape, data in zip(x.shapes, wanted.data, strict=True):
        sizes = [int(size) for size in data.reshape(-1)]
        if any(size < -1 or (size == 0 and zero_copies and i >= len(shape)) for i, size in enumerate(sizes)):
            raise UnfitError(f"cannot reshape an input of shape {shape} to {tuple(sizes)}")
        sizes = [shape[i] if size == 0 and zero_copies else size for i, size in enumerate(sizes)]
        known = prod(size for size in sizes if size != -1)
        if -1 in sizes and (sizes.count(-1) > 1 or not known or prod(shape) % known):
            raise UnfitError(f"cannot reshape an input of shape {shape} to {tuple(sizes)}")
        targets.append(tuple(prod(shape) // known if size == -1 else size for size in sizes))
    return _laid_out(node, x, targets)


@reads("Flatten", becomes="flatten; view for axis 0")
def flatten(node: Node) -> Value:
    """Make a matrix of the axes before and after a place."""
    x, axis = node.value(), node.integer("axis", 1)
    if not -x.rank <= axis <= x.rank:
        raise UnfitError(f"an input of {x.rank} axes has no axis {axis}")
    axis = axis + x.rank if axis < 0 else axis
    return _laid_out(node, x, [(prod(s[:axis]), prod(s[axis:])) for s in x.shapes])


@writes("flatten", operators="Flatten to a matrix; Reshape otherwise")
def write_flatten(at: Site) -> str:
    """Write several axes as one."""
    rank = len(at.shape)
    first, last = (at.options[dim] % rank if rank else 0 for dim in ("start_dim", "end_dim"))
    if (first, last) == (1, rank - 1):
        return at.node("Flatten", at.x, axis=1)
    return _resize_axes(at)


def _resize_axes(at: Site) -> str:
    """Write a change of shape that may touch the batch axis."""
    sizes = at.out_shape
    if sizes and at.shape and sizes[0] == at.shape[0]:
        return at.reshaped(at.x, *sizes[1:])
    if 0 in sizes:
        raise UnfitError("a shape with an axis of no elements has no operator")
    return at.node("Reshape", at.x, at.integers(*([-1, *sizes[1:]] if sizes else [])))


@writes("reshape", "unflatten", operators="Reshape")
def write_reshape(at: Site) -> str:
    """Write a change of shape."""
    if at.layer.name == "unflatten" and at.options["dim"] % len(at.shape) == 0:
        at.any_batch = False
        return _resize_axes(at)
    return at.reshaped(at.x, *at.out_shape[1:])


@writes("view", operators="Reshape")
def write_view(at: Site) -> str:
    """Write a change of shape that says the batch axis too."""
    sizes = tuple(at.options["shape"])
    if 0 in at.out_shape:
        raise UnfitError("a shape with an axis of no elements has no operator")
    return at.node("Reshape", at.x, at.integers(*sizes))


@reads("Identity", becomes="identity")
def identity(node: Node) -> Value:
    """Change nothing."""
    return node.same(node.value())


@writes("identity", operators="Identity")
def write_identity(at: Site) -> str:
    """Write nothing's change."""
    return at.node("Identity", at.x)


@reads(
    "Cast",
    "CastLike",
    becomes="identity to the type that it has, which float32 is for bfloat16",
    refused="another type",
)
def cast(node: Node) -> Value:
    """Read Cast as the identity, since all arrays of a network have one dtype."""
    from fconv.onnx.tensors import dtype_of, is_bfloat16

    to = node.value(1).dtype if node.op == "CastLike" else dtype_of(node.integer("to", 0))
    if node.value().dtype == np.bool_ and to == node.mask_dtype(0):  # a mask is made of the numbers 1 and 0
        return node.same(replace(node.value(), dtype=to))
    if to == np.bool_ and node.value().dtype.kind == "f":
        zero = node.literal(np.zeros((), node.value().dtype))
        return replace(node.layer(make("compare", "not_equal"), node.value(), zero), dtype=to)
    if is_bfloat16(to) and not is_bfloat16(node.value().dtype) and not node.graph.bfloat16:
        raise UnfitError("it rounds to bfloat16, and there is no layer for that")
    if to != node.value().dtype:
        raise UnfitError(f"a network here is of one type throughout; this casts {node.value().dtype} to {to}")
    return node.same(node.value())


@reads("Dropout", becomes="dropout", refused="training_mode; a mask that is used")
def dropout(node: Node) -> Value:
    """Drop nothing, for a file is read as it works outside training; the layer drops in training."""
    if node.has(2) and bool(node.constant(2).any()):
        raise UnfitError("it drops outside training too: training_mode is true")
    p = node.number("ratio", 0.5) if node.opset < 12 else node.scalar(1) if node.has(1) else 0.5
    return node.layer(make("dropout", float(str(np.float32(p)))), node.value())


@writes("dropout", operators="Dropout, which drops nothing outside training")
def write_dropout(at: Site) -> str:
    """Write dropout."""
    return at.node("Dropout", at.x, at.constant(at.options["p"]))


@writes("dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "stochastic_depth", operators="Identity")
def write_channel_dropout(at: Site) -> str:
    """Write the kinds of dropout that have no operator as what they do outside training."""
    return at.node("Identity", at.x)


@reads("Pad", becomes="pad", refused="other modes than constant of the batch axis; widths that are computed")
def pad(node: Node) -> Value:
    """Pad, by widths before and after each axis."""
    x, mode = node.value(), node.text("mode", "constant")
    ours = {theirs: name for name, theirs in MODES.items()}.get(mode)
    if ours is None:
        raise UnfitError(f"mode {mode!r} is none of ONNX's")
    given = node.listed("pads", 1, 11) or ()
    fill = node.number("value", 0.0) if node.opset < 11 else node.scalar(2) if node.has(2) else 0.0
    axes = [x.axis(a) for a in node.whole(3)] if node.has(3) else list(range(x.rank))
    if len(given) != 2 * len(axes):
        raise UnfitError(f"expected {2 * len(axes)} widths, got {len(given)}")
    by_axis = dict(zip(axes, zip(given[: len(axes)], given[len(axes) :], strict=True), strict=True))
    first = min((axis for axis, pair in by_axis.items() if any(pair)), default=None)
    if first is None:
        return node.same(x)
    widths = [width for axis in range(x.rank - 1, first - 1, -1) for width in by_axis.get(axis, (0, 0))]
    return node.layer(
        make("pad", tuple(widths), mode=ours, value=fill if ours == "constant" and fill else None), x
    )


@writes("pad", operators="Pad")
def write_padding(at: Site) -> str:
    """Write padding."""
    widths = at.options["pad"]
    pairs = tuple(zip(widths[::2], widths[1::2], strict=True))[::-1]
    return write_pad(at, at.x, pairs, at.options["mode"], at.options["value"])


@reads("Col2Im", becomes="fold", refused="other than two spatial axes; uneven pads")
def col2im(node: Node) -> Value:
    """Sum of columns into a picture."""
    image, block, pads = node.whole(1), node.whole(2), node.integers("pads", (0, 0, 0, 0))
    if len(image) != 2 or len(block) != 2 or pads is None or pads[:2] != pads[2:]:
        raise UnfitError("three spatial axes, or pads that differ before and after an axis, have no layer")
    layer = make(
        "fold",
        image,
        block,
        dilation=node.integers("dilations", (1, 1)),
        padding=pads[:2],
        stride=node.integers("strides", (1, 1)),
    )
    return node.layer(layer, node.value())


@writes("fold", operators="Col2Im", refused="an input without a batch axis")
def write_fold(at: Site) -> str:
    """Write the sum of columns into a picture."""
    if len(at.shape) != 3:
        raise UnfitError(f"expected an input (N, C * kernel, L), got shape {at.shape}")
    sizes = {
        what: list(value) if isinstance(value, tuple) else [value] * 2 for what, value in at.options.items()
    }
    return at.node(
        "Col2Im", at.x, at.integers(*sizes["output_size"]), at.integers(*sizes["kernel_size"]),
        dilations=sizes["dilation"], pads=sizes["padding"] * 2, strides=sizes["stride"],
    )  # fmt: skip
