"""Pooling to a given size."""

from __future__ import annotations

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.pooling_adaptive import OutputSize, adaptive_size, check_global
from fconv.functional.protocols import Differentiable
from fconv.geometry import AMPLE
from fconv.layer import Layer
from fconv.layers.from_function import from_function, frozen

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "global_avg_pool",
    "global_max_pool",
]


def _adaptive(function: Differentiable[...], ndim: int, output_size: OutputSize) -> Layer:
    name, output_size = function.__name__, frozen(output_size)
    adaptive_size(name, AMPLE[:ndim], output_size)

    def out_shape(shape: Shape) -> Shape:
        return (*shape[:2], *adaptive_size(name, shape[2:], output_size))

    return from_function(function, call={"output_size": output_size}, out_shape=out_shape, ndim=ndim)


@constructor
def adaptive_avg_pool1d(output_size: OutputSize) -> Layer:
    """Mean over bins of one spatial axis; see `fconv.functional.adaptive_avg_pool1d`."""
    return _adaptive(F.adaptive_avg_pool1d, 1, output_size)


@constructor
def adaptive_avg_pool2d(output_size: OutputSize) -> Layer:
    """Mean over bins of two spatial axes; see `fconv.functional.adaptive_avg_pool2d`.

    Examples
    --------
    >>> adaptive_avg_pool2d((3, None)).out_shape((8, 3, 7, 7))
    (8, 3, 3, 7)
    """
    return _adaptive(F.adaptive_avg_pool2d, 2, output_size)


@constructor
def adaptive_avg_pool3d(output_size: OutputSize) -> Layer:
    """Mean over bins of three spatial axes; see `fconv.functional.adaptive_avg_pool3d`."""
    return _adaptive(F.adaptive_avg_pool3d, 3, output_size)


@constructor
def adaptive_max_pool1d(output_size: OutputSize) -> Layer:
    """Maximum over bins of one spatial axis; see `fconv.functional.adaptive_max_pool1d`."""
    return _adaptive(F.adaptive_max_pool1d, 1, output_size)


@constructor
def adaptive_max_pool2d(output_size: OutputSize) -> Layer:
    """Maximum over bins of two spatial axes; see `fconv.functional.adaptive_max_pool2d`."""
    return _adaptive(F.adaptive_max_pool2d, 2, output_size)


@constructor
def adaptive_max_pool3d(output_size: OutputSize) -> Layer:
    """Maximum over bins of three spatial axes; see `fconv.functional.adaptive_max_pool3d`."""
    return _adaptive(F.adaptive_max_pool3d, 3, output_size)


def _global(function: Differentiable[...]) -> Layer:
    return from_function(
        function, out_shape=lambda shape: (*shape[:2], *check_global(function.__name__, shape))
    )


@constructor
def global_avg_pool() -> Layer:
    """Mean over all spatial axes; see `fconv.functional.global_avg_pool`.

    Examples
    --------
    >>> global_avg_pool().out_shape((8, 512, 7, 7))
    (8, 512, 1, 1)
    """
    return _global(F.global_avg_pool)


@constructor
def global_max_pool() -> Layer:
    """Maximum over all spatial axes; see `fconv.functional.global_max_pool`."""
    return _global(F.global_max_pool)
