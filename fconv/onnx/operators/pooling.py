"""Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv.files.formats.claims import array_bytes
from fconv.geometry import whole_tuple
from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.operators.windows import Window, spatial, widened, window
from fconv.onnx.sites import Site
from fconv.onnx.values import Value


def _slight(at: Window) -> bool:
    """Return whether a pool takes this padding itself: the same on both sides, half a kernel at most."""
    return at.symmetric and all(2 * low <= k for low, k in zip(at.padding, at.kernel, strict=True))


def _padded(node: Node, x: Value, at: Window, ceil: bool, fill: float) -> tuple[Value, tuple[int, ...]]:
    """Pad by a layer before the pool where the pool cannot; give what is left to it."""
    if _slight(at):
        return x, at.padding
    if ceil:
        raise UnfitError("ceil_mode with pads that differ before and after an axis has no layer")
    return widened(node, x, at.pairs, fill), (0,) * at.ndim


@reads(
    "MaxPool",
    becomes="max_pool1d, max_pool2d, max_pool3d; uneven pads: pad before it",
    refused="indices that are used; ceil_mode with uneven pads",
)
def max_pool(node: Node) -> Value:
    """Maximum over windows."""
    x, ceil = node.value(), node.flag("ceil_mode")
    at = window(node, x, None)
    x, padding = _padded(node, x, at, ceil, -np.inf)
    how = {"stride": at.stride, "padding": padding, "dilation": at.dilation, "ceil_mode": ceil}
    return node.layer(make(f"max_pool{at.ndim}d", at.kernel, **how), x)


@reads(
    "AveragePool",
    becomes="avg_pool1d, avg_pool2d, avg_pool3d; uneven pads that count: pad before it; dilations, or uneven "
    "pads that do not: a convolution by ones over the count",
    refused="dilations or uneven pads with ceil_mode, or where the file leaves the size open",
)
def avg_pool(node: Node) -> Value:
    """Mean over windows."""
    x, ceil, counted = node.value(), node.flag("ceil_mode"), node.flag("count_include_pad")
    at = window(node, x, None)
    if any(d != 1 for d in at.dilation) or not (_slight(at) or counted):
        return _counted_mean(node, x, at, ceil, counted)
    x, padding = _padded(node, x, at, ceil, 0.0)
    how = {"stride": at.stride, "padding": padding, "ceil_mode": ceil, "count_include_pad": counted}
    return node.layer(make(f"avg_pool{at.ndim}d", at.kernel, **how), x)


def _counted_mean(node: Node, x: Value, at: Window, ceil: bool, counted: bool) -> Value:
    """Append a mean over windows as their sum, by a convolution with ones, over the count of each."""
    if ceil:
        raise UnfitError("ceil_mode with dilations, or with uneven pads that do not count, has no layer")
    channels, count, spend = x.size(1), np.ones((1, 1), x.dtype), node.graph.budget.spend
    for i, (k, s, d, (low, high)) in enumerate(zip(at.kernel, at.stride, at.dilation, at.pairs, strict=True)):
        size = x.size(2 + i)
        if min(low, high) < 0:
            raise UnfitError(f"pads {at.pairs} below 0 have no layer")
        out = max((size + low + high - d * (k - 1) - 1) // s + 1, 0)
        spend(array_bytes((out, k), 32))
        places = np.arange(out)[:, None] * s + np.arange(k) * d - low
        inside = np.full(places.shape, True) if counted else (places >= 0) & (places < size)
        spend(array_bytes((count.size, out), 8))
        count = count[..., None] * inside.sum(1).astype(x.dtype)
    spend(array_bytes((channels, *at.kernel), 8))
    weight = node.literal(np.ones((channels, 1, *at.kernel), x.dtype))
    how = {"stride": at.stride, "dilation": at.dilation, "groups": channels}
    total = node.step(make("call", f"conv{at.ndim}d", **how), widened(node, x, at.pairs), weight)
    with np.errstate(divide="ignore"):
        return node.layer(make("multiply"), total, node.literal(1 / count))


@reads(
    "LpPool",
    becomes="lp_pool1d, lp_pool2d, lp_pool3d; an odd p: abs before it; pads: pad before it",
    refused="dilations; pads with ceil_mode",
)
def lp_pool(node: Node) -> Value:
    """Power sum over windows; ONNX takes absolute values, where PyTorch's layer takes powers."""
    x, ceil, p = node.value(), node.flag("ceil_mode"), node.integer("p", 2)
    at = window(node, x, None)
    if any(d != 1 for d in at.dilation):
        raise UnfitError("dilated Lp pooling has no layer")
    if ceil:
        raise UnfitError("ceil_mode, under which PyTorch's layer weighs the windows that hang over the edge")
    x = x if p % 2 == 0 else node.step(make("abs"), x)
    x = widened(node, x, at.pairs)
    return node.layer(make(f"lp_pool{at.ndim}d", p, at.kernel, stride=at.stride), x)


@reads("GlobalAveragePool", becomes="global_avg_pool")
@reads("GlobalMaxPool", becomes="global_max_pool")
def global_pool(node: Node) -> Value:
    """Mean or maximum over all spatial axes."""
    spatial(node, node.value())
    kind = "avg" if node.op == "GlobalAveragePool" else "max"
    return node.layer(make(f"global_{kind}_pool"), node.value())


def window_attributes(at: Site) -> dict[str, Any]:
    """Return the attributes of a pool's window."""
    n = len(at.shape) - 2
    at.batched(int(at.layer.name[-2]))
    options = at.options
    kernel = whole_tuple("pool", "kernel_size", options["kernel_size"], n, 1)
    stride = kernel if options["stride"] is None else whole_tuple("pool", "stride", options["stride"], n, 1)
    padding = whole_tuple("pool", "padding", options.get("padding", 0), n, 0)
    return {
        "kernel_shape": kernel, "strides": stride, "pads": [*padding, *padding],
        "ceil_mode": int(options["ceil_mode"]),
    }  # fmt: skip


@writes("max_pool1d", "max_pool2d", "max_pool3d", operators="MaxPool")
def write_max_pool(at: Site) -> str:
    """Write the maximum over windows."""
    dilation = whole_tuple("pool", "dilation", at.options["dilation"], len(at.shape) - 2, 1)
    return at.node("MaxPool", at.x, **window_attributes(at), dilations=dilation)


@writes("global_avg_pool", "global_max_pool", operators="GlobalAveragePool, GlobalMaxPool")
def write_global_pool(at: Site) -> str:
    """Write a pool over all spatial axes."""
    return at.node("GlobalAveragePool" if "avg" in at.layer.name else "GlobalMaxPool", at.x)
