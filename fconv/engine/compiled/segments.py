"""Functions of segments of an array, such as softmax along an axis and layer norm, compiled from formulas.

A program is a sequence of sweeps over a segment, which stays in the cache meanwhile: reductions of a formula
of the elements and of what earlier sweeps found, then the results. Either a segment is contiguous, and the
lanes of vectors run along it, or many segments lie side by side, and every lane has a segment of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from math import inf
from operator import add
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fconv.engine.compiled.formulas import PIECE
from fconv.engine.compiled.launches import Launch
from fconv.engine.compiled.llvm import INT, Module, Number, Value, name_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import kernel_of, pool
from fconv.engine.compiled.tracing import emit, trace
from fconv.engine.compiled.transcendental import Maths
from fconv.engine.sweeps import Layout, Program, Sweep

Array: TypeAlias = np.ndarray[Any, Any]

_UNROLLED = 4
_WORK = 2.0  # nanoseconds an element, about, with an exponential
_SHORT = 8
"""Most vectors of a segment for which kernels of their own are compiled, without loops over them."""
_LEAST_ROWS, _MOST_ROWS = 32, 128
"""Segments whose elements are added up in the array's own precision, before float64 goes on."""


def run(
    program: Program,
    layout: Layout,
    arrays: Sequence[Array],
    params: Sequence[Array] = (),
    numbers: Sequence[float] = (),
    outputs: Sequence[Array] = (),
) -> Array:
    """Run a program over flat arrays of one size; return its sums (sums, runs, count), yet to be added.

    What a run sums over is decided by the layout alone: a part of a segment, or some segments.
    """
    plan = _planned(program, layout, arrays[0].dtype)
    taken = (*arrays, *params, *outputs)
    if [x.size for x in taken] != plan.sizes:
        raise ValueError(f"a program got arrays of {[x.size for x in taken]} elements")
    found = np.zeros(plan.found, plan.precision)
    pool().run(plan.launch, (*taken, found, np.array(numbers, np.float64)))
    return found.reshape(plan.shape)


class _Planned(NamedTuple):
    """A program for arrays of one layout: what sizes they have, its launch, and the sums that it finds.

    The sums are written to an array of the shape `found`, and returned in another.
    """

    sizes: list[int]
    found: tuple[int, ...]
    shape: tuple[int, ...]
    precision: Any
    launch: Launch


@lru_cache(maxsize=512)
def _planned(program: Program, layout: Layout, dtype: np.dtype[Any]) -> _Planned:
    length, across = layout.parts * layout.width, layout.inner > 1
    kept = program.sweeps[-1].kind == "kept"
    sizes = [layout.size] * program.arrays + [layout.count] * program.params
    sizes += [layout.segments * layout.inner if kept else layout.size] * program.outputs
    columns = layout.by == "element" and program.sums > 0
    lanes = machine().vector_bytes // dtype.itemsize
    vectors = -(-layout.inner // lanes) if across else 1
    per_task = max(1, PIECE // max(1, length * (lanes if across else 1)))
    if across:
        tasks = layout.segments * -(-vectors // per_task)
    else:
        per_task = min(max(per_task, _LEAST_ROWS), _MOST_ROWS) if columns else per_task
        tasks = -(-layout.segments // per_task)
    each = (tasks, length) if columns else (layout.size // max(1, layout.width),)
    found = shape = (program.sums, *each)
    if program.sums and not columns:
        shape = (program.sums, each[0] // layout.count, layout.count)
    fields = (
        layout.segments, layout.parts, layout.width, layout.inner, layout.count, per_task, vectors, tasks,
    )  # fmt: skip
    by = layout.by if program.params or columns else "part"
    short = 0 if across or layout.parts > 1 or layout.width > _SHORT * lanes else -(-layout.width // lanes)
    whole = (layout.width if short else layout.inner) % lanes == 0
    kernel = _kernel(program, name_of(dtype), across, whole, by, short)
    launch = Launch(kernel, [*[0] * (len(sizes) + 2), *fields], tasks, cost=layout.size * _WORK)
    return _Planned(sizes, found, shape, dtype if columns else np.float64, launch)


class _Writer:
    """A kernel that is being written, of a program for a dtype."""

    def __init__(self, program: Program, dtype: str, across: bool, whole: bool, by: str, short: int) -> None:
        self.program, self.dtype, self.across, self.by = program, np.dtype(dtype), across, by
        self.short = short
        self.module = Module()
        self.f, self.task, given, _ = kernel_of(self.module)
        self.n = Maths(self.f, dtype)
        self.d = Maths(self.f, "float64", self.n.lanes)
        f, n, d = self.f, self.n, self.d

        def field(place: int, type: str) -> Value:
            return f.value(f"load {type}, ptr {(given + 8 * place).name}", type)

        ends = [program.arrays, program.params, program.outputs]
        pointers = [field(i, "ptr") for i in range(sum(ends) + 2)]
        self.arrays, rest = pointers[: ends[0]], pointers[ends[0] :]
        self.params, self.outputs = rest[: ends[1]], rest[ends[1] : -2]
        self.sums, numbers = pointers[-2:]
        self.segments, self.parts, self.width, self.inner, self.count, per_task, vectors, self.tasks = (
            field(len(pointers) + i, INT) for i in range(8)
        )
        self.length = self.parts * self.width
        self.last_mask = None if whole or not short else n.mask(self.width - (short - 1) * n.lanes)
        self.known = [n.narrowed(d.spread(d.number(numbers + 8 * i))) for i in range(program.numbers)]
        given_numbers = list(self.known)
        if across:
            blocks = (vectors + (per_task - 1)) // per_task
            outer, first = self.task // blocks, self.task % blocks * per_task
            with f.loop(f.least(first + per_task, vectors), first) as v:
                lane = v * n.lanes
                self.number = outer * self.inner + lane
                self.base = (outer * self.length * self.inner + lane) * n.itemsize
                self.mask = None if whole else n.mask(self.inner - lane)
                start = self.number % self.count * n.itemsize
                self.lane_params = [n.load(p + start, self.mask) for p in self.params]
                self._segment()
        else:
            first = self.task * per_task
            columns = program.sums if short and by == "element" else 0
            self.columns = [[n.zero() for _ in range(short)] for _ in range(columns)]
            with f.loop(f.least(first + per_task, self.segments), first) as self.number:
                self.base = self.number * self.length * n.itemsize
                self.known = list(given_numbers)
                self._segment()
            for i, sums in enumerate(self.columns):
                for k, (total, mask) in enumerate(zip(sums, self._masks(), strict=True)):
                    n.store(total.get(), self._column(i, k * n.lanes), mask)
        f.finish()

    def _segment(self) -> None:
        """Write all sweeps over a segment."""
        for sweep in self.program.sweeps:
            if sweep.kind not in ("value", "kept"):
                self._sweep(sweep)
                continue
            found = self._evaluated(sweep.function, len(self.known), self.known.__getitem__)
            self.known += found
            if sweep.kind == "kept":
                for value, target in zip(found, self.outputs, strict=True):
                    self._put(value, target + self.number * self.n.itemsize)

    def _evaluated(
        self, function: Callable[..., Any], count: int, given: Callable[[int], Value]
    ) -> list[Value]:
        nodes, results, constants, _ = trace(function, count, self.dtype)
        values = emit(self.n, nodes, given, [self.n.number_of(float(c)) for c in constants])
        return [values[place] for place in results]

    def _put(self, value: Value, place: Value) -> None:
        """Store what belongs to a segment, or to one in each lane."""
        n = self.n
        if self.across:
            n.store(value, place, self.mask)
        else:
            n.put(self.f.value(f"extractelement {n.vector} {value.name}, i32 0", n.element), place)

    def _sweep(self, sweep: Sweep) -> None:
        """Write a loop over the elements of a segment."""
        f, n, program = self.f, self.n, self.program
        parts, width = self._first(sweep.most) if sweep.most and not self.short else (self.parts, self.width)
        write, most = sweep.kind == "write", sweep.kind == "max"
        columns = write and self.by == "element" and not self.across
        reduced = program.sums if write else len(self._results(sweep))
        blank = -inf if most else 0.0
        totals = [f.variable(n.vector if most else n.wide, blank) for _ in range(0 if columns else reduced)]
        turns = _UNROLLED if reduced else 1
        combine = n.maximum if most else add

        def element(
            at: Value, column: Value, own: list[Value], mask: Value | None, vector: int | None = None
        ) -> list[Value]:
            """Write what becomes of an element; return what is to be reduced."""

            def given(i: int) -> Value:
                if i < program.arrays:
                    return n.load(self.arrays[i] + at, mask)
                i -= program.arrays
                if i >= program.params:
                    return self.known[i - program.params]
                return own[i] if own else n.load(self.params[i] + column * n.itemsize, mask)

            values = self._evaluated(sweep.function, program.arrays + program.params + len(self.known), given)
            written = program.outputs if write else int(sweep.stored)
            for value, target in zip(values[:written], self.outputs, strict=False):
                n.store(value, target + at, mask)
            kept = values[written if write else 0 :]
            if mask is not None:
                kept = [n.choose(mask, value, blank) for value in kept]
            if not columns:
                return kept
            for i, value in enumerate(kept):
                if vector is not None:  # in registers for all segments of the task
                    column_sum = self.columns[i][vector]
                    column_sum.set(column_sum.get() + value)
                else:
                    place = self._column(i, column)
                    n.store(n.load(place, mask) + value, place, mask)
            return []

        def reduced_over(elements: list[list[Value]]) -> None:
            """Add a few elements in their own precision, and then to the totals in float64."""
            for total, each in zip(totals, zip(*elements, strict=True), strict=True):
                few = list(each)
                while len(few) > 1:
                    few = [reduce(combine, few[i : i + 2]) for i in range(0, len(few), 2)]
                total.set(combine(total.get(), few[0] if most else n.widened(few[0])))

        if self.across:
            step = self.inner * n.itemsize
            self._loop(
                parts * width, 1, turns, reduced_over,
                lambda k: element(self.base + k * step, k, self.lane_params, self.mask),
            )  # fmt: skip
            found = [total.get() for total in totals]
            for i, value in enumerate(found if write else ()):
                place = self.segments * self.parts * self.inner * i + self.number
                self.d.store(value, self.sums + place * 8, self.mask)
        else:
            with f.loop(parts) as j:
                part = self.number * self.parts + j
                row = self.base + j * self.width * n.itemsize
                own: list[Value] = []
                if self.by == "part":
                    own = [n.spread(n.number(p + part % self.count * n.itemsize)) for p in self.params]
                for total in totals if write else ():
                    total.set(0.0)
                self._along(
                    row, width, turns, reduced_over, lambda at, i, mask, v: element(at, i, own, mask, v)
                )
                if write:
                    for i, total in enumerate(totals):
                        place = self.segments * self.parts * i + part
                        self.d.put(self.d.total(total.get()), self.sums + place * 8)
            found = []
            if not write:
                found = [n.across(t.get(), combine) if most else self.d.total(t.get()) for t in totals]
        if not write:
            found = self._means(found, parts * width) if sweep.kind == "mean" else found
            self.known += found if most else [self._known(value) for value in found]

    def _first(self, most: int) -> tuple[Value, Value]:
        """Return how many parts, and elements of each, are the first `most` of a segment, about."""
        width = self.f.least(self.width, most)
        some = self.f.select(width > 0, width, 1)
        return self.f.least(self.parts, (width + (most - 1)) // some), width

    def _means(self, found: list[Value], count: Value) -> list[Value]:
        wide = self.f.value(f"sitofp i64 {count.name} to double", "double")
        inverse = self.f.constant(1.0, "double") // wide
        inverse = self.d.spread(inverse) if self.across else inverse
        return [value * inverse for value in found]

    def _known(self, total: Value) -> Value:
        """Return a number of a segment, or those of the segments in the lanes, in the array's precision."""
        if self.across:
            return self.n.narrowed(total)
        if self.n.element != total.type:
            total = self.f.value(f"fptrunc {total.type} {total.name} to {self.n.element}", self.n.element)
        return self.n.spread(total)

    def _column(self, i: int, column: Number) -> Value:
        """Return where a task's sum of a column is."""
        return self.sums + ((self.tasks * i + self.task) * self.width + column) * self.n.itemsize

    def _masks(self) -> list[Value | None]:
        """Return the mask of each vector of a short segment."""
        return [None] * (self.short - 1) + [self.last_mask]

    def _along(
        self, row: Value, width: Value, turns: int, reduced_over: Callable[[list[list[Value]]], None],
        element: Callable[[Value, Value, Value | None, int | None], list[Value]],
    ) -> None:  # fmt: skip
        """Write the loop over the vectors of a contiguous segment, or a short one's vectors one by one."""
        f, n = self.f, self.n
        if self.short:
            every = [f.constant(v * n.lanes, INT) for v in range(self.short)]
            masks = enumerate(self._masks())
            reduced_over([element(row + every[v] * n.itemsize, every[v], mask, v) for v, mask in masks])
            return
        full = width - width % n.lanes
        self._loop(full, n.lanes, turns, reduced_over, lambda i: element(row + i * n.itemsize, i, None, None))
        with f.when(full < width):
            reduced_over([element(row + full * n.itemsize, full, n.mask(width - full), None)])

    def _loop(
        self, stop: Value, step: int, turns: int, reduced_over: Callable[[list[list[Value]]], None],
        body: Callable[[Value], list[Value]],
    ) -> None:  # fmt: skip
        """Write a loop that takes several steps a turn, and then what is left."""
        several = stop - stop % (step * turns)
        with self.f.loop(several, 0, step * turns) as i:
            reduced_over([body(i + turn * step) for turn in range(turns)])
        with self.f.loop(stop, several, step) as i:
            reduced_over([body(i)])

    def _results(self, sweep: Sweep) -> tuple[int, ...]:
        count = self.program.arrays + self.program.params + len(self.known)
        return trace(sweep.function, count, self.dtype)[1]


@lru_cache(maxsize=1024)
def _kernel(program: Program, dtype: str, across: bool, whole: bool, by: str, short: int) -> int:
    """Compile a program for contiguous segments, of `short` vectors each if that is not 0, or side by side.

    Vectors along a short segment, or across segments, may all be `whole`.
    """
    return machine().compile(_Writer(program, dtype, across, whole, by, short).module)[0]
