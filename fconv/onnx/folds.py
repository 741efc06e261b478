"""Fold operators whose inputs are constant: weights, sizes, masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.files.formats.claims import array_bytes
from fconv.networks.reading import UnfitError
from fconv.onnx.nodes import Node
from fconv.onnx.tensors import dtype_of, is_bfloat16, rounded


def room(node: Node, shape: Any, dtype: Any, times: int = 1) -> tuple[int, ...]:
    """Count what a result takes of the file's budget before it is worked out."""
    sizes = tuple(int(size) for size in shape)
    node.graph.budget.spend(times * array_bytes(sizes, max(np.dtype(dtype).itemsize, 1)))
    return sizes


def elementwise(function: Callable[..., Array], dtype: Any = None) -> Callable[..., Array]:
    """Compute an elementwise operator on constants; the result has the last input's dtype, or `dtype`."""

    def run(node: Node, *xs: Array) -> Array:
        kind = xs[-1].dtype if dtype is None else np.dtype(dtype)
        widest = max((*(x.dtype for x in xs), kind), key=lambda each: each.itemsize)
        room(node, np.broadcast_shapes(*(x.shape for x in xs)), widest, max(1, len(xs) - 2))
        with np.errstate(all="ignore"):
            return np.asarray(function(*xs)).astype(kind, copy=False)

    return run


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    if not np.all(b):
        raise UnfitError("division by 0 among sizes")
    return np.asarray(np.trunc(a / b))


def _cast(node: Node, x: Array) -> Array:
    dtype = node.value(1).dtype if node.op == "CastLike" else dtype_of(node.integer("to", 0))
    room(node, x.shape, dtype, 6 if is_bfloat16(dtype) else 1)
    with np.errstate(all="ignore"):
        return rounded(x) if is_bfloat16(dtype) else x.astype(dtype)


def axes_of(node: Node, since: int, given: tuple[Array, ...]) -> tuple[int, ...] | None:
    """Return the axes, which are an attribute before opset `since` and an input from it on."""
    if node.opset < since:
        return node.integers("axes")
    return tuple(int(a) for a in given[0].reshape(-1)) if given else None


def _reshape(node: Node, x: Array, shape: Array) -> Array:
    zero_copies = not node.flag("allowzero")
    sizes = [int(size) for size in shape.reshape(-1)]
    room(node, x.shape, x.dtype, 0 if x.flags.c_contiguous else 1)
    return x.reshape([x.shape[i] if size == 0 and zero_copies else size for i, size in enumerate(sizes)])


def _slice(node: Node, x: Array, *bounds: Array) -> Array:
    given = [bound.reshape(-1).tolist() for bound in bounds]
    if node.opset < 10:
        given = [list(node.integers(name, ()) or ()) for name in ("starts", "ends", "axes")]
    starts, ends = given[:2]
    axes = (given[2] if len(given) > 2 else None) or list(range(len(starts)))
    steps = given[3] if len(given) > 3 else [1] * len(starts)
    where = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        where[axis] = slice(start, end, step)
    return x[tuple(where)]


def _range(node: Node, *bounds: Array) -> Array:
    if any(bound.size != 1 for bound in bounds):  # by the definition scalars, but AffineGrid's gives vectors
        raise UnfitError(f"a range between numbers of shapes {[bound.shape for bound in bounds]}")
    start, limit, delta = (bound.item() for bound in bounds)
    if not delta:
        raise UnfitError("a range with step 0")
    room(node, (max(0, int((float(limit) - float(start)) / float(delta)) + 1),), bounds[0].dtype)
    return np.arange(start, limit, delta, dtype=bounds[0].dtype)


def _constant_of_shape(node: Node, shape: Array) -> Array:
    held = node.attributes.get("value")
    fill = np.zeros(1, np.float32) if held is None else node.graph.tensor(held.t)
    return np.full(room(node, shape.reshape(-1), fill.dtype), fill.reshape(-1)[0])


def _expand(node: Node, x: Array, shape: Array) -> Array:
    sizes = np.broadcast_shapes(x.shape, tuple(shape.reshape(-1).tolist()))
    return node.stretched(x, sizes)


def _gather(node: Node, x: Array, indices: Array) -> Array:
    axis = node.integer("axis", 0)
    room(node, (*indices.shape, x.size // max(x.shape[axis], 1)), x.dtype)
    return np.take(x, indices, axis)


def _concat(node: Node, *xs: Array) -> Array:
    room(node, (sum(x.size for x in xs),), np.result_type(*xs))
    return np.concatenate(xs, node.integer("axis", 0))


def _power(x: Array, exponent: Array) -> Array:
    if x.dtype.kind in "iu" and exponent.dtype.kind == "i" and (exponent < 0).any():
        raise UnfitError("an integer to a negative power")
    return np.asarray(np.power(x, exponent)).astype(x.dtype, copy=False)


def _constant(node: Node) -> Array:
    """Return what a node Constant holds, in whichever of its attributes."""
    kinds: dict[str, Callable[[Any], Array]] = {
        "value": lambda a: node.graph.tensor(a.t),
        "value_float": lambda a: np.asarray(a.f, np.float32),
        "value_int": lambda a: np.asarray(a.i, np.int64),
        "value_floats": lambda a: np.asarray(a.floats, np.float32),
        "value_ints": lambda a: np.asarray(a.ints, np.int64),
    }
    for name, held in node.attributes.items():
        if name in kinds:
            return kinds[name](held)
    raise UnfitError(f"a constant given as {', '.join(node.attributes) or 'nothing'} is not read")


NUMBERS: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide, "Neg": np.negative, "Abs": np.abs,
    "Min": lambda *xs: reduce(np.minimum, xs), "Max": lambda *xs: reduce(np.maximum, xs),
    "Sum": lambda *xs: reduce(np.add, xs), "Sqrt": np.sqrt, "Reciprocal": lambda x: 1 / x, "Exp": np.exp,
    "Log": np.log, "Sin": np.sin, "Cos": np.cos, "Tanh": np.tanh, "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Relu": lambda x: np.maximum(x, 0), "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint, "Sign": np.sign,
    "Where": np.where,
}  # fmt: skip
"""Operators of each element by itself, whose results are of the last input's dtype."""

TRUTHS: dict[str, Callable[..., Any]] = {
    "Equal": np.equal, "Less": np.less, "Greater": np.greater, "LessOrEqual": np.less_equal,
    "GreaterOrEqual": np.greater_equal, "Not": np.logical_not, "And": np.logical_and, "Or": np.logical_or,
    "Xor": np.logical_xor, "IsNaN": np.isnan,
}  # fmt: skip
"""Those whose results are boolean."""

FOLDS: dict[str, Callable[..., Array]] = {
    "Constant": _constant,
    "Identity": lambda node, x: x,
    "Cast": _cast,
    "CastLike": _cast,
    "Gather": _gather,
    "Concat": _concat,
    "Squeeze": lambda node, x, *axes: np.squeeze(x, axes_of(node, 13, axes)),
    "Unsqueeze": lambda node, x, *axes: np.expand_dims(x, axes_of(node, 13, axes) or ()),
    "Reshape": _reshape,
    "Transpose": lambda node, x: np.transpose(x, node.integers("perm")),
    "Slice": _slice,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Mod": lambda node, a, b: elementwise(np.fmod if node.flag("fmod") else np.mod)(node, a, b),
    "Pow": lambda node, x, p: elementwise(_power, x.dtype)(node, x, p),
    **{name: elementwise(function) for name, function in NUMBERS.items()},
    **{name: elementwise(function, np.bool_) for name, function in TRUTHS.items()},
}
"""Operators whose value is worked out where their inputs are known."""
