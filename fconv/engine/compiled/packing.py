"""Copies into the layouts that the kernels read: boxes of pictures with their zeros, planes, and filters."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Number, Numbers, Value, machine


def copy(f: Function, target: Value, source: Value, size: Number) -> None:
    """Copy bytes."""
    f.call("llvm.memcpy.p0.p0.i64", target, source, f.constant(size, INT), Value(f, "false", "i1"))


def _clear(f: Function, target: Value, size: Number) -> None:
    f.call("llvm.memset.p0.i64", target, Value(f, "0", "i8"), f.constant(size, INT), Value(f, "false", "i1"))


@lru_cache(maxsize=32)
def compiled_box(dtype: str) -> int:
    """Return the address of a compiled `box`, which the kernels of many shapes call."""
    module = Module()
    f = box(module, dtype, transpose(module, dtype))
    f.exported = True
    return machine().compile(module)[0]


@lru_cache(maxsize=32)
def compiled_planes(dtype: str, stride: int) -> int:
    """Return the address of a compiled `planes`."""
    module = Module()
    f = planes(module, dtype, transpose(module, dtype), stride)
    f.exported = True
    return machine().compile(module)[0]


def transpose(module: Module, dtype: Any) -> Function:
    """Emit ``target[j * column + i] = source[i * row + j]``, in squares that are transposed in registers.

    Returns
    -------
    Function
        Of target, its bytes from column to column, source, its bytes from row to row, rows and columns.
    """
    f = Function(module, "transpose", [POINTER, INT, POINTER, INT, INT, INT])
    target, column, source, row, rows, columns = f.arguments
    n = Numbers(f, dtype)
    with f.loop(rows, step=n.lanes) as i, f.loop(columns, step=n.lanes) as j:
        high, wide = rows - i, columns - j
        corner, out = source + i * row + j * n.itemsize, target + j * column + i * n.itemsize
        across, down = n.mask(wide), n.mask(high)
        loaded = [n.load(corner + row * r, n.both(across, f.constant(r, INT) < high)) for r in range(n.lanes)]
        for c, value in enumerate(n.transposed(loaded)):
            n.store(value, out + column * c, n.both(down, f.constant(c, INT) < wide))
    f.finish()
    return f


def box(module: Module, dtype: Any, transposing: Function) -> Function:
    """Emit the copy of a box of one picture, channels last, with zeros where it hangs over.

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
        _clear(f, to, first * pixel)
        _clear(f, to + last * pixel, (size[2] - last) * pixel)
        with f.when(last > first):
            source = picture + d * steps[0] + h * steps[1] + (start[2] + first) * steps[2]
            _row(n, to + first * pixel, source, last - first, channels, channel, steps[2], transposing)
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
    with f.when(neither), f.loop(width) as k, f.loop(channels) as c:
        n.put(n.number(source + k * step + c * channel), to + k * pixel + c * n.itemsize)


def planes(module: Module, dtype: Any, transposing: Function, stride: int) -> Function:
    """Emit the copy of a box of one picture, channels first, its columns dealt out by their remainder.

    With a stride along rows, every `stride`-th column lies beside the next, so that windows' entries
    are neighbours: the target is (channels, depth, height, stride, width / stride).

    Returns
    -------
    Function
        As for `box`.
    """
    f = Function(module, "planes", [POINTER, POINTER, *[INT] * 14])
    target, picture = f.arguments[:2]
    size, start, full = f.arguments[2:5], f.arguments[5:8], f.arguments[8:11]
    channels, channel, *steps = f.arguments[11:]
    n = Numbers(f, dtype)
    width = size[2] * n.itemsize
    plane = size[0] * size[1] * width
    short = size[2] // stride * n.itemsize
    low = f.least(f.most(f.constant(0, INT) - start[2], 0), size[2])
    high = f.most(f.least(full[2] - start[2], size[2]), low)
    with f.loop(size[0]) as i, f.loop(size[1]) as j:
        row = target + (i * size[1] + j) * width
        d, h = start[0] + i, start[1] + j
        inside = f.all_of(f.all_of(d > -1, d < full[0]), f.all_of(h > -1, h < full[1]))
        first, last = f.select(inside, low, size[2]), f.select(inside, high, size[2])
        source = picture + d * steps[0] + h * steps[1] + start[2] * steps[2]
        if stride == 1:
            by_channel, by_position = channel.equals(n.itemsize), steps[2].equals(n.itemsize)
            # Rows are mostly short: a load of the lanes inside fills the others with zeros.
            with f.when(by_position), f.loop(channels) as c, f.loop(size[2], step=n.lanes) as k:
                value = n.load(source + c * channel + k * n.itemsize, n.between(first - k, last - k))
                n.store(value, row + c * plane + k * n.itemsize, n.mask(size[2] - k))
            with f.when(f.negation(by_position)):
                with f.loop(channels) as c:
                    to = row + c * plane
                    _clear(f, to, first * n.itemsize)
                    _clear(f, to + last * n.itemsize, width - last * n.itemsize)
                count, begin, to = last - first, source + first * steps[2], row + first * n.itemsize
                rest = f.all_of(f.negation(by_channel), last > first)
                with f.when(f.all_of(by_channel, last > first)):
                    f.call(transposing, to, plane, begin, steps[2], count, channels)
                with f.when(rest), f.loop(channels) as c, f.loop(count) as k:
                    n.put(n.number(begin + c * channel + k * steps[2]), to + c * plane + k * n.itemsize)
        else:
            with f.loop(channels) as c:
                _clear(f, row + c * plane, width)
                with f.loop(last, first) as k:
                    to = row + c * plane + k % stride * short + k // stride * n.itemsize
                    n.put(n.number(source + c * channel + k * steps[2]), to)
    f.finish()
    return f


def filters(module: Module, dtype: Any, transposing: Function) -> Function:
    """Emit the layout of one block of filters, (taps, inner, width), from a weight in any memory order.

    Returns
    -------
    Function
        Of the target, the weight, the bytes from one of `width` to the next, how many of them there
        are (the rest are zeros), the bytes along the inner axis and its length, a table of the taps'
        offsets in bytes and their number, whether they are neighbours, and the width of a block.
    """
    f = Function(module, "filters", [POINTER, POINTER, INT, INT, INT, INT, POINTER, INT, INT, INT])
    target, weight, outer, there, inner, count, table, taps, neighbours, width = f.arguments
    n = Numbers(f, dtype)
    row = width * n.itemsize
    with f.when(there < width):
        _clear(f, target, taps * count * row)

    def tap(t: Value) -> Value:
        place = table + t * 8
        return weight + f.value(f"load i64, ptr {place.name}", INT)

    first = tap(f.constant(0, INT))
    side = outer.equals(n.itemsize)
    dense = f.all_of(f.negation(side), f.all_of(neighbours > 0, taps > 1))
    single = f.all_of(f.negation(side), f.all_of(inner.equals(n.itemsize), taps.equals(1)))
    with f.when(side), f.loop(taps) as t, f.loop(count) as k:
        copy(f, target + (t * count + k) * row, tap(t) + k * inner, there * n.itemsize)
    # A square of rows at a time: their cache lines, far apart in memory, then serve several inner entries.
    with f.when(dense), f.loop(there, step=n.lanes) as v, f.loop(count) as k:
        f.call(
            transposing, target + k * row + v * n.itemsize, count * row, first + k * inner + v * outer, outer,
            f.least(there - v, n.lanes), taps,
        )  # fmt: skip
    with f.when(single):
        f.call(transposing, target, row, first, outer, there, count)
    rest = f.all_of(f.all_of(f.negation(side), f.negation(dense)), f.negation(single))
    with f.when(rest), f.loop(taps) as t, f.loop(count) as k, f.loop(there) as v:
        n.put(n.number(tap(t) + k * inner + v * outer), target + (t * count + k) * row + v * n.itemsize)
    f.finish()
    return f
