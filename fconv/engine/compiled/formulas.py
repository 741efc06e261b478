"""Formulas of one entry, traced from the functions that NumPy computes them by, and compiled.

A function of arrays that uses nothing but operators and the functions of `Functions` is called once with
`Traced` values in place of its arrays. The graph of operations becomes one kernel: one pass over contiguous
memory, however many operations there are. Numbers of Python are arguments of the kernel, so that another
option or another learning rate needs no other kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import methodcaller
from typing import Any, TypeAlias

import numpy as np

from fconv.engine.compiled.llvm import INT, Function, Module, Value, machine, name_of
from fconv.engine.compiled.pool import BYTES, Fields, Launch, address, addresses, kernel_of, pool
from fconv.engine.compiled.transcendental import Maths

PIECE = 1 << 14
"""Entries of a task."""

_SUMS = 64
"""Tasks of a sum, at most."""
_MOST_LANES = 16

Flat: TypeAlias = np.ndarray[Any, Any]
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
    by_channel : int
        How many of the arrays, the last ones, hold one number for each channel.
    """

    def __init__(
        self, function: Callable[..., Any], count: int, dtype: np.dtype[Any], by_channel: int = 0
    ) -> None:
        nodes, outputs, self._constants, self.many = trace(function, count, dtype)
        self.outputs = len(outputs)
        self._count, self._by_channel = count, by_channel
        self._graph = (name_of(dtype), nodes, outputs, count, by_channel)
        # Nanoseconds an entry, about: bytes that come and go, and what computes.
        self._work = (count + len(outputs)) * dtype.itemsize / BYTES / 2 + len(nodes) / 8
        self._kernels: dict[tuple[bool, bool], int] = {}

    def run(self, inputs: Sequence[Flat], outputs: Sequence[Flat]) -> None:
        """Compute contiguous arrays of one size from others; an output may be one of the inputs."""
        self._launch(inputs, outputs, outputs[0].size, PIECE, 1, 1, True, False)

    def run_each(self, work: Sequence[tuple[Sequence[Flat], Sequence[Flat]]]) -> None:
        """Compute several pairs of inputs and outputs, each as `run` takes them, in one launch."""
        kernel, constants, rows, total = self._compiled(True, False), address(self._constants), [], 0
        for inputs, outputs in work:
            size, item = outputs[0].size, outputs[0].itemsize
            if any(x.size != size for x in inputs):
                raise ValueError(f"a formula got arrays of {[x.size for x in inputs]} entries for {size}")
            places = addresses((*inputs, *outputs))
            for start in range(0, size, PIECE):
                at = [place + start * item for place in places] if start else places
                length = min(PIECE, size - start)
                rows.append(struct.pack(f"{len(at) + 5}q", *at, constants, length, PIECE, 1, 1))
            total += size
        if rows:
            table = np.frombuffer(b"".join(rows), np.uint8)
            arguments = (0, kernel, len(rows[0]))
            pool().run(Launch(_each(), arguments, len(rows), cost=total * self._work), (table,))

    def run_by_channel(self, inputs: Sequence[Flat], outputs: Sequence[Flat], rows: Rows) -> None:
        """Compute contiguous arrays from others and from numbers of their channels."""
        per_task = max(1, PIECE // rows.row)
        self._launch(inputs, outputs, inputs[0].size, rows.row, per_task, rows.channels, rows.columns, False)

    def sums(self, inputs: Sequence[Flat], rows: Rows) -> np.ndarray[Any, Any]:
        """Sum the outputs over each channel, (outputs, C), in float64 and always in the same order."""
        size, row, channels = inputs[0].size, rows.row, rows.channels
        count = -(-size // row)
        per_task = max(1, PIECE // row, -(-count // _SUMS))
        wide = row + -row % _MOST_LANES
        shape = (self.outputs, -(-count // per_task), wide) if rows.columns else (self.outputs, count)
        found = np.zeros(shape)
        self._launch(inputs, list(found), size, row, per_task, channels, rows.columns, True)
        if rows.columns:
            found = found.sum(axis=1)[:, :row]
        return np.asarray(found.reshape(self.outputs, -1, channels).sum(axis=1))

    def run_by_sample(
        self,
        inputs: Sequence[Flat],
        numbers: Sequence[Flat],
        outputs: Sequence[Flat],
        samples: int,
        rows: Rows,
    ) -> np.ndarray[Any, Any] | None:
        """Compute contiguous arrays from others and from numbers of each sample's channels.

        Parameters
        ----------
        inputs, outputs : sequence of array
            As of `run_by_channel`. Without outputs, each channel of a sample is summed in float64.
        numbers : sequence of array
            A row, in the length of `rows`, for each sample.
        samples : int
            How many there are.
        rows : Rows
            How a sample meets a number for each channel; every row holds all channels.

        Returns
        -------
        float64 array, shape (outputs, samples, C)
            The sums; None where there are outputs.
        """
        size, row, item = inputs[0].size // samples, rows.row, inputs[0].itemsize
        if any(x.size != size * samples for x in (*inputs, *outputs)) or any(
            x.size != samples * row for x in numbers
        ):
            raise ValueError(f"a formula got arrays of {[x.size for x in inputs]} entries by sample")
        per_task = max(1, PIECE // row)
        length = per_task * row
        blocks = -(-size // length)
        sample, block = np.arange(samples)[:, None], np.arange(blocks)
        entry = (sample * size + block * length) * item
        wide, sums = row + -row % _MOST_LANES, None
        columns: list[Any] = [x + entry for x in addresses(inputs)]
        columns += [x + sample * row * item for x in addresses(numbers)]
        if outputs:
            columns += [x + entry for x in addresses(outputs)]
        else:
            sums = np.zeros((self.outputs, samples, blocks, wide))
            columns += [x + (sample * blocks + block) * wide * 8 for x in addresses(list(sums))]
        columns += [address(self._constants), np.minimum(length, size - block * length)]
        columns += [row, per_task, rows.channels]
        table = np.empty((samples, blocks, len(columns)), np.int64)
        for i, column in enumerate(columns):
            table[..., i] = column
        arguments = (0, self._compiled(True, sums is not None), table.strides[1])
        cost = size * samples * self._work
        pool().run(Launch(_each(), arguments, samples * blocks, cost=cost), (table,))
        if sums is None:
            return None
        joined = sums.sum(axis=2)[..., :row].reshape(self.outputs, samples, -1, rows.channels)
        return np.asarray(joined.sum(axis=2))

    def _launch(
        self, inputs: Sequence[Flat], outputs: Sequence[Flat], size: int, row: int, per_task: int,
        channels: int, columns: bool, summed: bool,
    ) -> None:  # fmt: skip
        whole = self._count - self._by_channel
        fits = row if columns else channels
        wrong = [x for x in inputs[:whole] if x.size != size] or [x for x in inputs[whole:] if x.size < fits]
        if wrong:
            raise ValueError(f"a formula got arrays of {[x.size for x in inputs]} entries for {size}")
        if size:
            kernel = self._compiled(columns, summed)
            rest = (address(self._constants), size, row, per_task, channels)
            arguments = [0] * (len(inputs) + len(outputs)) + [*rest]
            launch = Launch(kernel, arguments, -(-size // (row * per_task)), cost=size * self._work)
            pool().run(launch, (*inputs, *outputs))

    def _compiled(self, columns: bool, summed: bool) -> int:
        kernel = self._kernels.get((columns, summed))
        if kernel is None:
            kernel = self._kernels[columns, summed] = _kernel(*self._graph, columns, summed)
        return kernel


@lru_cache(maxsize=1)
def _each() -> int:
    """Compile the kernel whose tasks are calls of another kernel's first task, by a table of arguments."""
    f, task, address, worker = kernel_of(Module())
    a = Fields(f, address, ("table", "kernel", "row"))
    f.call_address(a.kernel, 0, a.table + task * a.row, worker)
    f.finish()
    return machine().compile(f.module)[0]


@dataclass(frozen=True)
class Rows:
    """Layout of an array against one number for each channel.

    Attributes
    ----------
    row : int
        Entries of a row.
    channels : int
        C.
    columns : bool
        Every row holds all channels, over and over. Otherwise a row belongs to one channel, and the rows of
        all channels follow each other, over and over.
    """

    row: int
    channels: int
    columns: bool


@lru_cache(maxsize=512)
def _kernel(
    dtype: str,
    nodes: tuple[Node, ...],
    outputs: tuple[int, ...],
    count: int,
    by_channel: int,
    columns: bool,
    summed: bool,
) -> int:
    """Compile a graph.

    The arguments are the inputs, the outputs, the constants, the size, the length of a row, how many rows a
    task takes, and the channels. Where outputs are `summed` they are float64: a number for each row, or with
    `columns` a row of sums for each task.
    """
    module = Module()
    f = Function(module, "kernel", [INT, "ptr", INT], exported=True)
    task, given, _ = f.arguments
    n = Maths(f, dtype)

    def field(place: int, type: str) -> Value:
        return f.value(f"load {type}, ptr {(given + 8 * place).name}", type)

    arrays = [field(i, "ptr") for i in range(count + len(outputs))]
    whole_arrays = count - by_channel
    numbers = field(len(arrays), "ptr")
    size, row, per_task, channels = (field(len(arrays) + 1 + i, INT) for i in range(4))
    amount = sum(node[0] == "constant" for node in nodes)
    constants = [n.spread(n.number(numbers + i * n.itemsize)) for i in range(amount)]
    totals = [f.variable(n.wide, 0.0) for _ in outputs] if summed and not columns else []

    def vector(at: Value, column: Value, by_row: list[Value], mask: Value | None) -> None:
        def given(i: int) -> Value:
            if i >= whole_arrays and not columns:
                return by_row[i - whole_arrays]
            return n.load(arrays[i] + (at if i < whole_arrays else column) * n.itemsize, mask)

        values = emit(n, nodes, given, constants)
        for i, place in enumerate(outputs):
            value, target = values[place], arrays[count + i]
            if not summed:
                n.store(value, target + at * n.itemsize, mask)
                continue
            added = n.widened(value if mask is None else n.choose(mask, value, 0.0))
            if columns:
                sums = target + (task * padded + column) * 8
                total = f.value(f"load {n.wide}, ptr {sums.name}, align 8", n.wide)
                f.emit(f"store {n.wide} {(total + added).name}, ptr {sums.name}, align 8")
            else:
                totals[i].set(totals[i].get() + added)

    padded = (row + (_MOST_LANES - 1)) // _MOST_LANES * _MOST_LANES
    rows = (size + (row - 1)) // row
    first = task * per_task
    with f.loop(f.least(first + per_task, rows), first) as r:
        start = r * row
        stop = f.least(start + row, size)
        by_row: list[Value] = []
        if not columns:
            place = r % channels * n.itemsize
            by_row = [n.spread(n.number(x + place)) for x in arrays[whole_arrays:count]]
        for total in totals:
            total.set(0.0)
        whole = stop - (stop - start) % n.lanes
        with f.loop(whole, start, n.lanes) as at:
            vector(at, at - start, by_row, None)
        with f.when(whole < stop):
            vector(whole, whole - start, by_row, n.mask(stop - whole))
        for target, total in zip(arrays[count:], totals, strict=False):
            n.put_sum(total.get(), target + r * 8)
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
