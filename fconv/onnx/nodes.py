"""A node of an ONNX graph, as the functions that read operators see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.files.formats.claims import array_bytes
from fconv.layer import Layer
from fconv.networks.reading import UnfitError, make
from fconv.onnx.building import Building
from fconv.onnx.values import Value, common, fixed

KINDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}
"""Fields of an attribute by the number of its type."""


def plain(number: float) -> float:
    """Return a float32 as the shortest number that rounds to it: 0.1, not 0.10000000149."""
    return float(str(np.float32(number)))


class Node:
    """One use of an operator of `opset` in a graph; an input that is left out is None."""

    def __init__(self, proto: Any, opset: int, inputs: Sequence[Value | None], graph: Building) -> None:
        self.proto, self.opset, self.inputs = proto, opset, list(inputs)
        self.op: str = proto.op_type
        self.outputs: list[str] = list(proto.output)
        self.graph = graph
        self.attributes = {a.name: a for a in proto.attribute}

    # Attributes, each of the kind that the operator's definition says.

    def _attribute(self, name: str, kind: str, default: Any) -> Any:
        found = self.attributes.get(name)
        if found is None:
            return default
        if KINDS.get(found.type) != kind:
            raise UnfitError(f"its attribute {name} is not of the kind {kind!r}")
        return getattr(found, kind)

    def integer(self, name: str, default: int) -> int:
        """Attribute that is an integer."""
        return int(self._attribute(name, "i", default))

    def flag(self, name: str, default: bool = False) -> bool:
        """Attribute that is 0 or 1."""
        return bool(self.integer(name, int(default)))

    def number(self, name: str, default: float) -> float:
        """Attribute that is a float32."""
        found = self._attribute(name, "f", None)
        return default if found is None else plain(found)

    def text(self, name: str, default: str) -> str:
        """Attribute that is a string."""
        found = self._attribute(name, "s", None)
        return default if found is None else found.decode(errors="replace")

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """Attribute that is a list of integers."""
        found = self._attribute(name, "ints", default)
        return None if found is None else tuple(int(i) for i in found)

    # Inputs.

    def has(self, index: int) -> bool:
        """Return whether an input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int = 0) -> Value:
        """Return an input that must be there."""
        if not self.has(index):
            raise UnfitError(f"its input {index} is missing")
        found = self.inputs[index]
        assert found is not None
        return found

    def constant(self, index: int) -> Array:
        """Return an input that must not depend on the network's."""
        return fixed(self.value(index), f"its input {index}")

    def stretched(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Stretch a constant, within the memory that the file may take."""
        self.graph.budget.spend(array_bytes(shape, x.dtype.itemsize))
        return np.broadcast_to(x, shape).copy()

    def scalar(self, index: int) -> float:
        """Return a constant input of one element."""
        found = self.constant(index)
        if found.size != 1:
            raise UnfitError(f"expected one number as input {index}, got shape {found.shape}")
        return float(found.reshape(-1)[0])

    def whole(self, index: int) -> tuple[int, ...]:
        """Return a constant input that is a list of integers."""
        found = self.constant(index)
        if found.dtype.kind not in "iu" or found.ndim > 1:
            raise UnfitError(f"expected integers as input {index}, got {found.dtype} {found.shape}")
        return tuple(found.reshape(-1).tolist())

    def listed(self, attribute: str, index: int, since: int) -> tuple[int, ...] | None:
        """Return integers that are an attribute before some opset and an input from it on."""
        if self.opset < since:
            return self.integers(attribute)
        return self.whole(index) if self.has(index) else None

    def channelled(self, index: int, count: int) -> Array:
        """Return a constant input with one element a channel."""
        found = self.constant(index)
        if found.shape != (count,):
            raise UnfitError(
                f"expected input {index} ({self.value(index).name!r}) of shape ({count},), got {found.shape}"
            )
        return found

    # What becomes of it.

    def layer(
        self, layer: Layer, *values: Value, params: Mapping[str, tuple[int, Array]] | None = None
    ) -> Value:
        """Append the layer that the node becomes.

        `params` gives each parameter with the index of the input that it comes from.
        """
        held = {leaf: array for leaf, (_, array) in (params or {}).items()}
        origins = {leaf: self.value(i).origin for leaf, (i, _) in (params or {}).items() if i >= 0}
        return self.graph.emit(self.proto, layer, values, held, origins, False)

    def literal(self, array: Array) -> Value:
        """Return a constant of ours, which is no parameter."""
        return self.graph.literal(array)

    def is_literal(self, index: int) -> bool:
        """Return whether an input is a constant that is no parameter."""
        return self.graph.is_literal(self.value(index).name)

    def mask_dtype(self, index: int) -> np.dtype:
        """Return the type of the numbers 1 and 0 that a computed boolean input is made of."""
        return self.graph.dtypes[self.value(index).node or ""]

    def same(self, value: Value) -> Value:
        """Append the layer that changes nothing."""
        return self.layer(make("identity"), value)

    def step(self, layer: Layer, *values: Value) -> Value:
        """Append a layer before the one that the node becomes."""
        return self.graph.emit(self.proto, layer, values, {}, {}, True)

    def shape_of(self, what: str, rule: Callable[[tuple[int, ...]], Any], value: Value) -> Any:
        """Work something out from a shape, which must come out the same in every trial."""
        return common(what, [rule(shape) for shape in value.shapes])
