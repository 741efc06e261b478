"""Convolution on the GPU: windows laid out by a kernel of our own, multiplied by cuBLAS.

Depthwise convolutions, whose products would be of one row, have kernels that need no layout. The
batch goes in runs of samples, so that the windows stay under a limit of memory.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array, xp_of
from fconv.engine.cuda.kernels import SOURCE
from fconv.engine.cuda.launch import TYPES, start
from fconv.engine.runs import part, runs_of_samples
from fconv.geometry import ConvGeometry

_MOST_NUMBERS = 1 << 31  # of an axis or a channel's filter, which kernels count in 32 bits


class CudaConvolution:
    """A convolution on the GPU, planned."""

    engine, algorithm = "cuda", "direct"

    def __init__(self, geometry: ConvGeometry) -> None:
        self._geometry = geometry

    def convolve(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """Return the output, (N, O, *out_size)."""
        y = convolve(x, weight, self._geometry)
        return y if bias is None else y + bias.reshape(-1, *(1,) * self._geometry.windows.ndim)

    def input_gradient(self, g: Array, weight: Array) -> Array:
        """Return the gradient of the input, (N, C, *in_size)."""
        return input_gradient(g, weight, self._geometry)

    def weight_gradient(self, g: Array, x: Array, like: Array | None = None) -> Array:
        """Return the gradient of the weight, (O, C/groups, *kernel)."""
        return weight_gradient(g, x, self._geometry)


def offer(geometry: ConvGeometry, dtype: str, device: str, algorithm: str) -> CudaConvolution | None:
    """Offer kernels for float32 and float64 on the GPU, unless the definition is asked for."""
    sizes = (*geometry.in_shape, *geometry.out_shape, *geometry.weight_shape)
    serves = device == "cuda" and np.dtype(dtype) in TYPES and max(sizes) < _MOST_NUMBERS
    return CudaConvolution(geometry) if serves and algorithm != "reference" else None


def convolve(x: Array, weight: Array, geometry: ConvGeometry) -> Array:
    """Convolve `x` (N, C, *in_size) with `weight` (O, C/groups, *kernel) to (N, O, *out_size)."""
    xp = xp_of(x)
    x, weight = xp.ascontiguousarray(x), xp.ascontiguousarray(weight)
    y = xp.empty(geometry.out_shape, x.dtype)
    if _is_depthwise(geometry):
        _start("depthwise", y, x, weight, geometry=geometry)
        return y
    filters = _grouped(weight, geometry)
    for run in runs_of_samples(geometry, x):
        some = part(geometry, run)
        product = filters @ _columns(x[run], some)  # (groups, O/groups, samples * positions)
        y[run] = product.reshape(geometry.out_channels, some.batch, *geometry.windows.out_size).swapaxes(0, 1)
    return y


def input_gradient(g: Array, weight: Array, geometry: ConvGeometry) -> Array:
    """Take the gradient `g` (N, O, *out_size) of the output to that of the input, (N, C, *in_size)."""
    xp = xp_of(g)
    g, weight = xp.ascontiguousarray(g), xp.ascontiguousarray(weight)
    dx = xp.empty(geometry.in_shape, g.dtype)
    if _is_depthwise(geometry):
        _start("depthwise_input", dx, g, weight, geometry=geometry)
        return dx
    filters = _grouped(weight, geometry).swapaxes(1, 2)
    for run in runs_of_samples(geometry, g):
        some = part(geometry, run)
        columns = xp.ascontiguousarray(filters @ _outer(g[run], some))
        _start("col2im", dx[run], columns, geometry=some)
    return dx


def weight_gradient(g: Array, x: Array, geometry: ConvGeometry) -> Array:
    """Take the gradient `g` (N, O, *out_size) of the output to that of the weight."""
    xp = xp_of(x)
    g, x = xp.ascontiguousarray(g), xp.ascontiguousarray(x)
    if _is_depthwise(geometry):
        each = xp.empty((geometry.batch, *geometry.weight_shape), x.dtype)
        _start("depthwise_weight", each, g, x, geometry=geometry)
        return each.sum(axis=0)
    total = None
    for run in runs_of_samples(geometry, x):
        some = part(geometry, run)
        product = _outer(g[run], some) @ _columns(x[run], some).swapaxes(1, 2)
        total = product if total is None else total + product
    return total.reshape(geometry.weight_shape)  # type: ignore[union-attr]  # there is at least one run


def _columns(x: Array, geometry: ConvGeometry) -> Array:
    """Lay the windows out: (groups, C/groups * prod(kernel), N * prod(out_size))."""
    windows, groups = geometry.windows, geometry.groups
    positions = geometry.batch * prod(windows.out_size)
    columns = xp_of(x).empty((geometry.in_channels * prod(windows.kernel), positions), x.dtype)
    _start("im2col", columns, x, geometry=geometry)
    return columns.reshape(groups, -1, positions)


def _outer(g: Array, geometry: ConvGeometry) -> Array:
    """Return a gradient of the output as (groups, O/groups, N * prod(out_size))."""
    return g.swapaxes(0, 1).reshape(geometry.groups, geometry.out_channels // geometry.groups, -1)


def _grouped(weight: Array, geometry: ConvGeometry) -> Array:
    return weight.reshape(geometry.groups, geometry.out_channels // geometry.groups, -1)


def _is_depthwise(geometry: ConvGeometry) -> bool:
    return geometry.groups == geometry.in_channels > 1


def _start(name: str, out: Array, *given: Array, geometry: ConvGeometry) -> None:
    """Run a kernel that makes `out` of what is given."""
    multiplier = (geometry.out_channels // geometry.in_channels,) if name.startswith("depthwise") else ()
    numbers = (geometry.batch, *multiplier, geometry.in_channels)
    start(SOURCE, name, *given, out, count=prod(out.shape), numbers=numbers, windows=geometry.windows)
