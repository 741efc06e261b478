"""Batch normalisation in two passes over memory: each does all that can be done in it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from fconv.arrays import Array, xp_of
from fconv.functional import channel_passes_gpu
from fconv.functional.channel_passes import CpuPasses
from fconv.functional.channel_passes_gpu import GpuPasses
from fconv.functional.channels import compiled_passes, is_dense, kernel_order, layout_of, sum_by_sample
from fconv.functional.core import Pushed, Thunks, once
from fconv.functional.moments import Statistics
from fconv.functional.one_pass import in_one_pass
from fconv.functional.sums import quietly

if TYPE_CHECKING:
    from fconv.engine.compiled.channels import CompiledPasses, SamplePasses
    from fconv.engine.compiled.normal import BatchNormal


def passes_over(x: Array) -> CompiledPasses | CpuPasses | GpuPasses | None:
    """Find what goes over an array (N, C, ...) for its channels; None where nothing quick does."""
    if channel_passes_gpu.serves(x):
        return GpuPasses(x)
    passes = compiled_passes(x)
    if passes is not None:
        return passes
    layout = layout_of(x)
    return None if layout is None else CpuPasses(layout, x)


def training_plan(x: Array, eps: float, share: float) -> BatchNormal | None:
    """Plan batch normalisation in training of arrays like `x`, (N, C, ...); None where no kernels serve it.

    `share` is that of a batch in the running statistics.
    """
    order = kernel_order(x)
    if order is None or not is_dense(x, order):
        return None
    from fconv.engine.compiled.normal import BatchNormal

    return BatchNormal(x.shape, order, x.dtype, eps, share)


def batch_normal(
    passes: CompiledPasses | CpuPasses | GpuPasses,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    given: Statistics | None,
    fixed: bool,
    within: SamplePasses | None = None,
    average: Callable[[tuple[Array, Array]], Iterable[Array]] | None = None,
) -> Pushed:
    """Define what `moments.normalised` defines, for statistics of channels over all other axes.

    `passes` are those over `x`, (N, C, ...), and `within` the same where the statistics are of groups of
    channels of each sample. The statistics may be `given` in place of the moments of `x`, and are `fixed`
    where they do not depend on it. Where others share them, `average` takes sums over `x` to the means over
    all that they were taken of. The pullback has the gradients of ``x``, ``weight`` and ``bias``.
    """
    dtype, elements = x.dtype, x.size // x.shape[1]
    own = 1.0 if weight is None else weight

    @once
    def statistics() -> tuple[Array, Array, Array]:
        """Return the mean as near as the dtype can say it, what that lacks, and 1 / sqrt(var + eps).

        The near mean is subtracted first and the rest at the end, so that a mean far larger than
        the deviation costs no digits.
        """
        mean, var = passes.moments() if given is None else given
        near, wide = mean.astype(dtype), mean.astype(np.float64)
        return near, wide - near, 1 / xp_of(var).sqrt(var.astype(np.float64) + eps)

    def scale() -> Array:
        spread = statistics()[2]
        return spread if weight is None else spread * weight

    def value() -> Array:
        near, lacking, _ = statistics()
        by = scale()
        return passes.mapped(near, by, (0.0 if bias is None else bias) - lacking * by)

    def sums_of(g: Array) -> tuple[Array, Array]:
        """Sum g, and g times the normalised input."""
        near, lacking, spread = statistics()
        summed, weighted = passes.sums(g, near)
        return summed, (weighted - lacking * summed) * spread

    def through(g: Array, sums: tuple[Array, Array], own: Array | float) -> Array:
        """Return the gradient of `x` for that of the output, where the scale is `own`."""
        near, lacking, spread = statistics()
        if within is not None:
            summed, weighted = (within.averaged(own * each) for each in sums)
        else:
            means = average(sums) if average else [each / elements for each in sums]
            summed, weighted = [own * each for each in means]
        slope = -spread * spread * weighted
        shift = -lacking * slope - spread * summed
        return passes.combined(near, slope, shift, g, spread * own)

    def pullback(g: Array) -> Thunks:
        sums = once(lambda: quietly(lambda: sums_of(g)))

        def of(i: int) -> Array:
            found = sums()[i]
            return (found if within is None else found.sum(axis=0)).astype(dtype)

        def each() -> tuple[Array, Array]:
            """Return the sums for each sample."""
            if within is not None:
                return sums()
            near, lacking, spread = quietly(statistics)
            centred = x - near.reshape(-1, *(1,) * (x.ndim - 2))
            summed, weighted = sum_by_sample(g), sum_by_sample(g * centred)
            return summed, (weighted - lacking * summed) * spread

        return {
            "x": lambda: quietly(lambda: passes.scaled(g, scale()) if fixed else through(g, sums(), own)),
            "weight": lambda: of(1),
            "bias": lambda: of(0),
            "weight of each": lambda: each()[1].astype(dtype),
            "bias of each": lambda: sum_by_sample(g),
        }

    def push(moved: dict[str, Array]) -> Array:
        near, lacking, spread = statistics()
        parts = []
        if "x" in moved and within is not None and weight is not None:
            t = moved["x"]  # the normalised input's derivative is symmetric, and is scaled afterwards
            parts.append(through(t, sums_of(t), 1.0) * weight.reshape(-1, *(1,) * (x.ndim - 2)))
        elif "x" in moved:  # the scale is constant over what the moments are taken over
            parts.append(pullback(moved["x"])["x"]())
        if "weight" in moved:
            slope = spread * moved["weight"]
            parts.append(passes.mapped(near, slope, moved.get("bias", 0.0) - lacking * slope))
        elif "bias" in moved:
            parts.append(moved["bias"].reshape(-1, *(1,) * (x.ndim - 2)))
        return parts[0] if len(parts) == 1 else in_one_pass(operator.add, *parts)

    return (
        x.shape,
        once(lambda: quietly(value)),
        pullback,
        lambda moved: quietly(lambda: push(moved)),
    )
