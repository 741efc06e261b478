"""Divide an array in any memory order into the segments that compiled sweeps run over.

A segment is what one sum runs over: the elements along an axis for softmax, of a sample or a group for norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from math import prod

import numpy as np

from fconv.arrays import Array, Shape, from_order, memory_order, xp_of
from fconv.engine.memory import empty
from fconv.engine.sweeps import Layout, Program, Sweep
from fconv.functional.one_pass import formulas_serve, in_line

LOG_TOTAL = (
    Sweep("max", lambda x: x),
    Sweep("sum", lambda x, highest: xp_of(x).exp(x - highest)),
    Sweep("value", lambda highest, total: xp_of(total).log(total)),
)
"""The largest element of a segment, the sum of the exponentials of what all lack to it, and its logarithm."""


class Segments:
    """An array's division: arrays of its shape enter programs in its memory order, and leave them in it."""

    def __init__(self, shape: Shape, layout: Layout, order: Shape, dim: int = -1) -> None:
        self.layout, self._order, self._laid = layout, order, [shape[axis] for axis in order]
        self._rest = tuple(axis - (axis > dim) for axis in order if axis != dim)
        self._left = [shape[axis] for axis in order if axis != dim]
        self._by_segment = replace(layout, count=layout.segments * layout.inner)

    def write(
        self, program: Program, *arrays: Array, params: Sequence[Array] = (), numbers: Sequence[float] = ()
    ) -> tuple[Array, Array]:
        """Run a program that writes one array of the shape, or none; return it, and the sums of its runs.

        The array that it writes is the last that it takes, where it takes one more than is given.
        """
        from fconv.engine.compiled.segments import run

        given = [in_line(x, self._order) for x in arrays]
        y = empty((self.layout.size if program.outputs else 0,), arrays[0].dtype)
        entering = [*given, y][: program.arrays]
        sums = run(program, self.layout, entering, params, numbers, [y] * program.outputs)
        return from_order(y.reshape(self._laid), self._order) if program.outputs else y, sums

    def keep(self, program: Program, x: Array) -> list[Array]:
        """Run a program that finds numbers of the segments along an axis; return each without that axis."""
        from fconv.engine.compiled.segments import run

        found = [np.empty(self._by_segment.count, x.dtype) for _ in range(program.outputs)]
        run(program, self.layout, [in_line(x, self._order)], outputs=found)
        return [from_order(each.reshape(self._left), self._rest) for each in found]

    def write_by_segment(self, program: Program, x: Array, *numbers: Array) -> Array:
        """Run a program that writes one array, of one array and of numbers as `keep` returns them."""
        from fconv.engine.compiled.segments import run

        y = empty((self.layout.size,), x.dtype)
        params = [in_line(each, self._rest) for each in numbers]
        run(program, self._by_segment, [in_line(x, self._order)], params, outputs=[y])
        return from_order(y.reshape(self._laid), self._order)

    def param(self, weight: Array, along: Shape) -> Array:
        """Return a parameter that lies along some axes, flat, in the memory order of the array."""
        return in_line(weight.reshape(along), self._order)

    def unlaid(self, sums: Array, along: Shape) -> Array:
        """Return sums for each element of a parameter in its shape."""
        return from_order(sums.reshape([along[axis] for axis in self._order]), self._order)


def along_axis(x: Array, dim: int) -> Segments | None:
    """Divide an array into segments along an axis; None where nothing is compiled for it."""
    return _along_axis(x.shape, memory_order(x), dim) if x.size and formulas_serve(x) else None


@lru_cache(maxsize=512)
def _along_axis(shape: Shape, order: Shape, dim: int) -> Segments:
    place = order.index(dim)
    outer, inner = (prod(shape[axis] for axis in part) for part in (order[:place], order[place + 1 :]))
    return Segments(shape, Layout(outer, 1, shape[dim], inner), order, dim)


def over_axes(x: Array, axes: tuple[int, ...], along: Shape) -> Segments | None:
    """Divide an array into segments of some axes, which parameters of the shape `along` meet.

    None where nothing is compiled for it: where the axes are not neighbours in memory, or the parameters' lie
    otherwise than as a norm has them.
    """
    return _over_axes(x.shape, memory_order(x), axes, along) if x.size and formulas_serve(x) else None


@lru_cache(maxsize=512)
def _over_axes(shape: Shape, order: Shape, axes: tuple[int, ...], along: Shape) -> Segments | None:
    facts = [(axis in axes, along[axis] > 1, shape[axis]) for axis in order if shape[axis] > 1]
    runs = [(key, prod(size for *_, size in run)) for key, run in groupby(facts, lambda fact: fact[:2])]
    summed = [i for i, ((reduced, _), _) in enumerate(runs) if reduced] or [len(runs), len(runs) - 1]
    first, last = summed[0], summed[-1] + 1
    if last - first != sum(reduced for (reduced, _), _ in runs):
        return None
    having = [i for i, ((_, has), _) in enumerate(runs) if has]
    count = prod(along)
    outer, length, inner = (
        prod(size for _, size in part) for part in (runs[:first], runs[first:last], runs[last:])
    )
    if inner > 1:
        fits = having == [last] and len(runs) == last + 1
        return Segments(shape, Layout(outer, 1, length, inner, "part", count), order) if fits else None
    if having and having == list(range(first, last)):
        return Segments(shape, Layout(outer, 1, length, 1, "element", length), order)
    # The axes of the parameters end with those that tell segments apart, or go on into the summed ones.
    neighbours = not having or having == list(range(having[0], having[-1] + 1))
    if not neighbours or (having and having[-1] not in (first - 1, first)):
        return None
    parts = runs[first][1] if first in having else 1
    return Segments(shape, Layout(outer, parts, length // parts, 1, "part", count), order)
