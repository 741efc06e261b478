"""Convolution as this library defines it: one einsum over a strided view of windows.

    y[n, o, i...] = sum over c, k... of x[n, c, i * stride + k * dilation - padding ...] * w[o, c, k...]

The same few lines serve NumPy and CuPy, any rank, stride, dilation and groups. It is the
reference for every faster path.
"""

from __future__ import annotations

from fconv.arrays import Array, in_c_order, xp_of
from fconv.engine.contraction import contract, contract_views
from fconv.engine.runs import by_runs, part, runs_of_samples
from fconv.engine.windows import pad, window_view, windows_adjoint
from fconv.geometry import ConvGeometry

_OUT, _KERNEL = "xyz", "ijk"


def _letters(geometry: ConvGeometry) -> tuple[str, str, str]:
    """Choose einsum letters: output positions, kernel positions, and g for groups where there are any."""
    n = geometry.windows.ndim
    return _OUT[:n], _KERNEL[:n], "g" if geometry.groups > 1 else ""


def _grouped(x: Array, geometry: ConvGeometry, axis: int) -> Array:
    """Divide a channel axis into (groups, channels of a group); one group needs no axis of its own."""
    if geometry.groups == 1:
        return x
    return x.reshape(*x.shape[:axis], geometry.groups, x.shape[axis] // geometry.groups, *x.shape[axis + 1 :])


def _windows(x: Array, geometry: ConvGeometry) -> Array:
    """View the windows of `x` without laying them out, in strides that follow from the shape of `x`."""
    padded = pad(in_c_order(x), geometry.windows.padding)
    return _grouped(window_view(padded, geometry.windows), geometry, 1)


def convolve(x: Array, weight: Array, geometry: ConvGeometry) -> Array:
    """Convolve `x` (N, C, *in_size) with `weight` (O, C/groups, *kernel) to (N, O, *out_size)."""
    out, kernel, g = _letters(geometry)
    columns = _windows(x, geometry)
    filters = _grouped(in_c_order(weight), geometry, 0)
    y = contract_views(f"n{g}c{out}{kernel},{g}oc{kernel}->n{g}o{out}", columns, filters)
    return y.reshape(geometry.out_shape) if g else y


def input_gradient(g: Array, weight: Array, geometry: ConvGeometry) -> Array:
    """Take the gradient `g` (N, O, *out_size) of the output to that of the input, (N, C, *in_size)."""
    out, kernel, group = _letters(geometry)
    outer, filters = _grouped(g, geometry, 1), _grouped(weight, geometry, 0)
    columns = contract(f"n{group}o{out},{group}oc{kernel}->n{group}c{out}{kernel}", outer, filters)
    if group:
        columns = columns.reshape(geometry.batch, geometry.in_channels, *columns.shape[3:])
    return windows_adjoint(columns, geometry.windows)


def weight_gradient(g: Array, x: Array, geometry: ConvGeometry) -> Array:
    """Take the gradient `g` (N, O, *out_size) of the output to that of the weight."""
    out, kernel, group = _letters(geometry)
    columns = _windows(x, geometry)
    outer = _grouped(in_c_order(g), geometry, 1)
    dw = contract_views(f"n{group}c{out}{kernel},n{group}o{out}->{group}oc{kernel}", columns, outer)
    return dw.reshape(geometry.weight_shape)


class Reference:
    """The definition as a plan, a run of samples at a time."""

    engine, algorithm = "numpy", "reference"

    def __init__(self, geometry: ConvGeometry) -> None:
        self._geometry = geometry

    def convolve(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """Return the output, (N, O, *out_size)."""
        y = by_runs(convolve, x, weight, self._geometry, self._geometry.out_shape)
        return y if bias is None else y + bias.reshape(-1, *(1,) * self._geometry.windows.ndim)

    def input_gradient(self, g: Array, weight: Array) -> Array:
        """Return the gradient of the input, (N, C, *in_size)."""
        return by_runs(input_gradient, g, weight, self._geometry, self._geometry.in_shape)

    def weight_gradient(self, g: Array, x: Array, like: Array | None = None) -> Array:
        """Return the gradient of the weight, (O, C/groups, *kernel)."""
        runs = runs_of_samples(self._geometry, x)
        if len(runs) < 2:
            return weight_gradient(g, x, self._geometry)
        total = xp_of(x).zeros(self._geometry.weight_shape, x.dtype)
        for run in runs:
            total += weight_gradient(g[run], x[run], part(self._geometry, run))
        return total


def offer(geometry: ConvGeometry, dtype: str, device: str, algorithm: str) -> Reference:
    """Offer the definition, which serves everything."""
    return Reference(geometry)
