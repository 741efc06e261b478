"""The walk through layers that take each other's outputs by name, forwards and back."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fconv import trees
from fconv.arrays import Array, describe
from fconv.functional.one_pass import in_one_pass
from fconv.layer import Layer, Params, has_trained, locate, located, no_gradient


@dataclass(frozen=True)
class Node:
    """One use of a layer, whose parameters are called `owner`."""

    name: str
    owner: str
    layer: Layer
    sources: tuple[str, ...]

    def gather(self, values: Mapping[str, Any]) -> Any:
        """Return what the layer takes: one value, or a tuple of several."""
        found = tuple(values[source] for source in self.sources)
        return found[0] if len(found) == 1 else found


@dataclass(frozen=True)
class Dataflow:
    """Nodes in an order in which each comes after its sources.

    Attributes
    ----------
    title : str
        Name of the network, for error messages.
    nodes : sequence of Node
        The nodes.
    inputs : tuple of str
        Names of the inputs; a lone one is not in a dict.
    outputs : mapping of str to str
        The value that each output is.
    lone_input, lone_output : bool
        Whether the one input, or output, stands for itself rather than in a dict.
    """

    title: str
    nodes: Sequence[Node]
    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
    lone_input: bool
    lone_output: bool

    @cached_property
    def _done(self) -> list[list[str]]:
        """Name the values that nobody takes after each node."""
        seen, done = set(self.outputs.values()), []
        for node in reversed(self.nodes):
            last = {name: None for name in (*node.sources, node.name) if name not in seen}
            seen.update(last)
            done.append(list(last))
        return done[::-1]

    def place(self, node: Node) -> str:
        """Return where a node stands."""
        return f"{self.title}[{node.name}]"

    def _locate(self, error: Exception, node: Node | None) -> None:
        if node is not None:
            locate(error, self.place(node), node.layer)

    def entering(self, x: Any, what: str) -> dict[str, Any]:
        """Return each input by name."""
        if self.lone_input:
            return {self.inputs[0]: x}
        if not isinstance(x, Mapping) or x.keys() != set(self.inputs):
            got = ", ".join(map(str, x)) if isinstance(x, Mapping) else describe(x)
            raise ValueError(f"{self.title}: expected a dict of {what} {', '.join(self.inputs)}, got {got}")
        return dict(x)

    def leaving(self, values: Mapping[str, Any]) -> Any:
        """Return the outputs."""
        found = {name: values[value] for name, value in self.outputs.items()}
        return next(iter(found.values())) if self.lone_output else found

    def shapes(self, shape: Any) -> dict[str, Any]:
        """Return the shape of every value."""
        shapes = self.entering(shape, "shapes")
        for node in self.nodes:
            with located(self.place(node), node.layer):
                shapes[node.name] = node.layer.out_shape(node.gather(shapes))
        return shapes

    def apply(self, parts: Mapping[str, Params], x: Any, train: bool, keys: Sequence[Array | None]) -> Any:
        """Return the outputs, of parameters by owner and a key for each node."""
        values = self.entering(x, "inputs")
        node = None
        try:
            for node, k, done in zip(self.nodes, keys, self._done, strict=True):
                taken = node.gather(values)
                values[node.name] = node.layer.apply(parts[node.owner], taken, train=train, key=k)
                del taken
                for name in done:  # whose memory the next layers can have
                    del values[name]
        except (ValueError, TypeError) as error:
            self._locate(error, node)
            raise
        return self.leaving(values)

    def forward(
        self, given: Mapping[str, Params], x: Any, train: bool, keys: Sequence[Array | None]
    ) -> tuple[Any, dict[str, Params], Callable[..., tuple[dict[str, Params], Any]]]:
        """Return the outputs, the refreshed parameters by owner, and the pullback to both."""
        parts = dict(given)
        values, pullbacks = self.entering(x, "inputs"), {}
        node = None
        try:
            for node, k in zip(self.nodes, keys, strict=True):
                name, owner = node.name, node.owner
                values[name], parts[owner], pullbacks[name] = node.layer.forward(
                    parts[owner], node.gather(values), train=train, key=k
                )
        except (ValueError, TypeError) as error:
            self._locate(error, node)
            raise

        def pull(g: Any, input_grad: bool = True) -> tuple[dict[str, Params], Any]:
            needed = self._needed(parts, self.inputs if input_grad else ())
            totals: dict[str, Any] = {}
            for name, value in self.outputs.items():
                _add(totals, value, g if self.lone_output else g[name])
            dparams: dict[str, Params] = {}
            node = None
            try:
                for node in reversed(self.nodes):
                    if node.name not in needed:
                        continue
                    wanted = any(source in needed for source in node.sources)
                    grads, dx = pullbacks[node.name](totals.pop(node.name), wanted)
                    _add(dparams, node.owner, grads)
                    if wanted:
                        each = (dx,) if len(node.sources) == 1 else dx
                        for source, part in zip(node.sources, each, strict=True):
                            _add(totals, source, part)
            except (ValueError, TypeError) as error:
                self._locate(error, node)
                raise
            whole = {
                name: dparams[name] if name in dparams else no_gradient(part) for name, part in parts.items()
            }
            if not input_grad:
                return whole, None
            dx = {name: totals[name] for name in self.inputs}
            return whole, dx[self.inputs[0]] if self.lone_input else dx

        return self.leaving(values), parts, pull

    def _needed(self, parts: Mapping[str, Params], asked: tuple[str, ...]) -> set[str]:
        """Name the nodes whose gradient somebody needs: trained parameters or an input lie before them."""
        needed = set(asked)
        for node in self.nodes:
            own = has_trained(node.layer, parts[node.owner])
            if own or any(source in needed for source in node.sources):
                needed.add(node.name)
        return needed


def _add(totals: dict[str, Any], name: str, part: Any) -> None:
    if name in totals and isinstance(part, np.ndarray) and isinstance(totals[name], np.ndarray):
        totals[name] = in_one_pass(operator.add, totals[name], part)
    else:
        totals[name] = trees.add(totals[name], part) if name in totals else part
