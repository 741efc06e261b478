"""Convolution a run of samples at a time, for what takes a copy of all windows.

That is `prod(kernel)` times the input, so the batch is divided such that the copy stays under a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from fconv.arrays import Array, Shape, xp_of
from fconv.geometry import ConvGeometry

WINDOW_BYTES = 256 << 20
"""What the windows of a run may take; one sample's are taken whole in any case."""


def by_runs(
    function: Callable[[Array, Array, ConvGeometry], Array],
    x: Array,
    weight: Array,
    geometry: ConvGeometry,
    shape: Shape,
) -> Array:
    """Compute an array of `shape` (N, ...) from each sample of `x`, a run of them at a time."""
    runs = runs_of_samples(geometry, x)
    if len(runs) < 2:
        return function(x, weight, geometry)
    result = xp_of(x).empty(shape, x.dtype)
    for run in runs:
        result[run] = function(x[run], weight, part(geometry, run))
    return result


def runs_of_samples(geometry: ConvGeometry, x: Array) -> list[slice]:
    """Divide the batch so that the windows of a run take at most `WINDOW_BYTES`."""
    windows = geometry.windows
    of_sample = geometry.in_channels * prod(windows.kernel) * prod(windows.out_size) * x.dtype.itemsize
    step = max(1, WINDOW_BYTES // max(1, of_sample))
    return [slice(i, min(i + step, geometry.batch)) for i in range(0, geometry.batch, step)]


def part(geometry: ConvGeometry, run: slice) -> ConvGeometry:
    """Return the geometry of a run."""
    return replace(geometry, batch=run.stop - run.start)
