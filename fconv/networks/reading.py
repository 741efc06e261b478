"""Parts that the readers of other libraries' networks share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fconv import layers, networks
from fconv.layer import Layer
from fconv.layers import calls


class UnfitError(ValueError):
    """Raised where what is read has no layer, or a layer no counterpart; says why, without saying where."""


def make(name: str, *args: Any, **options: Any) -> Layer:
    """Make a layer by name."""
    maker = getattr(layers, name, None) or getattr(networks, name, None) or getattr(calls, name, None)
    if maker is None:
        raise UnfitError(f"there is no layer {name}")
    made: Layer = maker(*args, **options)
    return made


class Names:
    """Names that are given once.

    Examples
    --------
    >>> names = Names({"x"})
    >>> names.new("x"), names.new("y"), "y" in names
    ('x_1', 'y', True)
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = dict.fromkeys(taken, 0)  # and how often each was wanted

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def new(self, wanted: str) -> str:
        """Return the name, or one like it where it is taken."""
        name, count = wanted, self._taken.get(wanted, 0)
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken[wanted] = count
        self._taken.setdefault(name, 0)
        return name


def used(nodes: Mapping[str, tuple[Any, ...]], outputs: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Return the nodes of a graph that an output depends on, with those whose layers they use."""
    waiting, found = list(outputs), set()
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in found:
            found.add(name)
            waiting.extend(source for source in nodes[name] if isinstance(source, str))
    return {name: node for name, node in nodes.items() if name in found}
