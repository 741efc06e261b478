"""The forward of a torch.nn.Module as a list of calls."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from fconv.torch.values import Modes

# Beside the methods and functions whose names end in _: what Python's += and its kin call.
IN_PLACE = {
    "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor", "ilshift",
    "irshift",
}  # fmt: skip


class Ref(NamedTuple):
    """What an earlier call gave, by the call's name."""

    name: str


class Call(NamedTuple):
    """One step of a forward.

    `kind` is "placeholder", "get_attr", "constant", "call_module", "call_function", "call_method"
    or "output"; `target` of a constant is its tensor. `path` is the module in whose forward it
    stands.
    """

    name: str
    kind: str
    target: Any
    args: tuple[Any, ...]
    options: dict[str, Any]
    path: str


def calls_of(module: Any, is_leaf: Callable[[Any], bool]) -> list[Call]:
    """List what a module's forward does, in training and in inference.

    Parameters
    ----------
    module : torch.nn.Module
        It is left as it is.
    is_leaf : callable
        Tells the modules into which the reader does not go.

    Returns
    -------
    list of Call
        An argument that training changes is a `Modes`.

    Raises
    ------
    ValueError
        The forward decides on values, or does other things in training than in inference.
    """
    import torch

    who = f"from_torch: {type(module).__name__}"
    with _mode(module, True):
        train, constants = _traced(module, is_leaf)
    with _mode(module, False):
        infer, others = _traced(module, is_leaf)
    for name in constants.keys() & others.keys():
        if not torch.equal(constants[name], others[name]):
            raise ValueError(f"{who}: its forward makes a tensor that is another one every time")
    calls = []
    for a, b in zip(train, infer, strict=False):
        if (a.op, a.name) != (b.op, b.name) or (a.op != "call_function" and a.target != b.target):
            break
        args, options = _merged(a.args, b.args), _merged(a.kwargs, b.kwargs)
        made = a.op == "get_attr" and a.target in constants
        kind, target = ("constant", constants[a.target]) if made else (a.op, a.target)
        calls.append(Call(a.name, kind, target, args, options, _path(a)))
    if len(calls) != len(train) or len(calls) != len(infer):
        where = train[len(calls)].name if len(calls) < len(train) else infer[len(calls)].name
        raise ValueError(f"{who}: forward does other things in training than in inference, first at {where}")
    return calls


@contextmanager
def _mode(module: Any, train: bool) -> Iterator[None]:
    before = [(m, m.training) for m in module.modules()]
    try:
        for m, _ in before:
            m.training = train
        yield
    finally:
        for m, was in before:
            m.training = was


def _traced(module: Any, is_leaf: Callable[[Any], bool]) -> tuple[list[Any], dict[str, Any]]:
    """Give the nodes that fx finds, and the tensors that the forward makes itself, by name."""
    import torch
    from torch import fx

    class Proxy(fx.Proxy):  # type: ignore[misc]
        """As fx has it, but ``x += y`` is told from ``x = x + y``, and no assignment is passed over."""

        def __setitem__(self, index: Any, value: Any) -> None:
            raise TypeError("it assigns entries of a tensor, which has no layer; join parts by torch.cat")

    for name in IN_PLACE:
        setattr(Proxy, f"__{name}__", lambda self, other, name=name: _in_place(self, name, other))

    class Tracer(fx.Tracer):  # type: ignore[misc]
        proxy_buffer_attributes = True

        def is_leaf_module(self, m: Any, path: str) -> bool:
            return is_leaf(m)

        def proxy(self, node: Any) -> Any:
            return Proxy(node, self)

        def create_node(self, *args: Any, **options: Any) -> Any:
            if not torch.is_grad_enabled():
                raise ValueError(
                    "a part of it runs under torch.no_grad, but a network trains all of its layers"
                )
            return super().create_node(*args, **options)

    who = f"from_torch: {type(module).__name__}"
    before = set(vars(module))
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # of deprecated names, and of defaults that fx cannot assert
            graph = Tracer().trace(module, concrete_args=_defaults(module))
    except Exception as error:
        raise ValueError(f"{who}: {_reason(error)}") from error
    finally:
        # fx leaves the constants that it meets as attributes of the module.
        constants = {name: vars(module)[name] for name in vars(module).keys() - before}
        for name in constants:
            delattr(module, name)
    return list(graph.nodes), constants


def _in_place(proxy: Any, name: str, other: Any) -> Any:
    import operator

    return proxy.tracer.create_proxy("call_function", getattr(operator, name), (proxy, other), {})


def _defaults(module: Any) -> dict[str, Any]:
    """Find the arguments of forward that have a default, which is what they are read with."""
    import inspect

    arguments = inspect.signature(type(module).forward).parameters.values()
    return {a.name: a.default for a in arguments if a.default is not a.empty}


def _reason(error: Exception) -> str:
    """Say what stopped the reading of a forward, and at which line of whose code."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in _posix(f.filename)]
    frames = [f for f in frames if not _posix(f.filename).endswith("fconv/torch/tracing.py")]
    place = f"{frames[-1].name}, line {frames[-1].lineno} ({frames[-1].line}): " if frames else ""
    name = type(error).__name__
    if name == "TraceError" and ("control flow" in str(error) or "iterated" in str(error)):
        return (
            f"{place}Python decides here on the values or the number of entries of a tensor, which no "
            f"network of layers does"
        )
    first = (str(error).strip() or name).splitlines()[0]
    return f"{place}the forward cannot be followed: {first}"


def _posix(path: str) -> str:
    return path.replace("\\", "/")


def _path(node: Any) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if node.op == "call_module":
        return str(node.target).rpartition(".")[0]
    return str(stack[-1][0]) if stack else ""


def _merged(a: Any, b: Any) -> Any:
    """Give an argument of both modes: nodes by name, and what differs as Modes."""
    if hasattr(a, "op") and hasattr(b, "op"):
        return Ref(a.name) if a.name == b.name else Modes(a, b)
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return {key: _merged(a[key], b[key]) for key in a}
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)) and len(a) == len(b):
        each = [_merged(x, y) for x, y in zip(a, b, strict=True)]
        return each if isinstance(a, list) else tuple(each)
    if isinstance(a, slice) and isinstance(b, slice):
        return slice(*(_merged(getattr(a, p), getattr(b, p)) for p in ("start", "stop", "step")))
    return a if a is b or (type(a) is type(b) and a == b) else Modes(a, b)


def marked_in_place(call: Call) -> bool:
    """Tell a function or method that changes its first tensor."""
    if call.kind not in ("call_method", "call_function") or not call.args:
        return False
    name = title(call)
    marked = name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))
    return marked or call.options.get("inplace") is True or call.options.get("out") is not None


def live(calls: list[Call]) -> list[Call]:
    """Keep the calls that the output depends on, or that change a tensor where it stands."""
    kept, needed = [], set()
    for call in reversed(calls):
        if call.kind in ("output", "call_module") or call.name in needed or marked_in_place(call):
            kept.append(call)
            needed.update(refs((call.args, call.options)))
    return kept[::-1]


def title(call: Call) -> str:
    """Name the function, method or module that is called."""
    return call.target if isinstance(call.target, str) else getattr(call.target, "__name__", str(call.target))


def refs(argument: Any) -> list[str]:
    """Name the calls whose results stand in an argument."""
    if isinstance(argument, Ref):
        return [argument.name]
    if isinstance(argument, Mapping):
        argument = tuple(argument.values())
    if isinstance(argument, slice):
        argument = (argument.start, argument.stop, argument.step)
    return [ref for a in argument for ref in refs(a)] if isinstance(argument, (tuple, list)) else []
