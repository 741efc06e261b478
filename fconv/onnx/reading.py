"""ONNX files read as networks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fconv.files.formats.claims import Budget
from fconv.layer import Layer, Params
from fconv.layers import identity
from fconv.networks import graph
from fconv.networks.reading import UnfitError, used
from fconv.onnx.building import Building
from fconv.onnx.folding import folded
from fconv.onnx.inlining import DEEPEST, Body, Unrolled, branch, definition, renamed
from fconv.onnx.library import library
from fconv.onnx.nodes import Node
from fconv.onnx.operators import READINGS
from fconv.onnx.ordering import needed
from fconv.onnx.parsing import initializers_of, parsed
from fconv.onnx.tensors import dtype_of
from fconv.onnx.values import TRIALS, Value, constant, fixed

OLDEST = 7
"""The first opset whose arithmetic stretches as NumPy's does."""

BATCHES = (2, 3)
OTHERS = (256, 384)
"""Numbers tried for sizes that a file leaves open: those of a batch axis, and others."""

_NODE = 2_000  # bytes that a node takes which an operator is written out as, about

Found = tuple[Layer, Params]


def from_onnx(path: str | os.PathLike[str]) -> Found:
    """Read an ONNX file as a network.

    Parameters
    ----------
    path : str or path-like
        A file of the default operators, opset 7 or later.

    Returns
    -------
    net : Layer
        A `graph` of the layers that the operators are. With several inputs or outputs it takes
        or gives a dict by the file's names.
    params : dict
        Its parameters. Where an initializer is named as PyTorch exports it, such as
        ``layer1.0.conv1.weight``, it has that name in `to_state_dict` too.

    Raises
    ------
    ValueError
        The file is damaged or lies about its lengths, or a node has no layer: the error names
        the file, the node, its operator and what is in the way. Nothing is read from outside
        the file's folder.
    ImportError
        The package onnx is not installed.
    OSError
        The file cannot be read.

    References
    ----------
    ONNX: Open Neural Network Exchange, operator schemas, https://onnx.ai/onnx/operators.

    Examples
    --------
    ::

        net, params = from_onnx("resnet18.onnx")
        y = net.apply(params, x)
    """
    library("from_onnx")
    try:
        model = parsed(path)
        budget = Budget(os.path.getsize(path))
        return _Reader(model, os.path.dirname(os.path.abspath(path)), budget).network()
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError) as error:
        # What a file says is never trusted to be of the right kind; any surprise is the file's fault.
        raise ValueError(f"from_onnx: {os.fspath(path)}: {error or type(error).__name__}") from error


class _Reader(Building):
    """Follows the nodes of a file from inputs to outputs, and builds a graph of ours."""

    def __init__(self, model: Any, folder: str, budget: Budget) -> None:
        self.source = model.graph
        versions = {entry.domain: entry.version for entry in model.opset_import}
        self.opset = versions.get("", versions.get("ai.onnx", 0))
        newest = library("from_onnx").defs.onnx_opset_version()
        if not OLDEST <= self.opset <= newest:
            raise ValueError(f"expected operators of opset {OLDEST} to {newest}, got {self.opset}")
        if self.source.sparse_initializer or model.functions:
            raise ValueError("sparse initializers and functions of the file's own are not read")
        tensors = initializers_of(self.source)
        self.inputs = [entry.name for entry in self.source.input if entry.name not in tensors]
        super().__init__(tensors, self.inputs, folder, budget)
        self.ours = model.producer_name == "fconv"
        self.counts = {
            entry.key: int(entry.value) for entry in model.metadata_props
            if entry.key.endswith(".num_batches_tracked") and entry.value.isdigit() and len(entry.value) < 19
        }  # fmt: skip
        # A file whose inputs are bfloat16 is computed with in float32 throughout.
        self.bfloat16 = any(entry.type.tensor_type.elem_type == 16 for entry in self.source.input)
        self.inlined = 0
        outputs = [output.name for output in self.source.output]
        self.nodes = needed(self.source.node, outputs)
        self.enter(self.nodes, outputs)

    def _start(self) -> None:
        """Enter the inputs, with two numbers for each size that is left open."""
        sizes: dict[str, tuple[int, ...]] = {}
        for entry in self.source.input:
            if entry.name in self.tensors:
                continue
            kind = entry.type.tensor_type
            if not entry.type.HasField("tensor_type") or not kind.HasField("shape"):
                raise ValueError(f"input {entry.name!r}: expected a tensor with a shape")
            axes = []
            for axis, dim in enumerate(kind.shape.dim):
                if dim.HasField("dim_value") and dim.dim_value > 0:
                    axes.append((dim.dim_value,) * TRIALS)
                    continue
                symbol = dim.dim_param or f"{entry.name}[{axis}]"
                step = 64 * len(sizes) if axis else 0
                trial = tuple(n + step for n in (OTHERS if axis else BATCHES))
                axes.append(sizes.setdefault(symbol, trial))
            shapes = tuple(zip(*axes, strict=True)) if axes else ((),) * TRIALS
            dtype = dtype_of(kind.elem_type)
            self.values[entry.name] = Value(entry.name, shapes, dtype, node=entry.name)

    def network(self) -> Found:
        """Read all nodes, and give the network and its parameters."""
        self._start()
        for proto in self.nodes:
            try:
                self._read(proto, self.opset)
            except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
                domain = proto.domain or "ai.onnx"
                raise ValueError(
                    f"node {proto.name or ', '.join(proto.output)!r} ({proto.op_type}, domain {domain}, "
                    f"opset {self.opset}): {error or type(error).__name__}"
                ) from error
        outputs = [self._leaving(output.name) for output in self.source.output]
        lone_in, lone_out = len(self.inputs) == 1, len(outputs) == 1
        net = graph(
            used(self.built, outputs),
            inputs=self.inputs[0] if lone_in else self.inputs,
            outputs=outputs[0] if lone_out else outputs,
        )
        return net, {name: self.params[name] for name in net.children}

    def _read(self, proto: Any, opset: int, depth: int = 0) -> None:
        if proto.domain not in ("", "ai.onnx"):
            raise UnfitError("only the default domain is read")
        if proto.output[0] in self.values:
            return None  # read together with the node before it
        node = Node(proto, opset, [self.lookup(name) for name in proto.input], self)
        found = folded(node)
        if found is not None:
            self.values.update(found)
            if proto.op_type == "Constant" and (self.ours or depth):
                self.literals.add(node.outputs[0])
            return None
        if proto.op_type in ("Loop", "Scan"):
            return self._unroll(node, depth)
        if proto.op_type == "If":
            return self._inline(branch(node), (), node.outputs, depth)
        if proto.op_type not in READINGS:
            body = definition(node)
            if body is None:
                raise UnfitError("there is no layer for this operator")
            return self._inline(body, proto.input, node.outputs, depth)
        given = READINGS[proto.op_type].read(node)
        parts = given if isinstance(given, tuple) else (given,)
        for i, name in enumerate(node.outputs):
            value = parts[i] if i < len(parts) else None
            if value is not None:
                self.values[name] = value
            elif name and self.followers(name):
                raise UnfitError(f"its output {i} ({name!r}) is used, and no layer gives it")
        return None

    def _inline(self, body: Body, given: Sequence[str], outputs: Sequence[str], depth: int) -> None:
        """Read the nodes that stand for an operator."""
        self.inlined += 1
        if depth >= DEEPEST:
            raise UnfitError(f"definitions nest deeper than {DEEPEST}")
        self.budget.spend(_NODE + sum(_NODE + 4 * proto.ByteSize() for proto in (*body.nodes, *body.tensors)))
        used = [name if name and self.followers(name) else "" for name in outputs]
        made = renamed(body, given, used, f"~{self.inlined}")
        self.tensors.update((tensor.name, tensor) for tensor in made.tensors)
        nodes = needed(made.nodes, made.outputs[: len(outputs)])
        self.enter(nodes)
        for name, inner in zip(used, made.outputs, strict=False):
            if name and name != inner:
                self.enter((), (inner,))
        for proto in nodes:
            try:
                self._read(proto, made.opset, depth + 1)
            except UnfitError as error:
                raise UnfitError(f"of which it is made, {proto.op_type}: {error}") from error
        for name, inner in zip(used, made.outputs, strict=False):
            if name and name not in self.values:
                value = self.lookup(inner)
                if value is None:
                    raise UnfitError(f"nothing gives its output {name!r}")
                self.values[name] = value

    def _unroll(self, node: Node, depth: int) -> None:
        """Read a loop turn by turn."""
        loop = Unrolled(node)
        states = list(node.proto.input)[:] if loop.scans else list(node.proto.input)[2:]
        states, turns, turn = states[: loop.states], [], 0
        self.inlined += 1
        prefix, goes = f"~{self.inlined}", loop.starts()
        while goes and turn < loop.turns:
            here = f"{prefix}.{turn}"
            constants, nodes = loop.entering(turn, here)
            self.values.update((name, constant(name, array)) for name, array in constants.items())
            names = [f"{here}/{name}" for name in loop.body.outputs]
            self.enter(nodes, names)
            for proto in nodes:
                self._read(proto, node.opset, depth)
            self._inline(loop.body, loop.given(states, here), names, depth)
            if not loop.scans:
                held = self.lookup(names[0])
                goes, names = held is not None and bool(fixed(held, "its condition").all()), names[1:]
            states, turn = names[: loop.states], turn + 1
            turns.append(names[loop.states :])
        if goes and not node.has(0) and not loop.scans:
            raise UnfitError(f"it turns more than {loop.turns} times")
        nodes = list(loop.leaving(states, turns, prefix))
        self.enter(nodes)
        for proto in nodes:
            self._read(proto, node.opset, depth)

    def _leaving(self, name: str) -> str:
        """Return the node of ours that an output is; with several, it is called as the output."""
        value = self.lookup(name)
        if value is None or value.node is None:
            raise ValueError(f"output {name!r}: expected a value that depends on the input")
        alone = len(self.source.output) == 1
        if value.node in self.built and (alone or value.node == name):
            return value.node
        wanted = self.namer.fresh(name)
        self.built[wanted], self.params[wanted] = (identity(), value.node), ()
        return wanted
