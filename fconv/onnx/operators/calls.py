"""Functions of several computed arrays: convolution by computed filters, reading at computed positions."""

from __future__ import annotations

import numpy as np

from fconv.geometry import whole_tuple
from fconv.networks.reading import UnfitError, make
from fconv.onnx.folds import room
from fconv.onnx.nodes import Node
from fconv.onnx.operators.convolution import convolution_node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.operators.windows import widened, window
from fconv.onnx.sites import Site
from fconv.onnx.values import Value, common

MODES = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}
"""PyTorch's modes of grid_sample by ONNX's names, which before opset 20 were PyTorch's."""

DEFORMED = ("x", "offset", "weight", "bias", "mask")


@reads("GridSample", becomes="call of grid_sample", refused="other than two or three spatial axes")
def grid_sample(node: Node) -> Value:
    """Read values at the positions of a grid: ONNX has PyTorch's definition."""
    given = node.text("mode", "linear" if node.opset >= 20 else "bilinear")
    options = {
        "mode": {theirs: ours for ours, theirs in MODES.items()}.get(given, given),
        "padding_mode": node.text("padding_mode", "zeros"),
        "align_corners": node.flag("align_corners"),
    }
    return node.layer(make("call", "grid_sample", ("x", "grid"), **options), node.value(0), node.value(1))


@reads(
    "AffineGrid",
    becomes="einsum of the maps with constant positions",
    refused="sizes that the file leaves open",
)
def affine_grid(node: Node) -> Value:
    """Map positions in a picture: ONNX has PyTorch's affine_grid.

    The nodes by which the standard defines it take the batch axis away from a batch of one.
    """
    theta, held = node.value(0), node.value(1)
    if held.data is None or not 4 <= held.data[0].size <= 5:
        raise UnfitError("expected a known size (N, C, H, W) or (N, C, D, H, W)")
    sizes = common("the size of its grid", [tuple(map(int, data.reshape(-1)[2:])) for data in held.data])
    n, align = len(sizes), node.flag("align_corners")
    room(node, (*sizes, n + 1), theta.dtype)
    base = np.ones((*sizes, n + 1), theta.dtype)
    for axis, size in enumerate(sizes):
        whole = size - 1 if align else size  # of the two that positions go through
        at = (2 * np.arange(size) + 1 - size) / max(whole, 1)
        base[..., n - 1 - axis] = at.reshape(-1, *(1,) * (n - 1 - axis))
    axes = "dhw"[-n:]
    return node.layer(make("einsum", f"nij,{axes}j->n{axes}i"), theta, node.literal(base))


@reads(
    "DeformConv",
    becomes="call of deform_conv2d; uneven pads: pad before it",
    refused="other than two spatial axes",
)
def deform_conv(node: Node) -> Value:
    """Convolution of what is read beside the pixels: ONNX has torchvision's definition."""
    x, weight, offset = node.value(0), node.value(1), node.value(2)
    if x.rank != 4 or weight.rank != 4:
        raise UnfitError(f"expected pictures (N, C, H, W), got {x.rank} axes")
    at = window(node, x, (weight.size(2), weight.size(3)))
    groups, parts = node.integer("group", 1), node.integer("offset_group", 1)
    expected = (weight.size(1) * groups, 2 * parts * weight.size(2) * weight.size(3))
    if (x.size(1), offset.size(1)) != expected:
        got = (x.size(1), offset.size(1))
        raise UnfitError(
            f"expected {expected[0]} channels and {expected[1]} offsets, got {got[0]} and {got[1]}"
        )
    if not at.symmetric:
        x = widened(node, x, at.pairs)
    padding = at.padding if at.symmetric else (0, 0)
    arrays = {"x": x, "offset": offset, "weight": weight}
    arrays |= {name: node.value(i) for i, name in ((3, "bias"), (4, "mask")) if node.has(i)}
    how = {"stride": at.stride, "padding": padding, "dilation": at.dilation}
    return node.layer(make("call", "deform_conv2d", tuple(arrays), **how), *arrays.values())


@writes(
    "call", operators="Conv, GridSample, DeformConv, of a function of that name", refused="other functions"
)
def write_call(at: Site) -> str:
    """Write a call of a function."""
    name, arrays, options = at.options["function"], at.options["arrays"], at.options
    if name in ("conv1d", "conv2d", "conv3d") and arrays == ("x", "weight", "bias")[: len(arrays)]:
        defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        return convolution_node(at, {**defaults, **options}, at.shapes[1][2:], at.sources[1:])
    if name == "grid_sample" and arrays == ("x", "grid"):
        return at.node(
            "GridSample", *at.sources,
            mode=MODES[options.get("mode", "bilinear")],
            padding_mode=options.get("padding_mode", "zeros"),
            align_corners=int(options.get("align_corners", False)),
        )  # fmt: skip
    if name == "deform_conv2d" and set(arrays) <= set(DEFORMED):
        given = dict(zip(arrays, at.sources, strict=True))
        shapes = dict(zip(arrays, at.shapes, strict=True))
        _, each, *kernel = shapes["weight"]
        stride, padding, dilation = (
            whole_tuple(name, what, options.get(what, default), 2, default)
            for what, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        count = 5 if "mask" in given else 4 if "bias" in given else 3
        order = [given.get(leaf, "") for leaf in ("x", "weight", "offset", "bias", "mask")]
        return at.node(
            "DeformConv", *order[:count], kernel_shape=kernel, strides=stride,
            dilations=dilation, pads=[*padding, *padding], group=shapes["x"][1] // each,
            offset_group=shapes["offset"][1] // (2 * kernel[0] * kernel[1]),
        )  # fmt: skip
    raise UnfitError(f"a call of {name} has no operator")
