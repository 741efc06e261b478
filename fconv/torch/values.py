"""Stand-ins for tensors and sizes while an exported forward is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from fconv.networks.reading import UnfitError


class Size(NamedTuple):
    """A size that is left open: an expression of the sizes of the input, and what it is for the example.

    Expressions of sizes that are always equal are equal.
    """

    expression: Any
    example: int


def size_of(size: Any) -> int | Size:
    """Return a size that torch.export gives as a number, or as a Size where it is open."""
    if isinstance(size, (int, Size)):
        return size
    node = size.node
    if node.expr.is_number:
        return int(node.expr)
    if node.hint is None:
        raise UnfitError("a size depends on the values of a tensor")
    return Size(node.expr, int(node.hint))


def example(size: Any) -> int:
    """Return what a size is for the input that was exported with."""
    return size.example if isinstance(size, Size) else int(size)


def product(sizes: Any) -> Any:
    """Multiply sizes; the result of equal factors is equal."""
    numbers = prod(size for size in sizes if not isinstance(size, Size))
    found = [size for size in sizes if isinstance(size, Size)]
    if not found or numbers == 0:
        return numbers
    expression = prod((size.expression for size in found[1:]), start=found[0].expression) * numbers
    return Size(expression.expand(), numbers * prod(size.example for size in found))


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of an exported forward: what one operator gives, or an input.

    Attributes
    ----------
    name : str
        Of the operator's node.
    shape : tuple of int or Size
        Its shape.
    dtype : torch.dtype
        Type of its elements.
    """

    name: str
    shape: tuple[Any, ...]
    dtype: Any


@dataclass(frozen=True, eq=False)
class Own(Tensor):
    """A parameter or buffer of the module, by its name in the state dict."""

    tensor: Any = None
    trained: bool = True


@dataclass(frozen=True, eq=False)
class Const(Tensor):
    """A tensor that depends on no input and no parameter."""

    tensor: Any = None


@dataclass(frozen=True, eq=False)
class Value(Tensor):
    """Output of a node or an input of our graph, by its name there."""


@dataclass(frozen=True, eq=False)
class Expanded(Tensor):
    """A tensor stretched to another shape, for which no layer was made yet.

    One of a constant depends on no input but its sizes.
    """

    source: Any = None


@dataclass(eq=False)
class Operator:
    """One operator.

    Attributes
    ----------
    name : str
        Of the operator in ATen, without overload: ``conv2d``.
    target : torch._ops.OpOverload
        The operator.
    args : mapping
        Its arguments by their names in the operator's schema; tensors are `Tensor`.
    out : Tensor or tuple of Tensor
        What it gives.
    path, kind : str
        The module in whose forward it stands, and its class.
    place : str
        The line of that forward.
    """

    name: str
    target: Any
    args: Mapping[str, Any]
    out: Any
    path: str = ""
    kind: str = ""
    place: str = ""

    @property
    def title(self) -> str:
        """Name the operator with its namespace: ``aten.conv2d``."""
        return f"{self.target.namespace}.{self.name}" if hasattr(self.target, "namespace") else self.name

    @property
    def outs(self) -> tuple[Any, ...]:
        """Return its outputs, as a tuple."""
        return self.out if isinstance(self.out, tuple) else (self.out,)


def tensors(args: Any) -> Iterator[Tensor]:
    """List the tensors among the arguments of an operator, those in lists too."""
    for value in args.values() if isinstance(args, Mapping) else args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors(value)


def described(operator: Operator) -> str:
    """Return where an operator stands."""
    kind = operator.kind.rpartition(".")[2]
    inside = f"{operator.path} ({kind})" if operator.path else kind
    return f"{inside}, {operator.place}" if operator.place else inside
