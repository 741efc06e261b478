"""The layout of filters that the contraction reads: blocks of output channels, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.launches import BYTES, Launch
from fconv.engine.compiled.llvm import Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import most_rows
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, scratch
from fconv.engine.compiled.shapes import Shape, Tap
from fconv.engine.compiled.vectors import Numbers

FIELDS = (
    "w", "weight", "weight_group", "weight_outer", "weight_inner", "outer", "inner", "blocks", "block_bytes",
    "taps", "width", "table", "length", "runs",
)  # fmt: skip


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    """Compile the layout of filters: a task lays out one block."""
    module = Module()
    lay = packing.filters(module, dtype)
    f, task, address, _ = kernel_of(module)
    a = Fields(f, address, FIELDS)
    group, first = task // a.blocks, task % a.blocks * a.width
    f.call(
        lay, a.pointer("w") + task * a.block_bytes,
        a.pointer("weight") + group * a.weight_group + first * a.weight_outer, a.weight_outer,
        f.least(a.outer - first, a.width), a.weight_inner, a.inner, a.taps, a.width, a.pointer("table"),
        a.length, a.runs,
    )  # fmt: skip
    f.finish()
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def _pad_kernel(dtype: str) -> int:
    """Compile the layout of a bias: a task is a group's."""
    f, group, address, _ = kernel_of(Module())
    a, n = Fields(f, address, ("start", "bias", "outer", "width")), Numbers(f, dtype)
    start, bias = (a.pointer(name) for name in ("start", "bias"))
    with f.loop(a.outer) as i:
        n.put(n.number(bias + (group * a.outer + i) * n.itemsize), start + (group * a.width + i) * n.itemsize)
    with f.loop(a.width, a.outer) as i:
        n.put(f.constant(0.0, n.element), start + (group * a.width + i) * n.itemsize)
    f.finish()
    return machine().compile(f.module)[0]


def dense(strides: Sequence[int], sizes: Sequence[int], unit: int) -> bool:
    """Return whether axes lie in C order with `unit` bytes from element to element."""
    for stride, size in zip(reversed(strides), reversed(sizes), strict=True):
        if size > 1 and stride != unit:
            return False
        unit *= size
    return True


def vectors_for(outer: int, lanes: int) -> int:
    """Choose the vectors of a block for so many outputs of a group: few idle lanes, few loads."""
    whole = -(-outer // lanes)
    most = 6 if machine().embedded else 3
    cost = {v: -(-whole // v) * v * (1 + (v + most_rows(v)) / (v * most_rows(v))) for v in range(1, most + 1)}
    return min(cost, key=lambda v: (cost[v], -v))


def row_of(outer: int, dtype: str) -> int:
    """Return the bytes of a row of a block."""
    return vectors_for(outer, machine().vector_bytes // itemsize_of(dtype)) * machine().vector_bytes


def filter_table(
    taps: Sequence[Tap], kernel: Sequence[int], strides: Sequence[int], count: int, row: int, item: int
) -> tuple[Any, int, int]:
    """Return the table, its length and the runs by which `packing.filters` lays filters out.

    Parameters
    ----------
    taps : sequence of Tap
        The elements of the kernel in their new order; the others come behind them.
    kernel : sequence of int
        Its size.
    strides : sequence of int
        Bytes of the weight along its outer and inner axis and along the kernel's.
    count : int
        Inner channels.
    row, item : int
        Bytes of a row of the layout, and of a number.
    """
    outer, inner, *steps = strides
    if dense(steps, kernel, item) and outer != item:
        order: dict[tuple[int, ...], int] = {tap.place: i for i, tap in enumerate(taps)}
        places = [order.get(place, len(order)) for place in product(*map(range, kernel))]
        if inner == len(places) * item or count == 1:
            joint = [(t * count + k) * row for k in range(count) for t in places]
            return packing.padded(joint), len(joint), 1
        return packing.padded([t * count * row for t in places]), len(places), count
    offsets = [sum(p * k for p, k in zip(tap.place, steps, strict=True)) for tap in taps]
    return packing.padded(offsets), len(offsets), 0


class FilterBlocks:
    """The filters of a correlation as (blocks, taps, inner, width), planned.

    Parameters
    ----------
    shape : Shape
        Of the correlation.
    dtype : str
        Of the numbers.
    taps : sequence of Tap
        The elements of the kernel that are laid out, in their order.
    """

    def __init__(self, shape: Shape, dtype: str, taps: Sequence[Tap]) -> None:
        self.dtype, self.taps, self.itemsize = dtype, taps, itemsize_of(dtype)
        lanes = machine().vector_bytes // self.itemsize
        self.elementwise = shape.elementwise
        self.inner = 1 if self.elementwise else shape.inner
        self.outer = shape.groups if self.elementwise else shape.outer
        self.vectors = vectors_for(self.outer, lanes)
        if self.elementwise:
            whole = -(-self.outer // lanes)
            self.vectors = min((1, 2, 3), key=lambda v: -(-whole // v) * (v + 0.2))
        self.width = self.vectors * lanes
        self.row = self.width * self.itemsize
        self.blocks = -(-self.outer // self.width)
        self.all_blocks = self.blocks * (1 if self.elementwise else shape.groups)
        self.block_bytes = len(taps) * self.inner * self.row
        self._launches: dict[tuple[int, ...], Launch | None] = {}
        self._zeros: Any = None

    @property
    def most_rows(self) -> int:
        """Rows of sums that fit into the registers."""
        if self.elementwise:
            return max(1, (machine().registers - self.vectors - 2) // (2 * self.vectors))
        return most_rows(self.vectors)

    def lay(self, weight: Any) -> Any:
        """Lay filters (groups, outer, inner, D, H, W) in any order out as (blocks, taps, inner, width).

        The result is scratch memory, to be given back; or the weight itself, where it lies like that.
        """
        launch = self.launch_of(weight)
        if launch is None:
            return weight
        w = scratch.array(self.all_blocks * self.block_bytes // self.itemsize, weight.dtype)
        pool().run(launch, (w, weight))
        return w

    def launch_of(self, weight: Any) -> Launch | None:
        """Return the launch that lays such a weight out; None where it lies as it is read."""
        strides = weight.strides
        if strides not in self._launches:
            lies = self._lies(weight)
            self._launches[strides] = None if lies else self._plan(weight.shape[3:], *strides)
        return self._launches[strides]

    def _lies(self, weight: Any) -> bool:
        """Return whether blocks have neighbouring output channels and no others, and the rest in order."""
        (_, outer, inner, *steps), row = weight.strides, self.width * self.itemsize
        blocks = self.blocks if self.inner * len(self.taps) == 1 else 1  # which lie side by side
        return (
            (self.all_blocks, self.outer, outer) == (blocks, blocks * self.width, self.itemsize)
            and (self.inner == 1 or inner == row)
            and not self.elementwise
            and [tap.place for tap in self.taps] == list(product(*map(range, weight.shape[3:])))
            and dense(steps, weight.shape[3:], self.inner * row)
        )

    def _plan(self, kernel: Sequence[int], group: int, outer: int, inner: int, *steps: int) -> Launch:
        if self.elementwise:
            group, outer = 0, group
        row, count = self.width * self.itemsize, self.inner
        table, length, runs = filter_table(
            self.taps, kernel, (outer, inner, *steps), count, row, self.itemsize
        )
        arguments = (
            0, 0, group, outer, inner, self.outer, count, self.blocks, self.block_bytes,
            self.block_bytes // (count * row), self.width, address(table), length, runs,
        )  # fmt: skip
        cost = self.all_blocks * self.block_bytes / BYTES
        return Launch(_kernel(self.dtype), arguments, self.all_blocks, keep=(table,), cost=cost)

    @property
    def pad(self) -> Launch | None:
        """Return the launch that lays a contiguous bias out as `start` does; None where it may stay."""
        width, groups = self.blocks * self.width, self.all_blocks // self.blocks
        if self.outer == width:
            return None
        return Launch(_pad_kernel(self.dtype), (0, 0, self.outer, width), groups, cost=0.0)

    def start(self, bias: Any, dtype: Any) -> Any:
        """Lay out what the sums begin with; it is not to be written to."""
        if bias is None:
            if self._zeros is None:
                self._zeros = np.zeros(self.all_blocks * self.width, dtype)
            return self._zeros
        if self.outer == self.blocks * self.width:
            return np.ascontiguousarray(bias)
        start = np.zeros((self.all_blocks // self.blocks, self.blocks * self.width), dtype)
        start[:, : self.outer] = bias.reshape(-1, self.outer)
        return start
