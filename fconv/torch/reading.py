"""The operators of an exported forward as the nodes of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fconv.layer import Layer
from fconv.layers import identity
from fconv.networks.reading import UnfitError
from fconv.torch import indexing, moving, pointwise, weighted, windows  # noqa: F401  (fill the table)
from fconv.torch.chains import gathered
from fconv.torch.nodes import Nodes
from fconv.torch.program import Program
from fconv.torch.table import STRETCHING, TABLE, Call, unexpanded
from fconv.torch.values import Const, Expanded, Operator, Own, Size, Tensor, Value, described, tensors
from fconv.torch.weights import own


class MissingError(ValueError):
    """Reason why a tensor could not be made; what depends on it has the same one."""


class Reader:
    """Turns a module's forward into nodes; the user's `layers`, by operator, go before those of the table."""

    def __init__(self, module: Any, program: Program, names: Any, layers: Mapping[str, Any]) -> None:
        self.program, self.layers = program, layers
        self.modules = dict(module.named_modules())
        self.known: dict[Any, Any] = {}
        self.obstacles: dict[tuple[str, str], list[str]] = {}
        self.inputs: dict[str, Value] = {}
        self.outputs: str | list[str] = []
        used = set(reached(program, program.outputs))
        self.operators = [o for o in program.operators if used & set(o.outs)]
        self.used = used
        owned = {o.name for o in used if isinstance(o, Own)}
        self.homes = {name.rpartition(".")[0] for name in owned}
        self.nodes = Nodes(owned | self.homes, self._whole())
        for name, tensor in zip(names, program.inputs, strict=True):
            node = self.nodes.names.new(f"{name}_input" if name in self.nodes.names else name)
            self.inputs[node] = self.known[tensor] = Value(node, tensor.shape, tensor.dtype)
            self.nodes.values.append(self.inputs[node])

    def _whole(self) -> dict[str, dict[str, Any]]:
        """Find the modules each of whose tensors is used by one kind of operator, and their tensors."""
        uses: dict[int, set[Any]] = {}
        for operator in self.operators:
            options = tuple((n, _frozen(v)) for n, v in operator.args.items())
            for own_tensor in _own_tensors(operator.args):
                home = own_tensor.name.rpartition(".")[0]
                uses.setdefault(id(own_tensor.tensor), set()).add((home, operator.name, options))
        found = {}
        for path, module in self.modules.items():
            held = own(module)
            if held and all(len(uses.get(id(t), ())) <= 1 for t in held.values()):
                found[path] = held
        return found

    def read(self) -> None:
        """Make all nodes, and note every operator that has no layer."""
        for operator in self.operators:
            try:
                results = self._results(operator)
            except MissingError:
                continue
            except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
                self._note(operator, error)
                continue
            for out, result in zip(operator.outs, results, strict=True):
                if out not in self.used:
                    continue
                try:
                    self.known[out] = self._emitted(operator, result, out)
                except (ValueError, TypeError) as error:
                    self._note(operator, error)
        if not self.obstacles:
            self._output(self.program.outputs)
            self._gather()

    def _gather(self) -> None:
        """Gather chains of layers, under their own names."""
        lone = isinstance(self.outputs, str)
        outputs = [self.outputs] if isinstance(self.outputs, str) else self.outputs
        renamed = gathered(self.nodes, self.modules, outputs, lone)
        outputs = [renamed.get(name, name) for name in outputs]
        self.outputs = outputs[0] if lone else outputs

    def _note(self, operator: Operator, error: Exception) -> None:
        where = self.obstacles.setdefault((operator.title, str(error)), [])
        where.append(described(operator))

    def _results(self, operator: Operator) -> tuple[Any, ...]:
        args: Mapping[str, Any] = {name: self._resolved(value) for name, value in operator.args.items()}
        title = operator.title
        if operator.name in STRETCHING:
            args = unexpanded(args, operator.outs[0].shape)
        args = {name: self._stretched(value) for name, value in args.items()}
        call = Call(operator, args)
        brought = self.layers.get(title)
        if brought is not None:
            made: Any = _brought(title, brought, args)
        else:
            entry = TABLE.get(operator.name) if title.startswith("aten.") else None
            if entry is None:
                raise UnfitError("it has no layer")
            made = entry(call)
        # Buffers of integers are constants where no layer holds them.
        self.program.aside.update(
            t.name for t in _own_tensors(operator.args) if not t.dtype.is_floating_point
        )
        return made if isinstance(operator.out, tuple) else (made,)

    def _emitted(self, operator: Operator, result: Any, out: Any) -> Any:
        if isinstance(result, Tensor):
            return result
        if result is None:
            raise UnfitError("this result of it has no layer")
        leaf = operator.path and operator.kind.startswith("torch.nn.")
        own_name = leaf and operator.path not in self.homes
        return self.nodes.emit(result, (operator.path, "" if own_name else None), out)

    def _stretched(self, argument: Any) -> Any:
        """Make the nodes of tensors that were to be stretched."""
        if isinstance(argument, Expanded) and argument.dtype.is_floating_point:
            return self.nodes.emit(argument, ("", None))
        return [self._stretched(a) for a in argument] if isinstance(argument, list) else argument

    def _resolved(self, argument: Any) -> Any:
        if isinstance(argument, Tensor) and not isinstance(argument, (Own, Const, Expanded)):
            if argument not in self.known:
                raise MissingError
            return self.known[argument]
        if isinstance(argument, Size):  # which is a tuple
            return argument
        return [self._resolved(a) for a in argument] if isinstance(argument, (tuple, list)) else argument

    # Outputs.

    def _output(self, result: Any) -> None:
        if isinstance(result, Tensor):
            self.outputs = self._leaf(result, "output").name
            return
        if isinstance(result, Mapping):
            named = {str(key): value for key, value in result.items()}
        elif isinstance(result, (tuple, list)):
            named = {f"output{i}": value for i, value in enumerate(result)}
        else:
            raise UnfitError(f"expected tensors, or a tuple or dict of them, got {type(result).__name__}")
        named = {name: value for name, value in named.items() if value is not None}
        self.outputs = [self._leaf(value, name, exactly=True).name for name, value in named.items()]

    def _leaf(self, tensor: Any, name: str, exactly: bool = False) -> Value:
        """Return the node of an output, under its name where it has one."""
        if not isinstance(tensor, Tensor):
            what = type(tensor).__name__
            raise UnfitError(f"expected tensors, or a tuple or dict of them, got {what} as {name}")
        value = self._stretched(self._resolved(tensor))
        if isinstance(value, Const):
            raise UnfitError("its output depends on no input")
        value = self.nodes.emit(value, ("", None))
        if value.name == name or not (exactly or value.name in self.inputs):
            return value
        if exactly and name in self.nodes.names:
            raise UnfitError(f"the output {name!r} is called as an input, a module or a parameter is")
        node = self.nodes.names.new(name)
        return self.nodes.add(node, (identity(), value.name), value.shape, value.dtype)


def _brought(title: str, brought: Any, args: Mapping[str, Any]) -> Any:
    """Put a layer of the user's in the place of an operator."""
    flat = [a for value in args.values() for a in (value if isinstance(value, list) else [value])]
    sources = [a for a in flat if isinstance(a, Tensor)]
    if not isinstance(brought, Layer):
        options = {n: v for n, v in args.items() if not isinstance(v, (Tensor, list))}
        brought = brought(**options)
    if not isinstance(brought, Layer):
        raise UnfitError(f"layers[{title!r}]: expected a layer, or a function that makes one of its options")
    return brought, *sources


def reached(program: Program, outputs: Any) -> list[Any]:
    """List the tensors that outputs depend on."""
    from torch.utils import _pytree

    made_by = {out: o for o in program.operators for out in o.outs}
    waiting = [t for t in _pytree.tree_leaves(outputs) if isinstance(t, Tensor)]
    seen: dict[Any, None] = {}
    while waiting:
        tensor = waiting.pop()
        if tensor in seen:
            continue
        seen[tensor] = None
        if tensor in made_by:
            waiting.extend(tensors(made_by[tensor].args))
    return list(seen)


def _own_tensors(args: Any) -> list[Own]:
    return [t for t in tensors(args) if isinstance(t, Own)]


def _frozen(value: Any) -> Any:
    """Return what tells an operator's options apart: parameters by name, other tensors not at all."""
    if isinstance(value, Own):
        return value.name
    if isinstance(value, Tensor):
        return ()
    return tuple(map(_frozen, value)) if isinstance(value, (tuple, list)) else value
