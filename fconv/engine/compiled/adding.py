"""The parts of a weight gradient, added up into the weight's memory order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine.compiled import packing
from fconv.engine.compiled.filters import dense
from fconv.engine.compiled.launches import BYTES, Launch
from fconv.engine.compiled.llvm import Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address
from fconv.engine.compiled.shapes import Shape
from fconv.engine.compiled.vectors import Numbers

_PIECE = 1 << 10
"""Elements of a task that adds them up one by one."""

FINISH_FIELDS = (
    "sums", "dw", "part_bytes", "parts", "dw_outer", "dw_inner", "dw_group", "inner", "outer", "blocks",
    "taps", "pieces", "width", "table",
)  # fmt: skip


@lru_cache(maxsize=4)
def _finish_kernel(dtype: str) -> int:
    """Compile the sum of the parts, into the weight's memory order; a task takes some channels."""
    module = Module()
    collecting = packing.collect(module, dtype)
    f, task, address, _ = kernel_of(module)
    a, n = Fields(f, address, FINISH_FIELDS), Numbers(f, dtype)
    piece, b = task % a.pieces, task // a.pieces
    group, first = b // a.blocks, b % a.blocks * a.width
    there = f.least(a.outer - first, a.width)
    row = a.width * n.itemsize
    line = a.blocks * row
    low, high = piece * a.inner // a.pieces, (piece + 1) * a.inner // a.pieces
    sums = a.pointer("sums") + group * a.taps * a.inner * line + b % a.blocks * row
    dw = a.pointer("dw") + group * a.dw_group + first * a.dw_outer
    side = a.dw_outer.equals(n.itemsize)
    with f.when(side), f.loop(a.taps) as t, f.loop(high, low) as c, f.loop(there, step=n.lanes) as v:
        place = sums + (t * a.inner + c) * line + v * n.itemsize
        total = f.variable(n.vector, n.load(place))
        with f.loop(a.parts, 1) as p:
            total.set(total.get() + n.load(place + p * a.part_bytes))
        target = dw + (t * a.inner + c) * a.dw_inner + v * n.itemsize
        n.store(total.get(), target, n.mask(there - v))
    with f.when(f.negation(side)):
        begin = low * a.taps
        f.call(
            collecting, dw + begin * n.itemsize, a.dw_outer, sums, a.pointer("table") + begin * 8,
            a.part_bytes,
            a.parts, there, (high - low) * a.taps,
        )  # fmt: skip
    f.finish()
    return machine().compile(module)[0]


def into_weight(
    sums: Any, part_bytes: int, parts: int, dw: Any, shape: Shape, dtype: str, width: int
) -> bool:
    """Add up parts (groups, taps, inner, blocks * width) into the gradient of a weight.

    Returns
    -------
    bool
        Whether its memory order is one of the two that this is for: C order, or that of neighbouring output
        channels; else nothing is done.
    """
    launch = finishing(part_bytes, parts, shape, dtype, width, dw.strides, dw.shape[2:])
    if launch is not None:
        pool().run(launch, (sums, dw))
    return launch is not None


@lru_cache(maxsize=256)
def finishing(
    part_bytes: int, parts: int, shape: Shape, dtype: str, width: int, strides: Any, size: Any
) -> Launch | None:
    """Plan what `into_weight` does; None where the memory order is another one."""
    item, (outer, inner, *kernel), taps = itemsize_of(dtype), strides, len(shape.taps)
    side = outer == item and dense(kernel, size, inner * shape.inner)
    if not (side or in_c_order(strides, (shape.outer, shape.inner, *size), item)):
        return None
    blocks = -(-shape.outer // width)
    pieces = max(1, min(8 // (shape.groups * blocks), shape.inner // 8))
    line = blocks * width * item
    places = [(t * shape.inner + c) * line for c in range(shape.inner) for t in range(taps)]
    table = packing.padded(places)
    arguments = (
        0, 0, part_bytes, parts, outer, inner, outer * shape.outer, shape.inner, shape.outer, blocks, taps,
        pieces, width, address(table),
    )  # fmt: skip
    tasks, cost = shape.groups * blocks * pieces, parts * shape.groups * len(places) * line / BYTES
    return Launch(_finish_kernel(dtype), arguments, tasks, keep=(table,), cost=cost)


def in_c_order(strides: Sequence[int], shape: Sequence[int], item: int) -> bool:
    """Return whether the elements of each of a weight's output channels lie in C order."""
    return dense(strides[1:], shape[1:], item)


@lru_cache(maxsize=4)
def _placed_kernel(dtype: str) -> int:
    """Compile the sum of the parts, element by element: a task takes some, by a table of places."""
    f, task, address, _ = kernel_of(Module())
    a, n = Fields(f, address, ("sums", "dw", "part_bytes", "parts", "table", "count")), Numbers(f, dtype)
    total = f.variable(n.element, 0.0)
    with f.loop(f.least((task + 1) * _PIECE, a.count), task * _PIECE) as i:
        place = a.pointer("sums") + f.number(a.pointer("table"), i * 2)
        total.set(n.number(place))
        with f.loop(a.parts, 1) as p:
            total.set(total.get() + n.number(place + p * a.part_bytes))
        n.put(total.get(), a.pointer("dw") + f.number(a.pointer("table"), i * 2 + 1))
    f.finish()
    return machine().compile(f.module)[0]


def by_places(places: Any, part_bytes: int, parts: int, dw: Any) -> Launch:
    """Plan the sum of parts into arrays like `dw`; `places` are of its shape, and count a part's numbers."""
    item = dw.itemsize
    to = np.dot(np.indices(dw.shape).reshape(dw.ndim, -1).T, np.array(dw.strides, np.int64))
    table = np.stack([places.reshape(-1) * item, to], -1).astype(np.int64)
    arguments = (0, 0, part_bytes, parts, address(table), len(table))
    cost = parts * len(table)  # a nanosecond each, about
    kernel = _placed_kernel(dw.dtype.name)
    return Launch(kernel, arguments, -(-len(table) // _PIECE), keep=(table,), cost=cost)
