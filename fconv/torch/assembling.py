"""A network put together from what was read of a torch.nn.Module."""

from __future__ import annotations

from typing import Any

from fconv.layer import Layer, Params
from fconv.networks import graph
from fconv.torch.fixed import for_shape
from fconv.torch.modules import is_chain, is_leaf, layer_of
from fconv.torch.reading import Reader, works_in_place
from fconv.torch.tracing import calls_of
from fconv.torch.weights import own, params_of


def read(module: Any, shape: Any, strict: bool) -> tuple[Layer, Params]:
    """Read a module; see `fconv.from_torch`."""
    from torch import nn

    if not isinstance(module, nn.Module):
        raise TypeError(f"from_torch: expected a torch.nn.Module, got {type(module).__name__}")
    _refuse_additions(module)
    title = type(module).__name__
    if _foreign(module):
        raise ValueError(f"from_torch: {title}: this class has no layer")
    _refuse_ties(module)
    if is_leaf(module) or is_chain(module):
        try:
            layer = layer_of(module)
        except (ValueError, TypeError) as error:
            raise type(error)(f"from_torch: {title}: {error}") from error
        assert layer is not None
        if layer.name != "bilinear":
            return layer, params_of(module, "")
    reader = _read(module, shape, chains=True)
    _refuse_unused(module, reader, strict)
    nodes = _reached(
        reader.nodes.entries, [reader.outputs] if isinstance(reader.outputs, str) else reader.outputs
    )
    used = {source for _, *sources in nodes.values() for source in sources}
    inputs = [name for name in reader.inputs if name in used]
    if not inputs:
        raise ValueError(f"from_torch: {title}: its output depends on no input")
    by_name = len(inputs) > 1 or bool(reader.by_key)
    net = graph(nodes, inputs=inputs if by_name else inputs[0], outputs=reader.outputs)
    if reader.asks_for_sizes:
        net = for_shape(net, shape)
    return net, {name: reader.nodes.params.get(name, ()) for name in net.children}


def _read(module: Any, shape: Any, chains: bool) -> Reader:
    """Read a forward; with `chains`, a torch.nn.Sequential of layers is taken as one."""

    def ends(m: Any) -> bool:
        if chains and is_chain(m):
            return not works_in_place(m)
        return is_leaf(m) or _foreign(m)

    # Asked while fx follows, a module's attributes would count as used by its forward.
    leaves = {m for m in module.modules() if ends(m)}
    calls = calls_of(module, leaves.__contains__)
    inside = dict(module.named_modules())
    whole = {
        c.target for c in calls if c.kind == "call_module" and isinstance(inside[c.target], _sequential())
    }
    parts = {c.target for c in calls if c.kind in ("call_module", "get_attr")} - whole
    held = [id(m) for target in whole for m in inside[target].modules()]
    held += [id(inside[c]) for c in parts if c in inside]
    torn = any(part.startswith(f"{chain}.") for part in parts | whole for chain in whole)
    if whole and (torn or len(set(held)) < len(held)):
        return _read(module, shape, chains=False)  # some layer of a chain is used by itself too
    reader = Reader(module, calls, shape)
    reader.read()
    return reader


def _foreign(module: Any) -> bool:
    """Tell a module of torch itself that has no layer."""
    inside = type(module).__module__.startswith(("torch.nn.", "torch.ao."))
    return inside and not is_leaf(module) and not isinstance(module, _sequential())


def _refuse_ties(module: Any) -> None:
    """Refuse parameters that two modules share, where the modules themselves are not one."""
    seen: dict[int, str] = {}
    for path, m in module.named_modules():
        for name, tensor in own(m).items():
            full = f"{path}.{name}" if path else name
            if id(tensor) in seen:
                raise ValueError(
                    f"from_torch: {seen[id(tensor)]} and {full} are one tensor; layers share parameters as a "
                    f"whole only"
                )
            seen[id(tensor)] = full


def _sequential() -> type:
    from torch import nn

    found: type = nn.Sequential
    return found


def _refuse_additions(module: Any) -> None:
    """Refuse what changes a module's forward from outside."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "from_torch: a scripted module cannot be followed; give the module that was scripted"
        )
    for path, m in module.named_modules():
        where = f"from_torch: {path or 'the module itself'} ({type(m).__name__})"
        if any(type(p).__name__.startswith("Uninitialized") for p in own(m).values()):
            raise ValueError(f"{where}: it has no shape yet; run the module once, so that it gets one")
        if torch.nn.utils.parametrize.is_parametrized(m):
            names = ", ".join(m.parametrizations)
            raise ValueError(
                f"{where}: its {names} is parametrized, as by weight_norm; make it plain with "
                f"torch.nn.utils.parametrize.remove_parametrizations"
            )
        for kind in ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks"):
            hooks = getattr(m, kind, None)
            if hooks:
                hook = next(iter(hooks.values()))
                name = getattr(hook, "__qualname__", type(hook).__name__)
                raise ValueError(f"{where}: it has a hook, {name}, which no layer runs; remove it first")


def _refuse_unused(module: Any, reader: Reader, strict: bool) -> None:
    unused = [
        f"{path}.{name}" if path else name
        for path, m in module.named_modules()
        for name, tensor in own(m).items()
        if id(tensor) not in reader.nodes.holders
    ]
    if unused and strict:
        raise ValueError(
            f"from_torch: {type(module).__name__}: its forward does not use {', '.join(unused)}; "
            f"strict=False leaves them out"
        )


def _reached(nodes: dict[str, tuple[Any, ...]], outputs: list[str]) -> dict[str, tuple[Any, ...]]:
    """Keep the nodes that an output depends on."""
    reached: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in reached:
            reached.add(name)
            waiting.extend(nodes[name][1:])
    kept = {}
    for name, (entry, *sources) in nodes.items():
        if name not in reached:
            continue
        if isinstance(entry, str) and entry not in reached:
            raise ValueError(f"from_torch: {entry}: its first call has no effect, and {name} calls it again")
        kept[name] = (entry, *sources)
    return kept
