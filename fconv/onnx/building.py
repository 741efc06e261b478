"""The graph of ours that a file becomes, while its nodes are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.files.formats.claims import Budget
from fconv.layer import Layer, Params
from fconv.layers.calls import constant as constant_layer
from fconv.layers.calls import parameter
from fconv.networks.reading import UnfitError
from fconv.onnx.naming import Namer
from fconv.onnx.ordering import taken_by
from fconv.onnx.tensors import BFLOAT16, array_of
from fconv.onnx.values import TRIALS, Value, constant, fixed

_LAYER = 11_000  # bytes that a layer without parameters takes, about


class Building:
    """The values that were read, and the layers that compute them.

    Attributes
    ----------
    values : dict
        Values by the file's names.
    budget : Budget
        Memory that the file may take.
    ours : bool
        Whether `to_onnx` wrote the file, so that its initializers are the parameters, and no others.
    bfloat16 : bool
        Whether the file's inputs are bfloat16.
    dtypes : dict
        Type of what each node of ours gives.
    """

    def __init__(self, tensors: dict[str, Any], inputs: Sequence[str], folder: str, budget: Budget) -> None:
        self.tensors, self.folder, self.budget = tensors, folder, budget
        self.ours = self.bfloat16 = False
        self.values: dict[str, Value] = {}
        self.counts: dict[str, int] = {}
        self.taking: dict[str, list[Any]] = {}
        self.namer = Namer(inputs, tensors)
        self.built: dict[str, tuple[Any, ...]] = {}
        self.params: dict[str, Params] = {}
        self.uses: dict[Any, str] = {}
        self.literals: set[str] = set()
        self.dtypes: dict[str, Any] = {}

    def tensor(self, proto: Any) -> Array:
        """Read a tensor that the file holds."""
        return array_of(proto, self.folder, self.budget)

    def lookup(self, name: str) -> Value | None:
        """Return a value that was read before; None for the empty name."""
        if not name:
            return None
        if name not in self.values and name in self.tensors:
            found, held = self.tensors[name], constant(name, self.tensor(self.tensors[name]), origin=name)
            self.values[name] = replace(held, dtype=BFLOAT16) if found.data_type == 16 else held
        if name not in self.values:
            raise UnfitError(
                f"its input {name!r} is given by nothing before it: it is missing, or in a cycle"
            )
        return self.values[name]

    def enter(self, nodes: Sequence[Any], ends: Sequence[str] = ()) -> None:
        """Note which nodes take which values, and the names `ends` as taken by something."""
        for proto in nodes:
            for name in taken_by(proto):
                self.taking.setdefault(name, []).append(proto)
        for name in ends:
            self.taking.setdefault(name, []).append(None)

    def literal(self, array: Array) -> Value:
        """Return a constant of ours, which is no parameter."""
        self.budget.spend(3 * array.nbytes)  # a layer keeps copies of its options
        name = self.namer.fresh("constant")
        self.literals.add(name)
        return constant(name, array)

    def is_literal(self, name: str) -> bool:
        """Return whether a value is a constant that is no parameter."""
        return name in self.literals

    def is_initializer(self, name: str) -> bool:
        """Return whether a name is an initializer's."""
        return name in self.tensors

    def followers(self, name: str) -> list[Any]:
        """List the nodes that take a value; None stands for the graph's output."""
        return self.taking.get(name, [])

    def emit(
        self,
        proto: Any,
        layer: Layer,
        values: Sequence[Value],
        held: dict[str, Array],
        origins: Mapping[str, str | None],
        helper: bool,
    ) -> Value:
        """Append a layer that computes a node of the file, or with `helper` one before it.

        `held` has the layer's parameters, and `origins` the initializers that they come from.
        """
        self.budget.spend(_LAYER)
        beside = next((value.node for value in values if value.node and value.dtype.kind == "f"), None)
        arriving = [self._computed(value, beside) for value in values]
        numbers = [value for value in arriving if layer.name != "embedding" or value.dtype.kind not in "iu"]
        for value in numbers:
            if value.dtype.kind != "f":
                raise UnfitError(
                    f"its input {value.name!r} is {value.dtype}; layers take floating-point numbers"
                )
        shapes = []
        for i in range(TRIALS):
            each = tuple(value.shapes[i] for value in arriving)
            shapes.append(tuple(layer.out_shape(each[0] if len(each) == 1 else each)))
        for leaf, array in held.items():
            if numbers and array.dtype != numbers[0].dtype and leaf != "num_batches_tracked":
                raise UnfitError(f"its {leaf} is {array.dtype} and its input {numbers[0].dtype}")
        sources = [value.node for value in arriving]
        name, owner = self._placed(proto, layer, origins, helper)
        if "num_batches_tracked" in held and owner is None:
            count = self.counts.get(f"{name}.num_batches_tracked", 0)
            held["num_batches_tracked"] = np.asarray(count, np.int64)
        self.built[name] = (layer if owner is None else owner, *sources)
        if owner is None:
            self.params[name] = held or ()
        dtype = self.dtypes[name] = next((a.dtype for a in held.values()), arriving[0].dtype)
        return Value(proto.output[0], tuple(shapes), dtype, node=name)

    def _placed(
        self, proto: Any, layer: Layer, origins: Mapping[str, str | None], helper: bool
    ) -> tuple[str, str | None]:
        """Name a node of ours, and find the one before it whose layer and parameters it uses again."""
        name = self.namer.name(proto, layer.name, origins, helper)
        if not origins or None in origins.values():
            return name, None
        use = (repr(layer), tuple(sorted(origins.items())))
        owner = self.uses.setdefault(use, name)
        return name, None if owner == name else owner

    def _computed(self, value: Value, beside: str | None) -> Value:
        """Return a value that layers can take: an initializer becomes a parameter.

        What a node Constant holds is no parameter; it comes in the type of a value `beside` it.
        """
        if value.node is not None:
            return value
        array = fixed(value, "its input")
        if array.dtype.kind != "f":
            raise UnfitError(f"its input {value.name!r} is {array.dtype}; layers take floating-point numbers")
        use = ("parameter", value.name)
        if value.name in self.literals and beside is not None and use not in self.uses:
            name = self.uses[use] = self.namer.fresh(value.name)
            self.built[name], self.params[name] = (constant_layer(array), beside), ()
        if use not in self.uses:
            name = self.uses[use] = self.namer.fresh(value.origin or value.name)
            self.built[name], self.params[name] = (parameter(*array.shape),), array
        return Value(value.name, value.shapes, value.dtype, node=self.uses[use])
