"""Convolution on the CPU, and its two gradients, by the algorithms that `choosing` names.

The arrays keep their NCHW shapes; in memory, what is made here is channels-last.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from fconv.arrays import Array, Shape
from fconv.conv import depthwise, direct, filters, narrow, planar, winograd
from fconv.conv.choosing import choose, chosen, for_input_gradient, for_weight_gradient
from fconv.conv.geometry import ConvGeometry
from fconv.conv.tiles import Correlation
from fconv.threads import run


def convolve(x: Array, weight: Array, geometry: ConvGeometry, bias: Array | None, algorithm: str) -> Array:
    """Convolve `x` (N, C, *in_size) with `weight` (O, C/groups, *kernel), and add the bias."""
    name = chosen(geometry, x.dtype, algorithm)
    y = _made(name, geometry.out_shape, x.dtype)
    _finish(_correlate(_last(x), weight, geometry.groups, Correlation.of(geometry.windows), y, bias, name))
    return _first(y)


def input_gradient(g: Array, weight: Array, geometry: ConvGeometry, algorithm: str) -> Array:
    """Take the gradient of the output to that of the input.

    Where there are few input channels, the windows' entries are made and added into place. Else a
    convolution of stride s is undone by s * s ones of stride 1, one for the input positions of
    each remainder, each with the filter entries that meet them.
    """
    w = geometry.windows
    if algorithm == "depthwise" and geometry.out_channels != geometry.groups:
        algorithm = "auto"  # turned round, several channels of a group make one
    name = for_input_gradient(geometry, g.dtype, algorithm)
    if name == "adding":
        dx = np.empty(geometry.in_shape, g.dtype)
        for o, c in _groups(geometry.groups, geometry.out_channels, geometry.in_channels):
            planar.input_gradient(_last(g[:, o]), weight[o], Correlation.of(w), dx[:, c])
        return dx
    lows = tuple(lo for lo, _ in w.padding)
    dx, turned = _made(name, geometry.in_shape, g.dtype), _turned(weight, geometry.groups)
    jobs: list[direct.Job] = []
    for phase in product(*map(range, w.stride)):
        first = tuple((a + lo) % s for a, lo, s in zip(phase, lows, w.stride, strict=True))
        count = tuple(max(0, -(-(k - f) // s)) for k, f, s in zip(w.kernel, first, w.stride, strict=True))
        out_size = tuple(max(0, -(-(n - a) // s)) for n, a, s in zip(w.in_size, phase, w.stride, strict=True))
        where = dx[(slice(None), *(slice(a, None, s) for a, s in zip(phase, w.stride, strict=True)))]
        if not all(out_size):
            continue
        if not all(count):
            where[...] = 0
            continue
        entries = tuple(
            slice(f + s * (m - 1), f - 1 if f else None, -s)
            for f, m, s in zip(first, count, w.stride, strict=True)
        )
        before = tuple(
            d * (m - 1) - (a + lo - f) // s
            for d, m, a, lo, f, s in zip(w.dilation, count, phase, lows, first, w.stride, strict=True)
        )
        ones = (1,) * w.ndim
        at = Correlation(w.out_size, out_size, count, ones, w.dilation, before)
        jobs += _correlate(
            _last(g),
            turned[(slice(None), slice(None), *entries)],
            geometry.groups,
            at,
            where,
            None,
            algorithm,
        )
    _finish(jobs)
    return _first(dx)


def weight_gradient(
    g: Array, x: Array, geometry: ConvGeometry, algorithm: str, like: Array | None = None
) -> Array:
    """Take the gradient of the output to that of the weight, in the memory order of `like`."""
    at, groups = Correlation.of(geometry.windows), geometry.groups
    outer, inner = _last(g), _last(x)
    name = for_weight_gradient(geometry, x.dtype, algorithm)
    dw = np.empty(geometry.weight_shape, x.dtype)  # costs nothing where it is not written to
    if name in _FILTER_GRADIENTS:
        for o, c in _groups(groups, geometry.out_channels, geometry.in_channels):
            dw[o] = _FILTER_GRADIENTS[name](outer[..., o], inner[..., c], at)
        return dw
    if name == "depthwise":
        times = geometry.out_channels // groups
        for j in range(times):
            dw[j::times, 0] = np.moveaxis(depthwise.filter_gradient(outer[..., j::times], inner, at), -1, 0)
        return dw
    parts = []
    for o, c in _groups(groups, geometry.out_channels, geometry.in_channels):
        parts.append(direct.filter_gradient(outer[..., o], inner[..., c], at))
    return filters.from_matrices(parts, geometry.weight_shape, like)


def _correlate(
    x: Array, weight: Array, groups: int, at: Correlation, y: Array, bias: Array | None, algorithm: str
) -> list[direct.Job]:
    """Correlate channels-last `x` with `weight` (O, C/groups, *kernel) into channels-last `y`.

    What is left to do is returned, so that the jobs of several correlations share the threads.
    """
    name = choose(weight.shape, groups, at, x.shape[0], x.dtype, algorithm)
    if name == "winograd":
        winograd.correlate(x, weight, at, y, bias)
    elif name in ("planar", "narrow"):
        correlate = {"planar": planar, "narrow": narrow}[name].correlate
        for o, c in _groups(groups, weight.shape[0], x.shape[-1]):
            correlate(x[..., c], weight[o], at, y[..., o], None if bias is None else bias[o])
    elif name == "adding":
        for o, c in _groups(groups, weight.shape[0], x.shape[-1]):
            planar.input_gradient(x[..., c], _reverse(weight[o]), at.back(), _first(y[..., o]))
        if bias is not None:
            y += bias
    elif name == "depthwise":
        times = weight.shape[0] // groups
        for j in range(times):
            by_channel = np.ascontiguousarray(np.moveaxis(weight[j::times, 0], 0, -1))
            depthwise.correlate(x, by_channel, at, y[..., j::times], None if bias is None else bias[j::times])
    else:
        jobs = []
        for o, c in _groups(groups, weight.shape[0], x.shape[-1]):
            jobs += direct.jobs(
                x[..., c], filters.matrix(weight, o), at, y[..., o], None if bias is None else bias[o]
            )
        return jobs
    return []


def _finish(jobs: list[direct.Job]) -> None:
    run(lambda i: jobs[i](), len(jobs))


def _made(algorithm: str, shape: Shape, dtype: np.dtype[np.generic]) -> Array:
    """Make an array of `shape` (N, O, *size) in the memory order that an algorithm writes it in."""
    if algorithm in ("adding", "narrow") or (algorithm == "planar" and shape[1] < planar.FEW_OUTPUTS):
        return _last(np.empty(shape, dtype))
    return np.empty((shape[0], *shape[2:], shape[1]), dtype)


def _turned(weight: Array, groups: int) -> Array:
    """Swap a weight's output and input channels within each group."""
    outer, inner = weight.shape[:2]
    apart = weight.reshape(groups, outer // groups, inner, *weight.shape[2:])
    return apart.swapaxes(1, 2).reshape(groups * inner, outer // groups, *weight.shape[2:])


def _reverse(weight: Array) -> Array:
    """Exchange the channels of filters and turn them round: what undoes their correlation at stride 1."""
    turned = (slice(None, None, -1),) * (weight.ndim - 2)
    return weight.swapaxes(0, 1)[(slice(None), slice(None), *turned)]


def _groups(groups: int, outer: int, inner: int) -> list[tuple[slice, slice]]:
    """Give the output and the input channels of each group."""
    o, c = outer // groups, inner // groups
    return [(slice(i * o, (i + 1) * o), slice(i * c, (i + 1) * c)) for i in range(groups)]


def _last(x: Array) -> Array:
    return np.moveaxis(x, 1, -1)


def _first(x: Array) -> Array:
    return np.moveaxis(x, -1, 1)


# Of one group: (N, *out_size, O), (N, *in_size, C) and where the windows lie to (O, C, *kernel).
_FILTER_GRADIENTS: dict[str, Callable[[Array, Array, Correlation], Array]] = {
    "planar": planar.filter_gradient,
    "narrow": narrow.filter_gradient,
    "adding": lambda g, x, at: _reverse(planar.filter_gradient(x, g, at.back())),
}
