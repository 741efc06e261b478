"""A named acyclic graph of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fconv import random
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, describe
from fconv.layer import Layer, LayerPullback, Params, Rebuilding, Step, Wiring, located, vjp_of
from fconv.networks.dataflow import Dataflow, Node
from fconv.networks.members import Members, split_key


@constructor
def graph(
    nodes: Mapping[str, Sequence[Any]],
    *,
    inputs: str | Sequence[str] = "x",
    outputs: str | Sequence[str] | None = None,
) -> Layer:
    """Connect layers by name.

    Parameters
    ----------
    nodes : mapping
        Each node's name to ``(layer, *sources)``: a layer and the names of the nodes or inputs
        that it takes. With several sources the layer's input is their tuple, as `add`,
        `concat` and `multiply` take it. In the place of a layer may stand the name of another
        node: its layer and its parameters are then used here too, and their gradients added.
        A node without sources takes the empty tuple, as `fconv.parameter` does.
    inputs : str or sequence of str
        Name of the input. With several names, the network's input (and the shape given to
        `init`) is a dict by name.
    outputs : str or sequence of str, optional
        The node that is the output, the last one by default. With several names, the output
        is a dict by name.

    Returns
    -------
    Layer
        With a dict of parameters by node; their names in a state dict are ``node.weight``.

    Raises
    ------
    ValueError
        A cycle, an unknown name, a node or input that no output depends on, or a name that
        stands for both an input and a node.
    TypeError
        A node is not of the form above.

    Examples
    --------
    >>> from fconv.layers import conv2d, relu
    >>> from fconv.networks.merge import add
    >>> net = graph({
    ...     "conv": (conv2d(4, 3, padding=1), "x"),
    ...     "act": (relu(), "conv"),
    ...     "again": ("conv", "act"),  # the same weights once more
    ...     "sum": (add(), "act", "again"),
    ... })
    >>> net.out_shape((1, 4, 8, 8))
    (1, 4, 8, 8)
    >>> sorted(net.init(random.key(0), (1, 4, 8, 8)))
    ['act', 'conv', 'sum']
    """
    if not isinstance(nodes, Mapping) or not nodes:
        raise TypeError(f"graph: expected a mapping of nodes, got {describe(nodes)}")
    _names("the names of nodes", tuple(nodes))
    in_names = _names("inputs", inputs)
    out_names = _names("outputs", list(nodes)[-1] if outputs is None else outputs)
    lone_in, lone_out = isinstance(inputs, str), outputs is None or isinstance(outputs, str)
    # The members are the nodes that bring a layer, as written; `order` has all nodes, as computed.
    members = Members("graph", *_owners(nodes), by_name=True, dots=True)
    order = _sorted(_read(nodes, members, in_names), in_names, out_names)
    flow = Dataflow("graph", order, in_names, {name: name for name in out_names}, lone_in, lone_out)

    def keys_for(train: bool, key: Array | None) -> Sequence[Array | None]:
        return split_key(key if train and members.draws else None, len(order))

    def init(key: Array, shape: Any, dtype: Any = np.float32) -> Params:
        random.check_key("graph.init", key)
        shapes = flow.shapes(shape)
        keys = dict(zip(members.names, random.split(key, len(members.names)), strict=True))
        parts = {}
        for node in order:
            if node.owner not in parts:
                with located(flow.place(node), node.layer):
                    parts[node.owner] = node.layer.init(keys[node.owner], node.gather(shapes), dtype)
        return {name: parts[name] for name in members.names}

    def by_owner(params: Params) -> dict[str, Params]:
        return dict(zip(members.names, members.unpack(params), strict=True))

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Any:
        return flow.apply(by_owner(params), x, train, keys_for(train, key))

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        return flow.forward(by_owner(params), x, train, keys_for(train, key))

    def rebuilt(f: Callable[[tuple[str, ...], Layer], Layer]) -> Layer:
        layers = members.mapped(f).children
        return graph(
            {name: (layers.get(name, node[0]), *node[1:]) for name, node in nodes.items()},
            inputs=inputs, outputs=outputs,
        )  # fmt: skip

    def cut(part: slice) -> Layer:
        kept = _kept(nodes, in_names, part)
        taken = [name for name in in_names if any(name in node[1:] for node in kept.values())]
        return graph(kept, inputs=inputs if lone_in else taken)

    wired = tuple(Step(node.name, node.layer, node.sources, (node.owner,)) for node in order)
    wiring = Wiring(wired, in_names, out_names, lone_in, lone_out)

    return Layer(
        init=init, apply=apply, vjp=vjp_of(forward), out_shape=lambda shape: flow.leaving(flow.shapes(shape)),
        forward=forward, name="graph", children=members.children, wiring=lambda shape: wiring,
        rebuilding=Rebuilding(forward, rebuilt, cut), draws=members.draws,
    )  # fmt: skip


def _names(what: str, names: Any) -> tuple[str, ...]:
    """Return one name, or several, as a tuple, and require that they are text."""
    if isinstance(names, str):
        return (names,)
    if not isinstance(names, (tuple, list)) or not names:
        raise TypeError(f"graph: expected {what} to be a name or several, got {names!r}")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"graph: expected {what} to be text, got {name!r}")
    return tuple(names)


def _owners(nodes: Mapping[str, Sequence[Any]]) -> tuple[list[str], list[Any]]:
    """List the nodes that bring a layer, and their layers."""
    for name, node in nodes.items():
        if not isinstance(node, (tuple, list)) or not node:
            raise TypeError(f"graph[{name}]: expected (layer, source, ...), got {node!r}")
        for source in node[1:]:
            if not isinstance(source, str):
                raise TypeError(f"graph[{name}]: expected names of sources, got {describe(source)}")
    owners = [name for name, node in nodes.items() if not isinstance(node[0], str)]
    return owners, [nodes[name][0] for name in owners]


def _read(nodes: Mapping[str, Sequence[Any]], members: Members, in_names: tuple[str, ...]) -> dict[str, Node]:
    """Resolve the layer of each node, and require that every name stands for one thing."""
    clashes = sorted(set(in_names) & set(nodes))
    if clashes or len(set(in_names)) != len(in_names):
        what = clashes or sorted(n for n in in_names if in_names.count(n) > 1)[:1]
        raise ValueError(f"graph: the name {what[0]!r} stands for an input and for something else")
    read, layers = {}, members.children
    for name, (_, *sources) in nodes.items():
        owner = _owner(nodes, name)
        for source in sources:
            if source not in nodes and source not in in_names:
                known = ", ".join([*in_names, *nodes])
                raise ValueError(f"graph[{name}]: unknown source {source!r}; there are {known}")
        read[name] = Node(name, owner, layers[owner], tuple(sources))
    return read


def _owner(nodes: Mapping[str, Sequence[Any]], name: str) -> str:
    """Follow a node that uses another's layer, which may use another's itself, to where the layer is."""
    seen = {name: None}  # in order
    last = name
    while isinstance(found := nodes[last][0], str):
        if found in seen:
            raise ValueError(f"graph[{name}]: nobody brings the layer: {' -> '.join([*seen, found])}")
        if found not in nodes:
            raise ValueError(
                f"graph[{name}]: expected a layer or the name of a node that has one, got {found!r}"
            )
        seen[found], last = None, found
    return last


def _sorted(nodes: dict[str, Node], in_names: tuple[str, ...], out_names: tuple[str, ...]) -> list[Node]:
    """Order the nodes so that each comes after its sources, and require that all are used."""
    for name in out_names:
        if name not in nodes:
            raise ValueError(f"graph: unknown output {name!r}; there are {', '.join(nodes)}")
    order: list[Node] = []
    done: set[str] = set(in_names)
    for start in out_names:
        # Depth first without recursion, so that a long chain does not reach Python's limit.
        path: dict[str, Iterator[str]] = {}
        if start not in done:
            path[start] = iter(nodes[start].sources)
        while path:
            name, rest = next(reversed(path.items()))
            source = next((s for s in rest if s not in done), None)
            if source is None:
                path.popitem()
                if name not in done:
                    done.add(name)
                    order.append(nodes[name])
                continue
            if source in path:
                trail = list(path)
                cycle = " -> ".join([*reversed(trail[trail.index(source) :]), trail[-1]])
                raise ValueError(f"graph: the nodes go round in a cycle: {cycle}")
            path[source] = iter(nodes[source].sources)
    used = {source for node in order for source in node.sources}
    unused = [name for name in nodes if name not in done] + [name for name in in_names if name not in used]
    if unused:
        raise ValueError(f"graph: no output depends on {', '.join(unused)}")
    return order


def _kept(nodes: Mapping[str, Sequence[Any]], in_names: tuple[str, ...], part: slice) -> dict[str, Any]:
    """Return the nodes of a slice, and require that they take nothing from outside it."""
    kept, title = dict(list(nodes.items())[part]), f"graph: the slice {_written(part)}"
    if not kept:
        raise ValueError(f"{title} holds no node; there are {len(nodes)}")
    for name, (brought, *sources) in kept.items():
        away = [source for source in sources if source not in kept and source not in in_names]
        if away:
            raise ValueError(
                f"{title} leaves an input of {name!r} open: {away[0]!r} lies outside it; "
                f"fc.with_outputs(net, names) gives what a network computes on the way"
            )
        if isinstance(brought, str) and brought not in kept:
            raise ValueError(f"{title} holds {name!r} without the node {brought!r}, whose layer it uses")
    return kept


def _written(part: slice) -> str:
    start, stop, step = ("" if at is None else str(at) for at in (part.start, part.stop, part.step))
    return f"[{start}:{stop}{':' + step if step else ''}]"
