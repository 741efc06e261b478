"""Resampling by any rule that ONNX has: along each axis a matrix whose rows are the weights of an output."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from string import ascii_lowercase
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.files.formats.claims import array_bytes
from fconv.networks.reading import UnfitError, make
from fconv.onnx.nodes import Node
from fconv.onnx.values import Value


def _places(rule: str, size: int, out: int, scale: float, crop: tuple[float, float]) -> Array:
    """Return where each output lies in the input, by a rule of coordinates."""
    x = np.arange(out, dtype=np.float64)
    if rule == "align_corners":
        length = scale * size
        return x * 0 if out == 1 or length == 1 else x * (size - 1) / (length - 1)
    if rule == "asymmetric":
        return x / scale
    if rule == "tf_crop_and_resize":
        start, end = crop
        if out == 1:
            return x * 0 + 0.5 * (start + end) * (size - 1)
        return start * (size - 1) + x * (end - start) * (size - 1) / (out - 1)
    if rule not in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        raise UnfitError(f"coordinates by {rule!r} are none of ONNX's")
    middle = (x + 0.5) / scale - 0.5
    if rule == "pytorch_half_pixel" and out == 1:
        return x * 0 - 0.5
    if rule == "half_pixel_symmetric":
        return middle + size / 2 * (1 - out / (scale * size))
    return middle


def _rounded(places: Array, how: str) -> Array:
    rules: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda p: np.ceil(p - 0.5),
        "round_prefer_ceil": lambda p: np.floor(p + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if how not in rules:
        raise UnfitError(f"rounding by {how!r} is none of ONNX's")
    return np.asarray(rules[how](places))


def _kernel(mode: str, a: float, d: Array) -> Array:
    d = abs(d)
    if mode == "linear":
        return np.maximum(1 - d, 0)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _weights(node: Node, mode: str, places: Array, size: int, scale: float) -> Array:
    """Return the matrix (out, size) of one axis; what lies beyond an edge is the edge."""
    out, rows = len(places), np.arange(len(places))
    found = np.zeros((out, size))
    if mode == "nearest":
        how = node.text("nearest_mode", "round_prefer_floor") if node.opset >= 11 else "floor"
        found[rows, np.clip(_rounded(places, how), 0, size - 1).astype(np.int64)] = 1
        return found
    if mode not in ("linear", "cubic"):
        raise UnfitError(f"mode {mode!r} is none of ONNX's")
    smooth, outside = node.flag("antialias"), node.flag("exclude_outside")
    narrow = min(scale, 1.0) if smooth else 1.0
    reach, a = (1 if mode == "linear" else 2), node.number("cubic_coeff_a", -0.75)
    first = np.floor(places)
    start = int(floor(-reach / narrow) + 1)
    total = np.zeros(out)
    for offset in range(start, 2 - start):
        at = first + offset
        weight = _kernel(mode, a, (at - places) * narrow)
        if outside:
            weight = np.where((at >= 0) & (at < size), weight, 0)
        total += weight
        np.add.at(found, (rows, np.clip(at, 0, size - 1).astype(np.int64)), weight)
    return found / total[:, None] if smooth or outside else found


def by_matrices(
    node: Node, rule: str, axes: tuple[int, ...], scales: tuple[float, ...], sizes: tuple[int, ...]
) -> Value:
    """Append a resampling along axes whose sizes are known; `sizes` are the outputs'."""
    y, roi = node.value(), ()
    mode = node.text("mode", "nearest")
    if rule == "tf_crop_and_resize":
        roi = tuple(node.constant(1).reshape(-1).tolist())
        if len(roi) != 2 * len(axes):
            raise UnfitError(f"expected a crop of {2 * len(axes)} numbers, got {len(roi)}")
    filled: list[tuple[int, Array]] = []
    for i, (axis, scale, out) in enumerate(zip(axes, scales, sizes, strict=True)):
        size = y.size(axis)
        crop = (roi[i], roi[i + len(axes)]) if roi else (0.0, 1.0)
        if size < 1 or out < 1:
            raise UnfitError("it leaves no pixel, or has none to read")
        node.graph.budget.spend(array_bytes((out, size + 16), 8))  # the places and weights of each output
        places = _places(rule, size, out, scale, crop)
        matrix = _weights(node, mode, places, size, scale)
        beyond = (places < 0) | (places > size - 1)
        if roi and beyond.any():
            filled.append((axis, beyond))
        if matrix.shape[0] == size and (matrix == np.eye(size)).all():
            continue
        held = ascii_lowercase[: y.rank]
        after = held.replace(held[axis], "z")
        layer = make("einsum", f"{held},z{held[axis]}->{after}")
        y = node.layer(layer, y, node.literal(matrix.astype(y.dtype)))
    for axis, beyond in filled:
        mask = beyond.reshape([-1 if i == axis else 1 for i in range(y.rank)])
        y = node.layer(make("masked_fill", mask, node.number("extrapolation_value", 0.0)), y)
    return y if y is not node.value() else node.same(y)


def wanted(node: Node, given: Any, is_sizes: bool, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Return scales and sizes of some axes, of which the file gives one or the other."""
    x = node.value()
    held = tuple(x.size(axis) for axis in axes)
    if len(given) != len(axes):
        raise UnfitError(f"expected {len(axes)} scales or sizes, got {len(given)}")
    if not is_sizes:
        if min(given, default=1) <= 0:
            raise UnfitError(f"expected scales above 0, got {given}")
        return given, tuple(floor(n * s) for n, s in zip(held, given, strict=True))
    scales = tuple(out / n for out, n in zip(given, held, strict=True))
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return scales, given
    if policy not in ("not_larger", "not_smaller"):
        raise UnfitError(f"the aspect policy {policy!r} is none of ONNX's")
    scale = min(scales) if policy == "not_larger" else max(scales)
    return (scale,) * len(axes), tuple(floor(scale * n + 0.5) for n in held)
