"""Copies into the layouts that the kernels read: boxes of pictures with their zeros, and filters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Number, Value
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.vectors import Numbers

MOST_BESIDE = 4
"""Channels that are woven together, or taken apart, in registers where they lie side by side on one side."""


def copy(f: Function, target: Value, source: Value, size: Number) -> None:
    """Copy bytes."""
    f.call("llvm.memcpy.p0.p0.i64", target, source, f.constant(size, INT), Value(f, "false", "i1"))


def clear(f: Function, target: Value, size: Number) -> None:
    """Write zeros."""
    f.call("llvm.memset.p0.i64", target, Value(f, "0", "i8"), f.constant(size, INT), Value(f, "false", "i1"))


@lru_cache(maxsize=32)
def compiled_box(dtype: str, apart: int = 1) -> int:
    """Return the address of a compiled `box`, which the kernels of many shapes call."""
    module = Module()
    strided = transpose(module, dtype, apart=apart) if apart > 1 else None
    f = box(module, dtype, transpose(module, dtype), strided, apart)
    f.exported = True
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def compiled_filters(dtype: str) -> int:
    """Return the address of a compiled `filters`."""
    module = Module()
    filters(module, dtype).exported = True
    return machine().compile(module)[0]


@lru_cache(maxsize=4)
def compiled_collect(dtype: str) -> int:
    """Return the address of a compiled `collect`."""
    module = Module()
    collect(module, dtype).exported = True
    return machine().compile(module)[0]


def apart_of(x: Sequence[int], item: int) -> int:
    """Return how many numbers apart a row's positions lie, for `compiled_box`; 1 where it has no use for it.

    `x` are the strides of a picture (N, C, D, H, W).
    """
    apart = x[4] // item
    return apart if x[1] != item and x[4] == apart * item and apart in (2, 3, 4) else 1


def lone(x: tuple[int, ...], channels: int, item: int) -> tuple[int, ...]:
    """Return the strides of a picture (N, C, D, H, W), in which a single channel is its own neighbour.

    Examples
    --------
    >>> lone((400, 400, 400, 40, 4), 1, 4)
    (400, 4, 400, 40, 4)
    """
    return (x[0], item, *x[2:]) if channels == 1 else x


def transpose(module: Module, dtype: Any, *, dealt: bool = False, apart: int = 1) -> Function:
    """Emit ``target[j * column + i] = source[i * row + j]``, in squares that are transposed in registers.

    Parameters
    ----------
    module, dtype
        Where it is emitted, and of which numbers.
    dealt : bool
        The bytes from column to column are no constant but the numbers of a table, filled up with zeros to
        whole vectors.
    apart : int
        It is ``source[i * row + j * apart]``: so many vectors are read for one.

    Returns
    -------
    Function
        Of target, its bytes from column to column or the table, source, its bytes from row to row, rows and
        columns.
    """
    kind = POINTER if dealt else INT
    name = "deal" if dealt else "transpose" if apart == 1 else "thin"
    f = Function(module, name, [POINTER, kind, POINTER, INT, INT, INT])
    target, column, source, row, rows, columns = f.arguments
    n, begin = Numbers(f, dtype), f.variable(INT, 0)
    for few in () if dealt or apart > 1 else range(2, MOST_BESIDE + 1):
        beside = f.all_of(rows.equals(few), column.equals(few * n.itemsize))
        with f.when(f.all_of(beside, columns > n.lanes - 1)):  # squares would be stored by masks
            begin.set(columns)
            with f.loop(columns, step=n.lanes) as k:
                j = f.least(k, columns - n.lanes)
                woven = n.interleaved([n.load(source + row * r + j * n.itemsize) for r in range(few)])
                for v, value in enumerate(woven):
                    n.store(value, target + column * j + v * n.bytes)
    with f.loop(rows, step=n.lanes) as i, f.loop(columns, begin.get(), step=n.lanes) as j:
        high, wide = rows - i, columns - j
        corner, out = source + i * row + j * (apart * n.itemsize), target + i * n.itemsize
        places = [entry(f, column, j + c) if dealt else column * (j + c) for c in range(n.lanes)]
        full = f.all_of(high > n.lanes - 1, (wide - 1) * apart + 1 > apart * n.lanes - 1)
        with f.when(full):
            lines = [[n.load(corner + row * r + v * n.bytes) for v in range(apart)] for r in range(n.lanes)]
            for place, value in zip(places, n.transposed([every(n, line, 0) for line in lines]), strict=True):
                n.store(value, out + place)
        with f.when(f.negation(full)):
            _transpose_some(n, corner, row, out, places, high, wide, apart)
    f.finish()
    return f


def _transpose_some(
    n: Numbers,
    corner: Value,
    row: Value,
    out: Value,
    places: list[Value],
    high: Value,
    wide: Value,
    apart: int,
) -> None:
    """Transpose what there is of a square."""
    f, read = n.f, (wide - 1) * apart + 1
    across, down = [n.mask(read - v * n.lanes) for v in range(apart)], n.mask(high)
    loaded = []
    for r in range(n.lanes):
        # A mask without lanes is slow where its address is not mapped, so it gets one that is.
        there = f.constant(r, INT) < high
        line = corner + f.select(there, row * r, 0)
        # The second vector of a short row may lie behind memory that is mapped.
        safe = [line + (f.select(read > v * n.lanes, v * n.bytes, 0) if v else 0) for v in range(apart)]
        vectors = [n.load(at, n.both(mask, there)) for at, mask in zip(safe, across, strict=True)]
        loaded.append(every(n, vectors, 0))
    for c, value in enumerate(n.transposed(loaded)):
        inside = f.constant(c, INT) < wide
        n.store(value, out + f.select(inside, places[c], places[0]), n.both(down, inside))


def collect(module: Module, dtype: Any) -> Function:
    """Emit ``target[i * row + j] = sum over p of source[p * part + table[j] + i]``, the way back from `deal`.

    Returns
    -------
    Function
        Of target, its bytes from row to row, source, the table, the bytes from part to part, the parts, rows
        and columns. Whole vectors are read along i, and the table is filled up with zeros to whole vectors.
    """
    f = Function(module, "collect", [POINTER, INT, POINTER, POINTER, INT, INT, INT, INT])
    target, row, source, table, part, parts, rows, columns = f.arguments
    n = Numbers(f, dtype)
    sums = [n.zero() for _ in range(n.lanes)]
    with f.loop(columns, step=n.lanes) as j, f.loop(rows, step=n.lanes) as i:
        places = [source + entry(f, table, j + c) + i * n.itemsize for c in range(n.lanes)]
        for total, place in zip(sums, places, strict=True):
            total.set(n.load(place))
        with f.loop(parts, 1) as p:
            for total, place in zip(sums, places, strict=True):
                total.set(total.get() + n.load(place + p * part))
        across = n.mask(columns - j)
        for r, value in enumerate(n.transposed([total.get() for total in sums])):
            inside = f.constant(r, INT) < rows - i
            place = f.select(inside, i + r, i) * row + j * n.itemsize
            n.store(value, target + place, n.both(across, inside))
    f.finish()
    return f


def entry(f: Function, table: Value, index: Value) -> Value:
    """Load an integer of a table."""
    place = table + index * 8
    return f.value(f"load i64, ptr {place.name}", INT)


def padded(numbers: Any) -> Any:
    """Return a table of integers, filled up with zeros so that a vector of them can be read anywhere."""
    return np.array([*numbers, *(0,) * 16], np.int64)


def box(
    module: Module, dtype: Any, transposing: Function, thinning: Function | None = None, apart: int = 1
) -> Function:
    """Emit the copy of a box of one picture, channels last, with zeros where it extends beyond the picture.

    `thinning` copies rows whose positions lie `apart`, transposing them.

    Returns
    -------
    Function
        Of the target (depth, height, width, channels), the picture, the box's three sizes, where it
        begins in the picture, the picture's three sizes, the channels, and the bytes from channel to
        channel and along the three axes.
    """
    f = Function(module, "box", [POINTER, POINTER, *[INT] * 14])
    target, picture = f.arguments[:2]
    size, start, full = f.arguments[2:5], f.arguments[5:8], f.arguments[8:11]
    channels, channel, *steps = f.arguments[11:]
    n = Numbers(f, dtype)
    pixel = channels * n.itemsize
    low = f.least(f.most(f.constant(0, INT) - start[2], 0), size[2])
    high = f.most(f.least(full[2] - start[2], size[2]), low)
    with f.loop(size[0]) as i, f.loop(size[1]) as j:
        to = target + (i * size[1] + j) * size[2] * pixel
        d, h = start[0] + i, start[1] + j
        inside = f.all_of(f.all_of(d > -1, d < full[0]), f.all_of(h > -1, h < full[1]))
        first, last = f.select(inside, low, size[2]), f.select(inside, high, size[2])
        clear(f, to, first * pixel)
        clear(f, to + last * pixel, (size[2] - last) * pixel)
        with f.when(last > first):
            source = picture + d * steps[0] + h * steps[1] + (start[2] + first) * steps[2]
            _row(
                n,
                to + first * pixel,
                source,
                last - first,
                channels,
                channel,
                steps[2],
                transposing,
                thinning,
                apart,
            )
    f.finish()
    return f


def _row(
    n: Numbers,
    to: Value,
    source: Value,
    width: Value,
    channels: Value,
    channel: Value,
    step: Value,
    transposing: Function,
    thinning: Function | None,
    apart: int,
) -> None:
    """Copy a row of pixels, whose channels or whose positions are neighbours, or neither."""
    f, pixel = n.f, channels * n.itemsize
    by_channel, by_position = channel.equals(n.itemsize), step.equals(n.itemsize)
    whole = f.all_of(by_channel, step.equals(pixel))
    with f.when(whole):
        copy(f, to, source, width * pixel)
    with f.when(f.all_of(by_channel, f.negation(whole))), f.loop(width) as k:
        copy(f, to + k * pixel, source + k * step, pixel)
    neither = f.all_of(f.negation(by_channel), f.negation(by_position))
    with f.when(f.all_of(f.negation(by_channel), by_position)):
        f.call(transposing, to, pixel, source, channel, channels, width)
    if thinning is not None:
        thin = f.all_of(neither, step.equals(apart * n.itemsize))
        neither = f.all_of(neither, f.negation(thin))
        with f.when(thin):
            f.call(thinning, to, pixel, source, channel, channels, width)
    with f.when(neither), f.loop(width) as k, f.loop(channels) as c:
        n.put(n.number(source + k * step + c * channel), to + k * pixel + c * n.itemsize)


def every(n: Numbers, vectors: Sequence[Value], first: int) -> Value:
    """Return every so many-th number of as many vectors, from the one at `first`."""
    stride, lanes = len(vectors), n.lanes
    places = [first + k * stride for k in range(lanes)]
    found = vectors[0]
    if stride == 1:
        return found
    chosen = [min(place, 2 * lanes - 1) for place in places]
    for v, vector in enumerate(vectors[1:], 1):
        if v > 1:
            chosen = [
                k if place < v * lanes else lanes + min(place - v * lanes, lanes - 1)
                for k, place in enumerate(places)
            ]
        found = n.shuffle(found, vector, chosen)
    return found


def filters(module: Module, dtype: Any) -> Function:
    """Emit the layout of one block of filters, (taps, inner, width), from a weight in any memory order.

    Returns
    -------
    Function
        Of the target, the weight, the bytes from one of `width` to the next, how many of them there are (the
        rest are zeros), the bytes along the inner axis and its length, the taps, the width of a block, a
        table, its length and how many runs it serves. Where that is not 0, so many runs of neighbouring
        elements are dealt out by it, those of each inner index or of all; else it holds where each tap is.
    """
    f = Function(module, "filters", [POINTER, POINTER, INT, INT, INT, INT, INT, INT, POINTER, INT, INT])
    target, weight, outer, there, inner, count, taps, width, table, length, runs = f.arguments
    n = Numbers(f, dtype)
    row = width * n.itemsize
    with f.when(there < width):
        clear(f, target, taps * count * row)
    dealing = transpose(module, dtype, dealt=True)
    with f.loop(runs) as k:
        f.call(dealing, target + k * row, table, weight + k * inner, outer, there, length)
    apart, side = runs.equals(0), outer.equals(n.itemsize)
    with f.when(f.all_of(apart, side)), f.loop(length) as t, f.loop(count) as k:
        source, to = weight + entry(f, table, t) + k * inner, target + (t * count + k) * row
        with f.loop(there, step=n.lanes) as v:
            mask = n.mask(there - v)
            n.store(n.load(source + v * n.itemsize, mask), to + v * n.itemsize, mask)
    apart, near = f.all_of(apart, f.negation(side)), inner.equals(n.itemsize)
    transposing = transpose(module, dtype)
    with f.when(f.all_of(apart, near)), f.loop(length) as t:
        to = target + t * count * row
        f.call(transposing, to, row, weight + entry(f, table, t), outer, there, count)
    with f.when(f.all_of(apart, f.negation(near))), f.loop(length) as t, f.loop(count) as k:
        source, to = weight + entry(f, table, t) + k * inner, target + (t * count + k) * row
        with f.loop(there) as v:
            n.put(n.number(source + v * outer), to + v * n.itemsize)
    f.finish()
    return f
