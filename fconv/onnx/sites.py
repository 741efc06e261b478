"""A layer at its place in a network, as the functions that write layers see it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from string import ascii_lowercase
from typing import Any

import numpy as np

from fconv.arrays import Array, Shape
from fconv.layer import Layer
from fconv.networks.reading import Names, UnfitError


class Site:
    """One use of a layer, for which nodes are written.

    Attributes
    ----------
    layer : Layer
        The layer; `options` are its options.
    sources : tuple of str
        Values that it takes.
    shapes : tuple of tuple of int
        Their shapes.
    out_shape : tuple of int
        Shape of what it gives.
    dtype : numpy.dtype
        Type of the network's numbers.
    nodes, constants : list
        What was written.
    any_batch : bool
        Whether what was written serves a batch of any size.
    """

    def __init__(
        self,
        onnx: Any,
        names: Names,
        name: str,
        layer: Layer,
        sources: tuple[str, ...],
        shapes: tuple[Shape, ...],
        out_shape: Shape,
        params: Mapping[str, tuple[str, Array]],
        dtype: np.dtype,
    ) -> None:
        self._onnx, self._names, self._params = onnx, names, params
        self.name, self.layer, self.sources = name, layer, sources
        self.shapes, self.out_shape, self.dtype = shapes, out_shape, dtype
        self.options = layer.options
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.any_batch = True

    @property
    def x(self) -> str:
        """The value that it takes."""
        return self.sources[0]

    @property
    def shape(self) -> Shape:
        """Its shape."""
        return self.shapes[0]

    @property
    def kind(self) -> int:
        """The number of the network's type in ONNX."""
        return int(self._onnx.helper.np_dtype_to_tensor_dtype(self.dtype))

    def node(self, op: str, *inputs: str, count: Any = 1, **attributes: Any) -> str:
        """Write a node and name its first output; others are named after it, ``.1`` and so on."""
        name = self._names.new(f"{self.name}.{op}")
        outputs = [name, *(self._names.new(f"{name}.{i}") for i in range(1, count))]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(self._onnx.helper.make_node(op, list(inputs), outputs, name=name, **given))
        return name

    def finish(self, value: str) -> str:
        """Call what the layer gives by the layer's name, where a node of its own computes it."""
        for node in self.nodes:
            if node.output[0] == value:
                node.name = node.output[0] = self._names.new(self.name)
                return str(node.name)
        return value

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Write numbers, in the network's type unless another is given.

        A constant of the network's dtype is written as a node Constant, since an initializer is read as a
        parameter.
        """
        array = np.asarray(value, self.dtype if dtype is None else dtype)
        if dtype is None:
            return self.node("Constant", value=self.tensor(array))
        name = self._names.new(f"{self.name}.constant")
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def tensor(self, value: Any) -> Any:
        """Return numbers as what an attribute holds, in the network's type."""
        return self._onnx.numpy_helper.from_array(np.asarray(value, self.dtype))

    def integers(self, *values: int) -> str:
        """Write a list of integers."""
        return self.constant(values, np.int64)

    def along(self, x: str, axis: int, matrix: Array) -> str:
        """Write a product of a matrix (out, size) with an axis of a value that has the input's axes."""
        held = ascii_lowercase[: len(self.shape)]
        if matrix.shape[0] == matrix.shape[1] and (matrix == np.eye(len(matrix))).all():
            return x
        after = held.replace(held[axis], "z")
        return self.node("Einsum", x, self.constant(matrix), equation=f"{held},z{held[axis]}->{after}")

    def has(self, leaf: str) -> bool:
        """Return whether the layer has a parameter."""
        return leaf in self._params

    def parameter(self, leaf: str, shape: Shape | None = None) -> str:
        """Name the initializer that holds a parameter."""
        if leaf not in self._params:
            raise UnfitError(f"expected a parameter {leaf}")
        name, array = self._params[leaf]
        if shape is not None and array.shape != shape:
            raise UnfitError(f"expected a parameter {leaf} of shape {shape}, got {array.shape}")
        return name

    def parameters(self, *leaves: str) -> list[str]:
        """Name the initializers of those parameters that the layer has."""
        return [self.parameter(leaf) for leaf in leaves if self.has(leaf)]

    def reshaped(self, x: str, *sizes: int) -> str:
        """Write a change of shape that keeps the batch axis."""
        if 0 in sizes:
            raise UnfitError("a shape with an axis of no elements has no operator")
        return self.node("Reshape", x, self.integers(0, *sizes))

    def batched(self, ndim: int) -> None:
        """Require the input to have a batch axis, which a layer may do without."""
        if len(self.shape) != ndim + 2:
            raise UnfitError(f"expected an input (N, C, ...) of {ndim + 2} axes, got shape {self.shape}")

    def count(self, *axes: int) -> int:
        """Count the elements over some axes of the input."""
        return prod(self.shape[axis] for axis in axes)
