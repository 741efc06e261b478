"""Copies of boxes of pictures, with their zeros, as planes: the channels first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Value
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.packing import MOST_BESIDE, clear, every, transpose
from fconv.engine.compiled.vectors import Numbers


@lru_cache(maxsize=32)
def compiled_planes(dtype: str, stride: int = 1, phases: tuple[int, ...] = (0,), beside: int = 1) -> int:
    """Return the address of a compiled `planes`."""
    module = Module()
    f = planes(module, dtype, transpose(module, dtype), stride, phases, beside)
    f.exported = True
    return machine().compile(module)[0]


def beside_of(x: Sequence[int], channels: int, item: int, stride: int = 1) -> int:
    """Return how many channels lie side by side, for `compiled_planes`; 1 where it has no use for it.

    `x` are the strides of a picture (N, C, D, H, W).
    """
    interleaved = x[1] == item and x[4] == channels * item and stride == 1
    return channels if interleaved and channels <= MOST_BESIDE else 1


def planes(
    module: Module, dtype: Any, transposing: Function, stride: int, phases: Sequence[int], beside: int = 1
) -> Function:
    """Emit the copy of a box of one picture, channels first, its columns dealt out by their remainder.

    With a stride along rows, every `stride`-th column lies beside the next, so that windows' elements
    are neighbours: the target is (channels, depth, height, stride, width / stride). Columns of other
    remainders than `phases`, which no window sees, are left out. Without a stride, up to a vector behind the
    target may be written too, and all channels may be `beside` numbers that lie side by side.

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
    count = size[2] // stride
    short = count * n.itemsize
    low = f.least(f.most(f.constant(0, INT) - start[2], 0), size[2])
    high = f.most(f.least(full[2] - start[2], size[2]), low)
    near = steps[2].equals(n.itemsize)

    def row_of(i: Value, j: Value) -> tuple[Value, Value, Value, Value]:
        """Return where a row lies in the picture and in the target, and which of its columns are inside."""
        d, h = start[0] + i, start[1] + j
        inside = f.all_of(f.all_of(d > -1, d < full[0]), f.all_of(h > -1, h < full[1]))
        source = picture + d * steps[0] + h * steps[1] + start[2] * steps[2]
        begin, end = (f.select(inside, edge, size[2]) for edge in (low, high))
        return source, target + (i * size[1] + j) * width, begin, end

    if beside > 1:
        for number in range(beside):  # one plane after another, as what is stored behind one is of the next
            with f.loop(size[0]) as i, f.loop(size[1]) as j:
                source, line, begin, end = row_of(i, j)
                with f.loop(count, step=n.lanes) as k:
                    whole = f.all_of(k > begin - 1, k + n.lanes < end + 1)
                    for condition, masked in ((whole, False), (f.negation(whole), True)):
                        with f.when(condition):
                            vectors = []
                            for p in [k * beside + v * n.lanes for v in range(beside)]:
                                mask = n.between(begin * beside - p, end * beside - p) if masked else None
                                vectors.append(n.load(source + p * n.itemsize, mask))
                            n.store(every(n, vectors, number), line + plane * number + k * n.itemsize)
        f.finish()
        return f
    with f.when(near), f.loop(channels) as c, f.loop(size[0]) as i, f.loop(size[1]) as j:
        source, line, begin, end = row_of(i, j)
        with f.loop(count, step=n.lanes) as k:
            # Rows are mostly short: a load of the lanes inside fills the others with zeros. What is stored
            # behind a row's end lies where the next one is written, or behind the last. With a stride there
            # is a mask, as the columns of the next remainder are there already.
            places = [k * stride + v * n.lanes for v in range(stride)]
            vectors = [
                n.load(source + c * channel + p * n.itemsize, n.between(begin - p, end - p)) for p in places
            ]
            mask = n.mask(count - k) if stride > 1 else None
            for phase in phases:
                n.store(every(n, vectors, phase), line + short * phase + c * plane + k * n.itemsize, mask)
    with f.when(f.negation(near)), f.loop(size[0]) as i, f.loop(size[1]) as j:
        source, line, begin, end = row_of(i, j)
        for phase in phases:
            row = line + short * phase
            # How many of its columns lie before those inside, and before those behind.
            first, last = ((f.most(edge - phase, 0) + (stride - 1)) // stride for edge in (begin, end))
            place, step, there = source + steps[2] * phase, steps[2] * stride, last - first
            with f.loop(channels) as c:
                to = row + c * plane
                clear(f, to, first * n.itemsize)
                clear(f, to + last * n.itemsize, short - last * n.itemsize)
            by_channel, some = channel.equals(n.itemsize), last > first
            place, to = place + first * step, row + first * n.itemsize
            with f.when(f.all_of(by_channel, some)):
                f.call(transposing, to, plane, place, step, there, channels)
            scattered = f.all_of(f.negation(by_channel), some)
            with f.when(scattered), f.loop(channels) as c, f.loop(there) as k:
                n.put(n.number(place + c * channel + k * step), to + c * plane + k * n.itemsize)
    f.finish()
    return f
