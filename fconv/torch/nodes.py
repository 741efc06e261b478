"""The nodes of a graph as they are made, with their parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fconv.calls import parameter
from fconv.layer import Layer, Params
from fconv.torch.values import Expanded, Own, Size, SizeOf, UnfitError, Value
from fconv.torch.weights import array_of

# Layers whose result may lie in the memory of what they take.
VIEWS = {"chunk", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "flatten", "identity",
         "narrow", "permute", "reshape", "slice_along", "split", "squeeze", "transpose", "unflatten",
         "unsqueeze", "view"}  # fmt: skip

# Layers whose result may have another first axis, and the option that tells whether it has.
MOVES = {"amax": "dim", "call": "", "chunk": "dim", "concat": "dim", "flatten": "start_dim", "matmul": "",
         "mean": "dim", "narrow": "dim", "parameter": "", "permute": "", "slice_along": "dim", "split": "dim",
         "squeeze": "dim", "stack": "dim", "sum": "dim", "transpose": "", "unflatten": "dim",
         "unsqueeze": "dim", "view": ""}  # fmt: skip


class Nodes:
    """Nodes by name, and the parameters that each holds.

    Parameters
    ----------
    taken : iterable of str
        Names that stand for something else.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)
        self.entries: dict[str, tuple[Any, ...]] = {}
        self.params: dict[str, Params] = {}
        self.holders: dict[int, object] = {}
        self._own: dict[str, Value] = {}

    def name(self, path: str, base: str) -> str:
        """Find a name that is free, within a module's path."""
        name = start = f"{path}.{base}" if path else base
        count = 0
        while name in self.taken:
            count += 1
            name = f"{start}_{count}"
        self.taken.add(name)
        return name

    def emit(self, expression: Any, path: str, base: str) -> Any:
        """Make the nodes of an expression, its sources first; what is none comes back as it is."""
        if isinstance(expression, Own):
            return self.parameter(expression)
        if not (isinstance(expression, tuple) and expression and isinstance(expression[0], Layer)):
            return expression
        layer, *given = expression
        sources = [self.emit(source, path, base) for source in given]
        for source in sources:
            if isinstance(source, Expanded):
                raise UnfitError(
                    "a tensor that was expanded has layers only in arithmetic with what it took its shape of"
                )
            if not isinstance(source, Value):
                raise UnfitError(f"expected a tensor, got {described(source)}")
        if layer.name == "identity":
            return replace(sources[0])
        return self.add(self.name(path, base if layer.name == "call" else layer.name), layer, layer, sources)

    def add(self, name: str, entry: Layer | str, layer: Layer, sources: list[Value]) -> Value:
        """Make one node; `entry` is its layer, or the name of the node whose layer it uses."""
        shapes = None
        known = [source.shapes for source in sources if source.shapes is not None]
        if len(known) == len(sources):
            each = [tuple(pair[i] for pair in known) for i in (0, 1)]
            first, second = (layer.out_shape(s[0] if len(s) == 1 else s) for s in each)
            shapes = (tuple(first), tuple(second))
        self.entries[name] = (entry, *(source.name for source in sources))
        value = Value(name, shapes)
        batches = {id(source.batch): source.batch for source in sources}
        if len(batches) == 1 and _keeps_batch(layer):
            value = replace(value, batch=sources[0].batch)
        if _shows_its_input(layer):
            value = replace(value, storage=sources[0].storage)
        return value

    def parameter(self, tensor: Own) -> Value:
        """Give the node that is a parameter or buffer of the module by itself."""
        if tensor.name not in self._own:
            self.hold(tensor.name, tensor.tensor, None)
            self.params[tensor.name] = array_of(tensor.name, tensor.tensor)
            layer = parameter(*tensor.tensor.shape, trained=tensor.trained)
            self._own[tensor.name] = self.add(tensor.name, layer, layer, [])
        return self._own[tensor.name]

    def hold(self, name: str, tensor: Any, holder: object) -> None:
        """Note which node holds a tensor of the module; one alone may."""
        if self.holders.setdefault(id(tensor), holder) != holder:
            raise UnfitError(
                f"{name} is used by itself and by a layer; layers share parameters as a whole only"
            )


def _keeps_batch(layer: Layer) -> bool:
    option = MOVES.get(layer.name)
    if option is None:
        return all(map(_keeps_batch, layer.children.values()))
    axis = layer.options.get(option)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return all(isinstance(a, int) and a > 0 for a in axes)


def _shows_its_input(layer: Layer) -> bool:
    """Tell whether a layer's result may lie in the memory of its input."""
    if layer.name == "compose":
        return all(map(_shows_its_input, layer.children.values()))
    return layer.name in VIEWS


def described(value: Any) -> str:
    """Say what a value is that is no tensor."""
    if isinstance(value, (Size, SizeOf)):
        return "a size"
    return repr(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__
