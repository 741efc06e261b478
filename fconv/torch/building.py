"""A torch.nn.Module from a network and its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fconv.arrays import Shape
from fconv.layer import Layer, Params, Step, located, params_at
from fconv.networks.wiring import flat
from fconv.torch.expressions import expression_of
from fconv.torch.modules import has_module, module_of
from fconv.torch.ranks import rank_after


class _Known(NamedTuple):
    """Knowledge of a tensor's shape: all, its number of axes, or nothing."""

    shape: Any = None
    rank: int | None = None


def build(net: Layer, params: Params, tensors: Mapping[str, Any], shape: Any) -> Any:
    """Build the module of a network, whose state dict is `tensors`; see `fconv.to_torch_module`."""
    if has_module(net) or _is_chain(net):
        module = _module("", net, params, _known(shape))
    else:
        module = _graph_module(net, params, shape)
    expected = module.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys())
    wrong += [n for n in tensors if n in expected and tensors[n].shape != expected[n].shape]
    if wrong:
        raise ValueError(f"to_torch_module: the parameters do not fit the network at {', '.join(wrong)}")
    module.load_state_dict(tensors, assign=True)
    return module


def _known(shape: Any) -> _Known:
    return _Known() if shape is None else _Known(shape, len(shape))


def _is_chain(layer: Layer) -> bool:
    """Return whether a network is a `compose` of modules, which is a torch.nn.Sequential."""
    return layer.name == "compose" and all(has_module(c) or _is_chain(c) for c in layer.children.values())


def _stays_whole(layer: Layer) -> bool:
    # What `concat_padded` is made of holds for one size alone; the module takes any.
    return _is_chain(layer) or layer.name == "concat_padded"


def _module(name: str, layer: Layer, params: Params, known: _Known) -> Any:
    """Make the module of a layer, or of a chain of them."""
    import torch

    if layer.name == "compose":
        parts = torch.nn.Sequential()
        for part, child in layer.children.items():
            parts.add_module(
                part, _module(f"{name}.{part}".strip("."), child, params_at(params, (part,)), known)
            )
            known = _after(child, [known])
        return parts
    try:
        with torch.device("meta"):  # the numbers come from `params`
            return module_of(layer, params, known.shape, known.rank)
    except (ValueError, TypeError) as error:
        raise ValueError(f"to_torch_module: {name or 'the network'}: {error}") from error


def _after(layer: Layer, entering: Sequence[_Known]) -> _Known:
    """Return what is known of a layer's output."""
    if all(known.shape is not None for known in entering):
        each = tuple(known.shape for known in entering)
        shape: Shape = layer.out_shape(each[0] if len(each) == 1 else each)
        return _Known(shape, len(shape))
    return _Known(None, rank_after(layer, [known.rank for known in entering]))


def _graph_module(net: Layer, params: Params, shape: Any) -> Any:
    import torch
    from torch import fx

    wiring = flat(net, shape, keep=_stays_whole)
    graph, tensors, tracer = fx.Graph(), {}, None
    tracer = fx.proxy.GraphAppendingTracer(graph)
    values: dict[str, tuple[Any, _Known]] = {}
    given = {} if shape is None else wiring.entering(shape)
    constants: dict[str, Any] = {}

    def hold(array: Any) -> Any:
        name = f"constant_{len(constants)}"
        constants[name] = tensors[name] = torch.from_numpy(np.array(array))
        return fx.Proxy(graph.get_attr(name), tracer)

    for name in wiring.inputs:
        values[name] = (graph.placeholder(_identifier(name)), _known(given.get(name)))
    for step in wiring.steps:
        sources = [values[source] for source in step.sources]
        nodes, entering = [node for node, _ in sources], [known for _, known in sources]
        with located(f"to_torch_module: {step.name}:", step.layer):
            left = _after(step.layer, entering)
        part, path = params_at(params, step.params), _path(step)
        if step.layer.name == "parameter":
            home, _, leaf = path.rpartition(".")
            if leaf in getattr(tensors.get(home), "_parameters", ()):
                kind = type(tensors[home]).__name__
                raise ValueError(f"to_torch_module: {path}: the {kind} at {home} would apply it once more")
            tensors[path] = _bare(step.layer)
            node = graph.get_attr(path)
        elif step.layer.name == "stochastic_depth":
            tensors[path] = torch.nn.Dropout(step.layer.options["p"])
            node = _dropped(graph, tracer, path, nodes[0], entering[0].rank, step.layer)
        elif has_module(step.layer) or _is_chain(step.layer):
            if path not in tensors:
                tensors[path] = _module(step.name, step.layer, part, entering[0])
            node = graph.call_module(path, tuple(nodes))
        else:
            compute = expression_of(step.layer, [known.rank for known in entering], hold)
            if compute is None:
                what = step.layer.options.get("function", step.layer.name)
                raise ValueError(f"to_torch_module: {step.name}: {what} is nothing that PyTorch has")
            node = compute(*(fx.Proxy(node, tracer) for node in nodes)).node
        values[step.name] = (node, left)
    leaving = {name: values[name][0] for name in wiring.outputs}
    graph.output(leaving[wiring.outputs[0]] if wiring.lone_output else leaving)
    module = fx.GraphModule(tensors, graph, class_name="Network")
    for name, tensor in constants.items():  # outside the state dict
        delattr(module, name)
        module.register_buffer(name, tensor, persistent=False)
    return module


def _dropped(graph: Any, tracer: Any, path: str, node: Any, rank: int | None, layer: Layer) -> Any:
    """Multiply examples by ones that a Dropout drops, which is stochastic depth."""
    from torch import fx

    if rank is None:
        raise ValueError("to_torch_module: stochastic_depth: it depends on the number of axes; give shape=")
    x = fx.Proxy(node, tracer)
    count = x.shape[0] if layer.options["mode"] == "row" else 1
    kept = graph.call_module(path, (x.new_ones((count, *(1,) * (rank - 1))).node,))
    return (x * fx.Proxy(kept, tracer)).node


def _path(step: Step) -> str:
    """Return the place of a step's module: that of its parameters, or its own where it has none."""
    return ".".join(step.params) if step.params else step.name


def _bare(layer: Layer) -> Any:
    import torch

    tensor = torch.empty(layer.options["shape"], device="meta")
    return torch.nn.Parameter(tensor) if layer.options["trained"] else tensor


def _identifier(name: str) -> str:
    found = re.sub(r"\W", "_", name)
    return found if found.isidentifier() else f"input_{found}"
