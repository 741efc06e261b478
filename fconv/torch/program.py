"""An exported forward as a list of operators that change nothing: each gives new tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from fconv.networks.reading import UnfitError
from fconv.torch.exporting import place_in
from fconv.torch.folding import const, counts, folded
from fconv.torch.values import Operator, Own, Tensor, described, size_of

RESHAPED = {"view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "contiguous", "detach", "to",
            "view_as", "_unsafe_view"}  # fmt: skip
"""Operators whose results may show their input, its elements in the same order."""

SAME = {"slice", "expand", "view", "reshape", "contiguous", "alias", "expand_as", "_unsafe_view", "to",
        "squeeze", "flatten", "view_as"}  # fmt: skip
"""Operators that give their input itself where its shape and type stay."""


@dataclass
class Program:
    """A forward: operators in order, by what they take and what the forward returns.

    Attributes
    ----------
    inputs : list of Tensor
        In the order of the call.
    operators : list of Operator
        The operators.
    outputs : object
        Tensors, in the nest of tuples and dicts that the forward returns.
    aside : set of str
        Parameters and buffers of what is left out.
    """

    inputs: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    outputs: Any = None
    aside: set[str] = field(default_factory=set)


class _Changes:
    """Aliases among the tensors of a graph, and the value of each after changes in place."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.values: dict[Any, Any] = {}  # node to what it gave
        self.seen: dict[Any, int] = {}  # node to how often its root had been changed by then
        self.shows: dict[Any, tuple[Any, Operator]] = {}  # node to the node that it shows, and how
        self.changed: dict[Any, int] = {}

    def root(self, node: Any) -> Any:
        while node in self.shows:
            node = self.shows[node][0]
        return node

    def put(self, node: Any, value: Any) -> None:
        self.values[node], self.seen[node] = value, self.changed.get(self.root(node), 0)

    def alias(self, node: Any, source: Any) -> None:
        """Let a node be another."""
        self.shows[node] = source, Operator("alias", None, {"self": None}, None)
        self.put(node, self.get(source))

    def get(self, node: Any) -> Any:
        """Return what a node gives now."""
        if node in self.shows and self.seen[node] != self.changed.get(self.root(node), 0):
            source, how = self.shows[node]
            self.put(node, self.again(how, source, self.values[node]))
        return self.values[node]

    def again(self, how: Operator, source: Any, before: Any) -> Any:
        """Show a node once more after it was changed."""
        if how.name == "alias":
            return self.get(source)
        if how.name == "getitem":
            return self.get(source)[how.args["index"]]
        args = {**how.args, next(iter(how.args)): self.get(source)}
        out = tuple(map(_copy, before)) if isinstance(before, tuple) else _copy(before)
        return self.emit(replace(how, args=args, out=out))

    def emit(self, operator: Operator) -> Any:
        """Add an operator, or compute what it gives where that is a constant."""
        found = folded(operator)
        if found is None:
            self.program.operators.append(operator)
            return operator.out
        self.program.aside.update(a.name for a in operator.args.values() if counts(a))
        return found

    def change(self, node: Any, value: Tensor, by: Operator) -> None:
        """Let a node, and all that it shows, be what a change in place makes it."""
        if node in self.shows:
            source, how = self.shows[node]
            self.change(source, self._within(self.get(source), how, value, by), by)
        else:
            self.changed[node] = self.changed.get(node, 0) + 1
        self.put(node, value)

    def _within(self, whole: Any, how: Operator, part: Tensor, by: Operator) -> Tensor:
        """Put what a view has become into the tensor that it shows."""
        import torch

        if how.name == "alias":
            return part
        if not isinstance(whole, Tensor):
            raise UnfitError(f"it changes in place what {how.title} gave, which shows another tensor")
        args = dict(list(how.args.items())[1:])
        if how.name in ("select", "slice"):
            made, args = f"{how.name}_scatter", {"self": whole, "src": part, **args}
        elif how.name in ("transpose", "swapaxes", "swapdims"):
            made, args = "transpose.int", {"self": part, "dim0": how.args.get("dim0", how.args.get("axis0")),
                                           "dim1": how.args.get("dim1", how.args.get("axis1"))}  # fmt: skip
        elif how.name == "permute":
            dims = [d % len(args["dims"]) for d in args["dims"]]
            made, args = "permute", {"self": part, "dims": [dims.index(d) for d in range(len(dims))]}
        elif how.name in RESHAPED:
            made, args = "reshape", {"self": part, "shape": list(whole.shape)}
        else:
            raise UnfitError(f"it changes in place what {how.title} gave, which shows another tensor")
        name, _, overload = made.partition(".")
        target = getattr(getattr(torch.ops.aten, name), overload or "default")
        return self.emit(replace(by, name=name, target=target, args=args, out=_copy(whole)))


def program_of(exported: Any, module: Any) -> Program:
    """Read an exported program of a module.

    Raises
    ------
    UnfitError
        It changes a parameter, or does what no list of operators says.
    """
    program = Program()
    changes = _Changes(program)
    signature, held = exported.graph_signature, {**exported.state_dict, **exported.constants}
    own = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    first = {id(t): name for name, t in reversed([*named(module)])}  # of several names of one tensor
    others = {**signature.inputs_to_lifted_tensor_constants, **signature.inputs_to_lifted_custom_objs}
    transient = set(signature.non_persistent_buffers)

    def enter(node: Any) -> None:
        changes.put(node, _placeholder(program, node, own, others, transient, held, first))

    returned = _followed(exported.graph_module, changes, enter)
    from torch.utils import _pytree

    returned = returned[len(returned) - len(signature.user_outputs) :]
    program.outputs = _pytree.tree_unflatten(returned, exported.call_spec.out_spec)
    return program


def _followed(inside: Any, changes: _Changes, enter: Callable[[Any], None]) -> list[Any]:
    """Follow the nodes of a graph, whose inputs `enter`; return what its outputs are."""
    for node in inside.graph.nodes:
        if node.op == "placeholder":
            enter(node)
        elif node.op == "call_function":
            _call(inside, changes, node)
        elif node.op == "output":
            results = node.args[0] if isinstance(node.args[0], (tuple, list)) else node.args
            return [changes.get(n) if hasattr(n, "op") else n for n in results]
    return []


def _placeholder(
    program: Program, node: Any, own: Any, others: Any, transient: set[str], held: Any, first: Any
) -> Any:
    from torch import nn

    name = own.get(node.name) or others.get(node.name)
    if name is None:
        if not hasattr(node.meta["val"], "shape"):
            return node.meta["val"]  # an argument that is no tensor
        program.inputs.append(_tensor(node.name, node.meta["val"]))
        return program.inputs[-1]
    tensor = held[name]
    if node.name in own and name not in transient:
        trained = isinstance(tensor, nn.Parameter)
        return Own(first.get(id(tensor), name), tuple(tensor.shape), tensor.dtype, tensor, trained)
    if not hasattr(tensor, "shape"):
        raise UnfitError(f"{name} is a {type(tensor).__name__}, which no layer takes")
    return const(name, tensor.detach())


def named(module: Any) -> Iterator[tuple[str, Any]]:
    """List the parameters and buffers of a module with all of their names."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _tensor(name: str, val: Any) -> Tensor:
    return Tensor(name, tuple(map(size_of, val.shape)), val.dtype)


def _copy(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.shape, tensor.dtype)


def _call(inside: Any, changes: _Changes, node: Any) -> None:
    value = node.meta.get("val")
    picks = getattr(node.target, "__name__", "") == "getitem"
    where, kind = _standing(node)
    place = place_in(node.meta.get("stack_trace", ""))
    if _is_higher(node):
        _inlined(inside, changes, node, Operator(str(node.target), node.target, {}, None, where, kind, place))
        return
    if _is_size(value) or (value is None and not picks):
        changes.put(node, None if value is None else size_of(value))
        return
    if picks:
        source, index = node.args
        changes.shows[node] = source, Operator("getitem", node.target, {"index": index}, None)
        changes.put(node, changes.get(source)[index])
        return
    schema = node.target._schema
    given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    nodes = {a.name: given.get(a.name, a.default_value) for a in schema.arguments}
    args = {name: _resolved(changes, value) for name, value in nodes.items()}
    name = schema.name.partition("::")[2]
    operator = Operator(name, node.target, args, None, where, kind, place)
    written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    try:
        if written:
            _in_place(changes, operator, node, nodes, written)
        else:
            operator.out = _results(node, value)
            first = next(iter(nodes.values()), None)
            if name in SAME and _keeps(operator):
                changes.alias(node, first)
                return
            shows = any(r.alias_info is not None for r in schema.returns)
            if shows and hasattr(first, "op") and _is_view(node, first):
                changes.shows[node] = (first, operator)
            changes.put(node, changes.emit(operator))
    except UnfitError as error:
        raise UnfitError(f"{operator.title} in {described(operator)}: {error}") from error


def _keeps(operator: Operator) -> bool:
    """Return whether a result has the shape and type of the first input."""
    first = next(iter(operator.args.values()))
    steps = operator.args.get("step", 1) == 1
    same = isinstance(first, Tensor) and isinstance(operator.out, Tensor) and steps
    return same and (first.shape, first.dtype) == (operator.out.shape, operator.out.dtype)


def _is_size(value: Any) -> bool:
    import torch

    return isinstance(value, (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def _is_higher(node: Any) -> bool:
    import torch

    return isinstance(node.target, torch._ops.HigherOrderOperator)


def _resolved(changes: _Changes, argument: Any) -> Any:
    if hasattr(argument, "op") and hasattr(argument, "graph"):
        return changes.get(argument)
    if isinstance(argument, (tuple, list)):
        return [_resolved(changes, a) for a in argument]
    return size_of(argument) if _is_size(argument) and hasattr(argument, "node") else argument


def _results(node: Any, value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(None if v is None else _tensor(f"{node.name}_{i}", v) for i, v in enumerate(value))
    return _tensor(node.name, value)


def _is_view(node: Any, first: Any) -> bool:
    """Return whether a result lies in the memory of the first input, as far as its layout tells."""
    name = node.target._schema.name.partition("::")[2]
    value = first.meta.get("val")
    if name in ("reshape", "contiguous", "flatten") and hasattr(value, "is_contiguous"):
        return bool(value.is_contiguous())
    return name != "to" or bool(getattr(value, "dtype", None) == node.meta["val"].dtype)


def _in_place(changes: _Changes, operator: Operator, node: Any, nodes: Any, written: list[str]) -> None:
    first = next(iter(nodes))
    if written != [first]:
        raise UnfitError("it writes into a tensor given as out=")
    target = nodes[first]
    before = operator.args[first]
    operator.name = operator.name.removesuffix("_")
    operator.out = Tensor(node.name, before.shape, before.dtype)
    if isinstance(changes.values.get(changes.root(target)), Own):
        name = changes.values[changes.root(target)].name
        if name.endswith("num_batches_tracked") and operator.name == "add":  # the layer counts itself
            changes.put(node, operator.out)
            return
        raise UnfitError(f"it changes {name}, and the forward of a network changes none of its parameters")
    changes.change(target, changes.emit(operator), operator)
    changes.alias(node, target)


def _standing(node: Any) -> tuple[str, str]:
    """Return the path and the class of the innermost module."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    return ".".join(part.partition("@")[0] for part in path.split(".")), kind


def _inlined(inside: Any, changes: _Changes, node: Any, operator: Operator) -> None:
    """Read the graph that a part of the forward was put into."""
    name = operator.name
    if "set_grad_enabled" not in name and "autocast" not in name:
        raise UnfitError(f"{name} in {described(operator)}: it has no layer")
    at = next(i for i, a in enumerate(node.args) if hasattr(a, "op") and a.op == "get_attr")
    if "autocast" in name and node.args[2]:
        where = described(operator)
        raise UnfitError(f"a part of it runs under torch.autocast in another dtype: {where}")
    body = getattr(inside, node.args[at].target)
    given = iter(node.args[at + 1 :])
    before = len(changes.program.operators)

    def enter(inner: Any) -> None:
        changes.alias(inner, next(given))

    returned = _followed(body, changes, enter)
    if "set_grad_enabled" in name and not node.args[0] and len(changes.program.operators) > before:
        where = described(changes.program.operators[-1])
        raise UnfitError(
            f"a part of it runs under torch.no_grad, but a network trains all of its layers: {where}"
        )
    changes.put(node, tuple(returned))
