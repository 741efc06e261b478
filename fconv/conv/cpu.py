"""Convolution on the CPU: which algorithm serves which shape, and the two gradients through the same ones.

The arrays keep their NCHW shapes; in memory, what is made here is channels-last.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod
from typing import Literal, TypeAlias, get_args

import numpy as np

from fconv.arrays import Array, Shape
from fconv.conv import depthwise, direct, filters, narrow, planar, winograd
from fconv.conv.geometry import ConvGeometry
from fconv.conv.tiles import Correlation
from fconv.threads import run

Algorithm: TypeAlias = Literal[
    "auto", "direct", "planar", "adding", "narrow", "winograd", "depthwise", "einsum"
]
_FEW_CHANNELS = 4
_NARROW = 200  # input times output channels
_NARROW_GRADIENT = 64  # of the weight, to few output channels
_STEPS = 50_000_000
_WINOGRAD_CHANNELS = 32
_WINOGRAD_FILTERS = 3 << 20  # numbers that the transformed filters may take
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)


def convolve(x: Array, weight: Array, geometry: ConvGeometry, bias: Array | None, algorithm: str) -> Array:
    """Convolve `x` (N, C, *in_size) with `weight` (O, C/groups, *kernel), and add the bias."""
    at = _forward(geometry)
    chosen = choose(weight.shape, geometry.groups, at, geometry.batch, x.dtype, algorithm)
    y = _made(chosen, geometry.out_shape, x.dtype)
    _finish(_correlate(_last(x), weight, geometry.groups, at, y, bias, chosen))
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
    turned = _turned(weight, geometry.groups)
    chosen = "direct"
    if set(w.stride) == {1}:
        back = _back(_forward(geometry))
        chosen = choose(turned.shape, geometry.groups, back, geometry.batch, g.dtype, algorithm)
    if chosen != "narrow" and _adds_up(geometry, algorithm):
        dx = np.empty(geometry.in_shape, g.dtype)
        for o, c in _groups(geometry.groups, geometry.out_channels, geometry.in_channels):
            planar.input_gradient(_last(g[:, o]), weight[o], _forward(geometry), dx[:, c])
        return dx
    lows = tuple(lo for lo, _ in w.padding)
    dx = _made(chosen, geometry.in_shape, g.dtype)
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
    at, groups = _forward(geometry), geometry.groups
    outer, inner = _last(g), _last(x)
    chosen = choose(geometry.weight_shape, groups, at, geometry.batch, x.dtype, algorithm)
    shares = geometry.out_channels // groups, geometry.weight_shape[1]
    if (
        algorithm == "auto"
        and chosen == "narrow"
        and shares[0] <= _FEW_CHANNELS
        and prod(shares) > _NARROW_GRADIENT
    ):
        chosen = "adding"
    dw = np.empty(geometry.weight_shape, x.dtype)  # costs nothing where it is not written to
    if chosen == "planar":
        for o, c in _groups(groups, geometry.out_channels, geometry.in_channels):
            dw[o] = planar.filter_gradient(outer[..., o], inner[..., c], at)
        return dw
    if chosen == "adding":
        for o, c in _groups(groups, geometry.out_channels, geometry.in_channels):
            dw[o] = _reverse(planar.filter_gradient(inner[..., c], outer[..., o], _back(at)))
        return dw
    if chosen == "narrow":
        for o, c in _groups(groups, geometry.out_channels, geometry.in_channels):
            dw[o] = narrow.filter_gradient(outer[..., o], inner[..., c], at)
        return dw
    if chosen == "depthwise":
        times = geometry.out_channels // groups
        for j in range(times):
            dw[j::times, 0] = np.moveaxis(depthwise.filter_gradient(outer[..., j::times], inner, at), -1, 0)
        return dw
    parts = []
    for o, c in _groups(groups, geometry.out_channels, geometry.in_channels):
        parts.append(direct.filter_gradient(outer[..., o], inner[..., c], at))
    return filters.from_matrices(parts, geometry.weight_shape, like)


def chosen(geometry: ConvGeometry, dtype: np.dtype[np.generic]) -> str:
    """Name the algorithm that "auto" takes for the forward pass."""
    at = _forward(geometry)
    return choose(geometry.weight_shape, geometry.groups, at, geometry.batch, dtype, "auto")


def serves(dtype: np.dtype[np.generic], geometry: ConvGeometry) -> bool:
    """Tell whether these algorithms can: they want float32 or float64 and something to do."""
    sizes = (*geometry.in_shape, *geometry.out_shape, *geometry.weight_shape)
    return dtype in (np.float32, np.float64) and all(sizes) and not _strided_and_dilated(geometry)


def problem(algorithm: str, dtype: np.dtype[np.generic], geometry: ConvGeometry) -> str | None:
    """Say why an algorithm cannot serve a convolution, if it cannot."""
    if dtype not in (np.float32, np.float64):
        return f"needs float32 or float64, got {dtype}"
    if _strided_and_dilated(geometry):
        return f"needs stride 1 or dilation 1, got {geometry.windows.stride} and {geometry.windows.dilation}"
    w = geometry.windows
    if algorithm == "depthwise" and not _is_depthwise(geometry.weight_shape, geometry.groups):
        return f"needs one input channel a group, got {geometry.weight_shape[1]} in {geometry.groups} groups"
    if algorithm == "adding" and set(w.stride) != {1}:
        return f"needs stride 1, got {w.stride}"
    if algorithm == "narrow":
        return narrow.problem(_forward(geometry))
    if algorithm == "winograd" and not _is_3x3(w.kernel, w.stride, w.dilation, geometry.groups):
        return (
            "needs a 3x3 kernel with stride 1, dilation 1 and one group, "
            f"got {w.kernel}, stride {w.stride}, dilation {w.dilation} and groups={geometry.groups}"
        )
    return None


def choose(
    weight_shape: Shape, groups: int, at: Correlation, batch: int, dtype: np.dtype[np.generic], algorithm: str
) -> str:
    """Choose the algorithm of a convolution; this is the whole table.

    - depthwise: one input channel a group;
    - winograd: float32, 3x3 at stride 1 without dilation or groups, wide enough that the products
      saved outweigh the transforms;
    - narrow: few channels a group on both sides, two axes, stride 1, and Numba there;
    - planar: few input channels a group;
    - adding: few output channels a group, at stride 1: each input position's share of the windows
      around it is added into place, which is planar's input gradient;
    - direct: everything else.

    The input gradient goes the same ways with the channels exchanged, but see `_adds_up`; the
    weight gradient is direct where this says winograd, and adding where it says narrow for few
    outputs of many channels.
    """
    if algorithm != "auto":
        return algorithm
    if _is_depthwise(weight_shape, groups):
        return "depthwise"
    square = _is_3x3(at.kernel, at.stride, at.dilation, groups)
    if square and dtype == np.float32 and _winograd_pays(weight_shape, at, batch):
        return "winograd"
    if _narrow_pays(weight_shape, groups) and narrow.serves(at):
        return "narrow"
    if weight_shape[1] <= _FEW_CHANNELS:
        return "planar"
    few = weight_shape[0] // groups <= _FEW_CHANNELS and prod(at.kernel) > 1
    return "adding" if few and set(at.stride) == {1} else "direct"


def _adds_up(geometry: ConvGeometry, algorithm: str) -> bool:
    """Tell whether the input gradient is made by adding windows up, rather than by convolutions."""
    few = geometry.weight_shape[1] <= _FEW_CHANNELS and not _is_depthwise(
        geometry.weight_shape, geometry.groups
    )
    return algorithm == "planar" or (algorithm == "auto" and few)


def _narrow_pays(weight_shape: Shape, groups: int) -> bool:
    outer, inner = weight_shape[0] // groups, weight_shape[1]
    return outer < planar.FEW_OUTPUTS and outer * inner <= _NARROW and prod(weight_shape[2:]) > 1


def _is_depthwise(weight_shape: Shape, groups: int) -> bool:
    return weight_shape[1] == 1 and groups > 1


def _is_3x3(kernel: Shape, stride: Shape, dilation: Shape, groups: int) -> bool:
    return kernel == (3, 3) and stride == dilation == (1, 1) and groups == 1


def _strided_and_dilated(geometry: ConvGeometry) -> bool:
    # The input positions of one remainder then meet filter entries that are no regular grid.
    w = geometry.windows
    return any(s > 1 and d > 1 for s, d in zip(w.stride, w.dilation, strict=True))


def _winograd_pays(weight_shape: Shape, at: Correlation, batch: int) -> bool:
    """Compare what the two ways cost, in multiplications of a matrix product.

    A number that is copied or written costs about as much as `direct.PASS` multiplications, and the
    steps between Winograd's products as much as `_STEPS`. The constants are fitted to measured
    times, docs/design/performance.md.
    """
    outer, inner = weight_shape[:2]
    if min(inner, outer) < _WINOGRAD_CHANNELS or 36 * inner * outer > _WINOGRAD_FILTERS:
        return False
    positions = batch * at.out_size[0] * at.out_size[1]
    blocks = batch * -(-at.out_size[0] // winograd.STEP) * -(-at.out_size[1] // winograd.STEP)
    plain = positions * inner * 9 * (outer + direct.PASS)
    saved = 36 * blocks * (inner * outer + inner * (36 + direct.PASS) + outer * (16 + direct.PASS))
    return saved + 36 * inner * outer * (9 + direct.PASS) + _STEPS < plain


def _correlate(
    x: Array, weight: Array, groups: int, at: Correlation, y: Array, bias: Array | None, algorithm: str
) -> list[direct.Job]:
    """Correlate channels-last `x` with `weight` (O, C/groups, *kernel) into channels-last `y`.

    What is left to do is returned, so that the jobs of several correlations share the threads.
    """
    chosen = choose(weight.shape, groups, at, x.shape[0], x.dtype, algorithm)
    if chosen == "winograd":
        winograd.correlate(x, weight, at, y, bias)
    elif chosen == "planar":
        for o, c in _groups(groups, weight.shape[0], x.shape[-1]):
            planar.correlate(x[..., c], weight[o], at, y[..., o], None if bias is None else bias[o])
    elif chosen == "narrow":
        for o, c in _groups(groups, weight.shape[0], x.shape[-1]):
            narrow.correlate(x[..., c], weight[o], at, y[..., o], None if bias is None else bias[o])
    elif chosen == "adding":
        for o, c in _groups(groups, weight.shape[0], x.shape[-1]):
            planar.input_gradient(x[..., c], _reverse(weight[o]), _back(at), _first(y[..., o]))
        if bias is not None:
            y += bias
    elif chosen == "depthwise":
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


def _made(chosen: str, shape: Shape, dtype: np.dtype[np.generic]) -> Array:
    """Make an array of `shape` (N, O, *size) in the memory order that an algorithm writes it in."""
    if chosen in ("adding", "narrow") or (chosen == "planar" and shape[1] < planar.FEW_OUTPUTS):
        return _last(np.empty(shape, dtype))
    return np.empty((shape[0], *shape[2:], shape[1]), dtype)


def _forward(geometry: ConvGeometry) -> Correlation:
    w = geometry.windows
    return Correlation(
        w.in_size, w.out_size, w.kernel, w.stride, w.dilation, tuple(lo for lo, _ in w.padding)
    )


def _turned(weight: Array, groups: int) -> Array:
    """Swap a weight's output and input channels within each group."""
    outer, inner = weight.shape[:2]
    apart = weight.reshape(groups, outer // groups, inner, *weight.shape[2:])
    return apart.swapaxes(1, 2).reshape(groups * inner, outer // groups, *weight.shape[2:])


def _reverse(weight: Array) -> Array:
    """Exchange the channels of filters and turn them round: what undoes their correlation at stride 1."""
    turned = (slice(None, None, -1),) * (weight.ndim - 2)
    return weight.swapaxes(0, 1)[(slice(None), slice(None), *turned)]


def _back(at: Correlation) -> Correlation:
    """Give the correlation of stride 1 whose input gradient is the correlation `at`."""
    before = tuple(d * (k - 1) - b for d, k, b in zip(at.dilation, at.kernel, at.before, strict=True))
    return replace(at, in_size=at.out_size, out_size=at.in_size, before=before)


def _groups(groups: int, outer: int, inner: int) -> list[tuple[slice, slice]]:
    """Give the output and the input channels of each group."""
    o, c = outer // groups, inner // groups
    return [(slice(i * o, (i + 1) * o), slice(i * c, (i + 1) * c)) for i in range(groups)]


def _last(x: Array) -> Array:
    return np.moveaxis(x, 1, -1)


def _first(x: Array) -> Array:
    return np.moveaxis(x, -1, 1)
