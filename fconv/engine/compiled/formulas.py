"""Formulas of one element, compiled: one pass over contiguous memory, however many operations there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine.compiled.formula_kernels import MOST_LANES, formula_kernel
from fconv.engine.compiled.launches import ARGUMENTS, BYTES, ITEMS, Launch
from fconv.engine.compiled.llvm import POINTER, Module, Value, name_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import PLACE_OF_DATA, address
from fconv.engine.compiled.tracing import Flat, trace

PIECE = 1 << 14
"""Entries of a task."""

_SUMS = 64
"""Tasks of a sum, at most."""
_MOST_LAUNCHES = 256


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
        self._count, self._by_channel, self._item = count, by_channel, dtype.itemsize
        self._graph = (name_of(dtype), nodes, outputs, count, by_channel)
        # Nanoseconds an element, about: bytes that come and go, and what computes.
        self._work = (count + len(outputs)) * dtype.itemsize / BYTES / 2 + len(nodes) / 8
        self._kernels: dict[tuple[bool, bool], int] = {}
        self._launches: dict[tuple[int, int, int, int, bool, bool], Launch] = {}
        self._by_sample: dict[Any, tuple[Launch, tuple[int, ...]]] = {}

    def run(self, inputs: Sequence[Flat], outputs: Sequence[Flat]) -> None:
        """Compute contiguous arrays of one size from others; an output may be one of the inputs."""
        self._launch(inputs, outputs, outputs[0].size, PIECE, 1, 1, True, False)

    def run_each(self, arrays: Sequence[Flat]) -> None:
        """Compute contiguous arrays of several sizes in one launch.

        First come all first inputs, then all second ones, and so on, and the outputs behind them.
        """
        sizes = [x.size for x in arrays]
        count = len(sizes) // (self._count + self.outputs)
        if sizes != sizes[:count] * (self._count + self.outputs):
            raise ValueError(f"a formula got arrays of {sizes} elements")
        self.run_checked(tuple(sizes[:count]), arrays)

    def run_checked(self, sizes: tuple[int, ...], arrays: Sequence[Flat]) -> None:
        """Do what `run_each` does, of arrays that were checked to have these sizes."""
        graph = (self._compiled(True, False), self._count + self.outputs, self._item, self._work)
        pool().run(_over_sizes(*graph, sizes), (*arrays, self._constants))

    def run_by_channel(self, inputs: Sequence[Flat], outputs: Sequence[Flat], rows: Rows) -> None:
        """Apply the formula to contiguous arrays and to one number for each channel."""
        per_task = max(1, PIECE // rows.row)
        self._launch(inputs, outputs, inputs[0].size, rows.row, per_task, rows.channels, rows.columns, False)

    def sums(self, inputs: Sequence[Flat], rows: Rows) -> np.ndarray[Any, Any]:
        """Sum the outputs over each channel, (outputs, C), in float64 and always in the same order."""
        size, row, channels = inputs[0].size, rows.row, rows.channels
        per_task, shape = summing(size, rows)
        found = np.zeros((self.outputs, *shape))
        self._launch(inputs, list(found), size, row, per_task, channels, rows.columns, True)
        if rows.columns:
            found = np.add.reduce(found, 1)[:, :row]
        return np.add.reduce(found.reshape(self.outputs, -1, channels), 1)

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
        size, row = inputs[0].size // samples, rows.row
        if any(x.size != size * samples for x in (*inputs, *outputs)) or any(
            x.size != samples * row for x in numbers
        ):
            raise ValueError(f"a formula got arrays of {[x.size for x in inputs]} elements by sample")
        key = (len(inputs), bool(outputs), size, samples, rows)
        known = self._by_sample.get(key)
        if known is None:
            if len(self._by_sample) >= _MOST_LAUNCHES:
                self._by_sample.clear()
            known = self._by_sample[key] = self._planned_by_sample(*key)
        launch, found = known
        if outputs:
            pool().run(launch, (*inputs, *numbers, *outputs, self._constants))
            return None
        sums = np.zeros(found)
        pool().run(launch, (*inputs, *numbers, *sums, self._constants))
        joined = sums.sum(axis=2)[..., :row].reshape(self.outputs, samples, -1, rows.channels)
        return np.asarray(joined.sum(axis=2))

    def _planned_by_sample(
        self, inputs: int, outputs: bool, size: int, samples: int, rows: Rows
    ) -> tuple[Launch, tuple[int, ...]]:
        """Plan `run_by_sample`; return the launch and the shape of the sums."""
        row, item, per_task = rows.row, self._item, max(1, PIECE // rows.row)
        length = per_task * row
        blocks, wide = -(-size // length), row + -row % MOST_LANES
        sample, block = np.arange(samples)[:, None], np.arange(blocks)
        start, at = (sample * size + block * length) * item, (sample * blocks + block) * wide * 8
        columns: list[Any] = [0, 1, *[start] * inputs, *[sample * row * item] * (self._count - inputs)]
        columns += [start if outputs else at] * self.outputs
        columns += [np.minimum(length, size - block * length), row, per_task, rows.channels]
        table = np.empty((samples, blocks, len(columns)), np.int64)
        for i, column in enumerate(columns):
            table[..., i] = column
        kernel, arrays = self._compiled(True, not outputs), self._count + self.outputs
        rows_of = table.reshape(-1, len(columns))
        launch = _by_table(kernel, rows_of, arrays, arrays, size * samples * self._work)
        return launch, (self.outputs, samples, blocks, wide)

    def _launch(
        self, inputs: Sequence[Flat], outputs: Sequence[Flat], size: int, row: int, per_task: int,
        channels: int, columns: bool, summed: bool,
    ) -> None:  # fmt: skip
        whole = self._count - self._by_channel
        fits = row if columns else channels
        for i, x in enumerate(inputs):
            if x.size != size if i < whole else x.size < fits:
                raise ValueError(f"a formula got arrays of {[x.size for x in inputs]} elements for {size}")
        if not size:
            return
        pool().run(self.launch(size, row, per_task, channels, columns, summed), (*inputs, *outputs))

    def launch(
        self, size: int, row: int, per_task: int, channels: int, columns: bool, summed: bool
    ) -> Launch:
        """Return the launch over arrays of a size, whose first arguments are the inputs and the outputs."""
        key = (size, row, per_task, channels, columns, summed)
        launch = self._launches.get(key)
        if launch is None:
            kernel = self._compiled(columns, summed)
            rest = (address(self._constants), size, row, per_task, channels)
            arguments = [0] * (self._count + self.outputs) + [*rest]
            keep = (self._constants,)
            cost = size * self._work
            launch = Launch(kernel, arguments, -(-size // (row * per_task)), keep=keep, cost=cost)
            if len(self._launches) >= _MOST_LAUNCHES:
                self._launches.clear()
            self._launches[key] = launch
        return launch

    def _compiled(self, columns: bool, summed: bool) -> int:
        kernel = self._kernels.get((columns, summed))
        if kernel is None:
            kernel = self._kernels[columns, summed] = formula_kernel(*self._graph, columns, summed)
        return kernel


def _by_table(kernel: int, table: Any, arrays: int, constants: int, cost: float) -> Launch:
    """Plan calls of a formula's kernel for pieces of arrays.

    A row of the table is the number of the first array, what is added for each that follows, bytes behind the
    beginning of each, and what follows the constants among the kernel's arguments; the number of the array of
    these is `constants`.
    """
    assert arrays + 5 <= ARGUMENTS, arrays
    arguments = (0, 0, address(table), kernel, 8 * table.shape[-1], arrays)
    return Launch(_each(), arguments, len(table), 0, (table,), cost).of(ITEMS, constants)


@lru_cache(maxsize=64)
def _over_sizes(kernel: int, arrays: int, item: int, work: float, sizes: tuple[int, ...]) -> Launch:
    """Plan a formula of so many arrays of each size, an item of which takes `work` nanoseconds."""
    rows = [
        (i, len(sizes), *(start * item,) * arrays, min(PIECE, size - start), PIECE, 1, 1)
        for i, size in enumerate(sizes)
        for start in range(0, size, PIECE)
    ]
    table = np.array(rows, np.int64).reshape(-1, arrays + 6)
    return _by_table(kernel, table, arrays, len(sizes) * arrays, sum(sizes) * work)


@lru_cache(maxsize=1)
def _each() -> int:
    """Compile the kernel whose tasks are calls of another kernel's first task, by a table."""
    f, task, address, worker = kernel_of(Module())
    a = Fields(f, address, ("items", "constants", "table", "kernel", "row", "arrays"))
    row, given = a.pointer("table") + task * a.row, Value(f, f.allocate(f"[{ARGUMENTS} x i64]"), POINTER)
    with f.loop(a.arrays) as i:
        array = f.as_pointer(f.number(a.pointer("items"), f.number(row, 0) + i * f.number(row, 1)))
        data = f.number(array, (PLACE_OF_DATA or 0) // 8)
        f.put(data + f.number(row, i + 2), given, i)
    f.put(a.constants, given, a.arrays)
    with f.loop(4) as i:
        f.put(f.number(row, a.arrays + i + 2), given, a.arrays + i + 1)
    f.call_address(a.kernel, 0, given, worker)
    f.finish()
    return machine().compile(f.module)[0]


def summing(size: int, rows: Rows) -> tuple[int, tuple[int, ...]]:
    """Return how many rows a task of `Formula.sums` takes, and the shape of the sums of an output.

    That is a row of sums for each task where rows hold all channels, and else a sum for each row.
    """
    count = -(-size // rows.row)
    per_task = max(1, PIECE // rows.row, -(-count // _SUMS))
    wide = rows.row + -rows.row % MOST_LANES
    return per_task, (-(-count // per_task), wide) if rows.columns else (count,)


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
