"""Comparisons of what the input decides, as masks of 1 and 0, and choices by them."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.sites import Site
from fconv.onnx.values import Value

COMPARISONS = {
    "Less": "less", "LessOrEqual": "less_equal", "Greater": "greater", "GreaterOrEqual": "greater_equal",
    "Equal": "equal",
}  # fmt: skip


def _as_bool(value: Value) -> Value:
    """Call a mask what the file calls it."""
    return replace(value, dtype=np.dtype(bool))


def as_mask(node: Node, index: int, dtype: np.dtype) -> Value:
    """Return a boolean input as a mask of 1 and 0 in a type of numbers."""
    value = node.value(index)
    if value.dtype != np.bool_:
        raise UnfitError(f"expected input {index} to be boolean, got {value.dtype}")
    if value.data is None:
        return replace(value, dtype=dtype)
    return node.literal(node.constant(index).astype(dtype))


@reads(*COMPARISONS, becomes="compare, a mask of 1 and 0 that has no gradient")
def compare(node: Node) -> Value:
    """Compare two values."""
    return _as_bool(node.layer(make("compare", COMPARISONS[node.op]), node.value(0), node.value(1)))


@reads("And", "Or", "Xor", becomes="multiply, maximum, compare of masks")
def combine(node: Node) -> Value:
    """Combine two masks."""
    float32 = np.dtype(np.float32)
    dtype = next((node.mask_dtype(i) for i in (0, 1) if node.value(i).data is None), float32)
    layers = {"And": make("multiply"), "Or": make("maximum"), "Xor": make("compare", "not_equal")}
    return _as_bool(node.layer(layers[node.op], as_mask(node, 0, dtype), as_mask(node, 1, dtype)))


@reads("Not", becomes="scale_shift of a mask")
def negate(node: Node) -> Value:
    """Turn a mask round."""
    return _as_bool(node.layer(make("scale_shift", -1.0, 1.0), as_mask(node, 0, node.mask_dtype(0))))


@reads("Where", becomes="where with a constant condition, masked_fill with one number; choose otherwise")
def where(node: Node) -> Value:
    """Choose between two tensors."""
    a, b = node.value(1), node.value(2)
    if node.value(0).data is None:
        return node.layer(make("choose"), as_mask(node, 0, a.dtype), a, b)
    condition = node.constant(0)
    for index, other, mask in ((1, b, condition), (2, a, ~condition)):
        held = node.value(index)
        small = held.data is not None and held.data[0].size == 1 and held.rank <= other.rank
        if small and other.data is None and _keeps(mask, other):
            return node.layer(make("masked_fill", mask, node.scalar(index)), other)
    return node.layer(make("where", condition), a, b)


def _keeps(mask: np.ndarray, other: Value) -> bool:
    return all(reduce(np.broadcast_shapes, (mask.shape,), s) == s for s in other.shapes)


@writes("compare", operators="Less, LessOrEqual, Greater, GreaterOrEqual, Equal, Not; Cast")
def write_compare(at: Site) -> str:
    """Write a comparison as a mask of numbers."""
    name = at.options["comparison"]
    op = next((op for op, ours in COMPARISONS.items() if ours == name), "Equal")
    found = at.node(op, *at.sources)
    found = at.node("Not", found) if name == "not_equal" else found
    return at.node("Cast", found, to=at.kind)


@writes("choose", operators="Cast, Where")
def write_choose(at: Site) -> str:
    """Write a choice by a mask of numbers."""
    mask, a, b = at.sources
    return at.node("Where", at.node("Cast", mask, to=9), a, b)
