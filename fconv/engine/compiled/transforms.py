"""Products of small constant matrices with pieces of pictures, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Value
from fconv.engine.compiled.vectors import Numbers


def _equal(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Return whether two rows are equal up to their sign."""
    return bool((a == b).all() or (a == -b).all())


def _combined(n: Numbers, matrix: np.ndarray[Any, Any], values: Sequence[Value]) -> list[Value]:
    """Multiply a matrix by a column of vectors; rows of opposite points share even and odd parts."""

    def total(row: Any, places: range) -> Value | None:
        found = None
        for k in places:
            if row[k]:
                scale = n.f.constant(float(row[k]), n.vector)
                if found is None:
                    found = values[k] if row[k] == 1 else values[k] * scale
                else:
                    found = found + values[k] if row[k] == 1 else n.fma(values[k], scale, found)
        return found

    size = len(values)
    signs = np.array([(-1.0) ** k for k in range(size)])
    rows: list[Value | None] = [None] * len(matrix)
    for i, row in enumerate(matrix):
        if rows[i] is not None:
            continue
        opposite = [j for j in range(i + 1, len(matrix)) if _equal(matrix[j], signs * row)]
        twin = opposite[0] if opposite else None
        even_part, odd_part = total(row, range(0, size, 2)), total(row, range(1, size, 2))
        if even_part is None or odd_part is None:
            rows[i] = even_part or odd_part
            continue
        rows[i] = even_part + odd_part
        if twin is not None:
            same = (matrix[twin] == signs * row).all()
            rows[twin] = even_part - odd_part if same else odd_part - even_part
    return rows  # type: ignore[return-value]


def transform(
    module: Module,
    dtype: Any,
    matrix: np.ndarray[Any, Any],
    *,
    ends: str,
    shifted: bool = False,
    bounded: bool = False,
) -> Function:
    """Emit ``M d M^T`` for each of some channels.

    Parameters
    ----------
    module, dtype
        As ever.
    matrix : array
        M.
    ends : {"load", "store", "none"}
        What must not pass the last channel.
    shifted : bool
        A vector is added to every element of the result.
    bounded : bool
        Zeros are read in the place of what lies outside of a picture.

    Returns
    -------
    Function
        Of source, its bytes from row to row and from column to column, target, likewise, channels, and what
        is added; where it is bounded, zeros for all channels instead, and where the piece begins in the
        picture and the picture's size, each along both axes.
    """
    arguments = [*[POINTER, INT, INT] * 2, INT, POINTER, *[INT] * 4 * bounded]
    f = Function(module, f"transform{len(module.functions)}", arguments)
    source, s_row, s_column, target, t_row, t_column, channels, shift, *bounds = f.arguments
    n = Numbers(f, dtype)
    outer, inner = matrix.shape
    sides = [
        [f.all_of(first + k > -1, first + k < size) for k in range(inner)]
        for first, size in zip(bounds[:2], bounds[2:], strict=True)
    ]
    inside = [[f.all_of(row, column) for column in sides[1]] for row in sides[0]] if bounded else []
    with f.loop(channels, step=n.lanes) as c:
        mask = n.mask(channels - c)
        begin, out = source + c * n.itemsize, target + c * n.itemsize
        masked = mask if ends == "load" else None

        def read(i: int, j: int, begin: Value = begin, c: Value = c, masked: Value | None = masked) -> Value:
            place = begin + s_row * i + s_column * j
            if bounded:
                place = f.choose(inside[i][j], place, shift + c * n.itemsize)
            return n.load(place, masked)

        columns = [_combined(n, matrix, [read(i, j) for i in range(inner)]) for j in range(inner)]
        added = n.load(shift + c * n.itemsize) if shifted else None
        for i in range(outer):
            for j, value in enumerate(_combined(n, matrix, [column[i] for column in columns])):
                whole = value if added is None else value + added
                n.store(whole, out + t_row * i + t_column * j, mask if ends == "store" else None)
    f.finish()
    return f
