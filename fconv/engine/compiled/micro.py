"""The contraction that convolution consists of, with its sums in registers.

    y[r, v] (+)= sum over t, k of  x[x_offset[t] + k * x_step + r * x_row] * w[w_offset[t] + k * w_step + v]

v runs over vectors of neighbouring numbers, r over rows whose numbers are repeated in all lanes. R rows by
V vectors of sums stay in registers for the whole sum over t and k. Which arrays stand for x and w, and what
r and v run over, is the caller's choice: output positions and channels, channels and positions, or input
and output channels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Number, Value
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import Fields
from fconv.engine.compiled.vectors import Numbers

PAIR = 16  # bytes of an entry of a table: an offset into x and one into w
MICRO = ("rows", "many", "fewer", "single")
"""Fields of a kernel that contracts: rows of a block; addresses for as many rows, one less, and one."""


def most_rows(vectors: int) -> int:
    """Return the rows that fit into the registers beside as many vectors of w.

    Examples
    --------
    >>> most_rows(1) >= most_rows(4) >= 1
    True
    """
    return max(1, min(14, (machine().registers - 1) // vectors - 1))  # one for the number that is repeated


def even(count: int, most: int) -> int:
    """Return the rows of a block such that `count` rows make blocks of nearly the same size.

    Examples
    --------
    >>> even(56, 7), even(57, 7), even(3, 7), even(9, 7)
    (7, 7, 3, 5)
    """
    return -(-count // max(1, -(-count // most)))


@lru_cache(maxsize=512)
def contraction(
    dtype: str,
    rows: int,
    vectors: int,
    elementwise: bool = False,
    apart: int = 0,
    ends: bool = False,
    start_by_row: bool = False,
    scattered: bool = False,
) -> int:
    """Compile the contraction of some groups of R rows, one group after another.

    Parameters
    ----------
    dtype : str
        "float32" or "float64".
    rows, vectors : int
        R and V.
    elementwise : bool
        x has a vector for each vector of w instead of a number for all: ``x[... + r * x_row + v]``.
    apart : int
        If not 0, x has one vector for each row, the vectors of w begin so many bytes apart, and x_step and
        w_step are a vector.
    ends : bool
        Nothing may be read behind the last lane of w, nor of x if it has vectors.
    start_by_row : bool
        The sums start from a number for each row instead of a vector for each column.
    scattered : bool
        Rows do not lie at equal steps: x_row is the address of a table, of where each is in x and in y.

    Returns
    -------
    int
        Address of a function of x, w, table, its entries t, the number of k, y, what the sums start from
        (V vectors, or a number for each row), how many columns there are, whether to add to y instead,
        groups, and the bytes of x_step, x_row, w_step and y_row.
    """
    f = Function(
        Module(), "contract", [*[POINTER] * 3, INT, INT, POINTER, POINTER, *[INT] * 7], exported=True
    )
    x, w, table, entries, count, y, start, there, add, groups, x_step, x_row, w_step, y_row = f.arguments
    n, every, across = Numbers(f, dtype), range(rows), range(vectors)
    masks = [n.mask(there - v * n.lanes) for v in across]
    plain, whole = [None] * vectors, f.negation(there < vectors * n.lanes)
    sums = [[n.zero() for _ in across] for _ in every]
    # Each product of a sum waits for the one before; neighbouring vectors are added to sets of their own.
    sets = max(1, min(4, 12 // (rows * vectors))) if apart else 1
    more = [sums, *([[n.zero() for _ in across] for _ in every] for _ in range(sets - 1))]
    shifts = [x_row * r for r in every]
    with f.loop(groups) as group:
        x0, y0 = x, y
        if scattered:
            places = [x_row + (group * rows + r) * PAIR for r in every]
            shifts = [f.value(f"load i64, ptr {f.as_pointer(place).name}", INT) for place in places]
            lines = [y + f.value(f"load i64, ptr {f.as_pointer(place + 8).name}", INT) for place in places]
        else:
            x0, y0 = x + group * x_row * rows, y + group * y_row * rows
            lines = [y0 + y_row * r for r in every]
        targets = [[line + v * n.bytes for v in across] for line in lines]
        for r in every:
            for v in across:
                for each in more:
                    each[r][v].set(0.0)
        with f.when(add.equals(0)):
            for v in across:
                first = None if start_by_row else n.load(start + v * n.bytes)
                for r in every:
                    place = start + (group * rows + r) * n.itemsize
                    sums[r][v].set(n.spread(n.number(place)) if first is None else first)

        def add_one(xk: Value, wk: Value, inside: list[Any], to: list[list[Any]]) -> None:
            right = [n.load(wk + v * (apart or n.bytes), inside[v]) for v in across]
            for r in every:
                place = xk + shifts[r]
                if elementwise:
                    left = [n.load(place + v * n.bytes, inside[v]) for v in across]
                else:
                    left = [n.load(place) if apart else n.spread(n.number(place))] * vectors
                for v in across:
                    to[r][v].set(n.fma(left[v], right[v], to[r][v].get()))

        def add_products(inside: list[Any]) -> None:
            with f.loop(entries) as t:
                pair = table + t * PAIR
                xt = x0 + f.value(f"load i64, ptr {pair.name}", INT)
                second = pair + 8
                wt = w + f.value(f"load i64, ptr {second.name}", INT)
                together = count // sets * sets
                with f.loop(together, step=sets) as k:
                    xk, wk = xt + k * x_step, wt + k * w_step
                    for s, each in enumerate(more):
                        add_one(xk + s * n.bytes, wk + s * n.bytes, inside, each)
                if sets > 1:
                    with f.loop(count, together) as k:
                        add_one(xt + k * x_step, wt + k * w_step, inside, sums)

        if ends:  # twice, as masks may take registers from the sums
            with f.when(f.negation(whole)):
                add_products(masks)
            with f.when(whole):
                add_products(plain)
        else:
            add_products(plain)
        for each in more[1:]:
            for r in every:
                for v in across:
                    sums[r][v].set(sums[r][v].get() + each[r][v].get())
        with f.when(add > 0):  # last, so that no long sum is added to number by number
            for r in every:
                for v in across:
                    sums[r][v].set(sums[r][v].get() + n.load(targets[r][v], masks[v]))
        for condition, ending in ((whole, plain), (f.negation(whole), masks)):
            with f.when(condition):
                for r in every:
                    for v in across:
                        n.store(sums[r][v].get(), targets[r][v], ending[v])
    f.finish()
    return machine().compile(f.module)[0]


def sizes_of(rows: int, *lengths: int) -> tuple[int, ...]:
    """Return which sizes of blocks `contract` takes for rows of these lengths.

    Examples
    --------
    >>> sizes_of(7, 56), sizes_of(7, 27), sizes_of(4, 5)
    ((7,), (7, 6), (4, 1))
    """
    found = set()
    for length in lengths:
        fewer = -(-length // rows) * rows - length
        if fewer <= -(-length // rows):
            found |= {rows} if -(-length // rows) > fewer else set()
            found |= {rows - 1} if fewer else set()
        else:
            found |= ({rows} if length >= rows else set()) | {1}
    return tuple(sorted(found, reverse=True))


def micro(
    dtype: str, rows: int, vectors: int, lengths: tuple[int, ...], **options: int
) -> tuple[int, int, int, int]:
    """Return the values of the fields `MICRO`, for runs of rows of these lengths."""
    sizes = sizes_of(rows, *lengths)

    def one(size: int) -> int:
        return contraction(dtype, size, vectors, **options) if size in sizes else 0

    return rows, one(rows), one(rows - 1), one(1)


def contract(
    f: Function,
    a: Fields,
    length: Value,
    x: Value,
    y: Value,
    rest: tuple[Number, ...],
    steps: tuple[Number, Number, Number, Number],
    scattered: bool = False,
) -> None:
    """Contract `length` rows, by blocks of R rows and of one less, or where that fails of one.

    Parameters
    ----------
    f, a
        The kernel, and its fields, `MICRO` among them.
    length : Value
        How many rows.
    x, y : Value
        Where the first row is.
    rest : tuple
        w, table, its entries, the number of k, what the sums start from, the columns, whether to add.
    steps : tuple
        Bytes of x_step, x_row, w_step and y_row.
    scattered : bool
        As for `contraction`.
    """
    w, table, entries, count, start, there, add = rest
    rows = a.rows
    blocks = (length + rows - 1) // rows
    fewer = blocks * rows - length
    fits = f.negation(fewer > blocks)
    many, less = f.select(fits, blocks - fewer, length // rows), f.select(fits, fewer, 0)
    single = length - many * rows - less * (rows - 1)
    one = f.constant(1, INT)
    for kernel, size, groups in ((a.many, rows, many), (a.fewer, rows - 1, less), (a.single, one, single)):
        with f.when(groups > 0):
            f.call_address(kernel, x, w, table, entries, count, y, start, there, add, groups, *steps)
        done = groups * size
        if scattered:
            steps = (steps[0], steps[1] + done * PAIR, *steps[2:])
        else:
            x, y = x + done * steps[1], y + done * steps[3]
