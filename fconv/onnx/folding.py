"""Arithmetic of what does not depend on the elements of the input: weights, and sizes."""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array
from fconv.onnx.folds import FOLDS
from fconv.onnx.nodes import Node
from fconv.onnx.selections import SELECTIONS
from fconv.onnx.values import TRIALS, Value

ALL = FOLDS | SELECTIONS

MOVES = {"Identity", "Cast", "CastLike", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Expand"}
"""Those that leave a weight recognisably the weight that the file names."""


def folded(node: Node) -> dict[str, Value] | None:
    """Return each output of a node by name, where it does not depend on the elements of the input.

    None where the node is a matter for layers; an UnfitError where the arithmetic cannot be done.
    """
    name = node.outputs[0]
    if node.op in ("Shape", "Size"):
        return {name: _sizes(node, name)}
    inputs = node.inputs[:1] if node.op == "CastLike" else node.inputs  # of the other its type is enough
    if node.op not in ALL or any(value is not None and value.data is None for value in inputs):
        return None
    given = [None if value is None else value.data for value in inputs]
    alike = all(data is None or len({id(array) for array in data}) == 1 for data in given)
    parts: dict[str, list[Array]] = {}
    for i in range(1 if alike else TRIALS):
        found = ALL[node.op](node, *(None if data is None else data[i] for data in given))
        for output, array in zip(node.outputs, found if isinstance(found, tuple) else (found,), strict=False):
            parts.setdefault(output, []).append(np.asarray(array))
    origin = node.value(0).origin if node.op in MOVES and node.has(0) else None
    values = {}
    for output, each in parts.items():
        arrays = tuple(each * TRIALS if alike else each)
        values[output] = Value(output, tuple(a.shape for a in arrays), arrays[0].dtype, arrays, origin)
    return values


def _sizes(node: Node, name: str) -> Value:
    shapes = node.value().shapes
    if node.op == "Size":
        data = tuple(np.asarray(prod(shape), np.int64) for shape in shapes)
        return Value(name, ((),) * TRIALS, np.dtype(np.int64), data)
    start, end = node.integer("start", 0), node.integer("end", 1 << 31)
    data = tuple(np.asarray(shape[start:end], np.int64) for shape in shapes)
    return Value(name, tuple(a.shape for a in data), np.dtype(np.int64), data)
