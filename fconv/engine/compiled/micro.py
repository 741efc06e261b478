"""The contraction that convolution consists of, with its sums in registers.

    y[r, v] (+)= sum over t, k of  x[x_offset[t] + k * x_step + r * x_row] * w[w_offset[t] + k * w_step + v]

v runs over vectors of neighbouring numbers, r over rows whose numbers are repeated in all lanes. R rows by
V vectors of sums stay in registers for the whole sum over t and k. Which arrays stand for x and w, and what
r and v run over, is the caller's choice: output positions and channels, channels and positions, or input
and output channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Numbers, machine

PAIR = 16  # bytes of an entry of a table: an offset into x and one into w
STRIDES = ("x_step", "x_row", "w_step", "y_row")


@dataclass(frozen=True)
class Block:
    """Sums that are made in registers at once.

    Attributes
    ----------
    rows, vectors : int
        R and V.
    """

    rows: int
    vectors: int


def most_rows(vectors: int) -> int:
    """Return the rows that fit into the registers beside as many vectors of w.

    Examples
    --------
    >>> most_rows(1) >= most_rows(4) >= 1
    True
    """
    if vectors == 1:
        return min(14, machine().registers - 2)
    spare = 0 if machine().embedded else 1  # where a repeated number needs a register
    return max(1, min(14, (machine().registers - spare) // vectors - 1))


def even(count: int, most: int) -> int:
    """Return the rows of a block such that `count` rows make blocks of nearly the same size.

    Examples
    --------
    >>> even(56, 7), even(57, 7), even(3, 7), even(9, 7)
    (7, 7, 3, 5)
    """
    return -(-count // max(1, -(-count // most)))


def contraction(
    module: Module,
    dtype: Any,
    block: Block,
    strides: Mapping[str, int | None],
    *,
    elementwise: bool = False,
    ends: bool = False,
    start_by_row: bool = False,
) -> Function:
    """Emit the contraction of `groups` times R rows, one group after another.

    Parameters
    ----------
    module : Module
        Where to.
    dtype : str
        "float32" or "float64".
    block : Block
        R and V.
    strides : mapping
        Bytes of each of `STRIDES`; None makes it an argument.
    elementwise : bool
        x has a vector for each vector of w instead of a number for all: r, v and k as before, but
        ``x[... + r * x_row + v]``.
    ends : bool
        Nothing may be read behind the last lane of w.
    start_by_row : bool
        The sums start from a number for each row instead of a vector for each column.

    Returns
    -------
    Function
        Of x, w, table, its entries t, the number of k, y, what the sums start from (V vectors, or a number
        for each row), how many columns there are, whether to add to y instead, groups, and the strides that
        are no constants.
    """
    name = f"contract{len(module.functions)}"
    unknown = [stride for stride in STRIDES if strides[stride] is None]
    f = Function(module, name, [*[POINTER] * 3, INT, INT, POINTER, POINTER, *[INT] * (3 + len(unknown))])
    x, w, table, entries, count, y, start, there, add, groups = f.arguments[:10]
    given: dict[str, Any] = {**strides, **dict(zip(unknown, f.arguments[10:], strict=True))}
    n, rows, vectors = Numbers(f, dtype), range(block.rows), range(block.vectors)
    masks = [n.mask(there - v * n.lanes) for v in vectors]

    sums = [[n.zero() for _ in vectors] for _ in rows]
    shifts = [f.constant(given["x_row"], INT) * r for r in rows]
    with f.loop(groups) as group:
        x0, y0 = x + group * given["x_row"] * block.rows, y + group * given["y_row"] * block.rows
        targets = [[y0 + f.constant(given["y_row"], INT) * r + v * n.bytes for v in vectors] for r in rows]
        for r in rows:
            for v in vectors:
                sums[r][v].set(0.0)
        with f.when(add.equals(0)):
            for v in vectors:
                first = None if start_by_row else n.load(start + v * n.bytes)
                for r in rows:
                    place = start + (group * block.rows + r) * n.itemsize
                    sums[r][v].set(n.spread(n.number(place)) if first is None else first)
        with f.loop(entries) as t:
            pair = table + t * PAIR
            xt = x0 + f.value(f"load i64, ptr {pair.name}", INT)
            second = pair + 8
            wt = w + f.value(f"load i64, ptr {second.name}", INT)
            with f.loop(count) as k:
                xk, wk = xt + k * given["x_step"], wt + k * given["w_step"]
                right = [n.load(wk + v * n.bytes, masks[v] if ends else None) for v in vectors]
                for r in rows:
                    place = xk + shifts[r]
                    if elementwise:
                        left = [n.load(place + v * n.bytes, masks[v]) for v in vectors]
                    else:
                        left = [n.spread(n.number(place))] * block.vectors
                    for v in vectors:
                        sums[r][v].set(n.fma(left[v], right[v], sums[r][v].get()))
        with f.when(add > 0):  # last, so that no long sum is added to number by number
            for r in rows:
                for v in vectors:
                    sums[r][v].set(sums[r][v].get() + n.load(targets[r][v], masks[v]))
        for r in rows:
            for v in vectors:
                n.store(sums[r][v].get(), targets[r][v], masks[v])
    f.finish()
    return f
