"""Norms within samples as compiled sweeps: forward and backward each read their arrays once from memory."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from fconv.arrays import Array, Shape, full_like_order, xp_of
from fconv.engine.sweeps import Program, Sweep
from fconv.functional.core import Pushed, Thunks, once
from fconv.functional.one_pass import formulas_serve
from fconv.functional.segments import Segments, over_axes

# A mean near the whole one is first taken of a segment's beginning, and what it lacks together with the
# variance, so that a mean far larger than the deviation costs no digits. The square of what it lacks is at
# most n / _NEAR times the variance of n elements, which bounds the digits that the difference of both costs.
_NEAR = 1024


@lru_cache(maxsize=32)
def _program(
    kind: Literal["value", "pullback", "sums"], scaled: bool, shifted: bool, centred: bool
) -> Program:
    """Build the sweeps of a norm, of its pullback, or of the sums that are its parameters' gradients."""
    pulls, arrays = kind == "pullback", 1 if kind == "value" else 2
    params = scaled + (shifted and kind == "value")

    def scale(v: Any, given: tuple[Any, ...]) -> Any:
        return v * given[arrays] if scaled else v

    def moments(*given: Any) -> tuple[Any, ...]:
        """Return what the means are taken of; what comes last is the near mean."""
        d = given[0] - given[-1] if centred else given[0]
        own = (d, d * d) if centred else (d * d,)
        inner = scale(given[1], given) if pulls else 0.0
        return (*own, inner, inner * d) if pulls else own

    def values(eps: Any, *means: Any) -> Any:
        """Return 1 / sqrt(var + eps), and the slope of the gradient."""
        rest, square = means[1:3] if centred else (0.0, means[0])
        var = xp_of(square).maximum(square - rest * rest, 0.0) if centred else square
        by = 1.0 / xp_of(var).sqrt(var + eps)
        if not pulls:
            return by
        inner, product = means[-2:]
        return by, (product - rest * inner if centred else product) * by

    def normal(given: tuple[Any, ...]) -> Any:
        """Return the normalised element."""
        known = given[arrays + params + 1 :]  # behind eps
        by = known[-2] if pulls else known[-1]
        return (given[0] - known[0] - known[1]) * by if centred else given[0] * by

    def value(*given: Any) -> Any:
        y = scale(normal(given), given)
        return y + given[arrays + scaled] if shifted else y

    def gradient(*given: Any) -> Any:
        mean, by, slope = given[-4], given[-2], given[-1]
        inner = scale(given[1], given)
        return ((inner - mean if centred else inner) - normal(given) * slope) * by

    def sums(*given: Any) -> tuple[Any, ...]:
        return (given[1] * normal(given), given[1]) if scaled or shifted else ()

    last = {
        "value": value,
        "pullback": lambda *given: (gradient(*given), *sums(*given)),
        "sums": sums,
    }[kind]
    near = [Sweep("mean", lambda x, *given: x, most=_NEAR)] if centred else []
    sweeps = (*near, Sweep("mean", moments), Sweep("value", values), Sweep("write", last))
    counted = 2 * (scaled or shifted) * (kind != "value")
    return Program(sweeps, arrays, params, 1, int(kind != "sums"), counted)


def swept(
    x: Array,
    axes: tuple[int, ...],
    along: Shape,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    centred: bool,
) -> Pushed | None:
    """Define what `moments.normalised` defines, for statistics of the array itself; None without kernels."""
    segments, laid_as = over_axes(x, axes, along), x
    if segments is None and x.size and formulas_serve(x):
        # What one sum runs over is no run of memory here, but it is one of a copy.
        x = np.ascontiguousarray(x)
        segments = over_axes(x, axes, along)
    if segments is None:
        return None
    return _defined(segments, x, laid_as, along, weight, bias, eps, centred)


def _defined(
    segments: Segments,
    x: Array,
    laid_as: Array,
    along: Shape,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    centred: bool,
) -> Pushed:
    flags = (weight is not None, bias is not None, centred)
    laid = once(lambda: [segments.param(each, along) for each in (weight, bias) if each is not None])

    def run(kind: Literal["value", "pullback", "sums"], *arrays: Array) -> tuple[Array, Array]:
        program = _program(kind, *flags)
        y, sums = segments.write(program, *arrays, params=laid()[: program.params], numbers=[eps])
        if laid_as is not x and program.outputs:
            y, dense = full_like_order(laid_as, y.shape, None), y
            y[...] = dense
        return y, sums

    def pullback(g: Array) -> Thunks:
        # The sums of g times the normalised input and of g, once they are known; by run of each sample.
        found: list[Array] = []

        def dx() -> Array:
            result, sums = run("pullback", x, g)
            found[:] = sums
            return result

        def of(i: int, shape: Shape, samples: int = 1) -> Array:
            if not found:
                found[:] = run("sums", x, g)[1]
            split = found[i].reshape(samples, -1, found[i].shape[-1]).sum(axis=1, dtype=np.float64)
            lies = (samples, *along[1:]) if samples > 1 else along
            with np.errstate(over="ignore"):
                return segments.unlaid(split, lies).reshape(shape).astype(x.dtype)

        thunks = {
            "x": dx,
            "weight": lambda: of(0, weight.shape),  # type: ignore[union-attr]
            "bias": lambda: of(1, bias.shape),  # type: ignore[union-attr]
        }
        if segments.layout.by == "part":
            n = x.shape[0]
            thunks["weight of each"] = lambda: of(0, (n, *weight.shape), n)  # type: ignore[union-attr]
            thunks["bias of each"] = lambda: of(1, (n, *bias.shape), n)  # type: ignore[union-attr]
        return thunks

    def push(moved: dict[str, Array]) -> Array:
        # Without scale and shift the matrix of derivatives is symmetric.
        _, normal, plain, _ = _defined(segments, x, laid_as, along, None, None, eps, centred)
        return norm_push(moved, along, weight, normal, lambda t: plain(t)["x"]())

    return x.shape, once(lambda: run("value", x)[0]), pullback, push


def norm_push(
    moved: dict[str, Array],
    along: Shape,
    weight: Array | None,
    normal: Callable[[], Array],
    derivative: Callable[[Array], Array],
) -> Array:
    """Return the derivative of a norm along tangents of its input, scale and shift.

    `normal` gives the normalised input, before scale and shift, and `derivative` its derivative along a
    tangent; `along` is the shape of scale and shift, with an axis for each of the input's.
    """
    parts = []
    if "x" in moved:
        dx = derivative(moved["x"])
        parts.append(dx if weight is None else dx * weight.reshape(along))
    if "weight" in moved:
        parts.append(normal() * moved["weight"].reshape(along))
    if "bias" in moved:
        parts.append(moved["bias"].reshape(along))
    return functools.reduce(operator.add, parts)
