"""The calls of a forward as the nodes of a graph."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fconv import functional
from fconv.calls import call as call_layer
from fconv.layers import identity
from fconv.torch.functions import FUNCTIONS
from fconv.torch.modules import layer_name, layer_of
from fconv.torch.nodes import VIEWS, Nodes, described
from fconv.torch.shapes import ATTRIBUTES, METHODS, getitem
from fconv.torch.tracing import Call, Ref, live, marked_in_place, refs, title
from fconv.torch.values import Expanded, Modes, Own, Pieces, SizeOf, UnfitError, Value, computed
from fconv.torch.weighted import WEIGHTED, ComputedError, Weighted
from fconv.torch.weights import array_of, own, params_of

ARITHMETIC = {
    name: getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "eq", "ne")
}
ARITHMETIC |= {"floor": math.floor, "ceil": math.ceil, "sqrt": math.sqrt, "sym_max": max, "sym_min": min}
ARITHMETIC |= {"iadd": operator.add, "isub": operator.sub, "imul": operator.mul}


class Reader:
    """Turns calls into nodes, one after the other.

    Parameters
    ----------
    module : torch.nn.Module
        Whose forward it is.
    calls : list of Call
        The forward.
    shape : tuple of int, or dict of them, optional
        Of the input.
    """

    def __init__(self, module: Any, calls: list[Call], shape: Any) -> None:
        self.module, self.shape = module, shape
        self.modules = dict(module.named_modules())
        self.values: dict[str, Any] = {}
        self.owners: dict[Any, str] = {}  # which node has a module's layer
        self.inputs: dict[str, Value] = {}
        self.outputs: str | list[str] = []
        calls = self.calls = live(calls)
        self.last_use = {ref: i for i, c in enumerate(calls) for ref in refs((c.args, c.options))}
        self.nodes = Nodes(c.target for c in calls if c.kind in ("call_module", "get_attr"))
        self.own_uses = {
            c.target: sum(c.name in refs((d.args, d.options)) for d in calls)
            for c in calls
            if c.kind == "get_attr"
        }
        self.by_key = self._inputs_by_key()
        self.asks_for_sizes = False  # other than the batch's

    def read(self) -> None:
        """Read all calls."""
        for at, call in enumerate(self.calls):
            try:
                result = self._step(call)
                if self._works_in_place(call):
                    self._changed(at, call, result)
                self.values[call.name] = result
                self.asks_for_sizes |= self._asked(call, result)
            except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
                raise ValueError(f"from_torch: {self._place(call)}: {error}") from error

    def _asked(self, call: Call, result: Any) -> bool:
        """Tell a call that gives a size as a number, which stands for the shape that it was read with."""
        if self.shape is None or title(call) in ("dim", "ndimension", "ndim"):
            return False
        if isinstance(result, tuple) and any(type(n) is int for n in result):
            return any(title(c) != "getitem" for c in self.calls if call.name in refs((c.args, c.options)))
        return type(result) is int

    def _place(self, call: Call) -> str:
        """Say which call it is, and in which module's forward it stands."""
        if call.kind == "output":
            what = "the output"
        elif call.kind == "constant":
            what = "a constant tensor"
        elif call.kind == "call_module":
            what = f"module {call.target} ({type(self.modules[call.target]).__name__})"
        elif call.kind == "call_method":
            what = f"{call.name} (Tensor.{call.target})"
        elif call.kind == "call_function":
            home = (getattr(call.target, "__module__", None) or "torch").removeprefix("_")
            what = f"{call.name} ({home}.{title(call)})"
        else:
            what = f"{call.name} ({call.kind} {call.target})"
        inside = type(self.modules.get(call.path, self.module)).__name__
        return f"{what} in {f'{call.path} ({inside})' if call.path else inside}"

    def _step(self, call: Call) -> Any:
        if call.kind == "placeholder":
            return self._input(call)
        if call.kind == "get_attr":
            return self._own(call.target)
        if call.kind == "constant":
            return _constant(call.target)
        args, options = self._resolved(call.args), self._resolved(call.options)
        if call.kind == "output":
            return self._output(args[0])
        if call.kind == "call_module":
            return self._module(call, args, options)
        return self._function(call, args, options)

    # What calls take.

    def _resolved(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return self.values[argument.name]
        if isinstance(argument, Mapping):
            return {key: self._resolved(value) for key, value in argument.items()}
        if isinstance(argument, slice):
            return slice(*map(self._resolved, (argument.start, argument.stop, argument.step)))
        if isinstance(argument, (tuple, list)):
            return (
                type(argument)(map(self._resolved, argument)) if type(argument) in (tuple, list) else argument
            )
        return argument

    def _inputs_by_key(self) -> dict[str, list[str]]:
        """Find the inputs that are dicts: of which only entries by name are used."""
        uses: dict[str, list[Any]] = {c.name: [] for c in self.calls if c.kind == "placeholder"}
        for c in self.calls:
            for ref in refs((c.args, c.options)):
                if ref in uses:
                    by_name = title(c) == "getitem" and len(c.args) == 2 and isinstance(c.args[1], str)
                    uses[ref].append(c.args[1] if by_name else None)
        return {n: list(dict.fromkeys(keys)) for n, keys in uses.items() if keys and None not in keys}

    def _input(self, call: Call) -> Any:
        if call.target.startswith("*"):
            raise UnfitError(f"an argument {call.target} has no name for its tensors")
        keys = self.by_key.get(call.name)
        if keys is None:
            return self._new_input(str(call.target).rstrip("_") if call.args else str(call.target))
        return {key: self._new_input(key) for key in keys}

    def _new_input(self, name: str) -> Value:
        shapes = None
        if self.shape is not None:
            shape = self.shape.get(name) if isinstance(self.shape, Mapping) else self.shape
            if shape is None or not shape:
                raise UnfitError(f"shape= says nothing of the input {name}")
            shapes = tuple(shape), (2 * shape[0], *shape[1:])
        node = name if name not in self.nodes.taken else f"{name}_input"
        self.nodes.taken.add(node)
        self.inputs[node] = Value(node, shapes)
        return self.inputs[node]

    def _own(self, target: str) -> Own | float:
        tensor: Any = self.module
        for part in target.split("."):
            tensor = getattr(tensor, part)
        home, _, leaf = target.rpartition(".")
        if leaf not in own(self.modules[home]):
            return _constant(tensor)
        return Own(target, tensor, leaf in self.modules[home]._parameters)

    # Nodes.

    def _module(self, call: Call, args: tuple[Any, ...], options: dict[str, Any]) -> Value:
        module = self.modules[call.target]
        layer = layer_of(module)
        if layer is None:
            raise UnfitError("this class has no layer")
        takes = 2 if layer.name == "bilinear" else 1
        values = [self.nodes.emit(a, call.path, "input") for a in (*args, *options.values())]
        if len(values) != takes or not all(isinstance(v, Value) for v in values):
            raise UnfitError(f"expected {takes} tensor{'s' * (takes > 1)} and no options in the call")
        if id(module) in self.owners:
            owner = self.owners[id(module)]
            name = self.nodes.name(call.path, f"{call.target.rpartition('.')[2]}_again")
            return self.nodes.add(name, owner, layer, values)
        for path, m in module.named_modules(prefix=call.target):
            for leaf, tensor in own(m).items():
                self.nodes.hold(f"{path}.{leaf}", tensor, ("module", call.target))
        self.owners[id(module)] = call.target
        self.nodes.params[call.target] = params_of(module, call.target)
        return self.nodes.add(call.target, layer, layer, values)

    def _weighted(self, call: Call, made: Weighted) -> Any:
        """Make the node of a function whose weights are the module's own, if they are named as a layer's."""
        paths = {name: tensor.name.rpartition(".")[::2] for name, tensor in made.params.items()}
        homes = {home for home, _ in paths.values()}
        sources = [self.nodes.emit(source, call.path, "input") for source in made.sources]
        if not made.params:
            return self.nodes.emit((made.layer, *sources), call.path, made.layer.name)
        home = next(iter(homes))
        if len(homes) > 1 or not home or any(leaf != name for name, (_, leaf) in paths.items()):
            return None
        if own(self.modules[home]).keys() != made.params.keys() or not all(
            isinstance(source, Value) for source in sources
        ):
            return None
        if home in self.nodes.taken or any(self.own_uses[t.name] > 1 for t in made.params.values()):
            return None  # others use them too
        for tensor in made.params.values():
            self.nodes.hold(tensor.name, tensor.tensor, ("function", home))
        self.nodes.taken.add(home)
        self.nodes.params[home] = {name: array_of(t.name, t.tensor) for name, t in made.params.items()}
        return self.nodes.add(home, made.layer, made.layer, sources)

    # Functions.

    def _function(self, call: Call, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        name = title(call)
        if name == "getattr":
            return self._attribute(*args)
        if name == "getitem":
            return self._item(call, *args)
        held = [*args, *options.values()]
        if not _tensors(held):
            return self._arithmetic(name, args, options)
        home = getattr(call.target, "__module__", None) or "torch"
        if call.kind == "call_function" and home.split(".")[0] not in ("torch", "_operator", "operator"):
            raise UnfitError("only functions of torch have layers")
        name = name.rstrip("_")
        if "input" in options and not args:
            args = (options.pop("input"),)
        if name in WEIGHTED:
            try:
                found = self._weighted(call, WEIGHTED[name](*args, **options))
            except ComputedError:
                found = None
            return self._called(call, name, args, options) if found is None else found
        handler = FUNCTIONS.get(name)
        if call.kind == "call_method":
            handler = METHODS.get(name, handler)
        if handler is None:
            return self._called(call, name, args, options)
        _refuse_modes(options, args, name)
        plain, named = self._plain(args), self._plain(options)
        result = handler(*plain, **named)
        value = self.nodes.emit(result, call.path, name)
        return replace(value, storage=object()) if name == "clone" else value

    def _plain(self, argument: Any) -> Any:
        """Turn parameters of the module into nodes."""
        if isinstance(argument, Own):
            return self.nodes.parameter(argument)
        if isinstance(argument, Mapping):
            return {key: self._plain(value) for key, value in argument.items()}
        if type(argument) in (tuple, list):
            return type(argument)(map(self._plain, argument))
        return argument

    def _called(self, call: Call, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call the function of `fconv.functional` of that name, all tensors being inputs."""
        import inspect

        function = getattr(functional, name, None)
        if function is None or not hasattr(function, "arrays"):
            raise UnfitError("it has no layer")
        _refuse_modes(options, args, name)
        inner = getattr(call.target, "__module__", None) != "torch.nn.functional"
        if inner and "reduction" in inspect.signature(function).parameters:
            raise UnfitError(f"its reduction is a number; call torch.nn.functional.{name} instead")
        order = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        given = {key: value for key, value in options.items() if key != "out" or value is not None}
        renamed = {order[0].name if key == "input" else key: value for key, value in given.items()}
        if len(args) > len(order):
            raise UnfitError("it has more arguments than the function of the layer")
        given = {**{p.name: a for p, a in zip(order, args, strict=False)}, **renamed}
        values = {
            a: self.nodes.emit(given.pop(a), call.path, a)
            for a in function.arrays
            if given.get(a) is not None
        }
        fixed = {option: value for option, value in given.items() if option not in function.arrays}
        if fixed.get("dropout_p"):
            raise UnfitError(f"dropout_p={fixed['dropout_p']} has no layer")
        if _tensors(fixed.values()):
            raise UnfitError("an option that is a tensor has no layer")
        layer = call_layer(name, tuple(values), **fixed)
        return self.nodes.emit((layer, *values.values()), call.path, name)

    def _attribute(self, value: Any, name: str) -> Any:
        if isinstance(value, Own):
            if name == "shape":
                return tuple(value.tensor.shape)
            value = self.nodes.parameter(value)
        if isinstance(value, Value) and name in ATTRIBUTES:
            found = ATTRIBUTES[name](value)
            return self.nodes.emit(found, "", "transpose") if name in ("T", "mT") else found
        raise UnfitError(f"the attribute {name} has no layer")

    def _item(self, call: Call, value: Any, index: Any) -> Any:
        if isinstance(value, Pieces):
            if not isinstance(index, int):
                raise UnfitError("pieces are taken one by one")
            return self.nodes.emit(value.piece(index), call.path, "piece")
        if isinstance(value, (tuple, list, SizeOf, dict)):
            return value[index]
        if isinstance(value, Own):
            value = self.nodes.parameter(value)
        return self.nodes.emit(getitem(value, index), call.path, "getitem")

    def _arithmetic(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if name not in ARITHMETIC or options:
            raise UnfitError("it has no layer")
        if any(isinstance(a, tuple) for a in args):
            return operator.add(*args)
        return computed(ARITHMETIC[name], *args)

    # What changes a tensor where it stands.

    def _works_in_place(self, call: Call) -> bool:
        if call.kind == "call_module":
            return works_in_place(self.modules[call.target])
        return marked_in_place(call)

    def _changed(self, at: int, call: Call, result: Any) -> None:
        """Let all names of a tensor that was changed stand for what it is now."""
        ref = call.args[0] if call.args else next(iter(call.options.values()))
        before = self.values[ref.name] if isinstance(ref, Ref) else None
        if isinstance(before, Own):
            raise UnfitError(
                f"it changes {before.name}, and the forward of a network changes none of its parameters"
            )
        if not isinstance(before, Value) or not isinstance(result, Value):
            return
        for name, value in self.values.items():
            if not isinstance(value, Value) or value.storage is not before.storage:
                continue
            if value is before:
                self.values[name] = result
            elif self.last_use.get(name, -1) > at:
                raise UnfitError(
                    f"it changes a tensor in place that {name} shows too, and {name} is used afterwards"
                )

    # Outputs.

    def _output(self, result: Any) -> None:
        if isinstance(result, Expanded):
            raise UnfitError("a tensor that was expanded has layers only in arithmetic")
        if isinstance(result, (Value, Own)):
            self.outputs = self._leaf(result, "output").name
            return
        if isinstance(result, Mapping):
            named = {str(key): value for key, value in result.items()}
        elif isinstance(result, (tuple, list)):
            named = {f"output{i}": value for i, value in enumerate(result)}
        elif isinstance(result, Pieces) and result.count is not None:
            named = {f"output{i}": result.piece(i) for i in range(result.count)}
        else:
            raise UnfitError(f"expected tensors, or a tuple or dict of them, got {described(result)}")
        self.outputs = [self._leaf(value, name, exactly=True).name for name, value in named.items()]

    def _leaf(self, value: Any, name: str, exactly: bool = False) -> Value:
        """Give the node of an output, under its name where it has one."""
        value = self.nodes.emit(value, "", name)
        if not isinstance(value, Value):
            raise UnfitError(
                f"expected tensors, or a tuple or dict of them, got {described(value)} as {name}"
            )
        if value.name == name or not (exactly or value.name in self.inputs):
            return value
        if exactly and name in self.nodes.taken:
            raise UnfitError(f"the output {name!r} is called as an input, a module or a parameter is")
        return self.nodes.add(self.nodes.name("", name), identity(), identity(), [value])


def works_in_place(module: Any) -> bool:
    """Tell whether a leaf, or the first of a chain that makes a new tensor, changes its input."""
    for m in module._modules.values():
        if works_in_place(m):
            return True
        if not _shows_its_input(m):
            return False
    return getattr(module, "inplace", False) is True


def _shows_its_input(module: Any) -> bool:
    if module._modules:
        return all(map(_shows_its_input, module._modules.values()))
    return layer_name(module) in VIEWS


def _constant(tensor: Any) -> float:
    """Give the number that a tensor outside the state dict holds."""
    if tensor.numel() == 1:
        return float(tensor)
    raise UnfitError(
        "a tensor of several numbers that is not in the state dict; make it a parameter or a "
        "persistent buffer"
    )


def _tensors(values: Any) -> bool:
    return any(
        _tensors(v) if isinstance(v, (tuple, list)) else isinstance(v, (Value, Own, Pieces, Expanded))
        for v in values
    )


def _refuse_modes(options: dict[str, Any], args: tuple[Any, ...], name: str) -> None:
    found = [a for a in (*args, *options.values()) if isinstance(a, Modes)]
    if found and "dropout" not in name:
        raise UnfitError(f"an argument is {found[0].train!r} in training and {found[0].infer!r} in inference")
