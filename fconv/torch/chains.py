"""Nodes of a torch.nn.Sequential of layers, gathered into one `compose`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from fconv.layer import Layer
from fconv.networks.reading import UnfitError
from fconv.torch.modules import is_chain, layer_of
from fconv.torch.nodes import Nodes
from fconv.torch.weights import params_of


def gathered(nodes: Nodes, modules: dict[str, Any], outputs: list[str], lone: bool) -> dict[str, str]:
    """Gather the nodes of each outermost chain, in place; return what its last node is called now.

    `modules` are those by path, `outputs` the nodes that are outputs; with `lone`, an output may get another
    name.
    """
    renamed: dict[str, str] = {}
    done: list[str] = []
    for path, module in modules.items():
        if path and is_chain(module) and not any(path.startswith(f"{other}.") for other in done):
            inside = [name for name, at in nodes.paths.items() if at == path or at.startswith(f"{path}.")]
            fixed = set(outputs) & set(inside[:-1] if lone else inside)
            try:
                layer = layer_of(module)
            except UnfitError:
                continue
            if fixed or not _is_line(nodes, inside) or not _agree(nodes, inside, layer):
                continue
            done.append(path)
            renamed[inside[-1]] = path
            _replace(nodes, path, inside, layer)
            nodes.params[path] = params_of(module, path)
    return renamed


def _is_line(nodes: Nodes, inside: list[str]) -> bool:
    """Return whether each node takes what the one before gives, and no other node does."""
    entries, members = nodes.entries, set(inside)
    if not inside or any(isinstance(entries[name][0], str) or len(entries[name]) != 2 for name in inside):
        return False
    if any(entries[b][1] != a for a, b in pairwise(inside)):
        return False
    held = members - {inside[-1]}
    for name, (layer, *sources) in entries.items():
        if layer in members or (name not in members and held.intersection(sources)):
            return False
    return True


def _agree(nodes: Nodes, inside: list[str], layer: Layer) -> bool:
    found = [nodes.entries[name][0].name for name in inside]
    return found == [name for name in _names(layer) if name != "identity"]


def _names(layer: Layer) -> Iterator[str]:
    if layer.name == "compose":
        for child in layer.children.values():
            yield from _names(child)
    else:
        yield layer.name


def _replace(nodes: Nodes, path: str, inside: list[str], layer: Layer) -> None:
    """Put one node in the place of several, and let others take what it gives."""
    first, last = inside[0], inside[-1]
    kept = {path if name == first else name: entry for name, entry in nodes.entries.items()
            if name == first or name not in inside}  # fmt: skip
    kept[path] = (layer, kept[path][1])
    nodes.entries = {
        name: (entry[0], *(path if source == last else source for source in entry[1:]))
        for name, entry in kept.items()
    }
    for name in inside:
        nodes.params.pop(name, None)
        del nodes.paths[name]
    nodes.paths[path] = path
