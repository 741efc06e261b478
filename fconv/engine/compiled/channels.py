"""The passes over memory that batch normalisation is made of, compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import lcm, prod
from typing import Any, TypeAlias

import numpy as np

from fconv.arrays import from_order, memory_order
from fconv.engine.compiled.formula_kernels import MOST_LANES
from fconv.engine.compiled.formulas import Formula, Rows
from fconv.engine.memory import empty_like

Array: TypeAlias = np.ndarray[Any, Any]

_ROW, _LEAST_ROW = 512, 64
"""Entries, about, of a row that holds all channels over and over, and least ones where rows are summed."""
BEGIN = 16
"""Elements of a channel whose mean is near that of all."""

_FORMULAS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    # Arrays, numbers by channel, and the formula of both.
    "total": (1, 0, lambda x: x),
    "moments": (1, 1, lambda x, near: (x - near, (x - near) * (x - near))),
    "sums": (2, 1, lambda x, g, near: (g, g * (x - near))),
    "mapped": (1, 3, lambda x, near, by, to: (x - near) * by + to),
    "combined": (2, 4, lambda x, g, near, by, to, factor: (x - near) * by + to + g * factor),
    "scaled": (1, 1, lambda g, factor: g * factor),
}


@lru_cache(maxsize=16)
def formula_of(name: str, dtype: np.dtype[Any]) -> Formula:
    """Return one of the formulas, for a dtype."""
    arrays, numbers, function = _FORMULAS[name]
    return Formula(function, arrays + numbers, dtype, numbers)


@lru_cache(maxsize=512)
def laid_out(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[tuple[int, ...], Rows, Rows]:
    """Return the shape of an array whose axes lie in a memory order, and how its channels lie in it.

    The rows of sums, which come last, are of whole vectors and short: their sums stay in registers.
    """
    channels, columns = shape[1], order[-1] == 1
    laid = tuple(shape[axis] for axis in order)
    if not columns:
        rows = Rows(prod(shape[2:]), channels, columns)
        return laid, rows, rows
    rows = Rows(max(1, _ROW // channels) * channels, channels, columns)
    whole = lcm(channels, MOST_LANES)
    summed = -(-_LEAST_ROW // whole) * whole
    return laid, rows, Rows(summed, channels, columns) if summed <= _ROW else rows


def _mean(x: Array, axis: int) -> Array:
    """Return the mean along an axis in the dtype of `x`; its sum is float64's, and does not overflow."""
    return np.true_divide(np.add.reduce(x, axis, np.float64), x.shape[axis]).astype(x.dtype)


def _quietly(compute: Callable[[], Any]) -> Any:
    with np.errstate(invalid="ignore", over="ignore"):
        return compute()


class CompiledPasses:
    """Passes over an array (N, C, ...); numbers of the channels are float64, shape (C,), or of its dtype.

    Numbers that overflow the dtype, and sums of infinities, warn but for `moments`: whoever asks
    for the rest does so quietly, once for several.

    Parameters
    ----------
    x : array
        float32 or float64, contiguous in a memory order in which the channels come last or behind the batch.
    """

    def __init__(self, x: Array) -> None:
        self._order, self._dtype = memory_order(x), x.dtype
        self._laid, self._rows, self._sum_rows = laid_out(x.shape, self._order)
        self._seen = self._in_line(x)

    def moments(self) -> tuple[Array, Array]:
        """Return mean and biased variance of each channel, in one pass over memory.

        Differences are taken from the mean of a few elements of each channel, so that a mean far larger than
        the deviation costs no digits. The square of its distance from the mean is at most the number of
        elements times the variance, which bounds the cancellation in the end.
        """
        rows = self._rows
        if rows.columns:
            begin = self._seen[: BEGIN * rows.channels].reshape(-1, rows.channels)
        else:
            begin = self._seen[: rows.row * rows.channels].reshape(rows.channels, rows.row)[:, :BEGIN].T
        count = self._seen.size // rows.channels

        def found() -> tuple[Array, Array]:
            near = _mean(np.ascontiguousarray(begin), 0)
            first, second = self._summed("moments", [self._seen], near) / count
            return near + first, np.maximum(second - first * first, 0.0)

        return _quietly(found)

    def sums(self, g: Array, near: Array) -> tuple[Array, Array]:
        """Sum `g`, and ``g * (x - near)``, of each channel."""
        summed, weighted = self._summed("sums", [self._seen, self._in_line(g)], near)
        return summed, weighted

    def mapped(self, near: Array, by: Array, to: Array) -> Array:
        """Return ``(x - near) * by + to``."""
        return self._mapped("mapped", [self._seen], near, by, to)

    def combined(self, near: Array, by: Array, to: Array, g: Array, factor: Array) -> Array:
        """Return ``(x - near) * by + to + g * factor``."""
        return self._mapped("combined", [self._seen, self._in_line(g)], near, by, to, factor)

    def scaled(self, g: Array, factor: Array) -> Array:
        """Return ``g * factor``."""
        return self._mapped("scaled", [self._in_line(g)], factor)

    def _in_line(self, x: Array) -> Array:
        flat = x.transpose(self._order).reshape(-1)
        return flat if flat.flags.aligned and flat.flags.c_contiguous else flat.copy()

    def _numbers(self, by_channel: Array, rows: Rows) -> Array:
        """Lay one number a channel out as the kernels read it."""
        laid = np.empty((rows.row // rows.channels if rows.columns else 1, rows.channels), self._dtype)
        laid[...] = by_channel
        return laid.reshape(-1)

    def _summed(self, name: str, arrays: list[Array], *numbers: Array) -> Array:
        return self._run(name, arrays, numbers, [], self._sum_rows)

    def _mapped(self, name: str, arrays: list[Array], *numbers: Array) -> Array:
        y = empty_like(arrays[0])
        self._run(name, arrays, numbers, [y], self._rows)
        return from_order(y.reshape(self._laid), self._order)

    def _run(
        self, name: str, arrays: list[Array], numbers: Sequence[Array], y: list[Array], rows: Rows
    ) -> Array:
        formula, laid = formula_of(name, self._dtype), [self._numbers(each, rows) for each in numbers]
        if not y:
            return formula.sums([*arrays, *laid], rows)
        formula.run_by_channel([*arrays, *laid], y, rows)
        return y[0]


class SamplePasses(CompiledPasses):
    """Passes over an array (N, C, ...) whose statistics are of groups of channels of each sample.

    Numbers are float64, shape (N, C), or of the array's dtype.

    Parameters
    ----------
    x : array
        As of `CompiledPasses`, the samples apart and the channels last.
    groups : int
        How many groups of neighbouring channels have statistics of their own.
    """

    def __init__(self, x: Array, groups: int) -> None:
        super().__init__(x)
        self._shape = (x.shape[0], groups, x.shape[1] // groups)
        self._positions = prod(x.shape[2:])

    def moments(self) -> tuple[Array, Array]:
        """Return mean and biased variance of each channel's group."""
        near = _mean(self._seen.reshape(self._shape[0], -1, self._rows.channels)[:, :BEGIN], 1)
        off, square = self._summed("moments", [self._seen], near) / self._positions
        mean, var = near + off, np.maximum(square - off * off, 0.0)
        shared = self._over_groups(mean)
        return shared, self._over_groups(var + (mean - shared) ** 2)

    def averaged(self, sums: Array) -> Array:
        """Return the mean over all elements of a group of what was summed by channel."""
        return self._over_groups(sums) / self._positions

    def _over_groups(self, numbers: Array) -> Array:
        parted = numbers.reshape(self._shape)
        return np.broadcast_to(parted.mean(axis=2, keepdims=True), self._shape).reshape(numbers.shape)

    def _numbers(self, by_channel: Array, rows: Rows) -> Array:
        laid = np.empty((self._shape[0], rows.row // rows.channels, rows.channels), self._dtype)
        laid[...] = np.broadcast_to(by_channel, (self._shape[0], rows.channels))[:, None]
        return laid.reshape(-1)

    def _run(
        self, name: str, arrays: list[Array], numbers: Sequence[Array], y: list[Array], rows: Rows
    ) -> Array:
        laid = [self._numbers(each, rows) for each in numbers]
        found = formula_of(name, self._dtype).run_by_sample(arrays, laid, y, self._shape[0], rows)
        return y[0] if found is None else found
