"""Plans of calls: all that shapes and dtype decide, which a layer decides once for its later calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fconv.arrays import Array, Shape, native
from fconv.functional.derivatives import check_gradient


@dataclass(frozen=True)
class Planned:
    """A function and its gradients for arrays of known shapes, all NumPy's and all float32 or all float64.

    Attributes
    ----------
    name : str
        Of the function.
    shape : tuple of int
        Of the value.
    value : callable
        ``value(*arrays) -> y``, the arrays in the order of the function's arguments.
    pulls : mapping of str to callable
        By the name of an array: ``pull(g, *arrays)``, or ``pull(g, y)`` of the value, returns its gradient.
    by_value : bool
        The gradients take the value, and the arrays need not be kept.
    joint : callable, optional
        ``joint(g, of_x, *arrays)`` returns the gradients of all arrays, that of the first one only if `of_x`;
        or None where they are not to be had at once.
    """

    name: str
    shape: Shape
    value: Callable[..., Array]
    pulls: Mapping[str, Callable[..., Array]]
    by_value: bool = False
    joint: Callable[..., tuple[Array | None, ...] | None] | None = None

    def checked(self, g: Array, like: Array) -> Array:
        """Require that a gradient fits the value, and return it as the pulls take it."""
        return native(check_gradient(self.name, g, self.shape, np.empty(0, like.dtype)))
