"""Convolution in NumPy, and its two gradients, by the algorithms that `choosing` names.

The arrays keep their NCHW shapes; in memory, what is made here is channels-last.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from fconv.arrays import Array, Shape
from fconv.engine.cpu import choosing, depthwise, direct, filters, planar, winograd
from fconv.engine.cpu.tiles import Correlation
from fconv.engine.threads import run
from fconv.geometry import ConvGeometry

QUIETLY = np.errstate(invalid="ignore", over="ignore")
"""Infinities and NaN make no warnings, as the definition and compiled kernels make none."""


class NumpyConvolution:
    """A convolution in NumPy, planned."""

    engine = "numpy"

    def __init__(self, geometry: ConvGeometry, dtype: str, algorithm: str) -> None:
        self._geometry, self._at = geometry, Correlation.of(geometry.windows)
        kind = np.dtype(dtype)
        self._forward = choosing.forward(geometry, kind, algorithm)
        self._weights = choosing.weight_gradient(geometry, kind, algorithm)
        self._input = choosing.input_gradient(geometry, kind, algorithm)
        self._phases = _phases(geometry, kind, algorithm) if self._input != "adding" else []
        self.algorithm = "winograd" if self._forward == "winograd" else "direct"

    @QUIETLY
    def convolve(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """Return the output, (N, O, *out_size)."""
        y = _made(self._forward, self._geometry.out_shape, x.dtype)
        _finish(_correlate(self._forward, _last(x), weight, self._geometry.groups, self._at, y, bias))
        return _first(y)

    @QUIETLY
    def input_gradient(self, g: Array, weight: Array) -> Array:
        """Return the gradient of the input, (N, C, *in_size).

        Where there are few input channels, the windows' elements are made and added into place. Else a
        convolution of stride s is undone by s * s ones of stride 1, one for the input positions of
        each remainder, each with the filter elements that meet them.
        """
        geometry = self._geometry
        if self._input == "adding":
            dx = np.empty(geometry.in_shape, g.dtype)
            for o, c in _groups(geometry.groups, geometry.out_channels, geometry.in_channels):
                planar.input_gradient(_last(g[:, o]), weight[o], self._at, dx[:, c])
            return dx
        dx, turned = _made(self._input, geometry.in_shape, g.dtype), _turned(weight, geometry.groups)
        jobs: list[direct.Job] = []
        for where, taps, at, name in self._phases:
            part = dx[where]
            if at is None:
                part[...] = 0
            else:
                jobs += _correlate(name, _last(g), turned[taps], geometry.groups, at, part, None)
        _finish(jobs)
        return _first(dx)

    @QUIETLY
    def weight_gradient(self, g: Array, x: Array, like: Array | None = None) -> Array:
        """Return the gradient of the weight, in the memory order of `like`."""
        geometry, at, name = self._geometry, self._at, self._weights
        outer, inner = _last(g), _last(x)
        dw = np.empty(geometry.weight_shape, x.dtype)  # costs nothing where it is not written to
        if name in _FILTER_GRADIENTS:
            for o, c in _groups(geometry.groups, geometry.out_channels, geometry.in_channels):
                dw[o] = _FILTER_GRADIENTS[name](outer[..., o], inner[..., c], at)
            return dw
        if name == "depthwise":
            times = geometry.out_channels // geometry.groups
            for j in range(times):
                sums = depthwise.filter_gradient(outer[..., j::times], inner, at)
                dw[j::times, 0] = np.moveaxis(sums, -1, 0)
            return dw
        parts = [
            direct.filter_gradient(outer[..., o], inner[..., c], at)
            for o, c in _groups(geometry.groups, geometry.out_channels, geometry.in_channels)
        ]
        return filters.from_matrices(parts, geometry.weight_shape, like)


def offer(geometry: ConvGeometry, dtype: str, device: str, algorithm: str) -> NumpyConvolution | None:
    """Offer NumPy's algorithms for float32 and float64 on the CPU, unless the definition is asked for."""
    serves = device == "cpu" and dtype in ("float32", "float64") and algorithm != "reference"
    if not serves or not choosing.serves(geometry):
        return None
    return NumpyConvolution(geometry, dtype, algorithm)


def _phases(
    geometry: ConvGeometry, dtype: np.dtype[np.generic], algorithm: str
) -> list[tuple[tuple[slice, ...], tuple[slice, ...], Correlation | None, str]]:
    """Divide the input positions by their remainder: place, filter elements, windows, algorithm."""
    w = geometry.windows
    lows = tuple(lo for lo, _ in w.padding)
    found: list[tuple[tuple[slice, ...], tuple[slice, ...], Correlation | None, str]] = []
    for phase in product(*map(range, w.stride)):
        first = tuple((a + lo) % s for a, lo, s in zip(phase, lows, w.stride, strict=True))
        count = tuple(max(0, -(-(k - f) // s)) for k, f, s in zip(w.kernel, first, w.stride, strict=True))
        out_size = tuple(max(0, -(-(n - a) // s)) for n, a, s in zip(w.in_size, phase, w.stride, strict=True))
        where = (slice(None), *(slice(a, None, s) for a, s in zip(phase, w.stride, strict=True)))
        if not all(out_size):
            continue
        if not all(count):
            found.append((where, (), None, ""))
            continue
        taps = tuple(
            slice(f + s * (m - 1), f - 1 if f else None, -s)
            for f, m, s in zip(first, count, w.stride, strict=True)
        )
        before = tuple(
            d * (m - 1) - (a + lo - f) // s
            for d, m, a, lo, f, s in zip(w.dilation, count, phase, lows, first, w.stride, strict=True)
        )
        at = Correlation(w.out_size, out_size, count, (1,) * w.ndim, w.dilation, before)
        turned = (geometry.in_channels, geometry.out_channels // geometry.groups, *count)
        name = choosing.choose(turned, geometry.groups, at, geometry.batch, dtype, algorithm)
        found.append((where, (slice(None), slice(None), *taps), at, name))
    return found


def _correlate(
    name: str, x: Array, weight: Array, groups: int, at: Correlation, y: Array, bias: Array | None
) -> list[direct.Job]:
    """Correlate channels-last `x` with `weight` (O, C/groups, *kernel) into `y`, by the algorithm `name`.

    What is left to do is returned, so that the jobs of several correlations share the threads.
    """
    if name == "winograd":
        winograd.correlate(x, weight, at, y, bias)
    elif name == "planar":
        for o, c in _groups(groups, weight.shape[0], x.shape[-1]):
            planar.correlate(x[..., c], weight[o], at, y[..., o], None if bias is None else bias[o])
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
    if algorithm == "adding" or (algorithm == "planar" and shape[1] < planar.FEW_OUTPUTS):
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
    """Return the output and the input channels of each group."""
    o, c = outer // groups, inner // groups
    return [(slice(i * o, (i + 1) * o), slice(i * c, (i + 1) * c)) for i in range(groups)]


def _last(x: Array) -> Array:
    return np.moveaxis(x, 1, -1)


def _first(x: Array) -> Array:
    return np.moveaxis(x, -1, 1)


def _by_windows_of_outputs(g: Array, x: Array, at: Correlation) -> Array:
    found = _reverse(planar.filter_gradient(x, g, at.back()))
    # An infinity may have met the zeros around `g`, of which the definition has none.
    return found if np.isfinite(found).all() else planar.filter_gradient(g, x, at)


# Of one group: (N, *out_size, O), (N, *in_size, C) and where the windows lie to (O, C, *kernel).
_FILTER_GRADIENTS: dict[str, Callable[[Array, Array, Correlation], Array]] = {
    "planar": planar.filter_gradient,
    "adding": _by_windows_of_outputs,
}
