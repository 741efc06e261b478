"""Products of several tensors: sums over named axes, powers, attention."""

from __future__ import annotations

from math import sqrt

import numpy as np

from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.sites import Site
from fconv.onnx.values import Value


@reads("Einsum", becomes="einsum", refused="more than three inputs")
def einsum(node: Node) -> Value:
    """Sum over named axes."""
    values = [node.value(i) for i in range(len(node.inputs))]
    if len(values) > 3:
        raise UnfitError(f"an einsum of {len(values)} tensors has no layer")
    return node.layer(make("einsum", node.text("equation", "")), *values)


@writes("einsum", operators="Einsum")
def write_einsum(at: Site) -> str:
    """Write a sum over named axes."""
    return at.node("Einsum", *at.sources, equation=at.options["equation"])


@writes("pow", operators="Pow")
def write_pow(at: Site) -> str:
    """Write powers with computed exponents."""
    return at.node("Pow", *at.sources)


@writes("bilinear", operators="Einsum, Add")
def write_bilinear(at: Site) -> str:
    """Write a map that is affine in each of two inputs."""
    first, second = at.sources
    y = at.node("Einsum", first, at.parameter("weight"), second, equation="...i,oij,...j->...o")
    return at.node("Add", y, at.parameter("bias")) if at.has("bias") else y


@writes(
    "scaled_dot_product_attention",
    operators="Mul, Transpose, MatMul, Add, Softmax, MatMul; grouped queries: Unsqueeze, Expand, Reshape",
)
def write_attention(at: Site) -> str:
    """Write attention by its definition."""
    query, key, value, *mask = at.sources
    if at.options["enable_gqa"] and at.shapes[0][-3] != at.shapes[1][-3]:
        key, value = _each_head(at, key, 1), _each_head(at, value, 2)
    rank, scale = len(at.shapes[1]), at.options["scale"]
    scale = 1 / sqrt(max(1, at.shape[-1])) if scale is None else scale
    turned = at.node("Transpose", key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = at.node("MatMul", at.node("Mul", query, at.constant(scale)), turned)
    if at.options["is_causal"]:
        rows, columns = at.shape[-2], at.shapes[1][-2]
        mask = [at.constant(np.where(np.tri(rows, columns, dtype=bool), 0.0, -np.inf))]
    scores = at.node("Add", scores, *mask) if mask else scores
    return at.node("MatMul", at.node("Softmax", scores, axis=-1), value)


def _each_head(at: Site, x: str, index: int) -> str:
    """Write each head as often as there are heads of queries for it."""
    shape, times = at.shapes[index], at.shapes[0][-3] // at.shapes[index][-3]
    rank = len(shape)
    wide = at.node("Unsqueeze", x, at.integers(rank - 2))
    wide = at.node("Expand", wide, at.integers(*(1,) * (rank - 2), times, 1, 1))
    return at.node("Reshape", wide, at.integers(*(0,) * (rank - 3), -1, *shape[-2:]))
