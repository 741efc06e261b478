"""The place where a convolution chooses how it is computed.

An engine is a module (or any object) with the three functions of `fconv.conv.definition`:
``convolve(x, weight, geometry)``, ``input_gradient(g, weight, geometry)`` and
``weight_gradient(g, x, geometry)``. Callers ask `engine_for` and know nothing of the choice.
"""

from __future__ import annotations

from typing import Protocol, cast

from fconv.arrays import Array
from fconv.conv import definition
from fconv.conv.geometry import ConvGeometry


class Engine(Protocol):
    """What computes a convolution and its two gradients."""

    def convolve(self, x: Array, weight: Array, geometry: ConvGeometry) -> Array:
        """Give the output, (N, O, *out_size)."""
        ...

    def input_gradient(self, g: Array, weight: Array, geometry: ConvGeometry) -> Array:
        """Give the gradient of the input, (N, C, *in_size)."""
        ...

    def weight_gradient(self, g: Array, x: Array, geometry: ConvGeometry) -> Array:
        """Give the gradient of the weight, (O, C/groups, *kernel)."""
        ...


def engine_for(geometry: ConvGeometry) -> Engine:
    """Choose the engine for a convolution: so far the definition serves every shape."""
    return cast(Engine, definition)
