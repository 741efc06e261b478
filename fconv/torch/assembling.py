"""A network put together from what was read of a torch.nn.Module."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from fconv.layer import Layer, Params
from fconv.networks import graph
from fconv.networks.reading import UnfitError, used
from fconv.torch import trials
from fconv.torch.exporting import export, signature_of
from fconv.torch.fixed import for_shape
from fconv.torch.modes import DROPOUTS, compare
from fconv.torch.modules import is_chain, is_leaf, layer_of
from fconv.torch.program import Program, named, program_of
from fconv.torch.reading import Reader, reached
from fconv.torch.values import Own, Size, described
from fconv.torch.weights import own, params_of

COUNTER = "num_batches_tracked"


def read(module: Any, shape: Any, strict: bool, layers: Mapping[str, Any] | None) -> tuple[Layer, Params]:
    """Read a module; see `fconv.from_torch`."""
    from torch import nn

    if not isinstance(module, nn.Module):
        raise TypeError(f"from_torch: expected a torch.nn.Module, got {type(module).__name__}")
    module = _unwrapped(module)
    _refuse_additions(module)
    title = type(module).__name__
    try:
        if is_leaf(module) or is_chain(module):
            layer = layer_of(module)
            if layer.name != "bilinear" and not _tied(module):
                return layer, params_of(module, "")
        return _read(module, shape, strict, layers or {})
    except UnfitError as error:
        raise ValueError(f"from_torch: {title}: {error}") from error


def _read(module: Any, shape: Any, strict: bool, layers: Mapping[str, Any]) -> tuple[Layer, Params]:
    signature = signature_of(module, shape)
    choose = trials.guessed if shape is None else trials.given
    examples, open_axes = choose(module, signature, *(() if shape is None else (shape,)))
    program = _program(module, signature, examples, open_axes, strict)
    if any(isinstance(size, int) for t in program.inputs for size in t.shape[:1]):
        # The batch is not open: read it for the batch that was given.
        examples, open_axes = _closed(module, signature, shape, examples)
        program = _program(module, signature, examples, open_axes, strict)
    if shape is not None:
        _require_open(program, signature.names, open_axes)
    reader = Reader(module, program, signature.names, layers)
    reader.read()
    _refuse_obstacles(reader)
    _refuse_unused(module, reader, strict)
    return _network(module, reader, by_name=len(signature.names) > 1 or signature.keys is not None)


def _require_open(program: Program, names: Any, open_axes: Any) -> None:
    """Require that the sizes that were given as None stayed open."""
    for name, tensor in zip(names, program.inputs, strict=True):
        for axis in open_axes[name]:
            if axis and isinstance(tensor.shape[axis], int):
                raise UnfitError(
                    f"its forward fixes axis {axis} of {name}, which shape= leaves open; give its size"
                )


def _closed(module: Any, signature: Any, shape: Any, examples: Any) -> Any:
    if shape is None:
        raise UnfitError("its forward is for one batch size; give from_torch shape= with that")
    shapes = shape if isinstance(shape, Mapping) else {signature.names[0]: shape}
    if any(None in sizes for sizes in shapes.values()):
        raise UnfitError("its forward is for one batch size and shape; give from_torch shape= without None")
    tensors = {name: tensor.new_zeros(shapes[name]) for name, tensor in examples.items()}
    return tensors, {name: [] for name in tensors}


def _program(module: Any, signature: Any, examples: Any, open_axes: Any, strict: bool) -> Program:
    """Export a module in both modes, and return what both have in common."""
    train = program_of(export(module, signature, examples, open_axes, True), module)
    infer = program_of(export(module, signature, examples, {name: [] for name in examples}, False), module)
    try:
        train.outputs, further = compare(train, infer)
    except UnfitError as error:
        if strict:
            raise UnfitError(f"{error}; strict=False reads what it does in inference") from error
        infer = program_of(export(module, signature, examples, open_axes, False), module)
        _follow_train(infer)
        return infer
    if further:
        kept = {id(t.tensor) for t in reached(train, train.outputs) if isinstance(t, Own)}
        aside = {t.name: id(t.tensor) for t in reached(train, further) if isinstance(t, Own)}
        train.aside = {name for name, tensor in aside.items() if tensor not in kept}
        warnings.warn(
            f"from_torch: {type(module).__name__}: in training its forward returns {len(further)} further "
            f"output{'s' * (len(further) > 1)}, which the network leaves out, with the parameters of "
            f"{', '.join(dict.fromkeys(name.partition('.')[0] for name in sorted(train.aside))) or 'none'}",
            stacklevel=5,
        )
    return train


def _follow_train(program: Program) -> None:
    """Let norms take the statistics of the batch where the network trains."""
    for operator in program.operators:
        if operator.name == "batch_norm" and operator.args["running_mean"] is not None:
            operator.args = {**operator.args, "training": True}
        if operator.name in DROPOUTS and operator.args["train"]:
            raise UnfitError(f"{operator.title} in {described(operator)}: it drops outside training")


def _network(module: Any, reader: Reader, by_name: bool) -> tuple[Layer, Params]:
    nodes = used(
        reader.nodes.entries, [reader.outputs] if isinstance(reader.outputs, str) else reader.outputs
    )
    taken = {source for _, *sources in nodes.values() for source in sources}
    inputs = [name for name in reader.inputs if name in taken]
    if not inputs:
        raise UnfitError("its output depends on no input")
    net = graph(nodes, inputs=inputs if by_name else inputs[0], outputs=reader.outputs)
    net = for_shape(net, _pattern(reader, inputs, by_name))
    return net, {name: reader.nodes.params.get(name, ()) for name in net.children}


def _pattern(reader: Reader, inputs: list[str], by_name: bool) -> Any:
    """Return the shape that the network takes, with None where it takes any size."""
    each = {
        name: tuple(None if isinstance(n, Size) else n for n in reader.inputs[name].shape) for name in inputs
    }
    return each if by_name else each[inputs[0]]


def _unwrapped(module: Any) -> Any:
    """Take off what only spreads or compiles a module."""
    import torch

    while True:
        if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module


def _tied(module: Any) -> bool:
    """Return whether two modules share a tensor without being one."""
    tensors = [id(t) for m in module.modules() for t in own(m).values()]
    return len(set(tensors)) < len(tensors)


def _refuse_additions(module: Any) -> None:
    """Refuse what changes a module's forward from outside."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "from_torch: a scripted module cannot be followed; give the module that was scripted"
        )
    for path, m in module.named_modules():
        where = f"from_torch: {path or 'the module itself'} ({type(m).__name__})"
        if isinstance(m, torch.nn.RNNBase | torch.nn.RNNCellBase):
            raise ValueError(f"{where}: recurrent modules have no layer")
        if any(type(p).__name__.startswith("Uninitialized") for p in own(m).values()):
            raise ValueError(f"{where}: it has no shape yet; run the module once, so that it gets one")
        if torch.nn.utils.parametrize.is_parametrized(m):
            names = ", ".join(m.parametrizations)
            raise ValueError(
                f"{where}: its {names} is parametrized, as by weight_norm; make it plain with "
                f"torch.nn.utils.parametrize.remove_parametrizations"
            )
        for kind in ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks"):
            for hook in getattr(m, kind, {}).values():
                name = getattr(hook, "__qualname__", type(hook).__name__)
                way = {"WeightNorm": "weight_norm", "SpectralNorm": "spectral_norm"}.get(name)
                remove = f"torch.nn.utils.remove_{way} makes its weight plain" if way else "remove it first"
                raise ValueError(f"{where}: it has a hook, {name}, which no layer runs; {remove}")
    for name, tensor in named(module):
        if tensor.is_meta:
            raise ValueError(f"from_torch: {name} is on the meta device and holds no numbers")


def _refuse_obstacles(reader: Reader) -> None:
    """List all operators that have no layer."""
    if not reader.obstacles:
        return
    lines = []
    for (title, reason), places in reader.obstacles.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        lines.append(f"{title} in {places[0]}{more}: {reason}")
    operators = list(dict.fromkeys(title for title, _ in reader.obstacles))
    way = f"a layer of your own takes the place of an operator: layers={{{operators[0]!r}: my_layer}}"
    text = (
        lines[0]
        if len(lines) == 1
        else f"{len(lines)} operators have no layer:\n  " + "\n  ".join(lines) + "\n"
    )
    raise UnfitError(f"{text}{'; ' if len(lines) == 1 else ''}{way}")


def _refuse_unused(module: Any, reader: Reader, strict: bool) -> None:
    unused = [
        full
        for path, m in module.named_modules()
        for name, tensor in own(m).items()
        if id(tensor) not in reader.nodes.held
        and (full := f"{path}.{name}" if path else name) not in reader.program.aside
        and name != COUNTER
    ]
    if unused and strict:
        raise UnfitError(f"its forward does not use {', '.join(unused)}; strict=False leaves them out")
