"""The table of ATen's operators, and how its entries see the operator that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple

from fconv.layer import Layer
from fconv.layers.calls import call
from fconv.networks.reading import UnfitError, make
from fconv.torch.values import Const, Expanded, Operator, Size, Tensor, example

Entry = Callable[["Call"], Any]
STRETCHING: set[str] = set()
"""Operators whose layers stretch their inputs to one shape."""

TABLE: dict[str, Entry] = {}
"""By the operator's name without overload. An entry gives ``(layer, source, ...)``, a source being a value
or such an expression again, or a tuple of them for an operator of several results."""


def aten(*names: str, stretches: bool = False) -> Callable[[Entry], Entry]:
    """Enter a function for operators, whose layers stretch their inputs to one shape if it `stretches`."""

    def enter(entry: Entry) -> Entry:
        if stretches:
            STRETCHING.update(names)
        TABLE.update(dict.fromkeys(names, entry))
        return entry

    return enter


def plain(names: str, options: str = "", layer: str = "") -> None:
    """Enter operators of one tensor, whose layer has the name of the first, and options of their names.

    ``*dims`` in `options` are the layer's arguments one by one.
    """
    several = options.startswith("*")
    listed = options.removeprefix("*").split()

    def entry(c: Call) -> Any:
        given = c.given(**{name: name for name in listed})
        args = given.pop(listed[0]) if several else ()
        return make(layer or names.split()[0], *args, **given), c.x

    aten(*names.split())(entry)


class Weighted(NamedTuple):
    """A layer whose parameters are tensors of the module, by their names within the layer.

    Where no one layer can hold them, `function` of `fconv.functional` is called with them instead. With
    `part`, the module has further tensors, which other nodes take.
    """

    layer: Layer
    sources: tuple[Any, ...]
    params: Mapping[str, Any]
    function: Layer
    part: bool = False


class Call:
    """An operator with what its inputs have become: tensors among `args` are `Value`, `Own` or `Const`."""

    def __init__(self, operator: Operator, args: Mapping[str, Any]) -> None:
        self.operator, self.args = operator, args

    def __getitem__(self, name: str) -> Any:
        return self.args[name]

    @property
    def x(self) -> Any:
        """The first argument."""
        return next(iter(self.args.values()))

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape of the result."""
        found: tuple[Any, ...] = self.operator.out.shape
        return found

    def given(self, **defaults: Any) -> dict[str, Any]:
        """Return options by name, as numbers; an argument that is absent or None is left out."""
        found = {ours: self.args.get(theirs) for ours, theirs in defaults.items()}
        return {name: fixed(value) for name, value in found.items() if value is not None}

    def axes(self, name: str = "dim") -> Any:
        """Return an argument that is an axis or several, None for all."""
        value = self.args.get(name)
        if isinstance(value, (tuple, list)):
            return tuple(value) or None
        return value


def is_tensor(value: object) -> bool:
    """Return whether a value is a tensor rather than a number."""
    return isinstance(value, Tensor) or (
        isinstance(value, tuple) and bool(value) and isinstance(value[0], (Layer, Weighted))
    )


def number(value: object) -> float:
    """Return a number, or a constant of one element, as a float."""
    if isinstance(value, Const) and value.tensor.numel() == 1:
        return float(value.tensor)
    if isinstance(value, Size):
        raise UnfitError("it computes with a size that is left open; give from_torch shape= with that size")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UnfitError(f"expected a tensor or a number, got {value!r}")
    return float(value)


def plain_number(value: object, dtype: Any) -> Const:
    """Return a number as a constant without axes."""
    import torch

    return Const("number", (), dtype, torch.tensor(number(value), dtype=dtype))


def is_number(value: object) -> bool:
    """Return whether `number` takes a value: one without axes."""
    if isinstance(value, Const):
        return bool(value.tensor.numel() == 1 and value.tensor.dtype.is_floating_point and not value.shape)
    return isinstance(value, (Real, Size))


def fixed(value: Any) -> Any:
    """Require that an option depends on no size that is left open."""
    if isinstance(value, Size):
        raise UnfitError("it takes a size that is left open; give from_torch shape= with that size")
    return tuple(map(fixed, value)) if isinstance(value, (tuple, list)) else value


def function(name: str, arrays: tuple[str, ...], **options: Any) -> Layer:
    """Make the layer that calls a function of `fconv.functional` on several arrays."""
    return call(name, arrays, **options)


def unexpanded(args: Mapping[str, Any], shape: tuple[Any, ...]) -> Mapping[str, Any]:
    """Take tensors before they were stretched, where their layer stretches them to the same shape anyhow."""
    plain = {name: a.source if isinstance(a, Expanded) else a for name, a in args.items()}
    shapes = [a.shape for a in plain.values() if isinstance(a, Tensor)]
    if any(len(each) > len(shape) for each in shapes):  # max() of a tensor is smaller than what it takes
        return args
    reached = [1] * len(shape)
    for each in shapes:
        for axis, size in enumerate(each, len(shape) - len(each)):
            if example(size) != 1:
                reached[axis] = size
    return plain if tuple(reached) == tuple(shape) else args
