"""Sums, means, norms, products and extremes over axes."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from fconv.networks.reading import make
from fconv.onnx.nodes import Node
from fconv.onnx.operators.table import reads, writes
from fconv.onnx.sites import Site
from fconv.onnx.values import Value

REDUCTIONS: dict[str, tuple[str, int, tuple[float, ...]]] = {
    "ReduceMean": ("mean", 18, ()),
    "ReduceSum": ("sum", 13, ()),
    "ReduceMax": ("amax", 18, ()),
    "ReduceMin": ("amin", 18, ()),
    "ReduceProd": ("prod", 18, ()),
    "ReduceLogSumExp": ("logsumexp", 18, ()),
    "ReduceL1": ("vector_norm", 18, (1,)),
    "ReduceL2": ("vector_norm", 18, (2,)),
    "ReduceLogSum": ("sum", 18, ()),
    "ReduceSumSquare": ("sum", 18, ()),
}
"""Layer, the opset from which the axes are an input, and what comes before the axes."""


@reads(
    *REDUCTIONS,
    becomes="mean, sum, amax, amin, prod, logsumexp, vector_norm; ReduceLogSum: log after sum; "
    "ReduceSumSquare: power before it",
)
def reduction(node: Node) -> Value:
    """Reduce axes."""
    x = node.value()
    name, since, first = REDUCTIONS[node.op]
    axes: Any = node.listed("axes", 1, since)
    none = not axes and node.flag("noop_with_empty_axes")
    axes = tuple(sorted(x.axis(a) for a in axes)) if axes else tuple(range(x.rank))
    layer = make("identity") if none else make(name, *first, axes, keepdim=node.flag("keepdims", True))
    if none and first:  # of single elements
        layer = make("abs")
    if node.op == "ReduceSumSquare":
        x = node.step(make("power", 2.0), x)
    if node.op == "ReduceLogSum":
        return node.layer(make("log"), node.step(layer, x))
    return node.layer(layer, x)


WRITTEN = {
    "mean": "ReduceMean", "sum": "ReduceSum", "amax": "ReduceMax", "amin": "ReduceMin", "max": "ReduceMax",
    "min": "ReduceMin", "prod": "ReduceProd", "logsumexp": "ReduceLogSumExp",
}  # fmt: skip


def _axes(at: Site) -> tuple[int, ...]:
    dim = at.options["dim"]
    dims = tuple(range(len(at.shape))) if dim is None or dim == () else dim
    return tuple(d % len(at.shape) for d in (dims if isinstance(dims, tuple) else (dims,)))


def _reduced(at: Site, op: str, x: str) -> str:
    return at.node(op, x, at.integers(*_axes(at)), keepdims=int(at.options["keepdim"]))


@writes(*WRITTEN, operators=", ".join(dict.fromkeys(WRITTEN.values())))
def write_reduction(at: Site) -> str:
    """Write sums, means, products and extremes."""
    return _reduced(at, WRITTEN[at.layer.name], at.x)


@writes("vector_norm", operators="ReduceL1, ReduceL2; Abs, ReduceMax, ReduceMin; Abs, Pow, ReduceSum, Pow")
def write_vector_norm(at: Site) -> str:
    """Write a norm."""
    p = float(at.options["ord"])
    if p in (1, 2):
        return _reduced(at, f"ReduceL{int(p)}", at.x)
    size = at.node("Abs", at.x)
    if p in (inf, -inf):
        return _reduced(at, "ReduceMax" if p > 0 else "ReduceMin", size)
    total = _reduced(at, "ReduceSum", at.node("Pow", size, at.constant(p)))
    return at.node("Pow", total, at.constant(1 / p))


@writes("var", "std", operators="ReduceMean, Sub, Mul, ReduceMean, Mul, Sqrt")
def write_spread(at: Site) -> str:
    """Write a variance or a standard deviation."""
    axes, correction = _axes(at), float(at.options["correction"])
    at.any_batch = not (correction and 0 in axes)
    away = at.node("Sub", at.x, at.node("ReduceMean", at.x, at.integers(*axes), keepdims=1))
    y = _reduced(at, "ReduceMean", at.node("Mul", away, away))
    if correction:
        with np.errstate(divide="ignore"):
            n = np.float64(at.count(*axes))
            y = at.node("Mul", y, at.constant(n / max(n - correction, 0.0)))
    return at.node("Sqrt", y) if at.layer.name == "std" else y


@reads(
    "CumSum", becomes="cumsum; exclusive: pad before it; reverse: flip about it", refused="a computed axis"
)
def cumsum(node: Node) -> Value:
    """Sum up to each element."""
    return _up_to(node, "cumsum", 0.0)


@reads(
    "CumProd", becomes="cumprod; exclusive: pad before it; reverse: flip about it", refused="a computed axis"
)
def cumprod(node: Node) -> Value:
    """Multiply up to each element."""
    return _up_to(node, "cumprod", 1.0)


def _up_to(node: Node, name: str, neutral: float) -> Value:
    y = node.value()
    axis = y.axis(int(node.scalar(1)))
    turned, shifted = node.flag("reverse"), node.flag("exclusive")
    if turned:
        y = node.step(make("flip", axis), y)
    if shifted:  # the neutral element comes in at the front, and the last one leaves
        widths = (0, 0) * (y.rank - axis - 1) + (1, -1)
        y = node.step(make("pad", widths, value=neutral), y)
    if not turned:
        return node.layer(make(name, axis), y)
    return node.layer(make("flip", axis), node.step(make(name, axis), y))


@writes("cumsum", operators="CumSum")
def write_cumsum(at: Site) -> str:
    """Write sums up to each element."""
    return at.node("CumSum", at.x, at.constant(at.options["dim"] % len(at.shape), np.int64))
