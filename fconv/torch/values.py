"""What stands for a tensor, a size and a module's own tensor while a forward is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fconv.arrays import Shape


class UnfitError(ValueError):
    """What a module does has no layer; says why, without saying where."""


NEEDS_SHAPE = "it asks for a size that only the input's shape tells; give from_torch shape="


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that a node or an input of the graph gives.

    Attributes
    ----------
    name : str
        Of the node or input.
    shapes : (tuple of int, tuple of int), optional
        Its shape for a batch as given and for one twice as large, where the input's is known.
    batch : object
        Values of one and the same `batch` have first axes of one size.
    storage : object
        Values of one and the same `storage` may share memory in PyTorch.
    """

    name: str
    shapes: tuple[Any, Any] | None = None
    batch: object = field(default_factory=object)
    storage: object = field(default_factory=object)

    @property
    def shape(self) -> Shape:
        """The shape for the batch as given."""
        if self.shapes is None:
            raise UnfitError(NEEDS_SHAPE)
        found: Shape = self.shapes[0]
        return found


@dataclass(frozen=True)
class Size:
    """A size that goes with the batch: for a batch as given and one twice as large, if known."""

    counts: tuple[Any, Any] | None
    batch: object = None

    def of(self, value: Value) -> bool:
        """Tell whether it is the size of the first axis of `value`."""
        if self.counts is None or value.shapes is None:
            return self.batch is value.batch
        return all(shape and shape[0] == n for shape, n in zip(value.shapes, self.counts, strict=True))


@dataclass(frozen=True)
class SizeOf:
    """The shape of a tensor whose number of axes is not known: only its first size has a name."""

    value: Value

    def __getitem__(self, axis: Any) -> Size:
        if axis != 0 or not isinstance(axis, int):
            raise UnfitError(NEEDS_SHAPE)
        return Size(None, self.value.batch)


@dataclass(frozen=True, eq=False)
class Own:
    """A parameter or buffer of the module itself, by its name in the state dict."""

    name: str
    tensor: Any
    trained: bool


@dataclass(frozen=True)
class Modes:
    """What is one thing in training and another in inference."""

    train: Any
    infer: Any


@dataclass(frozen=True, eq=False)
class Pieces:
    """A tuple of tensors that a forward takes apart; `count` is None where it is not known."""

    piece: Callable[[int], Any]
    count: int | None


class Expanded(NamedTuple):
    """A tensor stretched to the shape of another."""

    value: Value
    like: Value


def sizes_of(value: Value) -> tuple[int | Size, ...] | SizeOf:
    """Give the sizes of a tensor: numbers, and those that go with the batch."""
    if value.shapes is None:
        return SizeOf(value)
    return tuple(settled(counts) for counts in zip(*value.shapes, strict=True))


def settled(counts: tuple[Any, Any]) -> Any:
    """Give what is the same for either batch as it is, and a Size otherwise."""
    return counts[0] if counts[0] == counts[1] else Size(counts)


def computed(function: Callable[..., Any], *args: Any) -> Any:
    """Apply arithmetic to sizes and numbers."""
    pairs: list[tuple[Any, Any]] = []
    for arg in args:
        if not isinstance(arg, Size):
            pairs.append((arg, arg))
        elif arg.counts is None:
            raise UnfitError(NEEDS_SHAPE)
        else:
            pairs.append(arg.counts)
    first, second = (function(*(pair[i] for pair in pairs)) for i in (0, 1))
    return settled((first, second))
