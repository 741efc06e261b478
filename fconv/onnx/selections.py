"""Fold operators that select, scatter, reduce and quantize constant inputs."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.networks.reading import UnfitError
from fconv.onnx.folds import axes_of, room
from fconv.onnx.nodes import Node


def _reducing(function: Callable[..., Any], since: int = 18) -> Callable[..., Array]:
    """Work out a reduction over the axes that an attribute, or from opset `since` an input, says."""

    def run(node: Node, x: Array, *axes: Array) -> Array:
        room(node, x.shape, x.dtype)  # its result is small, but a file could have it worked out many times
        over = axes_of(node, since, axes) or None
        if over is None and node.flag("noop_with_empty_axes"):
            return x
        with np.errstate(all="ignore"):
            found = function(x, axis=over, keepdims=node.flag("keepdims", True))
        return np.asarray(found).astype(x.dtype, copy=False)

    return run


def _counted(x: Array, axis: Any, keepdims: bool) -> Array:
    return np.prod(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


def _tile(node: Node, x: Array, repeats: Array) -> Array:
    times = [int(n) for n in repeats.reshape(-1)]
    if len(times) != x.ndim or min(times, default=0) < 0:
        raise UnfitError(f"cannot repeat an array of shape {x.shape} {times} times")
    room(node, [a * b for a, b in zip(x.shape, times, strict=True)], x.dtype)
    return np.tile(x, times)


MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad(node: Node, x: Array, pads: Array, value: Array | None = None, axes: Array | None = None) -> Array:
    over = list(range(x.ndim)) if axes is None else [int(a) % x.ndim for a in axes.reshape(-1)]
    widths = [int(n) for n in pads.reshape(-1)]
    mode, n = node.text("mode", "constant"), len(over)
    if mode not in MODES or len(widths) != 2 * n or min(widths, default=0) < 0:
        raise UnfitError(f"cannot pad by {widths} in mode {mode!r}")
    pairs = [(0, 0)] * x.ndim
    for axis, low, high in zip(over, widths[:n], widths[n:], strict=True):
        pairs[axis] = (low, high)
    room(node, [a + low + high for a, (low, high) in zip(x.shape, pairs, strict=True)], x.dtype)
    if mode != "constant":
        return np.pad(x, pairs, mode)  # type: ignore[call-overload]
    return np.pad(x, pairs, constant_values=0 if value is None else value.reshape(-1)[0])


def _cumsum(node: Node, x: Array, axis: Array) -> Array:
    room(node, x.shape, x.dtype)
    place = int(axis.reshape(-1)[0])
    y = np.flip(x, place) if node.flag("reverse") else x
    total = np.cumsum(y, place, dtype=x.dtype)
    total = total - y if node.flag("exclusive") else total
    return np.flip(total, place) if node.flag("reverse") else total


def _scatter_nd(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    room(node, x.shape, x.dtype)
    y, at = x.copy(), tuple(np.moveaxis(indices, -1, 0))
    how = node.text("reduction", "none")
    if how == "none":
        y[at] = updates
    elif how in UPDATES:
        UPDATES[how].at(y, at, updates)
    else:
        raise UnfitError(f"reduction {how!r} is none of ONNX's")
    return y


UPDATES = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter_elements(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    axis = node.integer("axis", 0) % max(x.ndim, 1)
    room(node, (2 * indices.ndim + 1, *indices.shape), np.int64)
    places = np.indices(indices.shape)
    places[axis] = np.where(indices < 0, indices + x.shape[axis], indices)
    return _scatter_nd(node, x, np.moveaxis(places, 0, -1), updates)


def _gather_nd(node: Node, x: Array, indices: Array) -> Array:
    batch, inner = node.integer("batch_dims", 0), indices.ndim - 1
    own = [np.arange(n).reshape(-1, *(1,) * (inner - 1 - i)) for i, n in enumerate(indices.shape[:batch])]
    at = (*own, *np.moveaxis(indices, -1, 0))
    room(node, (*indices.shape[:-1], *x.shape[len(at) :]), x.dtype)
    return x[at]


def _gather_elements(node: Node, x: Array, indices: Array) -> Array:
    room(node, indices.shape, x.dtype)
    axis = node.integer("axis", 0)
    part = tuple(slice(None) if i == axis % x.ndim else slice(n) for i, n in enumerate(indices.shape))
    return np.take_along_axis(x[part], indices, axis)


def _split(node: Node, x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
    axis, count = node.integer("axis", 0), len(node.outputs)
    given = (
        node.integers("split") if node.opset < 13 else None if sizes is None else sizes.reshape(-1).tolist()
    )
    if given is None:
        each = -(-x.shape[axis] // node.integer("num_outputs", count))
        given = [each] * count
    return tuple(np.split(x, np.cumsum(given)[:-1].tolist(), axis))[:count]


def _trilu(node: Node, x: Array, k: Array | None = None) -> Array:
    room(node, x.shape, x.dtype)
    offset = 0 if k is None else int(k.reshape(-1)[0])
    return np.triu(x, offset) if node.flag("upper", True) else np.tril(x, offset)


def _eye_like(node: Node, x: Array) -> Array:
    from fconv.onnx.tensors import dtype_of

    if x.ndim != 2:
        raise UnfitError(f"expected a matrix, got shape {x.shape}")
    dtype = dtype_of(node.integer("dtype", 0)) if "dtype" in node.attributes else x.dtype
    room(node, x.shape, dtype)
    return np.eye(x.shape[0], x.shape[1], k=node.integer("k", 0), dtype=dtype)


def _one_hot(node: Node, indices: Array, depth: Array, values: Array) -> Array:
    count, axis = int(depth.reshape(-1)[0]), node.integer("axis", -1)
    shape = list(indices.shape)
    axis = axis + indices.ndim + 1 if axis < 0 else axis
    shape.insert(axis, count)
    room(node, shape, values.dtype, 2)
    places = np.where(indices < 0, indices + count, indices).astype(np.int64)
    hot = np.arange(count).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.where(np.expand_dims(places, axis) == hot, values[1], values[0])


def _matmul(node: Node, a: Array, b: Array) -> Array:
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2:][0]:
        raise UnfitError(f"cannot multiply arrays of shapes {a.shape} and {b.shape}")
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *a.shape[-2:-1], *b.shape[-1:][: b.ndim - 1])
    room(node, (a.size + b.size,), a.dtype)
    room(node, shape, a.dtype, 1 + a.shape[-1] // 256)
    return np.matmul(a, b)


def _clip(node: Node, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    room(node, x.shape, x.dtype)
    return np.clip(x, low, high)


def _dequantize(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    scale = _along(node, x, scale)
    room(node, x.shape, np.float64)
    wide = x.astype(np.float64) - (0 if zero is None else _along(node, x, zero).astype(np.float64))
    return (wide * scale).astype(scale.dtype)


def _quantize(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    from fconv.onnx.tensors import dtype_of

    kind = zero.dtype if zero is not None else dtype_of(node.integer("output_dtype", 2) or 2)
    if kind.kind not in "iu":
        raise UnfitError(f"quantization to {kind} is not read")
    scale = _along(node, x, scale)
    room(node, x.shape, np.float64, 2)
    limits = np.iinfo(kind)
    wide = np.rint(x / scale) + (0 if zero is None else _along(node, x, zero).astype(np.float64))
    return np.clip(wide, limits.min, limits.max).astype(kind)


def _along(node: Node, x: Array, values: Array) -> Array:
    """Lay scales out along the axis, or the blocks of it, that they are for."""
    if values.size == 1:
        return values.reshape(())
    axis, block = node.integer("axis", 1), node.integer("block_size", 0)
    if not -x.ndim <= axis < x.ndim:
        raise UnfitError(f"an array of shape {x.shape} has no axis {axis}")
    if block:
        room(node, x.shape, values.dtype)
        wide = np.repeat(values, block, axis)
        return wide[tuple(slice(n) for n in x.shape)]
    return values.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _non_zero(node: Node, x: Array) -> Array:
    room(node, (x.ndim, x.size), np.int64)
    return np.stack(np.nonzero(x)).astype(np.int64)


def _arg(function: Callable[..., Array]) -> Callable[..., Array]:
    def run(node: Node, x: Array) -> Array:
        axis = node.integer("axis", 0)
        room(node, x.shape, x.dtype)
        if node.flag("select_last_index"):
            found = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis)
        else:
            found = function(x, axis=axis)
        return np.expand_dims(found, axis) if node.flag("keepdims", True) else found

    return run


def _flatten(node: Node, x: Array) -> Array:
    axis = node.integer("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(prod(x.shape[:axis]), -1 if x.size else prod(x.shape[axis:]))


SELECTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": _reducing(_counted),
    "ReduceSum": _reducing(np.sum, 13),
    "ReduceMean": _reducing(np.mean),
    "ReduceMax": _reducing(np.max),
    "ReduceMin": _reducing(np.min),
    "Tile": _tile,
    "Pad": _pad,
    "CumSum": _cumsum,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
    "Split": _split,
    "Trilu": _trilu,
    "EyeLike": _eye_like,
    "OneHot": _one_hot,
    "MatMul": _matmul,
    "Clip": _clip,
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
    "NonZero": _non_zero,
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "Flatten": _flatten,
}
"""Operators beside those of `FOLDS`; absent inputs are None."""
