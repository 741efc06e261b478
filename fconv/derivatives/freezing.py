"""Networks of which only some parameters are trained."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

from fconv import trees
from fconv.arguments.patterns import names_of
from fconv.arguments.signatures import plain
from fconv.arrays import Array
from fconv.layer import Layer, LayerPullback, Params, no_gradient, params_at, vjp_of
from fconv.tangents import layer_jvp


def partly_trained(
    net: Layer, params: Params, wanted: Container[str], live: Container[str] | None = None
) -> Layer:
    """Return a network that computes only the gradients of the parameters named in `wanted`.

    All others are None, and nothing is computed on the way to them; of `params` only the names are read. A
    layer with parameters of which none is in `live` stays in inference mode, so that a frozen batch norm
    keeps its running statistics and normalises by them; None leaves every layer in the mode of the call.
    """

    def walk(layer: Layer, part: Params, path: trees.Path) -> Layer:
        names = names_of(part)
        full = {name: ".".join(filter(None, (*path, name))) for name in names}
        kept = frozenset(name for name in names if full[name] in wanted)
        if len(kept) == len(names):
            return layer
        if layer.rebuilding is not None and layer.rebuilding.forward is plain(layer.forward):
            inner = layer.rebuilding.of(
                lambda below, child: walk(child, params_at(part, below), (*path, *below))
            )
            return inner if kept else replace(inner, trained=False)
        awake = live is None or any(full[n] in live for n in names if n not in layer.buffers)
        return _restricted(layer, frozenset(names) - kept, kept - layer.buffers, awake)

    return walk(net, params, ())


def _restricted(layer: Layer, frozen: frozenset[str], wanted: frozenset[str], awake: bool) -> Layer:
    """Return a layer that gives only the gradients of the parameters that `wanted` names."""

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Any:
        return layer.apply(params, x, train=train and awake, key=key)

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        y, refreshed, pull = layer.forward(params, x, train=train and awake, key=key)
        selective = "wrt" in (getattr(pull, "__kwdefaults__", None) or ())

        def pullback(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            if not wanted and not input_grad:
                return no_gradient(params), None
            chosen = {"wrt": wanted} if selective else {}
            grads, dx = pull(g, input_grad, **chosen)
            if not wanted or grads is None:
                return no_gradient(params), dx
            return trees.map_with_path(
                lambda path, _, grad: grad if ".".join(path) in wanted else None, params, grads
            ), dx

        return y, refreshed, pullback

    def jvp(
        params: Params, x: Any, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Any]:
        return layer_jvp(layer, params, x, dparams, dx, train and awake, key)

    return replace(
        layer, apply=apply, forward=forward, vjp=vjp_of(forward), jvp=jvp, trained=bool(wanted),
        buffers=layer.buffers | frozen,
    )  # fmt: skip
