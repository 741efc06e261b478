"""The nodes of a graph as they are made, with their parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fconv.layer import Layer, Params
from fconv.layers.calls import constant, parameter
from fconv.networks.reading import Names, UnfitError, make
from fconv.torch.table import Weighted
from fconv.torch.values import Const, Expanded, Own, Size, Value
from fconv.torch.weights import array_of

COUNTER = "num_batches_tracked"


class Nodes:
    """Nodes by name, and the parameters that each holds.

    The names in `taken` stand for something else. `whole` has the tensors of each module whose tensors one
    layer can hold, by their names in it.
    """

    def __init__(self, taken: Iterable[str], whole: Any) -> None:
        self.names = Names(taken)
        self.whole = whole
        self.entries: dict[str, tuple[Any, ...]] = {}
        self.params: dict[str, Params] = {}
        self.paths: dict[str, str] = {}  # node to the module in whose forward it stands
        self.values: list[Value] = []
        self.held: set[int] = set()  # ids of tensors of the module
        self._layers: dict[str, Layer] = {}
        self._own: dict[int, Value] = {}

    def name(self, path: str, base: str) -> str:
        """Find a name that is free, within a module's path."""
        return self.names.new(f"{path}.{base}" if path and base else path or base)

    def emit(self, expression: Any, at: tuple[str, str | None], out: Any = None) -> Value:
        """Make the nodes of an expression, as entries of the table give it, its sources first.

        `at` is the path of the module in which it stands, and the name of the last node where it is not the
        layer's; `out` is what the operator gives.
        """
        if isinstance(expression, Value):
            return expression
        if isinstance(expression, Own):
            return self.parameter(expression)
        if isinstance(expression, Weighted):
            return self._weighted(expression, at, out)
        if isinstance(expression, Expanded):
            return self._expanded(expression, at)
        if not (isinstance(expression, tuple) and expression and isinstance(expression[0], Layer)):
            raise UnfitError(f"expected a tensor, got {expression!r}")
        layer, *given = expression
        sources = self._sources(given, at)
        shape, dtype = (out.shape, out.dtype) if out is not None else ((), sources[0].dtype)
        if layer.name == "identity":
            return Value(sources[0].name, shape or sources[0].shape, dtype)
        base = layer.options["function"] if layer.name == "call" else layer.name
        name = self.name(at[0], at[1] if out is not None and at[1] is not None else base)
        return self.add(name, (layer, *(source.name for source in sources)), shape, dtype, at[0])

    def add(self, name: str, entry: tuple[Any, ...], shape: Any, dtype: Any, path: str = "") -> Value:
        """Add a node of a name that was found free."""
        self.entries[name] = entry
        self.paths[name] = path
        value = Value(name, shape, dtype)
        self.values.append(value)
        return value

    def _expanded(self, expanded: Expanded, at: tuple[str, str | None]) -> Value:
        """Stretch a tensor, by another's sizes where they are left open."""
        source = expanded.source
        before = (1,) * (len(expanded.shape) - len(source.shape)) + tuple(source.shape)
        sizes = [-1 if a == b else b for a, b in zip(before, expanded.shape, strict=True)]
        wanted = {axis: size for axis, size in enumerate(sizes) if isinstance(size, Size)}
        if not wanted:
            return self.emit((make("expand", *sizes), source), at, expanded)
        for like in self.values:
            if all(like.shape[axis : axis + 1] == (size,) for axis, size in wanted.items()):
                layer = make("expand_like", *(None if axis in wanted else n for axis, n in enumerate(sizes)))
                return self.emit((layer, source, like), at, expanded)
        raise UnfitError("it stretches to a size that is left open; give from_torch shape= with that size")

    def _sources(self, given: list[Any], at: tuple[str, str | None]) -> list[Value]:
        found = [None if isinstance(g, Const) else self.emit(g, (at[0], None)) for g in given]
        floating = [value for value in (*found, *self.values) if value and not _counts(value)]
        if not floating and None in found:
            raise UnfitError("all that it takes are constants")
        like = floating[0] if floating else None
        return [
            self._constant(g, like, at) if value is None else value
            for g, value in zip(given, found, strict=True)
        ]

    def _constant(self, const: Const, like: Any, at: tuple[str, str | None]) -> Value:
        name = self.name(at[0], "constant")
        layer = constant(array_of("a constant", const.tensor))
        return self.add(name, (layer, like.name), const.shape, const.dtype, at[0])

    def _weighted(self, made: Weighted, at: tuple[str, str | None], out: Any) -> Value:
        home = self._home(made)
        if home is None:
            if made.params.keys() - set(made.function.options["arrays"]):
                raise UnfitError(
                    "its running statistics are no buffers of a module of torch.nn, or others use them too"
                )
            return self.emit((made.function, *made.sources, *made.params.values()), at, out)
        sources = self._sources(list(made.sources), at)
        names = (source.name for source in sources)
        shape, dtype = (out.shape, out.dtype) if out is not None else ((), sources[0].dtype)
        if home in self._layers:
            if self._layers[home] != made.layer:
                raise UnfitError(f"the parameters of {home} are used with other options elsewhere")
            return self.add(self.name(home, ""), (home, *names), shape, dtype, at[0])
        leaves = {n: t for n, t in self.whole[home].items() if n in made.params or n == COUNTER}
        self._layers[home] = made.layer
        self.params[home] = {leaf: array_of(f"{home}.{leaf}", tensor) for leaf, tensor in leaves.items()}
        self.held.update(map(id, leaves.values()))
        return self.add(home, (made.layer, *names), shape, dtype, at[0])

    def _home(self, made: Weighted) -> str | None:
        """Return the module whose tensors are just the parameters of a layer, None where there is none."""
        leaves = made.params.keys()
        if not all(isinstance(tensor, Own) for tensor in made.params.values()):
            return None
        places = [tensor.name.rpartition(".") for tensor in made.params.values()]
        home = places[0][0]
        if not home or places != [(home, ".", leaf) for leaf in leaves]:
            return None
        held = self.whole.get(home, {}).keys()
        fits = leaves <= held if made.part else leaves == held - {COUNTER}
        return home if fits and (COUNTER in held) == ("running_mean" in leaves) else None

    def parameter(self, own: Own) -> Value:
        """Return the node that is a parameter or buffer of the module by itself."""
        key = id(own.tensor)
        if key not in self._own:
            name = own.name if own.name not in self.entries else self.names.new(own.name)
            self.held.add(key)
            self.params[name] = array_of(own.name, own.tensor)
            layer = parameter(*own.tensor.shape, trained=own.trained)
            self._own[key] = self.add(name, (layer,), own.shape, own.dtype)
        return self._own[key]


def _counts(value: Value) -> bool:
    """Return whether a value holds integers; a boolean one holds 0 and 1 as numbers."""
    return not value.dtype.is_floating_point and str(value.dtype) != "torch.bool"
