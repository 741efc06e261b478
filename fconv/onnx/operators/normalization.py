"""Norms."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from string import ascii_lowercase
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.sites import Site
from fconv.onnx.values import Value


@reads("BatchNormalization", becomes="batch_norm", refused="training_mode; statistics that are computed")
def batch_norm(node: Node) -> Value:
    """Batch norm by running statistics, which are parameters here as in PyTorch."""
    x = node.value()
    if node.flag("training_mode") or (node.opset < 9 and not node.flag("spatial", True)):
        raise UnfitError("training_mode=1 or spatial=0 has no layer")
    channels = x.size(1)
    held = ("weight", "bias", "running_mean", "running_var")
    params: dict[str, tuple[int, Any]] = {
        leaf: (i, node.channelled(i, channels)) for i, leaf in enumerate(held, start=1)
    }
    plain = _plain(node, {leaf: params[leaf] for leaf in held[:2]})
    params = {leaf: entry for leaf, entry in params.items() if not plain or leaf not in held[:2]}
    params["num_batches_tracked"] = (-1, np.zeros((), np.int64))
    # ONNX's momentum is the share of the old statistics.
    momentum = round(1 - node.number("momentum", 0.9), 7)
    layer = make("batch_norm", eps=node.number("epsilon", 1e-5), momentum=momentum, affine=not plain)
    return node.layer(layer, x, params=params)


@writes(
    "batch_norm",
    operators="BatchNormalization; without running statistics InstanceNormalization of all samples as one",
)
def write_batch_norm(at: Site) -> str:
    """Write batch norm."""
    if at.options["track_running_stats"]:
        return _by_statistics(at)
    channels, rest = at.shape[1], at.shape[2:]
    if 0 in rest:
        raise UnfitError("a shape with an axis of no elements has no operator")
    order = [1, 0, *range(2, len(at.shape))]
    one = at.node("Reshape", at.node("Transpose", at.x, perm=order), at.integers(1, channels, -1))
    y = at.node("InstanceNormalization", one, *_affine(at, channels), epsilon=at.options["eps"])
    return at.node("Transpose", at.node("Reshape", y, at.integers(channels, -1, *rest)), perm=order)


def _by_statistics(at: Site) -> str:
    channels, momentum = at.shape[1], at.options["momentum"]
    return at.node(
        "BatchNormalization", at.x, *_affine(at, channels), at.parameter("running_mean"),
        at.parameter("running_var"), epsilon=at.options["eps"],
        momentum=None if momentum is None else 1 - momentum,
    )  # fmt: skip


def _affine(at: Site, *shape: int) -> tuple[str, str]:
    """Return the scale and the shift, 1 and 0 where the layer has none."""
    weight = at.parameter("weight", shape) if at.has("weight") else at.constant(np.ones(shape))
    return weight, at.parameter("bias", shape) if at.has("bias") else at.constant(np.zeros(shape))


def _plain(node: Node, params: Mapping[str, tuple[int, Any]]) -> bool:
    """Return whether scale and shift stand there only because the operator cannot do without.

    They change nothing, and are not named as the parameters of a module.
    """
    start = {"weight": 1, "bias": 0}
    return all(
        bool((array == start[leaf]).all()) and not (node.value(i).origin or "").endswith(leaf)
        for leaf, (i, array) in params.items()
    )


@reads("InstanceNormalization", becomes="instance_norm")
def instance_norm(node: Node) -> Value:
    """Instance norm."""
    x = node.value()
    params = {leaf: (i, node.channelled(i, x.size(1))) for i, leaf in enumerate(("weight", "bias"), start=1)}
    plain = _plain(node, params)
    layer = make("instance_norm", eps=node.number("epsilon", 1e-5), affine=not plain, ndim=x.rank - 2)
    return node.layer(layer, x, params={} if plain else params)


@writes("instance_norm", operators="InstanceNormalization; with running statistics BatchNormalization")
def write_instance_norm(at: Site) -> str:
    """Write instance norm, which is a batch norm where it goes by running statistics."""
    ndim = at.options.get("ndim")
    if len(at.shape) < 3 or (ndim is not None and len(at.shape) != ndim + 2):
        raise UnfitError(f"expected an input with a batch axis, (N, C, ...), got shape {at.shape}")
    if at.options["track_running_stats"]:
        return _by_statistics(at)
    return at.node("InstanceNormalization", at.x, *_affine(at, at.shape[1]), epsilon=at.options["eps"])


@reads("LpNormalization", becomes="vector_norm, clamp and divide")
def lp_norm(node: Node) -> Value:
    """Divide by a norm along an axis; what is 0 throughout stays so."""
    x = node.value()
    size = node.step(
        make("vector_norm", node.integer("p", 2), x.axis(node.integer("axis", -1)), keepdim=True), x
    )
    least = float(np.finfo(x.dtype).tiny)
    return node.layer(make("divide"), x, node.step(make("clamp", least), size))


@reads("LayerNormalization", becomes="layer_norm", refused="sizes of the last axes that the file leaves open")
@reads("RMSNormalization", becomes="rms_norm", refused="as LayerNormalization")
def over_last(node: Node) -> Value:
    """Layer norm, or the norm by the root mean square."""
    name = "layer_norm" if node.op == "LayerNormalization" else "rms_norm"
    x = node.value()
    axis = x.axis(node.integer("axis", -1))
    sizes = tuple(x.size(i) for i in range(axis, x.rank))
    params = {}
    for i, leaf in ((1, "weight"), (2, "bias")):
        if node.has(i):
            held = node.constant(i)
            if any(n not in (1, m) for n, m in zip(held.shape[::-1], sizes[::-1], strict=False)):
                raise UnfitError(f"expected input {i} of shape {sizes}, got {held.shape}")
            params[leaf] = (i, held if held.shape == sizes else node.stretched(held, sizes))
    if _plain(node, params):
        params = {}
    options = {"bias": "bias" in params} if name == "layer_norm" and params else {}
    layer = make(
        name, sizes, eps=node.number("epsilon", 1e-5), elementwise_affine="weight" in params, **options
    )
    return node.layer(layer, x, params=params)


def _last_axes(at: Site) -> tuple[int, ...]:
    sizes = at.options.get("normalized_shape")
    count = len(sizes) if sizes is not None else at.options["last_axes"]
    at.any_batch = count < len(at.shape) or not at.has("weight")
    return at.shape[len(at.shape) - count :]


@writes("layer_norm", operators="LayerNormalization")
def write_layer_norm(at: Site) -> str:
    """Write layer norm."""
    sizes = _last_axes(at)
    weight = at.parameter("weight") if at.has("weight") else at.constant(np.ones(sizes))
    held, eps = (weight, *at.parameters("bias")), at.options["eps"]
    return at.node("LayerNormalization", at.x, *held, axis=-len(sizes), epsilon=eps)


@writes("rms_norm", operators="Mul, ReduceMean, Add, Sqrt, Div, Mul")
def write_rms_norm(at: Site) -> str:
    """Write the norm by the root mean square, whose own operator comes with opset 23."""
    eps = at.options["eps"]
    eps = np.finfo(at.dtype).eps if eps is None else eps
    axes = at.integers(*range(-len(_last_axes(at)), 0))
    mean = at.node("ReduceMean", at.node("Mul", at.x, at.x), axes, keepdims=1)
    y = at.node("Div", at.x, at.node("Sqrt", at.node("Add", mean, at.constant(eps))))
    return at.node("Mul", y, at.parameter("weight")) if at.has("weight") else y


@reads("GroupNormalization", becomes="group_norm")
def group_norm(node: Node) -> Value:
    """Group norm; before opset 21 its scale had one element a group."""
    x, groups = node.value(), node.integer("num_groups", 0)
    channels = x.size(1)
    params = {}
    for i, leaf in ((1, "weight"), (2, "bias")):
        held = node.constant(i)
        if node.opset < 21 and held.shape == (groups,) and groups and channels % groups == 0:
            held = node.stretched(held[:, None], (groups, channels // groups)).reshape(-1)
        if held.shape != (channels,):
            raise UnfitError(f"expected input {i} of shape ({channels},), got {held.shape}")
        params[leaf] = (i, held)
    plain = _plain(node, params)
    layer = make("group_norm", groups, eps=node.number("epsilon", 1e-5), affine=not plain)
    return node.layer(layer, x, params={} if plain else params)


@writes("group_norm", operators="GroupNormalization")
def write_group_norm(at: Site) -> str:
    """Write group norm; its moments are of float32 unless it is told otherwise."""
    return at.node(
        "GroupNormalization", at.x, *_affine(at, at.shape[1]), num_groups=at.options["num_groups"],
        epsilon=at.options["eps"], stash_type=11 if at.dtype == np.float64 else None,
    )  # fmt: skip


@reads("LRN", becomes="local_response_norm; an even size: its definition, with einsum over the channels")
def lrn(node: Node) -> Value:
    """Local response norm; of an even size ONNX and PyTorch put the window one channel apart."""
    x, size = node.value(), node.integer("size", 0)
    alpha, beta = node.number("alpha", 1e-4), node.number("beta", 0.75)
    k = node.number("bias", 1.0)
    if size % 2:
        return node.layer(make("local_response_norm", size, alpha=alpha, beta=beta, k=k), x)
    if size < 1:
        raise UnfitError(f"expected a size of 1 or more, got {size}")
    held = ascii_lowercase[: x.rank]
    matrix = node.literal(neighbours(x.size(1), (size - 1) // 2, size // 2).astype(x.dtype))
    squares = node.step(make("power", 2.0), x)
    total = node.step(make("einsum", f"{held},zb->{held.replace('b', 'z')}"), squares, matrix)
    base = node.step(make("scale_shift", alpha / size, k), total)
    return node.layer(make("multiply"), x, node.step(make("power", -beta), base))


def neighbours(channels: int, before: int, after: int) -> Array:
    """Return the matrix that sums over the channels about each one."""
    apart = np.arange(channels) - np.arange(channels)[:, None]
    return ((apart >= -before) & (apart <= after)).astype(np.float64)


@writes(
    "local_response_norm",
    operators="LRN; for other than pictures, Reshape around it; an even size: Einsum, Mul, Add, Pow",
)
def write_lrn(at: Site) -> str:
    """Write local response norm."""
    options, size = at.options, at.options["size"]
    alpha, beta, k = (float(options[name]) for name in ("alpha", "beta", "k"))
    if size % 2 == 0:
        matrix = neighbours(at.shape[1], size // 2, (size - 1) // 2)
        total = at.along(at.node("Mul", at.x, at.x), 1, matrix)
        base = at.node("Add", at.node("Mul", total, at.constant(alpha / size)), at.constant(k))
        return at.node("Mul", at.x, at.node("Pow", base, at.constant(-beta)))
    # Programs that run ONNX know it for pictures; the positions lie in any shape.
    picture = len(at.shape) == 4
    x = at.x if picture else at.reshaped(at.x, at.shape[1], prod(at.shape[2:]), 1)
    y = at.node("LRN", x, size=size, alpha=alpha, beta=beta, bias=k)
    return y if picture else at.reshaped(y, *at.shape[1:])
