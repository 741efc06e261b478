"""Values along the edges of an ONNX graph while it is read.

Sizes that a file leaves open, the batch axis above all, are tried with two numbers each: a graph
is read once for both, and every value has its shape under either. What comes out the same is a
constant; what differs follows the input. So chains that compute a shape from the input's shape
are followed with plain arithmetic and need no symbolic one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fconv.arrays import Array, Shape
from fconv.networks.reading import UnfitError

TRIALS = 2


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of an ONNX graph.

    Attributes
    ----------
    name : str
        What the file calls it.
    shapes : tuple of tuple of int
        Its shape in each trial.
    dtype : numpy.dtype
        Type of its elements.
    data : tuple of array, optional
        Its elements in each trial, where they do not depend on those of the network's input.
    origin : str, optional
        The initializer that it is, or that it was moved or cast from.
    node : str, optional
        The node of our graph, or the input, that computes it.
    """

    name: str
    shapes: tuple[Shape, ...]
    dtype: np.dtype[Any]
    data: tuple[Array, ...] | None = None
    origin: str | None = None
    node: str | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shapes[0])

    def sizes(self, axis: int) -> tuple[int, ...]:
        """Size along an axis in each trial."""
        return tuple(shape[axis] for shape in self.shapes)

    def axis(self, axis: int) -> int:
        """Count an axis from the front."""
        if not -self.rank <= axis < max(self.rank, 1):
            raise UnfitError(f"its input {self.name!r} of {self.rank} axes has no axis {axis}")
        return axis % self.rank if self.rank else 0

    def size(self, axis: int) -> int:
        """Size along an axis, which must not depend on the input's."""
        sizes = self.sizes(axis)
        if len(set(sizes)) != 1:
            raise UnfitError(f"the size of axis {axis} of {self.name!r} is left open by the file")
        return sizes[0]


def constant(name: str, array: Array, origin: str | None = None) -> Value:
    """Return an array as a value."""
    return Value(name, (array.shape,) * TRIALS, array.dtype, (array,) * TRIALS, origin)


def common(what: str, answers: list[Any]) -> Any:
    """Return the answer of every trial where it is one and the same."""
    if any(answer != answers[0] for answer in answers):
        raise UnfitError(f"{what} depends on the size of the input")
    return answers[0]


def fixed(found: Value, what: str) -> Array:
    """Return the elements of a value that must not depend on the network's input."""
    if found.data is None:
        raise UnfitError(f"{what} ({found.name!r}) is computed; it has to be an initializer")
    first = found.data[0]
    if any(other is not first and not np.array_equal(other, first) for other in found.data):
        raise UnfitError(f"{what} ({found.name!r}) depends on the size of the input")
    return first
