"""Operators that stand for other nodes: branches, loops, and operators whose standard defines them by nodes.

Each is written out as plain nodes with names of their own, which are then read as if the file had them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fconv.arrays import Array
from fconv.networks.reading import UnfitError
from fconv.onnx.library import library
from fconv.onnx.nodes import Node
from fconv.onnx.values import Value

DEEPEST = 16
"""Maximum nesting depth of function definitions, branches and loops."""

MOST_TURNS = 4096
"""Maximum number of iterations of a loop that is unrolled."""


class Body(NamedTuple):
    """Nodes that stand for an operator; `inputs` and `outputs` are their names for the operator's own."""

    nodes: Sequence[Any]
    inputs: Sequence[str]
    outputs: Sequence[str]
    opset: int
    tensors: Sequence[Any] = ()


def definition(node: Node) -> Body | None:
    """Return the nodes by which ONNX's standard defines an operator; None where it does not."""
    onnx = library("from_onnx")
    try:
        schema = onnx.defs.get_schema(node.op, node.opset, "")
    except onnx.defs.SchemaError:
        raise UnfitError(f"opset {node.opset} has no such operator") from None
    if schema.has_context_dependent_function:
        version = _version(schema.context_dependent_function_opset_versions, node.opset)
        types = [_type(onnx, value) for value in node.inputs]
        data = schema.get_context_dependent_function_with_opset_version(
            version, node.proto.SerializeToString(), types
        )
    elif schema.has_function:
        version = _version(schema.function_opset_versions, node.opset)
        data = schema.get_function_with_opset_version(version)
    else:
        return None
    function = onnx.FunctionProto.FromString(data)
    defaults = {
        name: each.default_value for name, each in schema.attributes.items() if each.default_value.type
    }
    defaults |= {attribute.name: attribute for attribute in function.attribute_proto}
    nodes = [_filled(proto, {**defaults, **node.attributes}) for proto in function.node]
    opset = next(
        (entry.version for entry in function.opset_import if entry.domain in ("", "ai.onnx")), version
    )
    return Body(nodes, function.input, function.output, opset)


def _version(versions: Sequence[int], opset: int) -> int:
    return max((v for v in versions if v <= opset), default=min(versions))


def _type(onnx: Any, value: Value | None) -> bytes:
    if value is None:
        return b""
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    sizes = [size[0] if len(set(size)) == 1 else None for size in zip(*value.shapes, strict=True)]
    made: bytes = onnx.helper.make_tensor_type_proto(kind, sizes).SerializeToString()
    return made


def _filled(proto: Any, attributes: Mapping[str, Any]) -> Any:
    """Copy a node, with the operator's attributes in the place of references to them."""
    made = type(proto)()
    made.CopyFrom(proto)
    del made.attribute[:]
    for attribute in proto.attribute:
        found = attributes.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if found is not None:
            entry = made.attribute.add()
            entry.CopyFrom(found)
            entry.name = attribute.name
            if entry.HasField("g"):
                inside = [_filled(each, attributes) for each in entry.g.node]
                del entry.g.node[:]
                entry.g.node.extend(inside)
    return made


def renamed(body: Body, given: Sequence[str], outputs: Sequence[str], prefix: str) -> Body:
    """Return the nodes of a body names of their own, and its inputs and outputs their names outside."""
    names = {name: f"{prefix}/{name}" for proto in body.nodes for name in proto.output if name}
    names |= {tensor.name: f"{prefix}/{tensor.name}" for tensor in body.tensors}
    missing = [""] * (len(body.inputs) - len(given))
    names |= dict(zip(body.inputs, [*given, *missing], strict=False))
    made = {proto_output for proto in body.nodes for proto_output in proto.output}
    names |= {
        inner: outer for inner, outer in zip(body.outputs, outputs, strict=False) if outer and inner in made
    }
    nodes = [_named(proto, names) for proto in body.nodes]
    tensors = []
    for tensor in body.tensors:
        copied = type(tensor)()
        copied.CopyFrom(tensor)
        copied.name = names[tensor.name]
        tensors.append(copied)
    return Body(
        nodes, list(given), [names.get(name, name) for name in body.outputs], body.opset, tensors
    )  # fmt: skip


def _named(proto: Any, names: Mapping[str, str]) -> Any:
    made = type(proto)()
    made.CopyFrom(proto)
    for held in (made.input, made.output):
        for i, name in enumerate(held):
            held[i] = names.get(name, name)
    for attribute in made.attribute:
        if attribute.HasField("g"):
            graph = attribute.g
            own = {entry.name for entry in (*graph.input, *graph.initializer)}
            own |= {name for inner in graph.node for name in inner.output}
            outside = {name: new for name, new in names.items() if name not in own}
            inside = [_named(inner, outside) for inner in graph.node]
            del graph.node[:]
            graph.node.extend(inside)
            for entry in graph.output:
                entry.name = outside.get(entry.name, entry.name)
    return made


def _graph(node: Node, name: str) -> Body:
    held = node.attributes.get(name)
    if held is None or not held.HasField("g"):
        raise UnfitError(f"it has no graph {name}")
    graph = held.g
    inputs, outputs = ([entry.name for entry in entries] for entries in (graph.input, graph.output))
    return Body(list(graph.node), inputs, outputs, node.opset, list(graph.initializer))


def branch(node: Node) -> Body:
    """Return the branch that an If takes, whose condition must not depend on the input."""
    taken = node.constant(0)
    if taken.size != 1:
        raise UnfitError(f"expected one condition, got shape {taken.shape}")
    return _graph(node, "then_branch" if taken.reshape(-1)[0] else "else_branch")


class Unrolled:
    """A Loop or a Scan, turn by turn.

    Parameters
    ----------
    node : Node
        The node, whose number of turns must not depend on the elements of the input.
    """

    def __init__(self, node: Node) -> None:
        self.node, self.body = node, _graph(node, "body")
        self.scans = node.op == "Scan"
        if self.scans:
            self.taken = node.integer("num_scan_inputs", 0)
            self.states = len(node.inputs) - self.taken
            if not 0 < self.taken <= len(node.inputs):
                raise UnfitError(f"expected 1 to {len(node.inputs)} scanned inputs, got {self.taken}")
            self.axes = node.integers("scan_input_axes") or (0,) * self.taken
            self.backwards = node.integers("scan_input_directions") or (0,) * self.taken
            self.turns = node.value(self.states).size(node.value(self.states).axis(self.axes[0]))
        else:
            self.states = len(node.inputs) - 2
            self.turns = int(node.scalar(0)) if node.has(0) else MOST_TURNS
        rest = len(node.outputs) - self.states
        self.places = node.integers("scan_output_axes") or (0,) * rest
        self.reversed = node.integers("scan_output_directions") or (0,) * rest
        if self.turns > MOST_TURNS:
            raise UnfitError(f"expected at most {MOST_TURNS} turns, got {self.turns}")

    def starts(self) -> bool:
        """Return whether there is a first turn."""
        return self.scans or not self.node.has(1) or bool(self.node.constant(1).all())

    def entering(self, turn: int, prefix: str) -> tuple[dict[str, Array], list[Any]]:
        """Return the constants of a turn, and the nodes that prepare what it takes."""
        if not self.scans:
            return {f"{prefix}/turn": np.asarray(turn), f"{prefix}/go": np.asarray(True)}, []
        constants, nodes = {}, []
        for i in range(self.taken):
            constants[f"{prefix}/at{i}"] = np.asarray(self.turns - 1 - turn if self.backwards[i] else turn)
            names = [self.node.proto.input[self.states + i], f"{prefix}/at{i}"]
            nodes.append(_make("Gather", names, [f"{prefix}/scan{i}"], axis=self.axes[i]))
        return constants, nodes

    def given(self, states: Sequence[str], prefix: str) -> list[str]:
        """List the names of what a turn takes."""
        if self.scans:
            return [*states, *(f"{prefix}/scan{i}" for i in range(self.taken))]
        return [f"{prefix}/turn", f"{prefix}/go", *states]

    def leaving(self, states: Sequence[str], turns: Sequence[Sequence[str]], prefix: str) -> Iterator[Any]:
        """Return the nodes that make the outputs of the last states and of what each turn gave."""
        names = self.node.outputs
        for name, state in zip(names, states, strict=False):
            if name:
                yield _make("Identity", [state], [name])
        for i, name in enumerate(names[self.states :]):
            each = [turn[i] for turn in turns]
            if not name:
                continue
            if not each:
                raise UnfitError("a loop without a turn gives nothing to put side by side")
            wide = [f"{prefix}/out{i}.{j}" for j in range(len(each))]
            for one, other in zip(each[::-1] if self.reversed[i] else each, wide, strict=True):
                if self.node.opset < 13:
                    yield _make("Unsqueeze", [one], [other], axes=[self.places[i]])
                else:
                    yield _make("Constant", [], [f"{other}/axis"], value_ints=[self.places[i]])
                    yield _make("Unsqueeze", [one, f"{other}/axis"], [other])
            yield _make("Concat", wide, [name], axis=self.places[i])


def _make(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    return library("from_onnx").helper.make_node(op, inputs, outputs, **attributes)
