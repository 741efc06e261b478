"""Batch normalisation in two passes over memory: each does all that can be done in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fconv.arrays import Array, xp_of
from fconv.functional import channel_passes_gpu
from fconv.functional.channel_passes import CpuPasses
from fconv.functional.channel_passes_gpu import GpuPasses
from fconv.functional.channels import compiled_passes, layout_of
from fconv.functional.core import Definition, Thunks, once
from fconv.functional.moments import Statistics

if TYPE_CHECKING:
    from fconv.engine.compiled.channels import CompiledPasses


def passes_over(x: Array) -> CompiledPasses | CpuPasses | GpuPasses | None:
    """Find what goes over an array (N, C, ...) for its channels; None where nothing quick does."""
    if channel_passes_gpu.serves(x):
        return GpuPasses(x)
    passes = compiled_passes(x)
    if passes is not None:
        return passes
    layout = layout_of(x)
    return None if layout is None else CpuPasses(layout, x)


def batch_normal(
    passes: CompiledPasses | CpuPasses | GpuPasses,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    given: Statistics | None,
    fixed: bool,
) -> Definition:
    """Define what `moments.normalised` defines, for statistics of channels over all other axes.

    Parameters
    ----------
    passes : CompiledPasses, CpuPasses or GpuPasses
        Over `x`.
    x : array, shape (N, C, ...)
        The input.
    weight, bias : array or None, shape (C,)
        Scale and shift.
    eps : float
        Added to the variance.
    given : tuple of array, optional
        (mean, variance) of each channel, in place of the moments of `x`.
    fixed : bool
        They do not depend on `x`.

    Returns
    -------
    Definition
        Its pullback has the gradients of ``x``, ``weight`` and ``bias``.
    """
    dtype, entries = x.dtype, x.size // x.shape[1]

    @once
    def statistics() -> tuple[Array, Array, Array]:
        """Return the mean as near as the dtype can say it, what that lacks, and 1 / sqrt(var + eps).

        The near mean is subtracted first and the rest at the end, so that a mean far larger than
        the deviation costs no digits.
        """
        mean, var = passes.moments() if given is None else given
        near, wide = mean.astype(dtype), mean.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 and 0, infinity less infinity
            return near, wide - near, 1 / xp_of(var).sqrt(var.astype(np.float64) + eps)

    def scale() -> Array:
        spread = statistics()[2]
        return spread if weight is None else spread * weight

    def value() -> Array:
        near, lacking, _ = statistics()
        with np.errstate(invalid="ignore"):
            shift = (0.0 if bias is None else bias) - lacking * scale()
        return passes.mapped(near, scale(), shift)

    def pullback(g: Array) -> Thunks:
        @once
        def sums() -> tuple[Array, Array]:
            """Sum g, and g times the normalised input."""
            near, lacking, spread = statistics()
            summed, weighted = passes.sums(g, near)
            with np.errstate(invalid="ignore"):
                return summed, (weighted - lacking * summed) * spread

        def dx() -> Array:
            if fixed:
                return passes.scaled(g, scale())
            near, lacking, spread = statistics()
            summed, weighted = (each / entries for each in sums())
            with np.errstate(invalid="ignore", over="ignore"):
                slope = -scale() * spread * weighted
                shift = -lacking * slope - scale() * summed
            return passes.combined(near, slope, shift, g, scale())

        return {
            "x": dx,
            "weight": lambda: sums()[1].astype(dtype),
            "bias": lambda: sums()[0].astype(dtype),
        }

    return x.shape, once(value), pullback
