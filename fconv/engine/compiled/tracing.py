"""Functions of one element traced into graphs of operations, and the code of their operations.

A function of arrays that uses nothing but operators and the functions of `Functions` is called once with
`Traced` values in place of its arrays. Numbers of Python become constants that are arguments of a kernel, so
that another option or another learning rate needs no other kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import Any, TypeAlias

import numpy as np

from fconv.engine.compiled.llvm import Value
from fconv.engine.compiled.transcendental import Maths

Flat: TypeAlias = np.ndarray[Any, Any]
Node: TypeAlias = tuple[Any, ...]
"""An operation and the places of what it takes; for an input or a constant, its number."""

_UNARY = ("negative", "absolute", "exp", "expm1", "log", "log1p", "tanh", "sqrt", "sign", "erf")
_MASKS = frozenset(("olt", "ole", "ogt", "oge", "and", "or", "xor"))


class UntraceableError(AttributeError):
    """A function asks a traced value for what a kernel does not have."""


class _Graph:
    """The operations of a formula, each once."""

    def __init__(self) -> None:
        self.nodes: dict[Node, int] = {}
        self.constants: dict[str, int] = {}

    def place(self, *node: Any) -> int:
        return self.nodes.setdefault(node, len(self.nodes))

    def constant(self, value: Any) -> int:
        if not isinstance(value, (bool, int, float, np.number, np.bool_)):
            raise UntraceableError(f"a formula cannot take {type(value).__name__}")
        return self.place("constant", self.constants.setdefault(repr(float(value)), len(self.constants)))


class Traced:
    """A value in a formula; it has the operators of an array, and no elements."""

    __slots__ = ("_graph", "_mask", "_place", "dtype")
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, graph: _Graph, place: int, dtype: Any, mask: bool = False) -> None:
        self._graph, self._place, self.dtype, self._mask = graph, place, dtype, mask

    @property
    def functions(self) -> Functions:
        """Stand-in for the array library; `fconv.arrays.xp_of` returns it."""
        return _FUNCTIONS

    def place(self, mask: bool = False) -> int:
        """Return the place in the graph, as a mask or as a number."""
        if self._mask and not mask:
            return self._graph.place("as_number", self._place)
        if mask and not self._mask:
            raise UntraceableError("a number where a formula needs a mask")
        return self._place

    def made(self, operation: str, *others: Any, swapped: bool = False, masks: bool = False) -> Traced:
        """Return the result of an operation with this as its first operand, or its last."""
        given = [self, *others][:: -1 if swapped else 1]
        places = [v.place(masks) if isinstance(v, Traced) else self._graph.constant(v) for v in given]
        return Traced(self._graph, self._graph.place(operation, *places), self.dtype, operation in _MASKS)

    def __add__(self, other: Any) -> Traced:
        return self.made("add", other)

    def __radd__(self, other: Any) -> Traced:
        return self.made("add", other, swapped=True)

    def __sub__(self, other: Any) -> Traced:
        return self.made("subtract", other)

    def __rsub__(self, other: Any) -> Traced:
        return self.made("subtract", other, swapped=True)

    def __mul__(self, other: Any) -> Traced:
        return self.made("multiply", other)

    def __rmul__(self, other: Any) -> Traced:
        return self.made("multiply", other, swapped=True)

    def __truediv__(self, other: Any) -> Traced:
        return self.made("divide", other)

    def __rtruediv__(self, other: Any) -> Traced:
        return self.made("divide", other, swapped=True)

    def __neg__(self) -> Traced:
        return self.made("negative")

    def __abs__(self) -> Traced:
        return self.made("absolute")

    def __lt__(self, other: Any) -> Traced:
        return self.made("olt", other)

    def __le__(self, other: Any) -> Traced:
        return self.made("ole", other)

    def __gt__(self, other: Any) -> Traced:
        return self.made("ogt", other)

    def __ge__(self, other: Any) -> Traced:
        return self.made("oge", other)

    def __or__(self, other: Any) -> Traced:
        return self.made("or", other, masks=True)

    def __and__(self, other: Any) -> Traced:
        return self.made("and", other, masks=True)

    def __pow__(self, other: Any) -> Traced:
        raise UntraceableError("a formula has no powers")

    def __bool__(self) -> bool:
        raise UntraceableError("a formula cannot branch on a value")

    def __getattr__(self, name: str) -> Any:
        raise UntraceableError(f"a value of a formula has no {name}")


class Functions:
    """The functions of an array library that a formula may use, under NumPy's and SciPy's names."""

    @staticmethod
    def where(mask: Traced, a: Any, b: Any) -> Traced:
        """Choose between two values by a mask."""
        graph = mask._graph
        places = [v.place() if isinstance(v, Traced) else graph.constant(v) for v in (a, b)]
        return Traced(graph, graph.place("choose", mask.place(True), *places), mask.dtype)

    @staticmethod
    def maximum(a: Any, b: Any) -> Traced:
        """Return the larger; NaN where one is."""
        return a.made("maximum", b) if isinstance(a, Traced) else b.made("maximum", a)

    @staticmethod
    def minimum(a: Any, b: Any) -> Traced:
        """Return the smaller; NaN where one is."""
        return a.made("minimum", b) if isinstance(a, Traced) else b.made("minimum", a)

    @staticmethod
    def ndtr(x: Traced) -> Traced:
        """Return the standard normal distribution function."""
        near = x.made("nearer")
        return x.made("ndtr", near, near.made("lifted_bell"))

    @staticmethod
    def bell(x: Traced) -> Traced:
        """Return exp(-x**2 / 2), at little cost beside `ndtr` of the same."""
        return x.made("nearer").made("lifted_bell").made("lowered")

    def __getattr__(self, name: str) -> Any:
        raise UntraceableError(f"a formula has no function {name}")


_FUNCTIONS = Functions()
for _name in _UNARY:
    setattr(_FUNCTIONS, _name, methodcaller("made", _name))
setattr(_FUNCTIONS, "abs", methodcaller("made", "absolute"))  # noqa: B010 - mypy knows of no such attribute


def trace(
    function: Callable[..., Any], count: int, dtype: np.dtype[Any]
) -> tuple[tuple[Node, ...], tuple[int, ...], Flat, bool]:
    """Return the operations of a function of `count` values, the places of its results, and its constants.

    The last tells whether the function returned a tuple.
    """
    graph = _Graph()
    found = function(*[Traced(graph, graph.place("input", i), dtype) for i in range(count)])
    many = isinstance(found, tuple)
    each = found if many else (found,)
    outputs = tuple(v.place() if isinstance(v, Traced) else graph.constant(v) for v in each)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, as it is for NumPy
        constants = np.array([float(text) for text in graph.constants]).astype(dtype)
    return tuple(graph.nodes), outputs, constants, many


def emit(
    n: Maths, nodes: Sequence[Node], given: Callable[[int], Value], constants: Sequence[Value]
) -> list[Value]:
    """Emit the operations of a graph; `given` emits an input. Return the result of each."""
    values: list[Value] = []
    for operation, *places in nodes:
        if operation == "input":
            values.append(given(places[0]))
        elif operation == "constant":
            values.append(constants[places[0]])
        else:
            values.append(_applied(n, operation, [values[place] for place in places]))
    return values


def _applied(n: Maths, operation: str, values: list[Value]) -> Value:
    """Emit an operation."""
    first, *rest = values
    if operation == "add":
        return first + rest[0]
    if operation == "subtract":
        return first - rest[0]
    if operation == "multiply":
        return first * rest[0]
    if operation == "divide":
        return first // rest[0]
    if operation in ("and", "or"):
        return n.masks(operation, *values)
    if operation in _MASKS:
        return n.compare(operation, *values)
    found: Value = getattr(n, operation)(*values)
    return found
