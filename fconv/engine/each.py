"""The gradient of a convolution's weight for each image of a batch, and its norm."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from fconv.arrays import Array, in_c_order, library_of, xp_of
from fconv.engine.contraction import contract
from fconv.engine.plans import Plan, plan_of
from fconv.engine.runs import runs_of_samples
from fconv.engine.windows import pad, window_view
from fconv.geometry import ConvGeometry


def weight_gradient(plan: Plan, geometry: ConvGeometry, g: Array, x: Array) -> Array:
    """Return the gradient of the weight by each image, (N, O, C/groups, *kernel).

    On a GPU the images of a run are the groups of one convolution. On the CPU they go one after another
    where nothing is compiled, in half of the time that many groups take.
    """
    own = getattr(plan, "each_weight_gradient", None)
    if own is not None:
        return own(g, x)
    out = xp_of(x).empty((geometry.batch, *geometry.weight_shape), x.dtype)
    apart = [slice(i, i + 1) for i in range(geometry.batch)]
    for run in runs_of_samples(geometry, x) if library_of(x) == "cupy" else apart:
        n = run.stop - run.start
        grouped = replace(
            geometry, batch=1, groups=n * geometry.groups,
            in_channels=n * geometry.in_channels, out_channels=n * geometry.out_channels,
        )  # fmt: skip
        found = plan_of(x, grouped, "auto" if plan.algorithm == "winograd" else plan.algorithm)
        dw = found.weight_gradient(g[run].reshape(grouped.out_shape), x[run].reshape(grouped.in_shape))
        out[run] = dw.reshape(n, *geometry.weight_shape)
    return out


def weight_norm(plan: Plan, geometry: ConvGeometry, g: Array, x: Array) -> Array:
    """Return the norm of the weight's gradient by each image, (N, 1, 1, ...).

    The gradient is a sum over positions of products of a window and a column of `g`. Where positions are
    few, the products of all windows and of all columns tell its norm for less than it takes to form.
    """
    w, shape = geometry.windows, geometry.weight_shape
    inner, outer, positions = prod(shape[1:]), shape[0] // geometry.groups, prod(w.out_size)
    if 4 * positions * (inner + outer) < inner * outer:
        square = xp_of(x).empty(geometry.batch, np.float64)
        axes = (0, 1, *range(2 + w.ndim, 2 + 2 * w.ndim), *range(2, 2 + w.ndim))
        for run in runs_of_samples(geometry, x):
            windows = window_view(pad(x[run], w.padding), w).transpose(axes)
            lead = (run.stop - run.start, geometry.groups)
            sides = windows.reshape(*lead, inner, positions), g[run].reshape(*lead, outer, positions)
            products = [side.swapaxes(2, 3) @ side for side in map(in_c_order, sides)]
            square[run] = (products[0] * products[1]).sum(axis=(1, 2, 3), dtype=np.float64)
        found = xp_of(x).sqrt(xp_of(x).maximum(square, 0)).astype(x.dtype)
    else:
        own = getattr(plan, "each_weight_norm", None)
        if own is not None:
            found = own(g, x)
        else:
            dw = weight_gradient(plan, geometry, g, x).reshape(geometry.batch, prod(shape))
            found = xp_of(x).sqrt(contract("ni,ni->n", dw, dw))
    return found.reshape(-1, *(1,) * len(shape))
