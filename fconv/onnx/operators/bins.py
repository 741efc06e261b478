"""Pools that one operator does not say: bins of several sizes, powers, other divisors, windows as columns."""

from __future__ import annotations

from math import isinf, prod

import numpy as np

from fconv.arrays import Array
from fconv.functional.pooling_adaptive import bins
from fconv.functional.pooling_windows import pool_geometry
from fconv.geometry import whole_tuple
from fconv.onnx.operators.pooling import window_attributes
from fconv.onnx.operators.table import writes
from fconv.onnx.sites import Site


def mean_matrix(size: int, out: int) -> Array:
    """Return the matrix (out, size) of the means over bins."""
    found = np.zeros((out, size))
    for i, (first, end) in enumerate(zip(*bins(size, out), strict=True)):
        found[i, first:end] = 1 / (end - first)
    return found


@writes(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d",
    operators="GlobalAveragePool, GlobalMaxPool for one element; AveragePool, MaxPool for bins of one size; "
    "otherwise Einsum, or Slice, ReduceMax, Concat",
)  # fmt: skip
def write_adaptive_pool(at: Site) -> str:
    """Write a pool over bins."""
    at.batched(int(at.layer.name[-2]))
    average = "avg" in at.layer.name
    sizes, wanted = at.shape[2:], at.out_shape[2:]
    if all(out == 1 for out in wanted):
        return at.node("GlobalAveragePool" if average else "GlobalMaxPool", at.x)
    if not any(size % out for size, out in zip(sizes, wanted, strict=True)):
        kernel = [size // out for size, out in zip(sizes, wanted, strict=True)]
        return at.node("AveragePool" if average else "MaxPool", at.x, kernel_shape=kernel, strides=kernel)
    y = at.x
    for axis, (size, out) in enumerate(zip(sizes, wanted, strict=True), 2):
        if average:
            y = at.along(y, axis, mean_matrix(size, out))
        elif size != out:
            parts = [
                at.node(
                    "ReduceMax",
                    at.node("Slice", y, at.integers(first), at.integers(end), at.integers(axis)),
                    at.integers(axis),
                    keepdims=1,
                )
                for first, end in zip(*(b.tolist() for b in bins(size, out)), strict=True)
            ]
            y = at.node("Concat", *parts, axis=axis)
    return y


def _whole_windows(at: Site, x: str, padding: tuple[int, ...] = ()) -> tuple[str, dict[str, list[int]]]:
    """Pad with zeros so that no window hangs over; return that and the windows' attributes."""
    n, options = len(at.shape) - 2, at.options
    at.batched(int(at.layer.name[-2]))
    windows = pool_geometry(
        "pool", at.shape[2:], options["kernel_size"], options["stride"], padding or 0, 1, options["ceil_mode"]
    )
    low = whole_tuple("pool", "padding", padding or 0, n, 0)
    need = [
        (out - 1) * s + k for out, s, k in zip(windows.out_size, windows.stride, windows.kernel, strict=True)
    ]
    high = [w - p - size for w, p, size in zip(need, low, at.shape[2:], strict=True)]
    given = {"kernel_shape": list(windows.kernel), "strides": list(windows.stride)}
    if any(low) or max(high) > 0:
        pads = [0, 0, *low, 0, 0, *(max(extra, 0) for extra in high)]
        x = at.node("Pad", x, at.integers(*pads), mode="constant")
    return x, given


@writes(
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    operators="AveragePool; with divisor_override Pad before and Mul after it",
)
def write_avg_pool(at: Site) -> str:
    """Write the mean over windows."""
    divisor = at.options.get("divisor_override")
    if divisor is None:
        counted = int(at.options["count_include_pad"])
        return at.node("AveragePool", at.x, **window_attributes(at), count_include_pad=counted)
    n = len(at.shape) - 2
    x, given = _whole_windows(at, at.x, whole_tuple("pool", "padding", at.options["padding"], n, 0))
    mean = at.node("AveragePool", x, **given)
    return at.node("Mul", mean, at.constant(prod(given["kernel_shape"]) / divisor))


@writes(
    "lp_pool1d", "lp_pool2d", "lp_pool3d",
    operators="LpPool for an even norm_type; MaxPool for an infinite one; otherwise Pow, Pad, AveragePool, "
    "Mul, Pow",
)  # fmt: skip
def write_lp_pool(at: Site) -> str:
    """Write LpPool, or MaxPool where the norm is the maximum."""
    p = float(at.options["norm_type"])
    if isinf(p):
        size = at.node("Abs", at.x)
        if p > 0:
            return at.node("MaxPool", size, **window_attributes(at))
        return at.node("Neg", at.node("MaxPool", at.node("Neg", size), **window_attributes(at)))
    if p % 2 == 0 and not at.options["ceil_mode"]:
        return at.node("LpPool", at.x, **window_attributes(at), p=int(p))
    x, given = _whole_windows(at, at.x if p == 1 else at.node("Pow", at.x, at.constant(p)))
    mean = at.node("AveragePool", x, **given)
    total = at.node("Mul", mean, at.constant(prod(given["kernel_shape"]) * _hanging(at)))
    return total if p == 1 else at.node("Pow", total, at.constant(1 / p))


def _hanging(at: Site) -> Array:
    """Return what windows that hang over the end count for more, since they are taken as if whole."""
    options, sizes = at.options, at.shape[2:]
    windows = pool_geometry(
        "pool", sizes, options["kernel_size"], options["stride"], 0, 1, options["ceil_mode"]
    )
    factor = np.ones(windows.out_size)
    for axis, (size, out, s, k) in enumerate(
        zip(sizes, windows.out_size, windows.stride, windows.kernel, strict=True)
    ):
        held = np.minimum(k, size - np.arange(out) * s)
        factor = factor * (k / held).reshape([-1 if i == axis else 1 for i in range(len(sizes))])
    return np.asarray(1.0) if (factor == 1).all() else factor


@writes("unfold", operators="Conv with filters of one 1, Reshape")
def write_unfold(at: Site) -> str:
    """Write windows as columns: each place of the window is read by a filter of its own."""
    at.batched(2)
    sizes = {
        what: list(value) if isinstance(value, tuple) else [value] * 2 for what, value in at.options.items()
    }
    channels, kernel = at.shape[1], sizes["kernel_size"]
    filters = np.tile(np.eye(prod(kernel)).reshape(-1, 1, *kernel), (channels, 1, 1, 1))
    y = at.node(
        "Conv", at.x, at.constant(filters), kernel_shape=kernel, strides=sizes["stride"],
        dilations=sizes["dilation"], group=channels, pads=sizes["padding"] * 2,
    )  # fmt: skip
    return at.reshaped(y, *at.out_shape[1:])


@writes("cumprod", operators="Slice, Mul, Concat")
def write_cumprod(at: Site) -> str:
    """Write products up to each element, one after another: the operator comes with opset 26."""
    axis = at.options["dim"] % len(at.shape)
    at.any_batch = axis != 0
    parts: list[str] = []
    for i in range(at.shape[axis]):
        one = at.node("Slice", at.x, at.integers(i), at.integers(i + 1), at.integers(axis))
        parts.append(at.node("Mul", parts[-1], one) if parts else one)
    return at.node("Concat", *parts, axis=axis)
