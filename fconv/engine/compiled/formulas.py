"""Formulas of one entry, traced from the functions that NumPy computes them by, and compiled.

A function of arrays that uses nothing but operators and the functions of `Functions` is called once with
`Traced` values in place of its arrays. The graph of operations becomes one kernel: one pass over contiguous
memory, however many operations there are. Numbers of Python are arguments of the kernel, so that another
option or another learning rate needs no other kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import methodcaller
from typing import Any, TypeAlias

import numpy as np

from fconv.engine.compiled.llvm import INT, Function, Module, Value, machine
from fconv.engine.compiled.pool import Launch, address, pool
from fconv.engine.compiled.transcendental import Maths

PIECE = 1 << 14
"""Entries of a task."""

Node: TypeAlias = tuple[Any, ...]
"""An operation and the places of what it takes; for an input or a constant, its number."""

_UNARY = ("negative", "absolute", "exp", "expm1", "log", "log1p", "tanh", "sqrt", "sign", "erf", "ndtr")
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
    """A value in a formula; it has the operators of an array, and no entries."""

    __slots__ = ("_graph", "_mask", "_place", "dtype")
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, graph: _Graph, place: int, dtype: Any, mask: bool = False) -> None:
        self._graph, self._place, self.dtype, self._mask = graph, place, dtype, mask

    @property
    def functions(self) -> Functions:
        """What stands for the array library; `fconv.arrays.xp_of` asks for it."""
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

    def __getattr__(self, name: str) -> Any:
        raise UntraceableError(f"a formula has no function {name}")


_FUNCTIONS = Functions()
for _name in _UNARY:
    setattr(_FUNCTIONS, _name, methodcaller("made", _name))
setattr(_FUNCTIONS, "abs", methodcaller("made", "absolute"))  # noqa: B010 - mypy knows of no such attribute


class Formula:
    """A traced formula.

    Parameters
    ----------
    function : callable
        Of `count` values; it returns one value or a tuple of them.
    count : int
        How many arrays it takes.
    dtype : dtype
        float32 or float64.
    """

    def __init__(self, function: Callable[..., Any], count: int, dtype: np.dtype[Any]) -> None:
        graph = _Graph()
        found = function(*[Traced(graph, graph.place("input", i), dtype) for i in range(count)])
        self.many = isinstance(found, tuple)
        each = found if self.many else (found,)
        outputs = tuple(v.place() if isinstance(v, Traced) else graph.constant(v) for v in each)
        self.outputs = len(outputs)
        self._count = count
        self._constants = np.array([float(text) for text in graph.constants], dtype)
        self._graph = (str(dtype), tuple(graph.nodes), outputs, count)

    def run(self, inputs: Sequence[np.ndarray[Any, Any]], outputs: Sequence[np.ndarray[Any, Any]]) -> None:
        """Compute contiguous arrays of one size from others; an output may be one of the inputs."""
        size = outputs[0].size
        if size:
            arguments = [0] * (self._count + self.outputs) + [address(self._constants), size]
            launch = Launch(_kernel(*self._graph), arguments, -(-size // PIECE))
            pool().run(launch, (*inputs, *outputs))


@lru_cache(maxsize=512)
def _kernel(dtype: str, nodes: tuple[Node, ...], outputs: tuple[int, ...], count: int) -> int:
    """Compile a graph; the arguments are the inputs, the outputs, the constants and the size."""
    module = Module()
    f = Function(module, "kernel", [INT, "ptr", INT], exported=True)
    task, given, _ = f.arguments
    n = Maths(f, dtype)

    def field(place: int, type: str) -> Value:
        return f.value(f"load {type}, ptr {(given + 8 * place).name}", type)

    arrays = [field(i, "ptr") for i in range(count + len(outputs))]
    numbers, size = field(len(arrays), "ptr"), field(len(arrays) + 1, INT)
    constants = [
        n.spread(n.number(numbers + i * n.itemsize))
        for i in range(sum(node[0] == "constant" for node in nodes))
    ]

    def vector(at: Value, mask: Value | None) -> None:
        values: list[Value] = []
        for operation, *places in nodes:
            if operation == "input":
                values.append(n.load(arrays[places[0]] + at * n.itemsize, mask))
            elif operation == "constant":
                values.append(constants[places[0]])
            else:
                values.append(_applied(n, operation, [values[place] for place in places]))
        for target, place in zip(arrays[count:], outputs, strict=True):
            n.store(values[place], target + at * n.itemsize, mask)

    start = task * PIECE
    stop = f.least(start + PIECE, size)
    whole = stop - (stop - start) % n.lanes
    with f.loop(whole, start, n.lanes) as at:
        vector(at, None)
    with f.when(whole < stop):
        vector(whole, n.mask(stop - whole))
    f.finish()
    return machine().compile(module)[0]


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
