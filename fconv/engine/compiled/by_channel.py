"""Kernels of some numbers a channel, which follow from sums over an array, and the sums themselves."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np

from fconv.engine.compiled.channels import formula_of, laid_out
from fconv.engine.compiled.formulas import summing
from fconv.engine.compiled.launches import WORK, Launch, chain
from fconv.engine.compiled.llvm import Module, Value
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address
from fconv.engine.compiled.transcendental import Maths

Array: TypeAlias = np.ndarray[Any, Any]

STEPS = ("tasks", "task_step", "sum_repeats", "second", "channels", "repeats", "length", "numbers")
"""Fields of kernels: how sums lie, how often a row holds all channels, its elements, and `numbers`."""


class ByChannel:
    """A kernel by channel that is being written."""

    def __init__(self, dtype: str, fields: tuple[str, ...]) -> None:
        f, _, arguments, _ = kernel_of(Module())
        self.f, self.a, self.n = f, Fields(f, arguments, fields), Maths(f, dtype)
        self.d = Maths(f, "float64", self.n.lanes)
        self._total, self._part = (f.variable(self.n.wide, 0.0) for _ in range(2))

    def number(self, i: int) -> Value:
        """Return number `i` of all channels."""
        return self.d.spread(self.d.number(self.a.pointer("numbers") + 8 * i))

    def total(self, i: int, c: Value, mask: Value) -> Value:
        """Return the sums of output `i`."""
        f, a, total = self.f, self.a, self._total
        found = a.pointer("found") + a.second * i
        total.set(0.0)
        with f.loop(a.sum_repeats) as k:
            self._part.set(0.0)
            with f.loop(a.tasks) as task:
                place = found + task * a.task_step + (k * a.channels + c) * 8
                self._part.set(self._part.get() + self.d.load(place, mask))
            total.set(total.get() + self._part.get())
        return total.get()

    def given(self, name: str, c: Value, mask: Value) -> Value:
        """Return numbers of the dtype in float64."""
        return self.n.widened(self.n.load(self.a.pointer(name) + c * self.n.itemsize, mask))

    def lay(self, i: int, value: Value, c: Value, mask: Value) -> None:
        """Lay numbers out in row `i` as passes over memory read them."""
        f, a, n = self.f, self.a, self.n
        line = a.pointer("out") + a.length * i * n.itemsize
        with f.loop(a.repeats) as k:
            n.store(value, line + (k * a.channels + c) * n.itemsize, mask)

    def put(self, name: str, i: int, value: Value, c: Value, mask: Value) -> None:
        """Store numbers in row `i` of an array of the dtype."""
        place = self.a.pointer(name) + (self.a.channels * i + c) * self.n.itemsize
        self.n.store(self.n.narrowed(value), place, mask)

    def finished(self) -> int:
        """Compile it."""
        self.f.finish()
        return machine().compile(self.f.module)[0]


class Sums:
    """Sums over an array (N, C, ...) by formulas of `channels`, planned.

    Parameters
    ----------
    shape, order : tuple of int
        Of the array, which is contiguous in the memory order: the channels last, or behind the batch.
    dtype : dtype
        float32 or float64.
    outputs : int
        Of the formulas.
    """

    def __init__(
        self, shape: tuple[int, ...], order: tuple[int, ...], dtype: np.dtype[Any], outputs: int
    ) -> None:
        self.laid, self.rows, self._over = laid_out(shape, order)
        self._size, self._channels, self._dtype = prod(shape), shape[1], dtype
        self._each, found = summing(self._size, self._over)
        self.second = prod(found) * 8
        self.size = outputs * self.second
        columns = self._over.columns
        self.repeats = self.rows.row // shape[1] if columns else 1
        self.length = self.rows.row if columns else shape[1]
        tasks, step = found if columns else (found[0] // shape[1], shape[1])
        repeats = self._over.row // shape[1] if columns else 1
        self._steps = (tasks, step * 8, repeats, self.second, shape[1], self.repeats, self.length)

    def launch(self, name: str) -> Launch:
        """Plan the sums of a formula: `size` bytes, those of its second output `second` bytes behind."""
        over = self._over
        return formula_of(name, self._dtype).launch(
            self._size, over.row, self._each, over.channels, over.columns, True
        )

    def finish(self, kernel: int, arrays: int, numbers: Array) -> Launch:
        """Plan what follows from the sums; its first arguments are some arrays."""
        arguments = (*[0] * arrays, *self._steps, address(numbers))
        return Launch(kernel, arguments, 1, 0, (numbers,), 0.0)


@lru_cache(maxsize=4)
def _total_kernel(dtype: str) -> int:
    """Compile the sum of each channel in the dtype."""
    k = ByChannel(dtype, ("found", "out", *STEPS))
    with k.f.loop(k.a.channels, step=k.n.lanes) as c:
        mask = k.n.mask(k.a.channels - c)
        k.put("out", 0, k.total(0, c, mask), c, mask)
    return k.finished()


class Total:
    """The sum of each channel of an array, planned; the parameters are those of `Sums`."""

    def __init__(self, shape: tuple[int, ...], order: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        sums = Sums(shape, order, dtype, 1)
        self._channels, self._dtype = shape[1], dtype
        self._sum, self.work = sums.launch("total"), sums.size
        self._finish = sums.finish(_total_kernel(dtype.name), 2, np.zeros(1))
        self._whole = chain(self.parts(0, 1), self.work)

    def parts(self, x: int, out: int) -> list[Launch]:
        """Return the launches for a chain of `work` bytes, by the numbers of its arrays."""
        return [self._sum.of(x, WORK), self._finish.of(WORK, out)]

    def output(self) -> Array:
        """Make an array for the sums."""
        return np.empty(self._channels, self._dtype)

    def run(self, x: Array) -> Array:
        """Return the sums, in the dtype of `x`."""
        out = self.output()
        pool().run(self._whole, (x, out))
        return out
