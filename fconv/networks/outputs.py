"""Parts of a ready network, and what it computes on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

from fconv import random, trees
from fconv.arguments.constructors import constructor
from fconv.arguments.patterns import nearest
from fconv.arguments.signatures import shown
from fconv.arrays import Array
from fconv.layer import (
    Layer,
    LayerPullback,
    Params,
    Rebuilding,
    Step,
    Wiring,
    as_layer,
    no_gradient,
    params_at,
    vjp_of,
)
from fconv.networks.chains import compose
from fconv.networks.dataflow import Dataflow, Node
from fconv.tangents import wired_jvp


def part(net: Layer, params: Params, index: int | slice | str) -> tuple[Layer, Params]:
    """Return a layer inside a network, or the network of a slice, with its parameters.

    Parameters
    ----------
    net : Layer
        The network.
    params : pytree
        Its parameters.
    index : int, slice or str
        As ``net[index]`` takes it.

    Returns
    -------
    (Layer, pytree)
        ``net[index]``, and those of the arrays in `params` that are its own.

    Raises
    ------
    IndexError, ValueError, TypeError
        As ``net[index]``: there is no such layer, or the slice leaves inputs open.

    Examples
    --------
    >>> from fconv.layers import linear, relu
    >>> from fconv.networks import compose
    >>> net = compose(body=compose(linear(8), relu()), head=linear(2))
    >>> params = net.init(random.key(0), (4, 3))
    >>> layer, own = part(net, params, "body.0")
    >>> layer, own["weight"].shape
    (linear(out_features=8), (8, 3))
    """
    net = as_layer("part", net)
    inside = net[index]
    if isinstance(index, slice):
        if isinstance(params, Mapping):
            return inside, {name: params[name] for name in inside.children}
        return inside, params[index]
    if not isinstance(index, str):
        index = list(net.children)[index]
    return inside, params_at(params, _path(net, index))


def _path(net: Layer, name: str) -> tuple[str, ...]:
    """Return where the parameters of a layer inside stand."""
    wiring = net.wiring(None)
    steps = () if wiring is None else wiring.steps
    for step in sorted(steps, key=lambda step: len(step.name), reverse=True):
        if name == step.name:
            return step.params or ()
        if name.startswith(f"{step.name}."):
            return (*(step.params or ()), *_path(step.layer, name[len(step.name) + 1 :]))
    return ()  # the one layer of a repetition


@constructor
def with_outputs(net: Layer, names: str | Sequence[str]) -> Layer:
    """Make a network that returns intermediate values of another, by dotted name.

    Parameters
    ----------
    net : Layer
        A network, of `fconv.models` or traced ones included.
    names : str or sequence of str
        Names of layers or networks inside, such as ``"features.8"`` or ``"layer1.0"``, which stand for
        their output; or of parameters, such as ``"fc.weight"``, which stand for themselves.

    Returns
    -------
    Layer
        With the parameters of `net`. Its output is a dict by `names`, in their order. Layers that none of
        these depends on are not computed, and their gradients are None. In training it draws the random
        numbers that `net` draws.

    Raises
    ------
    ValueError
        There is no such layer (the nearest names are given), or it lies inside a block whose inside depends
        on the input, such as `squeeze_excitation`.
    TypeError
        `net` is no layer, or a name is not a str.

    Examples
    --------
    >>> from fconv.layers import linear, relu
    >>> from fconv.networks import compose
    >>> net = compose(body=compose(linear(8), relu()), head=linear(2))
    >>> with_outputs(net, ["body.0", "head"]).out_shape((4, 3))
    {'body.0': (4, 8), 'head': (4, 2)}
    """
    net = as_layer("with_outputs", net)
    wanted = (names,) if isinstance(names, str) else names
    if not isinstance(wanted, (tuple, list)) or not wanted or not all(isinstance(n, str) for n in wanted):
        raise TypeError(f'with_outputs: expected names of layers, as ["features.8"], got {shown(names)}')
    nodes, values, top = _expanded(net, wanted)
    inputs, lone = top.inputs, top.lone_input
    outputs = {name: values[name] for name in wanted}
    placed = _before(nodes, set(outputs.values()))
    flow = Dataflow("with_outputs", [at.node for at in placed], inputs, outputs, lone, False)

    def keys_for(train: bool, key: Array | None) -> list[Array | None]:
        if key is not None:
            random.check_key("with_outputs", key)
        if key is None or not train:
            return [None] * len(placed)
        # As the networks split it, one inside the other: more keys begin with the same ones.
        return [reduce(lambda k, i: random.split(k, i + 1)[i], at.turns, key) for at in placed]

    def by_owner(params: Params) -> dict[str, Params]:
        return {at.node.owner: params_at(params, at.path) for at in placed}

    def whole(params: Params, parts: Mapping[str, Params]) -> Params:
        for path, own in {at.path: parts[at.node.owner] for at in placed}.items():
            params = params if path is None else _put(params, path, own)
        return params

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Any:
        return flow.apply(by_owner(params), x, train, keys_for(train, key))

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        y, refreshed, pull = flow.forward(by_owner(params), x, train, keys_for(train, key))

        def pullback(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            dparts, dx = pull(g, input_grad)
            return whole(no_gradient(params), dparts), dx

        return y, whole(params, refreshed), pullback

    def out_shape(shape: Any) -> Any:
        read = {at.node.name: at for at in placed if isinstance(at.node.layer, _Reader)}
        shapes = replace(flow, nodes=[at.node for at in placed if at.node.name not in read]).shapes(shape)
        params = net.init(random.key(0), shape) if read else ()
        for name, at in read.items():
            shapes[name] = at.node.layer.apply(params_at(params, at.path), ()).shape
        return flow.leaving(shapes)

    steps = tuple(Step(at.node.name, at.node.layer, at.node.sources, at.path) for at in placed)
    renamed = (Step(name, compose(), (value,), None) for name, value in outputs.items() if name != value)
    wiring = Wiring((*steps, *renamed), inputs, tuple(outputs), lone, lone_output=False)

    def jvp(
        params: Params, x: Any, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Any]:
        keys = [*keys_for(train, key), *[None] * (len(wiring.steps) - len(placed))]
        return wired_jvp("with_outputs", wiring, params, x, dparams, dx, train, keys)

    return Layer(
        init=net.init, apply=apply, vjp=vjp_of(forward), jvp=jvp, out_shape=out_shape, forward=forward,
        name="with_outputs", options={"names": tuple(wanted)}, children=net.children,
        wiring=lambda shape: wiring,
        rebuilding=Rebuilding(forward, lambda f: with_outputs(f((), net), names)),
    )  # fmt: skip


class _Placed(NamedTuple):
    """A node, the path to its parameters, and its place in the order of each network around it."""

    node: Node
    path: tuple[str, ...] | None
    turns: tuple[int, ...]


class _Reader(Layer):
    """A parameter of another layer, as a value."""


def _reader(leaf: str, layer: Layer) -> Layer:
    trained = leaf not in layer.buffers

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Array:
        if not isinstance(params, Mapping) or leaf not in params:
            known = ", ".join(params) if isinstance(params, Mapping) and params else "none"
            raise ValueError(f"{layer.name} has no parameter {leaf!r}; there are {known}")
        return params[leaf]

    def vjp(params: Params, x: Any, g: Any, **options: Any) -> tuple[Params, Any]:
        return {**no_gradient(params), leaf: g if trained else None}, ()

    def jvp(params: Params, x: Any, dparams: Any, dx: Any, **options: Any) -> tuple[Any, Any]:
        return apply(params, x), dparams[leaf]

    return _Reader(
        lambda key, shape, dtype=None: (), apply, vjp, lambda shape: shape, name="parameter",
        trained=trained, jvp=jvp,
    )  # fmt: skip


def _expanded(net: Layer, names: Sequence[str]) -> tuple[list[_Placed], dict[str, str], Wiring]:
    """Lay a network flat as far as the names reach into it, and find the value that each stands for."""
    wiring = net.wiring(None)
    if wiring is None:
        raise ValueError(f"with_outputs: there is no layer {names[0]!r}: {net.name} is made of no others")
    opened: set[tuple[str, ...]] = set()  # paths to the parameters of networks that are laid flat
    before = -1
    while len(opened) > before:  # another use of the same parameters is laid flat too
        before = len(opened)
        found, meaning = _Expansion(names, opened).of(wiring)
    if missing := [name for name in names if name not in meaning]:
        hint = nearest(missing[0], [at.node.name for at in found])
        raise ValueError(f"with_outputs: there is no layer {missing[0]!r}; {hint}")
    return found, meaning, wiring


class _Expansion:
    """One walk through a network that is being laid flat."""

    def __init__(self, names: Sequence[str], opened: set[tuple[str, ...]]) -> None:
        self.names, self.opened = names, opened
        self.found: list[_Placed] = []
        self.meaning: dict[str, str] = {}

    def of(self, wiring: Wiring) -> tuple[list[_Placed], dict[str, str]]:
        self.walk(wiring, "", (), (), {name: name for name in wiring.inputs})
        return self.found, self.meaning

    def walk(
        self,
        wiring: Wiring,
        before: str,
        root: tuple[str, ...],
        turns: tuple[int, ...],
        values: dict[str, str],
    ) -> None:
        """Append the nodes of a network; `values` tells what each name inside it stands for."""
        for turn, step in enumerate(wiring.steps):
            name, at = before + step.name, (*turns, turn)
            path = None if step.params is None else (*root, *step.params)
            sources = tuple(values[source] for source in step.sources)
            deeper = [each for each in self.names if each.startswith(f"{name}.")]
            inside = self.inside(step.layer, deeper) if deeper or path in self.opened else None
            if inside is not None and inside.lone_input and inside.lone_output and len(sources) == 1:
                self.opened.add(path or ())
                inner = {inside.inputs[0]: sources[0]}
                self.walk(inside, f"{name}.", path or (), at, inner)
                values[step.name] = inner[inside.outputs[0]]
            else:
                owner = name if path is None else ".".join(path)
                self.found.append(_Placed(Node(name, owner, step.layer, sources), path, at))
                values[step.name] = name
                for each in deeper if inside is None and path is not None else ():
                    leaf = each.removeprefix(f"{name}.")
                    if "." not in leaf and each not in self.meaning:
                        node = Node(each, owner, _reader(leaf, step.layer), ())
                        self.found.append(_Placed(node, path, at))
                        self.meaning[each] = each
            if name in self.names:
                self.meaning[name] = values[step.name]

    def inside(self, layer: Layer, deeper: Sequence[str]) -> Wiring | None:
        try:
            return layer.wiring(None)
        except ValueError as error:
            raise ValueError(f"with_outputs: {deeper[0]!r} cannot be had: {error}") from None


def _before(nodes: Sequence[_Placed], names: set[str]) -> list[_Placed]:
    """Return the nodes that some values depend on, in their order."""
    needed, kept = set(names), []
    for at in reversed(nodes):
        if at.node.name in needed:
            needed.update(at.node.sources)
            kept.append(at)
    return kept[::-1]


def _put(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    """Return a tree with another value at a path."""
    if not path:
        return value
    below = trees.children(tree) or []
    return trees.rebuild(
        tree, [_put(child, path[1:], value) if name == path[0] else child for name, child in below]
    )
