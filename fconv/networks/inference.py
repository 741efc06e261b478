"""A network made ready for inference: fewer layers, fewer passes over memory, the same results."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fconv import layers, trees
from fconv.arrays import narrowed, xp_of
from fconv.engine.constants import constant
from fconv.layer import Layer, Params, Step, Wiring, as_layer, check_params, params_at
from fconv.networks import compose, fused, graph
from fconv.networks.fused import AFFINE, FRESH, curve_of, made_by_fconv
from fconv.networks.wiring import flat

__all__ = ["for_inference"]

_NOTHING = ("identity", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout")
"""Layers that outside training return their input."""


def for_inference(net: Layer, params: Params) -> tuple[Layer, Params]:
    """Return a network that computes what `net` computes outside training, in fewer passes over memory.

    Batch normalisation is folded into the convolution or affine map before it, dropout and identities are
    left out, and a convolution, an added shortcut and an activation become one layer, `fused`.

    Parameters
    ----------
    net : Layer
        A network of any kind.
    params : pytree
        Its parameters, which are not changed. The result shares the arrays of layers that nothing is folded
        into, but for the weights of convolutions.

    Returns
    -------
    (Layer, pytree)
        A `graph` of the innermost layers and its parameters. The weights of convolutions are read-only
        copies: what the engine makes of them is made once, and kept as long as they are. Names in a state
        dict are those of `net`; what was folded away has none. Results are those of
        ``net.apply(params, x)`` within rounding, training is not: no batch enters the statistics any more.

    Raises
    ------
    TypeError
        `net` is no layer, or `params` are not its parameters.
    ValueError
        Two layers have the same dotted name.

    Notes
    -----
    A batch norm is not folded if the layer before it is not a convolution or an affine map, if another layer
    takes that layer's output too, if one of the two shares its parameters with another layer, or if it
    normalises by the batch's statistics. Behind `linear` the input is taken to be (N, features); the folded
    layer refuses others. Blocks whose inside depends on the input (`squeeze_excitation`) stay as they are.

    References
    ----------
    Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
    inference", 2018, section 3.2.

    Examples
    --------
    >>> from fconv import random
    >>> from fconv.layers import batch_norm, conv2d, dropout, relu
    >>> net = compose(conv2d(8, 3, bias=False), batch_norm(), relu(), dropout())
    >>> params = net.init(random.key(0), (1, 3, 9, 9))
    >>> lean, its = for_inference(net, params)
    >>> lean
    graph(
      0: fused(
        conv2d: conv2d(out_channels=8, kernel_size=(3, 3))
        relu: relu()
      )
    )
    >>> its["0"]["weight"].shape, its["0"]["bias"].shape
    ((8, 3, 3, 3), (8,))
    """
    net = as_layer("for_inference", net)
    if not _open(net, several=True) or (wiring := net.wiring(None)) is None or net.name == "fused":
        return net, params
    laid = flat(net, keep=lambda layer: not _open(layer) or layer.name == "fused")
    plan = _Plan(laid, params, whole=net.name != "with_outputs")  # which leaves layers out
    plan.leave_out_nothing()
    plan.fold_norms()
    plan.fuse()
    return plan.network(wiring.outputs)


def _open(layer: Layer, several: bool = False) -> bool:
    """Return whether a layer's inside is known without an input, with one input and output or `several`."""
    try:
        inside = layer.wiring(None)
    except ValueError:
        return False
    return inside is None or several or (inside.lone_input and inside.lone_output)


class _Plan:
    """The steps of a network laid flat, with the parameters of each, and what becomes of them."""

    def __init__(self, wiring: Wiring, params: Params, whole: bool) -> None:
        self._wiring, self._outputs = wiring, wiring.outputs
        self._steps = {step.name: step for step in wiring.steps}
        self._shared = Counter(step.params for step in wiring.steps)
        self._parts: dict[str, Params] = {}
        for step in wiring.steps:
            try:
                self._parts[step.name] = params_at(params, step.params)
            except (KeyError, TypeError):
                raise ValueError(
                    f"for_inference: params hold none for {step.name} {step.layer.name}; "
                    f"write params = net.init(key, shape)"
                ) from None
        held: dict[Any, Step] = {}
        for step in wiring.steps:
            other = held.setdefault(step.params, step)
            if step.params is not None and other.layer != step.layer:
                raise ValueError(
                    f"for_inference: {step.name} reads the parameters of {other.name}, which may be folded; "
                    f"make the network ready without it"
                )
        if not whole:
            return
        spare = len(trees.leaves(params)) - sum(
            len(trees.leaves(self._parts[step.name])) for step in held.values()
        )
        if spare:
            raise ValueError(f"for_inference: params hold {spare} arrays that no layer of the network takes")

    def leave_out_nothing(self) -> None:
        """Leave out the layers that return their input."""
        for step in list(self._steps.values()):
            if step.layer.name in _NOTHING and made_by_fconv(step.layer):
                self._replace(step.name, self._steps[step.name].sources[0])

    def fold_norms(self) -> None:
        """Fold batch norms into what they follow."""
        for name in list(self._steps):
            norm = self._steps[name]
            before = self._steps.get(norm.sources[0]) if norm.sources else None
            if before is None or norm.layer.name != "batch_norm" or before.layer.name not in AFFINE:
                continue
            folds = self._alone(norm) and self._alone(before) and self._uses()[before.name] == 1
            if not folds or not norm.layer.options["track_running_stats"]:
                continue
            part = _folded(before, self._parts[before.name], norm, self._parts[name])
            sources = before.sources
            if before.layer.name == "linear" and not self._has_two_axes(sources[0]):
                # The norm sees the second axis, the affine map the last: inputs of three axes are refused.
                guard = f"{before.name}.input"
                self._steps[guard] = Step(guard, layers.flatten(), sources, None)
                self._parts[guard], sources = (), (guard,)
            layer = getattr(layers, before.layer.name)(**{**before.layer.options, "bias": True})
            self._steps[before.name] = before._replace(layer=layer, sources=sources)
            self._parts[before.name] = part
            self._replace(name, before.name)

    def fuse(self) -> None:
        """Join each layer with what follows it element by element."""
        for name in list(self._steps):
            first = self._steps.get(name)
            if first is None or first.layer.name not in FRESH or not self._alone(first):
                continue
            after: list[Layer] = []
            sources, merges = first.sources, first.layer.name == "add"
            while (following := self._lone_use(name)) is not None:
                adds = following.layer.name == "add" and len(following.sources) == 2 and not merges
                if not made_by_fconv(following.layer) or not (adds or curve_of(following.layer)):
                    break
                after.append(following.layer)
                sources += tuple(source for source in following.sources if source != name)
                self._replace(following.name, name)
            if after:
                self._steps[name] = first._replace(layer=fused(first.layer, *after), sources=sources)

    def network(self, names: tuple[str, ...]) -> tuple[Layer, Params]:
        """Return the network and its parameters; several outputs have the names they had."""
        lone = self._wiring.lone_output
        if lone:
            names = self._outputs if self._outputs[0] in self._steps else ("output",)
        for name, found in zip(names, self._outputs, strict=True):
            if name != found:
                self._steps[name] = Step(name, compose(), (found,), None)
                self._parts[name] = ()
        owners: dict[Any, str] = {}
        nodes: dict[str, tuple[Any, ...]] = {}
        for step in self._steps.values():
            owner = step.name if step.params is None else owners.setdefault(step.params, step.name)
            nodes[step.name] = (step.layer if owner == step.name else owner, *step.sources)
        inputs = self._wiring.inputs
        net = graph(
            nodes,
            inputs=inputs[0] if self._wiring.lone_input else inputs,
            outputs=names[0] if lone else names,
        )
        return net, {name: _fixed(net[name], self._parts[name]) for name in net.children}

    def _alone(self, step: Step) -> bool:
        """Return whether a layer is fconv's own and shares its parameters with no other place."""
        return made_by_fconv(step.layer) and (step.params is None or self._shared[step.params] == 1)

    def _uses(self) -> Counter[str]:
        """Count how often each value is used."""
        taken = [source for step in self._steps.values() for source in step.sources]
        return Counter((*taken, *self._outputs))

    def _lone_use(self, name: str) -> Step | None:
        """Return the step that alone takes a value."""
        takers = [step for step in self._steps.values() if name in step.sources]
        return takers[0] if len(takers) == 1 and self._uses()[name] == 1 else None

    def _replace(self, name: str, by: str) -> None:
        """Leave a step out; what took its output takes another value."""
        del self._steps[name]
        for step in self._steps.values():
            if name in step.sources:
                sources = tuple(by if source == name else source for source in step.sources)
                self._steps[step.name] = step._replace(sources=sources)
        self._outputs = tuple(by if output == name else output for output in self._outputs)

    def _has_two_axes(self, name: str) -> bool:
        """Return whether a value is known to be (N, features)."""
        step = self._steps.get(name)
        if step is None or not made_by_fconv(step.layer):
            return False
        if step.layer.name == "flatten":
            return step.layer.options == {"start_dim": 1, "end_dim": -1}
        passing = step.layer.name in ("linear", "batch_norm") or curve_of(step.layer) is not None
        return passing and self._has_two_axes(step.sources[0])


def _fixed(layer: Layer, part: Params) -> Params:
    """Return parameters of a layer, where the weight of a convolution is a constant of the engine."""
    first = next(iter(layer.children.values())) if layer.name == "fused" else layer
    weight = part.get("weight") if first.name in ("conv1d", "conv2d", "conv3d") else None
    if type(weight) is not np.ndarray or weight.dtype.char not in "fd":
        return part
    return {**part, "weight": constant(weight)}


def _folded(before: Step, affine: Params, norm: Step, held: Params) -> Params:
    """Return the weight and bias of an affine map with a batch norm behind it, computed in float64."""
    options, scaled = before.layer.options, norm.layer.options["affine"]
    tracked = ("running_mean", "running_var", "num_batches_tracked")
    both = ("weight", "bias")
    where = "for_inference:"
    check_params(f"{where} {before.name} {before.layer.name}", affine, both if options["bias"] else both[:1])
    check_params(f"{where} {norm.name} batch_norm", held, (*(both if scaled else ()), *tracked))
    weight = affine["weight"]
    channels = (options.get("out_channels", options.get("out_features")),)
    for leaf in (*(both if scaled else ()), *tracked[:2]):
        if held[leaf].shape != channels:
            raise ValueError(
                f"{where} {norm.name} batch_norm: expected a {leaf} of shape {channels} behind {before.name} "
                f"{before.layer.name}, got {held[leaf].shape}"
            )
    wide = {leaf: v.astype(np.float64) for leaf, v in held.items() if v.dtype.kind == "f"}
    with np.errstate(divide="ignore", invalid="ignore"):  # where variance and eps are 0, as the norm itself
        factor = wide.get("weight", 1.0) / xp_of(weight).sqrt(wide["running_var"] + norm.layer.options["eps"])
        shift = (affine["bias"].astype(np.float64) if options["bias"] else 0.0) - wide["running_mean"]
        shift = shift * factor + wide.get("bias", 0.0)
        if "transpose" in before.layer.name:  # (C, O / groups, ...), the groups one after another along C
            parted = weight.reshape(options["groups"], -1, *weight.shape[1:]).astype(np.float64)
            by = factor.reshape(options["groups"], 1, weight.shape[1], *(1,) * (weight.ndim - 2))
            product = (parted * by).reshape(weight.shape)
        else:
            product = weight.astype(np.float64) * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    return {"weight": narrowed(product, weight.dtype), "bias": narrowed(shift, weight.dtype)}
