"""Plans for convolutions: chosen once for a shape, from one ordered table of offers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from fconv.arrays import Array, Shape, library_of, narrowed, widened, xp_of
from fconv.engine import compiled, cpu, cuda, reference
from fconv.geometry import ConvGeometry, Padding, Size, conv_geometry

ALGORITHMS = ("auto", "direct", "winograd", "reference")


class Plan(Protocol):
    """A convolution whose shapes are known: all that they decide is decided.

    Attributes
    ----------
    engine, algorithm : str
        Who computes the forward pass, and how.
    """

    engine: str
    algorithm: str

    def convolve(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """Return the output, (N, O, *out_size)."""

    def input_gradient(self, g: Array, weight: Array) -> Array:
        """Return the gradient of the input, (N, C, *in_size)."""

    def weight_gradient(self, g: Array, x: Array, like: Array | None = None) -> Array:
        """Return the gradient of the weight, in the memory order of `like` where that costs nothing."""


class _Nothing:
    """The convolution of arrays without elements."""

    engine, algorithm = "numpy", "reference"

    def __init__(self, geometry: ConvGeometry) -> None:
        self._geometry = geometry

    def convolve(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        y = xp_of(x).zeros(self._geometry.out_shape, x.dtype)
        return y if bias is None else y + bias.reshape(-1, *(1,) * self._geometry.windows.ndim)

    def input_gradient(self, g: Array, weight: Array) -> Array:
        return xp_of(g).zeros(self._geometry.in_shape, g.dtype)

    def weight_gradient(self, g: Array, x: Array, like: Array | None = None) -> Array:
        return xp_of(x).zeros(self._geometry.weight_shape, x.dtype)


class _Half:
    """The convolution of float16, whose sums are made in float32."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self.engine, self.algorithm = plan, plan.engine, plan.algorithm

    def convolve(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        wide = None if bias is None else widened(bias)
        return narrowed(self._plan.convolve(widened(x), widened(weight), wide), x.dtype)

    def input_gradient(self, g: Array, weight: Array) -> Array:
        return narrowed(self._plan.input_gradient(widened(g), widened(weight)), g.dtype)

    def weight_gradient(self, g: Array, x: Array, like: Array | None = None) -> Array:
        wide = None if like is None else widened(like)
        return narrowed(self._plan.weight_gradient(widened(g), widened(x), wide), x.dtype)


def _nothing(geometry: ConvGeometry, dtype: str, device: str, algorithm: str) -> Plan | None:
    sizes = (*geometry.in_shape, *geometry.out_shape, *geometry.weight_shape)
    return None if all(sizes) else _Nothing(geometry)


def _half(geometry: ConvGeometry, dtype: str, device: str, algorithm: str) -> Plan | None:
    return _Half(plan(geometry, "float32", device, algorithm)) if dtype == "float16" else None


OFFERS: tuple[Callable[[ConvGeometry, str, str, str], Plan | None], ...] = (
    _nothing,
    _half,
    compiled.offer,
    cpu.offer,
    cuda.offer,
    reference.offer,
)
"""Who may compute a convolution: the first that returns a plan does."""


def plan(geometry: ConvGeometry, dtype: str, device: str = "cpu", algorithm: str = "auto") -> Plan:
    """Plan a convolution on "cpu" or "cuda"; the plans of some hundred shapes are kept.

    "auto" takes the fastest algorithm; one that does not exist, or cannot serve the shape, is a ValueError.
    """
    return _plan(geometry, dtype, device, algorithm, compiled.wished())


@lru_cache(maxsize=512)
def _plan(geometry: ConvGeometry, dtype: str, device: str, algorithm: str, jit: bool) -> Plan:
    check_algorithm("plan", algorithm, geometry)
    for offer in OFFERS:
        found = offer(geometry, dtype, device, algorithm)
        if found is not None:
            return found
    raise AssertionError("the definition serves everything")


def convolution(
    name: str,
    ndim: int,
    x: Array,
    weight: Array,
    bias_shape: Shape | None,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
    algorithm: str,
) -> tuple[ConvGeometry, Plan]:
    """Check a convolution's shapes and options as `fconv.geometry.conv_geometry` does, and plan it.

    `x` is ``(N, C, *spatial)`` and `weight` ``(O, C/groups, *kernel)``.
    """
    shapes = (name, ndim, x.shape, weight.shape, bias_shape)
    device = "cpu" if type(x) is np.ndarray else _device(x)
    options = (stride, padding, dilation, groups, algorithm, x.dtype, device, compiled.wished())
    try:
        return _convolution(*shapes, *options)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
    return _convolution.__wrapped__(*shapes, *options)


@lru_cache(maxsize=512)
def _convolution(
    name: str,
    ndim: int,
    x_shape: Shape,
    weight_shape: Shape,
    bias_shape: Shape | None,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
    algorithm: str,
    dtype: np.dtype[np.generic],
    device: str,
    jit: bool,
) -> tuple[ConvGeometry, Plan]:
    geometry = conv_geometry(name, ndim, x_shape, weight_shape, bias_shape, stride, padding, dilation, groups)
    check_algorithm(name, algorithm, geometry)
    return geometry, plan(geometry, dtype.name, device, algorithm)


def plan_of(x: Array, geometry: ConvGeometry, algorithm: str) -> Plan:
    """Plan a convolution of arrays like `x`."""
    return plan(geometry, x.dtype.name, _device(x), algorithm)


def _device(x: Array) -> str:
    return "cuda" if library_of(x) == "cupy" else "cpu"


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
    """Name the algorithm that a convolution of NumPy arrays takes by itself, and the engine that runs it.

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
        "direct", "winograd" or "reference", and in brackets "compiled" or "numpy".

    Raises
    ------
    ValueError, TypeError
        The shapes do not fit each other.

    Examples
    --------
    >>> algorithm_for((8, 64, 56, 56), (64, 64, 3, 3), padding=1).split()[0]
    'winograd'
    >>> algorithm_for((8, 64, 56, 56), (64, 64, 3, 3), padding=1, stride=2).split()[0]
    'direct'
    """
    ndim = len(weight_shape) - 2
    geometry = conv_geometry(
        "algorithm_for", ndim, tuple(x_shape), tuple(weight_shape), None, stride, padding, dilation, groups
    )
    found = plan(geometry, np.dtype(dtype).name)
    return f"{found.algorithm} ({found.engine})"


def check_algorithm(name: str, algorithm: str, geometry: ConvGeometry) -> None:
    """Require an algorithm that there is and that can serve the shape.

    Raises
    ------
    ValueError
        Otherwise.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"{name}: expected an algorithm of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    w = geometry.windows
    if algorithm == "winograd" and not geometry.is_3x3:
        raise ValueError(
            f'{name}: algorithm "winograd" needs a 3x3 kernel with stride 1, dilation 1 and one group, '
            f"got {w.kernel}, stride {w.stride}, dilation {w.dilation} and groups={geometry.groups}"
        )
