"""The place where a convolution chooses how it is computed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fconv.arrays import Array, Shape, narrowed, widened, xp_of
from fconv.conv import choosing, chunks, cpu, gpu
from fconv.conv.geometry import ConvGeometry, Padding, Size, conv_geometry


def algorithm_for(
    x_shape: Shape,
    weight_shape: Shape,
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    dtype: Any = np.float32,
) -> str:
    """Name the algorithm that a convolution of NumPy arrays takes by itself.

    Parameters
    ----------
    x_shape, weight_shape : tuple of int
        ``(N, C, *spatial)`` and ``(O, C/groups, *kernel)``.
    stride, padding, dilation, groups
        As for `fconv.functional.conv2d`.
    dtype : dtype
        Of the arrays.

    Returns
    -------
    str
        "direct", "winograd", "depthwise" or "einsum".

    Raises
    ------
    ValueError, TypeError
        The shapes do not fit each other.

    Examples
    --------
    >>> algorithm_for((8, 64, 56, 56), (64, 64, 3, 3), padding=1)
    'winograd'
    >>> algorithm_for((8, 64, 56, 56), (64, 64, 3, 3), padding=1, stride=2)
    'direct'
    """
    ndim = len(weight_shape) - 2
    geometry = conv_geometry(
        "algorithm_for", ndim, tuple(x_shape), tuple(weight_shape), None, stride, padding, dilation, groups
    )
    kind = widened(np.empty(0, dtype)).dtype
    return choosing.chosen(geometry, kind) if choosing.serves(kind, geometry) else "einsum"


def _on_cpu(a: Array, b: Array, geometry: ConvGeometry, algorithm: str) -> bool:
    if algorithm == "einsum" or not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return False
    return a.dtype == b.dtype and choosing.serves(a.dtype, geometry)


def _elsewhere(a: Array, b: Array, geometry: ConvGeometry, algorithm: str) -> Any:
    """Give the module whose functions compute what the CPU's do not."""
    return gpu if algorithm != "einsum" and gpu.serves(a, b, geometry) else chunks


def _widening(compute: Callable[..., Array]) -> Callable[..., Array]:
    """Let a function of this module compute float16 in float32, in which its sums are made."""

    @functools.wraps(compute)
    def run(a: Array, b: Array, *rest: Any) -> Array:
        if a.dtype != np.float16:
            return compute(a, b, *rest)
        wide = (widened(v) if hasattr(v, "dtype") else v for v in (a, b, *rest))
        return narrowed(compute(*wide), a.dtype)

    return run


@_widening
def convolve(
    x: Array, weight: Array, geometry: ConvGeometry, bias: Array | None = None, algorithm: str = "auto"
) -> Array:
    """Give the output, (N, O, *out_size)."""
    if _on_cpu(x, weight, geometry, algorithm):
        return cpu.convolve(x, weight, geometry, bias, algorithm)
    if not (x.size and weight.size):
        y = xp_of(x).zeros(geometry.out_shape, x.dtype)
    else:
        y = _elsewhere(x, weight, geometry, algorithm).convolve(x, weight, geometry)
    return y if bias is None else y + bias.reshape(-1, *(1,) * geometry.windows.ndim)


@_widening
def input_gradient(g: Array, weight: Array, geometry: ConvGeometry, algorithm: str = "auto") -> Array:
    """Give the gradient of the input, (N, C, *in_size)."""
    if _on_cpu(g, weight, geometry, algorithm):
        return cpu.input_gradient(g, weight, geometry, algorithm)
    if not (g.size and weight.size):
        return xp_of(g).zeros(geometry.in_shape, g.dtype)
    return _elsewhere(g, weight, geometry, algorithm).input_gradient(g, weight, geometry)


@_widening
def weight_gradient(
    g: Array, x: Array, geometry: ConvGeometry, algorithm: str = "auto", like: Array | None = None
) -> Array:
    """Give the gradient of the weight, (O, C/groups, *kernel); in the memory order of `like`, if it can."""
    if _on_cpu(g, x, geometry, algorithm):
        return cpu.weight_gradient(g, x, geometry, algorithm, like)
    if not (g.size and x.size):
        return xp_of(x).zeros(geometry.weight_shape, x.dtype)
    return _elsewhere(g, x, geometry, algorithm).weight_gradient(g, x, geometry)


def check_algorithm(name: str, algorithm: str, dtype: Any, geometry: ConvGeometry) -> None:
    """Require an algorithm that there is and that can serve the shape.

    Raises
    ------
    ValueError
        Otherwise.
    """
    if algorithm in ("auto", "einsum"):
        return
    if algorithm not in choosing.ALGORITHMS:
        raise ValueError(
            f"{name}: expected an algorithm of {', '.join(choosing.ALGORITHMS)}, got {algorithm!r}"
        )
    if problem := choosing.problem(algorithm, widened(np.empty(0, dtype)).dtype, geometry):
        raise ValueError(f'{name}: algorithm "{algorithm}" {problem}')
