"""Convolutions and affine maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fconv.geometry import AMPLE, whole_tuple, window_geometry
from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.operators.windows import Pairs, Window, spatial, widened, window
from fconv.onnx.sites import Site
from fconv.onnx.values import Value


def _weighted(node: Node, name: str, x: Value) -> tuple[Any, dict[str, Any]]:
    """Return the weight of a convolution of `x`, and its parameters."""
    weight = node.constant(1)
    if weight.ndim != x.rank:
        raise UnfitError(f"expected a weight of {x.rank} axes, got shape {weight.shape}")
    return weight, {"weight": (1, weight)}


@reads("Conv", becomes="conv1d, conv2d, conv3d; with a computed weight call; uneven pads: pad before it")
def conv(node: Node) -> Value:
    """Convolution: ONNX has PyTorch's definition and layout of the weight."""
    x, held = node.value(), node.value(1)
    own = (
        held.data is not None and not node.is_literal(1) and not (node.has(2) and node.value(2).data is None)
    )
    sizes = (0, *(held.size(axis) for axis in range(1, held.rank)))
    if held.rank != x.rank:
        raise UnfitError(f"expected a weight of {x.rank} axes, got shape {sizes}")
    at, groups = window(node, x, sizes[2:]), node.integer("group", 1)
    if x.size(1) != sizes[1] * groups:
        raise UnfitError(f"expected {sizes[1] * groups} channels for its weight, got {x.size(1)}")
    if not at.symmetric:
        x = widened(node, x, at.pairs)
    padding = at.padding if at.symmetric else (0,) * at.ndim
    how = {"stride": at.stride, "padding": padding, "dilation": at.dilation, "groups": groups}
    if not own:
        names = ("x", "weight", "bias")[: 3 if node.has(2) else 2]
        others = [node.value(i) for i in range(1, len(names))]
        return node.layer(make("call", f"conv{at.ndim}d", names, **how), x, *others)
    weight, params = _weighted(node, "conv", x)
    if node.has(2):
        params["bias"] = (2, node.channelled(2, weight.shape[0]))
    layer = make(f"conv{at.ndim}d", weight.shape[0], at.kernel, bias="bias" in params, **how)
    return node.layer(layer, x, params=params)


@writes("conv1d", "conv2d", "conv3d", operators="Conv; other padding_mode than zeros: Pad before it")
def write_conv(at: Site) -> str:
    """Write a convolution."""
    return convolution_node(at, at.options, at.options["kernel_size"], at.parameters("weight", "bias"))


def convolution_node(at: Site, options: Mapping[str, Any], kernel: Sequence[int], held: Sequence[str]) -> str:
    """Write a Conv by the values that hold its weight and bias."""
    n = len(kernel)
    at.batched(n)
    stride, dilation = (whole_tuple("conv", what, options[what], n, 1) for what in ("stride", "dilation"))
    pairs = window_geometry("conv", AMPLE[:n], kernel, stride, options["padding"], dilation).padding
    x, mode = at.x, options.get("padding_mode", "zeros")
    if mode != "zeros":
        x, pairs = write_pad(at, x, pairs, mode), ((0, 0),) * n
    return at.node(
        "Conv", x, *held, kernel_shape=kernel, strides=stride, dilations=dilation,
        group=options["groups"], pads=[low for low, _ in pairs] + [high for _, high in pairs],
    )  # fmt: skip


MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""PyTorch's modes of padding by ONNX's names."""


def write_pad(at: Site, x: str, pairs: Pairs, mode: str, value: float | None = None) -> str:
    """Write padding of the last axes."""
    first = len(at.shape) - len(pairs)
    pads = [0] * first + [low for low, _ in pairs] + [0] * first + [high for _, high in pairs]
    fill = [at.constant(value)] if value else []
    return at.node("Pad", x, at.integers(*pads), *fill, mode=MODES[mode])


@reads(
    "ConvTranspose",
    becomes="conv_transpose1d, conv_transpose2d, conv_transpose3d; uneven pads: pad (cropping) after it",
    refused="a weight that is computed; output_padding of stride and dilation or more",
)
def conv_transpose(node: Node) -> Value:
    """Transposed convolution."""
    x = node.value()
    weight, params = _weighted(node, "conv_transpose", x)
    groups = node.integer("group", 1)
    if x.size(1) != weight.shape[0]:
        raise UnfitError(f"expected {weight.shape[0]} channels for its weight, got {x.size(1)}")
    channels = weight.shape[1] * groups
    if node.has(2):
        params["bias"] = (2, node.channelled(2, channels))
    at, extra = _transposed(node, x, weight.shape[2:])
    low = tuple(min(pair) for pair in at.pairs)
    layer = make(
        f"conv_transpose{at.ndim}d", channels, at.kernel, stride=at.stride, padding=low, output_padding=extra,
        groups=groups, bias="bias" in params, dilation=at.dilation,
    )  # fmt: skip
    if at.symmetric:
        return node.layer(layer, x, params=params)
    rest = tuple((less - a, less - b) for less, (a, b) in zip(low, at.pairs, strict=True))
    return widened(node, node.layer(layer, x, params=params), rest)


def _transposed(node: Node, x: Value, kernel: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
    """Read the pads and the output_padding, which an output_shape or auto_pad asks for."""
    ndim = spatial(node, x)
    extra, wanted = node.integers("output_padding", (0,) * ndim), node.integers("output_shape")
    auto = node.text("auto_pad", "NOTSET")
    assert extra is not None
    if wanted is None and auto in ("NOTSET", "VALID"):
        return window(node, x, kernel), extra
    node.attributes.pop("auto_pad", None)
    at = window(node, x, kernel)

    def pads(shape: tuple[int, ...]) -> tuple[Pairs, tuple[int, ...]]:
        pairs, more = [], []
        aim = wanted if wanted is not None else [i * s for i, s in zip(shape[2:], at.stride, strict=True)]
        for i, out in enumerate(aim[-ndim:]):
            full = at.stride[i] * (shape[2 + i] - 1) + extra[i] + at.dilation[i] * (at.kernel[i] - 1) + 1
            total = max(full - out, 0)
            if total % 2 and auto == "NOTSET":
                raise UnfitError("an output_shape that leaves open which side loses an odd element")
            low = total // 2 if auto != "SAME_LOWER" else total - total // 2
            pairs.append((low, total - low))
            more.append(extra[i] + max(out - full, 0))
        return tuple(pairs), tuple(more)

    pairs, more = node.shape_of("its padding", pads, x)
    return at._replace(pairs=pairs), more


@writes("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", operators="ConvTranspose")
def write_conv_transpose(at: Site) -> str:
    """Write a transposed convolution."""
    options = at.options
    kernel, n = options["kernel_size"], len(options["kernel_size"])
    at.batched(n)
    stride, dilation = (whole_tuple("conv", what, options[what], n, 1) for what in ("stride", "dilation"))
    padding, extra = (
        whole_tuple("conv", what, options[what], n, 0) for what in ("padding", "output_padding")
    )
    return at.node(
        "ConvTranspose", at.x, *at.parameters("weight", "bias"), kernel_shape=kernel, strides=stride,
        dilations=dilation, group=options["groups"], pads=[*padding, *padding], output_padding=extra,
    )  # fmt: skip


def _linear(node: Node, x: Value, weight: Any, bias: Any, bias_index: int = 2) -> Value:
    """Append an affine map; `weight` is (out, in)."""
    if weight.ndim != 2 or x.size(-1) != weight.shape[1]:
        raise UnfitError(f"expected {weight.shape[-1]} features for its weight, got {x.size(-1)}")
    params = {"weight": (1, np.ascontiguousarray(weight))}
    if bias is not None:
        params["bias"] = (bias_index, bias)
    return node.layer(make("linear", weight.shape[0], bias=bias is not None), x, params=params)


@reads(
    "Gemm", becomes="linear where weight and bias are its own; otherwise transpose, matmul, scale_shift, add"
)
def gemm(node: Node) -> Value:
    """General matrix product, of which the affine map of rows has a layer."""
    x = node.value()
    own = node.value(1).data is not None and x.data is None and not node.flag("transA") and x.rank == 2
    added = node.value(2) if own and node.has(2) else None
    row = added is None or (added.data is not None and added.shapes[0][:-1] in ((), (1,)))
    if not own or not row:
        return _product(node)
    weight = node.constant(1)
    weight = weight if node.flag("transB") else weight.T
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    weight = weight if alpha == 1 else weight * weight.dtype.type(alpha)
    bias = None
    if node.has(2):
        held = node.constant(2)
        if held.shape[-1:] not in ((weight.shape[0],), (1,), ()) or held.size not in (1, weight.shape[0]):
            raise UnfitError(f"expected a bias of shape ({weight.shape[0]},), got {held.shape}")
        flat = held.reshape(-1)
        flat = flat if flat.size == weight.shape[0] else np.repeat(flat, weight.shape[0])
        bias = flat if beta == 1 else flat * flat.dtype.type(beta)
    return _linear(node, x, weight, bias)


def _product(node: Node) -> Value:
    """Append a matrix product of tensors that may all be computed."""
    a, b = (
        node.step(make("transpose", 0, 1), node.value(i)) if node.flag(turned) else node.value(i)
        for i, turned in ((0, "transA"), (1, "transB"))
    )
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    product, scale = make("matmul"), make("scale_shift", alpha)
    if not node.has(2):
        return node.layer(product, a, b) if alpha == 1 else node.layer(scale, node.step(product, a, b))
    y, bias = node.step(product, a, b), node.value(2)
    y = y if alpha == 1 else node.step(scale, y)
    bias = bias if beta == 1 else node.step(make("scale_shift", beta), bias)
    return node.layer(make("add"), y, bias)


@reads("MatMul", becomes="linear with a constant matrix, together with an Add of its bias; matmul otherwise")
def matmul(node: Node) -> Value:
    """Matrix product; with a matrix that is known it is an affine map."""
    x, other = node.value(0), node.value(1)
    if x.data is None and other.data is not None and other.rank == 2 and not node.is_literal(1):
        weight = node.constant(1).T
        bias, target = _bias_after(node, weight.shape[0])
        found = _linear(node, x, weight, None if bias is None else bias.data[0], len(node.inputs) - 1)
        if target is not None:
            node.graph.values[target] = found
        return found
    return node.layer(make("matmul"), x, other)


def _bias_after(node: Node, count: int) -> tuple[Any, str | None]:
    """Find the Add of a bias that alone takes the product, and the name of its output."""
    followers = node.graph.followers(node.outputs[0])
    if len(followers) != 1 or followers[0] is None or followers[0].op_type != "Add":
        return None, None
    after = followers[0]
    others = [name for name in after.input if name != node.outputs[0]]
    if len(others) != 1 or not (others[0] in node.graph.values or node.graph.is_initializer(others[0])):
        return None, None
    held = node.graph.lookup(others[0])
    if held is None or held.data is None or held.shapes[0] != (count,):
        return None, None
    node.inputs.append(held)
    return held, after.output[0]


@writes("linear", operators="Gemm for a matrix; MatMul and Add otherwise")
def write_linear(at: Site) -> str:
    """Write an affine map."""
    if len(at.shape) == 2:
        return at.node("Gemm", at.x, *at.parameters("weight", "bias"), transB=1)
    at.any_batch = len(at.shape) > 1
    turned = at.node("Transpose", at.parameter("weight"), perm=[1, 0])
    product = at.node("MatMul", at.x, turned)
    return at.node("Add", product, at.parameter("bias")) if at.has("bias") else product
