"""Sums over a few rows and a few columns of pictures by tables of places and weights, compiled.

Every interpolation and its adjoint is one: output row i is the sum of some input rows, which stays in the
cache, and output pixel j the sum of some of its pixels. The lanes of vectors are pixels along a row, or
channels where those are neighbours in memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fconv.engine.compiled.formulas import PIECE
from fconv.engine.compiled.launches import Launch
from fconv.engine.compiled.llvm import INT, Module, Value, name_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import aligned
from fconv.engine.compiled.transcendental import Maths

Array: TypeAlias = np.ndarray[Any, Any]

_FIELDS = (
    "x", "y", "row_places", "row_weights", "column_places", "column_weights", "rows", "out_height",
    "in_height", "out_width", "in_width", "inner", "per_task", "bytes", "scratch",
)  # fmt: skip


class Table(NamedTuple):
    """Reads of each output along an axis: places and weights (reads, outputs); NaN stands for no read.

    Without weights they are 1, and there is one read.
    """

    places: Array
    weights: Array | None


def run(
    x: Array, y: Array, rows: Table | None, columns: Table | None, shape: tuple[int, int, int, int]
) -> None:
    """Sum rows, then columns, of contiguous pictures of `shape` (pictures, height, width, channels) to `y`.

    Without a table an axis stays as it is.
    """
    pictures, height, width, inner = shape
    size = x.itemsize
    none = np.zeros(1, x.dtype)
    tables = [
        table or Table(np.arange(length)[None], None) for table, length in ((rows, height), (columns, width))
    ]
    out_height, out_width = (table.places.shape[1] for table in tables)
    if y.size != pictures * out_height * out_width * inner or x.size != pictures * height * width * inner:
        raise ValueError(f"a resampling got arrays of {x.size} and {y.size} elements")
    if not y.size:
        return
    arrays = [x, y]
    for table in tables:
        arrays += [table.places, none if table.weights is None else table.weights]
    per_task = max(1, PIECE // (out_width * inner))
    lanes = machine().vector_bytes // size
    scratch = aligned(width * inner * size) if rows is not None and rows.weights is not None else 0
    kernel = _kernel(
        name_of(x.dtype),
        tables[0].places.shape[0] if tables[0].weights is not None else 0,
        0 if columns is None else tables[1].places.shape[0],
        tables[1].weights is not None,
        inner > 1,
        inner % lanes == 0,
    )
    total = pictures * out_height
    fields = [total, out_height, height, out_width, width, inner, per_task, scratch, 0]
    launch = Launch(kernel, [0] * len(arrays) + fields, -(-total // per_task), scratch)
    pool().run(launch, tuple(arrays))


@lru_cache(maxsize=128)
def _kernel(dtype: str, summed: int, reads: int, weighted: bool, across: bool, whole: bool) -> int:
    """Compile it.

    `summed` rows are added up, or one is read where it lies (0); `reads` columns are added, or all stay as
    they are (0). `across`: lanes are channels, of which there are `whole` vectors.
    """
    module = Module()
    f, task, given, thread = kernel_of(module)
    n = Maths(f, dtype)
    fields = Fields(f, given, _FIELDS)
    a = {name: getattr(fields, name) for name in _FIELDS[6:]}
    x, y, row_places, row_weights, column_places, column_weights = (
        fields.pointer(name) for name in _FIELDS[:6]
    )
    in_row, out_row = (a[name] * a["inner"] for name in ("in_width", "out_width"))

    def integer(place: Value) -> Value:
        return f.value(f"load i64, ptr {place.name}", INT)

    def term(weight: Value, value: Value) -> Value:
        return n.choose(n.compare("uno", weight, weight), 0.0, weight * value)

    def vectors(count: Value, body: Any) -> None:
        """Write a loop over vectors; the last one may have a mask."""
        full = count - count % n.lanes
        with f.loop(full, 0, n.lanes) as i:
            body(i, None)
        with f.when(full < count):
            body(full, n.mask(count - full))

    first = task * a["per_task"]
    with f.loop(f.least(first + a["per_task"], a["rows"]), first) as row:
        picture, i = row // a["out_height"], row % a["out_height"]
        start = x + picture * a["in_height"] * in_row * n.itemsize
        target = y + row * out_row * n.itemsize

        def read(k: int) -> Value:
            place = integer(row_places + (a["out_height"] * k + i) * 8)
            return start + place * in_row * n.itemsize

        if not summed:
            source = read(0)
        else:
            rows = [read(k) for k in range(summed)]
            weights = [
                n.spread(n.number(row_weights + (a["out_height"] * k + i) * n.itemsize))
                for k in range(summed)
            ]
            base = f.value(f"inttoptr i64 {a['scratch'].name} to ptr", "ptr")
            source = base + thread * a["bytes"] if reads else target

            def add(at: Value, mask: Value | None) -> None:
                parts = [n.load(place + at * n.itemsize, mask) for place in rows]
                n.store(_sum(parts, weights, term), source + at * n.itemsize, mask)

            vectors(in_row, add)
        if not reads:
            if not summed:
                vectors(
                    in_row,
                    lambda at, mask: n.store(
                        n.load(source + at * n.itemsize, mask), target + at * n.itemsize, mask
                    ),
                )
        elif across:
            with f.loop(a["out_width"]) as j:
                places = [
                    source + integer(column_places + (a["out_width"] * k + j) * 8) * a["inner"] * n.itemsize
                    for k in range(reads)
                ]
                factors = [
                    n.spread(n.number(column_weights + (a["out_width"] * k + j) * n.itemsize))
                    for k in range(reads if weighted else 0)
                ]
                out = target + j * a["inner"] * n.itemsize

                def pixel(at: Value, mask: Value | None) -> None:
                    parts = [n.load(place + at * n.itemsize, mask) for place in places]
                    n.store(_sum(parts, factors, term), out + at * n.itemsize, mask)

                if whole:
                    with f.loop(a["inner"], 0, n.lanes) as at:
                        pixel(at, None)
                else:
                    vectors(a["inner"], pixel)
        else:

            def along(j: Value, mask: Value | None) -> None:
                parts, factors = [], []
                for k in range(reads):
                    place = a["out_width"] * k + j
                    parts.append(n.gather(source, column_places + place * 8, mask))
                    if weighted:
                        factors.append(n.load(column_weights + place * n.itemsize, mask))
                n.store(_sum(parts, factors, term), target + j * n.itemsize, mask)

            vectors(a["out_width"], along)
    f.finish()
    return machine().compile(module)[0]


def _sum(parts: list[Value], factors: list[Value], term: Any) -> Value:
    if factors:
        parts = [term(factor, part) for factor, part in zip(factors, parts, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
