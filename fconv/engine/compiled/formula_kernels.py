"""Kernels of formulas: of each element, or summed over the elements of each channel."""

from __future__ import annotations

from functools import lru_cache, reduce
from operator import add

from fconv.engine.compiled.llvm import INT, Function, Module, Value, Variable
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.tracing import Node, emit
from fconv.engine.compiled.transcendental import Maths

MOST_LANES = 16
_FEW = 4
"""Vectors that are added up in their own precision, before float64 goes on."""


@lru_cache(maxsize=512)
def formula_kernel(
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
    writer = _Writer(dtype, nodes, outputs, count, by_channel)
    if not summed:
        writer.each(columns)
    elif columns:
        writer.column_sums()
    else:
        writer.row_sums()
    writer.f.finish()
    return machine().compile(writer.module)[0]


class _Writer:
    """A kernel that is being written."""

    def __init__(
        self, dtype: str, nodes: tuple[Node, ...], outputs: tuple[int, ...], count: int, by_channel: int
    ) -> None:
        self.module = Module()
        self.f = f = Function(self.module, "kernel", [INT, "ptr", INT], exported=True)
        self.task, given, _ = f.arguments
        self.n = n = Maths(f, dtype)
        self._nodes, self._outputs = nodes, outputs

        def field(place: int, type: str) -> Value:
            return f.value(f"load {type}, ptr {(given + 8 * place).name}", type)

        pointers = [field(i, "ptr") for i in range(count + len(outputs) + 1)]
        whole = count - by_channel
        self.arrays, self.by_channel = pointers[:whole], pointers[whole:count]
        self.targets, numbers = pointers[count:-1], pointers[-1]
        self.size, self.row, per_task, self.channels = (field(len(pointers) + i, INT) for i in range(4))
        amount = sum(node[0] == "constant" for node in nodes)
        self._constants = [n.spread(n.number(numbers + i * n.itemsize)) for i in range(amount)]
        self.rows = (self.size + (self.row - 1)) // self.row
        self.first = self.task * per_task
        self.last = f.least(self.first + per_task, self.rows)

    def _of(self, at: Value, numbers: list[Value], mask: Value | None = None) -> list[Value]:
        """Return the outputs of the elements from `at`; lanes without one hold 0 in what is summed."""
        n, whole = self.n, len(self.arrays)

        def given(i: int) -> Value:
            return numbers[i - whole] if i >= whole else n.load(self.arrays[i] + at * n.itemsize, mask)

        values = emit(n, self._nodes, given, self._constants)
        return [values[place] for place in self._outputs]

    def _of_column(self, column: Value, mask: Value | None = None) -> list[Value]:
        """Return the numbers of the channels from `column`."""
        return [self.n.load(x + column * self.n.itemsize, mask) for x in self.by_channel]

    def _of_row(self, r: Value) -> list[Value]:
        """Return the numbers of the channel that a row belongs to."""
        place = r % self.channels * self.n.itemsize
        return [self.n.spread(self.n.number(x + place)) for x in self.by_channel]

    def each(self, columns: bool) -> None:
        """Write the outputs of each element."""
        f, n = self.f, self.n

        def vector(at: Value, column: Value, by_row: list[Value], mask: Value | None = None) -> None:
            numbers = self._of_column(column, mask) if columns else by_row
            for value, target in zip(self._of(at, numbers, mask), self.targets, strict=True):
                n.store(value, target + at * n.itemsize, mask)

        with f.loop(self.last, self.first) as r:
            start = r * self.row
            stop = f.least(start + self.row, self.size)
            by_row = [] if columns else self._of_row(r)
            whole = stop - (stop - start) % n.lanes
            with f.loop(whole, start, n.lanes) as at:
                vector(at, at - start, by_row)
            with f.when(whole < stop):
                vector(whole, whole - start, by_row, n.mask(stop - whole))

    def row_sums(self) -> None:
        """Sum each row."""
        f, n = self.f, self.n
        totals = [f.variable(n.wide, 0.0) for _ in self._outputs]
        with f.loop(self.last, self.first) as r:
            start = r * self.row
            stop = f.least(start + self.row, self.size)
            numbers = self._of_row(r)
            for total in totals:
                total.set(0.0)
            whole = stop - (stop - start) % n.lanes
            several = stop - (stop - start) % (_FEW * n.lanes)
            with f.loop(several, start, _FEW * n.lanes) as at:
                self._add(totals, [self._of(at + k * n.lanes, numbers) for k in range(_FEW)])
            with f.loop(whole, several, n.lanes) as at:
                self._add(totals, [self._of(at, numbers)])
            with f.when(whole < stop):
                mask = n.mask(stop - whole)
                found = self._of(whole, numbers, mask)
                self._add(totals, [[n.choose(mask, value, 0.0) for value in found]])
            for target, total in zip(self.targets, totals, strict=True):
                n.put_sum(total.get(), target + r * 8)

    def column_sums(self) -> None:
        """Sum each column over the rows of a task."""
        f, n = self.f, self.n
        most = 4 if machine().registers > 16 else 2
        totals = [[f.variable(n.wide, 0.0) for _ in self._outputs] for _ in range(most)]
        padded = (self.row + (MOST_LANES - 1)) // MOST_LANES * MOST_LANES
        full = f.least(self.last, self.size // self.row)
        several = full - (full - self.first) % _FEW

        def block(column: Value, vectors: int, mask: Value | None = None) -> None:
            at = [column + v * n.lanes for v in range(vectors)]
            numbers = [self._of_column(place, mask) for place in at]
            for each in totals[:vectors]:
                for total in each:
                    total.set(0.0)
            for stop, start, step in ((several, self.first, _FEW), (full, several, 1)):
                with f.loop(stop, start, step) as r:
                    for own, given, place in zip(totals, numbers, at, strict=False):
                        self._add(
                            own, [self._of((r + k) * self.row + place, given, mask) for k in range(step)]
                        )
            for own, place in zip(totals, at, strict=False):
                for target, total in zip(self.targets, own, strict=True):
                    put(target + (self.task * padded + place) * 8, total.get())

        def put(address: Value, total: Value) -> None:
            f.emit(f"store {n.wide} {total.name}, ptr {address.name}, align 8")

        by_blocks = self.row - self.row % (most * n.lanes)
        whole = self.row - self.row % n.lanes
        with f.loop(by_blocks, step=most * n.lanes) as column:
            block(column, most)
        with f.loop(whole, by_blocks, n.lanes) as column:
            block(column, 1)
        with f.when(whole < self.row):
            block(whole, 1, n.mask(self.row - whole))
        rest = f.select(full < self.last, self.size - full * self.row, 0)
        with f.loop(rest, step=n.lanes) as column:  # of the last row, which may end early
            mask = n.mask(f.least(rest - column, n.lanes))
            found = self._of(full * self.row + column, self._of_column(column, mask), mask)
            for target, value in zip(self.targets, found, strict=True):
                place = target + (self.task * padded + column) * 8
                total = f.value(f"load {n.wide}, ptr {place.name}, align 8", n.wide)
                put(place, total + n.widened(n.choose(mask, value, 0.0)))

    def _add(self, totals: list[Variable], elements: list[list[Value]]) -> None:
        """Add a few elements in their own precision, and then to the totals."""
        for total, each in zip(totals, zip(*elements, strict=True), strict=True):
            few = list(each)
            while len(few) > 1:
                few = [reduce(add, few[i : i + 2]) for i in range(0, len(few), 2)]
            total.set(total.get() + self.n.widened(few[0]))
