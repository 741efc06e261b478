"""Formulas of one element, compiled: one pass over contiguous memory, however many operations there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine.compiled.formula_kernels import MOST_LANES, formula_kernel
from fconv.engine.compiled.llvm import Module, name_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import BYTES, Fields, Launch, kernel_of, pool
from fconv.engine.compiled.scratch import address, addresses
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
        self._count, self._by_channel = count, by_channel
        self._graph = (name_of(dtype), nodes, outputs, count, by_channel)
        # Nanoseconds an element, about: bytes that come and go, and what computes.
        self._work = (count + len(outputs)) * dtype.itemsize / BYTES / 2 + len(nodes) / 8
        self._kernels: dict[tuple[bool, bool], int] = {}
        self._launches: dict[tuple[int, int, int, int, bool, bool], Launch] = {}

    def run(self, inputs: Sequence[Flat], outputs: Sequence[Flat]) -> None:
        """Compute contiguous arrays of one size from others; an output may be one of the inputs."""
        self._launch(inputs, outputs, outputs[0].size, PIECE, 1, 1, True, False)

    def run_each(self, work: Sequence[tuple[Sequence[Flat], Sequence[Flat]]]) -> None:
        """Compute several pairs of inputs and outputs, each as `run` takes them, in one launch."""
        kernel, constants, total = self._compiled(True, False), address(self._constants), 0
        table: list[int] = []
        for inputs, outputs in work:
            size, item = outputs[0].size, outputs[0].itemsize
            for x in inputs:
                if x.size != size:
                    raise ValueError(
                        f"a formula got arrays of {[x.size for x in inputs]} elements for {size}"
                    )
            places = addresses((*inputs, *outputs))
            for start in range(0, size, PIECE):
                at = [place + start * item for place in places] if start else places
                table += (*at, constants, min(PIECE, size - start), PIECE, 1, 1)
            total += size
        if table:
            row = self._count + self.outputs + 5
            packed = np.array(table, np.int64)
            arguments = (0, kernel, row * 8)
            pool().run(Launch(_each(), arguments, len(table) // row, cost=total * self._work), (packed,))

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
        size, row, item = inputs[0].size // samples, rows.row, inputs[0].itemsize
        if any(x.size != size * samples for x in (*inputs, *outputs)) or any(
            x.size != samples * row for x in numbers
        ):
            raise ValueError(f"a formula got arrays of {[x.size for x in inputs]} elements by sample")
        per_task = max(1, PIECE // row)
        length = per_task * row
        blocks = -(-size // length)
        sample, block = np.arange(samples)[:, None], np.arange(blocks)
        start = (sample * size + block * length) * item
        wide, sums = row + -row % MOST_LANES, None
        columns: list[Any] = [x + start for x in addresses(inputs)]
        columns += [x + sample * row * item for x in addresses(numbers)]
        if outputs:
            columns += [x + start for x in addresses(outputs)]
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


@lru_cache(maxsize=1)
def _each() -> int:
    """Compile the kernel whose tasks are calls of another kernel's first task, by a table of arguments."""
    f, task, address, worker = kernel_of(Module())
    a = Fields(f, address, ("table", "kernel", "row"))
    f.call_address(a.kernel, 0, a.table + task * a.row, worker)
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
