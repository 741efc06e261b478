"""Convolution of small pictures, where windows mostly see zeros around them: without those zeros.

A kernel that is nearly as large as the picture, or the gradient of its input, meets the picture in a few
places only. Here each output position has a list of the input positions and elements of the kernel that meet
there, and the rows of a block are pictures, which all share it. Channels-last pictures are read in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from fconv.engine.compiled.correlate import LEAST_TASKS
from fconv.engine.compiled.dots import Dots
from fconv.engine.compiled.filters import FilterBlocks
from fconv.engine.compiled.heavy import Blocked
from fconv.engine.compiled.launches import MULTIPLY_ADDS, Launch
from fconv.engine.compiled.llvm import INT, Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.micro import MICRO, PAIR, contract, even, micro
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address, scratch
from fconv.engine.compiled.shapes import Shape, costs, few_channels
from fconv.engine.compiled.squares import squares_of

MOST_PAIRS = 1 << 16
"""Largest number of meetings that are listed."""
PIECE_BYTES = 256 << 10
"""Largest piece of a block of filters: it stays in the L2 cache for all positions and pictures of a task."""
PHASE, CALL, FAR = 20000, 40, 12
"""Products of vectors that take as long as a phase of the gradient, a block of rows, and a vector of arrays
that outgrow the cache, whose images lie far apart."""
WINOGRAD, ELEMENTWISE, DOTS = 0.45, 1.4, 1.35
"""The time of a 3x3 product by Winograd's algorithm, of a depthwise product by lists, and of one of dot
products among zeros, in that of others.

Like the constants above they are fitted to measured times of random shapes.
"""
FAR_BYTES = 4 << 20


@dataclass(frozen=True)
class Meetings:
    """A table of where a kernel meets the picture: output position, input position and element of the kernel.

    Attributes
    ----------
    in_size, out_size, kernel, stride, dilation, pads : tuple of int
        Of the convolution; the padding before.
    """

    in_size: tuple[int, ...]
    out_size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]

    @cached_property
    def _along(self) -> list[Any]:
        """List the triples along each axis."""
        found = []
        for size, out, k, t, d, p in zip(
            self.in_size, self.out_size, self.kernel, self.stride, self.dilation, self.pads, strict=True
        ):
            o, e = np.meshgrid(np.arange(out), np.arange(k), indexing="ij")
            i = o * t + e * d - p
            inside = (i >= 0) & (i < size)
            found.append((o[inside], i[inside], e[inside]))
        return found

    @cached_property
    def count(self) -> int:
        """The number of triples."""
        return prod(len(each[0]) for each in self._along)

    @property
    def share(self) -> float:
        """The share of a window's positions that lie in the picture, on average."""
        return self.count / (prod(self.out_size) * prod(self.kernel))

    def lists(self, by: int) -> tuple[Any, Any, Any]:
        """Return output positions, input positions and elements, sorted by output (0) or input (1)."""
        index = np.meshgrid(*(np.arange(len(each[0])) for each in self._along), indexing="ij")
        whole = [
            np.ravel_multi_index(
                [each[i][k] for each, k in zip(self._along, index, strict=True)], size
            ).ravel()
            for i, size in enumerate((self.out_size, self.in_size, self.kernel))
        ]
        order = np.lexsort((whole[2], whole[by]))
        return tuple(each[order] for each in whole)


def pays(
    shape: Shape, meetings: Meetings, phases: Sequence[Shape], dtype: str, *, together: bool = False
) -> bool:
    """Compare what lists cost with what correlations do, in products of vectors.

    Parameters
    ----------
    shape : Shape
        Of the correlation by lists; of its taps only the number counts.
    meetings : Meetings
        Of the convolution.
    phases : sequence of Shape
        The correlations that it replaces: one, or those of the gradient's phases.
    dtype : str
        Of the numbers.
    together : bool
        Whether the phases take one launch.
    """
    whole = len(phases) == 1 and not phases[0].hangs_over and prod(phases[0].out_size) > 1
    if meetings.count > MOST_PAIRS or whole:  # without zeros to leave out
        return False
    lanes, images = machine().vector_bytes // itemsize_of(dtype), shape.images
    correlated = 0.0 if together else PHASE * (len(phases) - 1.0)
    for each in phases:
        over_channels, along_rows = costs(each, lanes)
        cost = along_rows if few_channels(each, lanes) else over_channels
        wide = dtype == "float32" and min(each.inner, each.outer) >= lanes
        cost *= WINOGRAD if wide and squares_of(each) else 1
        # Dot products would copy what they read in every phase.
        single = each.out_size == shape.out_size
        correlated += min(cost, DOTS * Dots.cost(each, lanes)) if single else cost
    vectors = -(-(shape.groups if shape.elementwise else shape.outer) // lanes)
    blocks = vectors / 2 * (1 if shape.elementwise else shape.groups)
    channels = 1 if shape.elementwise else shape.groups * shape.inner
    product = ELEMENTWISE if shape.elementwise else 0.95
    listed = channels * meetings.count * vectors * (images * product + 1)
    listed += CALL * blocks * prod(shape.out_size) * (-(-images // 8) - images / 8)
    every = images * shape.groups * (shape.inner * prod(shape.in_size) + shape.outer * prod(shape.out_size))
    if every * itemsize_of(dtype) > FAR_BYTES:
        listed += every / lanes * FAR
    return listed < correlated


def _offsets(index: Any, size: Sequence[int], strides: Sequence[int]) -> Any:
    """Return the bytes to positions that are numbered in C order."""
    return np.dot(np.stack(np.unravel_index(index, tuple(size)), -1), np.array(strides, np.int64))


def _spans(key: Any, count: int) -> Any:
    """Return where the list of each number begins in a sorted one, and its length."""
    edges = np.searchsorted(key, np.arange(count + 1))
    return np.stack([edges[:-1] * PAIR, np.diff(edges)], -1)


FIELDS = (
    "x", "w", "start", "y", "x_image", "x_channel", "y_image", "table", "places", "positions", "images",
    "strip", "strips", "parts", "inner", "inner_block", "outer", "blocks", "block_bytes", "width",
    "elementwise", *MICRO,
)  # fmt: skip
PLACE = 24  # bytes of a position's entry: where its list begins, its length, and where its output is


@lru_cache(maxsize=4)
def _kernel(dtype: str) -> int:
    """Compile the correlation: a task takes one block of filters, some pictures and some positions."""
    f, task, arguments, _ = kernel_of(Module())
    a, item = Fields(f, arguments, FIELDS), itemsize_of(dtype)
    part, rest = task % a.parts, task // a.parts
    n0, b = rest % a.strips * a.strip, rest // a.strips
    images, row = f.least(a.images - n0, a.strip), a.width * item
    group, first = b // a.blocks, b % a.blocks * a.width
    there = f.least(a.outer - first, a.width)
    channel = f.select(a.elementwise > 0, first, group * a.inner)
    x = a.pointer("x") + n0 * a.x_image + channel * a.x_channel
    y = a.pointer("y") + n0 * a.y_image + (group * a.outer + first) * item
    w, start = a.pointer("w") + b * a.block_bytes, a.pointer("start") + b * row
    with f.loop(a.inner, step=a.inner_block) as c:
        count = f.least(a.inner - c, a.inner_block)
        with f.loop((part + 1) * a.positions // a.parts, part * a.positions // a.parts) as p:
            begin, entries, out = (
                f.value(f"load i64, ptr {(a.pointer('places') + p * PLACE + 8 * i).name}", INT)
                for i in range(3)
            )
            operands = (w + c * row, a.pointer("table") + begin, entries, count, start, there, c)
            steps = (a.x_channel, a.x_image, row, a.y_image)
            contract(f, a, images, x + c * a.x_channel, y + out, operands, steps)
    f.finish()
    return machine().compile(f.module)[0]


class Positions:
    """A correlation by lists of what each output position meets, planned.

    Parameters
    ----------
    shape : Shape
        Of the correlation.
    meetings : Meetings
        Of the convolution.
    dtype : str
        Of the numbers.
    turned : bool
        It is the gradient of the input that is computed.
    """

    def __init__(self, shape: Shape, meetings: Meetings, dtype: str, *, turned: bool) -> None:
        self.shape, self.dtype = shape, dtype
        self.filters = FilterBlocks(shape, dtype, shape.taps)
        out, inside, taps = meetings.lists(1 if turned else 0)
        self._to, self._from, self._taps = (inside, out, taps) if turned else (out, inside, taps)
        filters, positions = self.filters, prod(shape.out_size)
        most = filters.most_rows
        strips = max(1, min(-(-LEAST_TASKS // filters.all_blocks), shape.images // (2 * most)))
        self.strip = -(-shape.images // strips)
        self.strips = -(-shape.images // self.strip)
        self.parts = min(positions, -(-LEAST_TASKS // (filters.all_blocks * self.strips)))
        self.rows = even(self.strip, min(most, self.strip))
        channels, size = shape.groups * shape.inner, shape.in_size
        self._copy = Blocked(shape.images, channels, channels, (0, 0, 0), size, size, dtype)
        self._launches: dict[tuple[int, ...], Launch] = {}

    def run(self, x: Any, w: Any, start: Any, y: Any) -> None:
        """Correlate `x` (N, C, D, H, W) in any memory order into `y`, whose channels are neighbours."""
        key = x.strides + y.strides
        launch = self._launches.get(key)
        copied = self._copied(x)
        if launch is None:
            steps, item = self._copy.steps, x.itemsize
            seen = (steps[0], item, *steps[1:]) if copied else x.strides
            launch = self._launches[key] = self._run(seen, y.strides)
        if copied:
            x = self._copy(x)
        pool().run(launch, (x, w, start, y))
        if copied:
            scratch.give_back(x)

    def launch_of(self, x: Any, y: Any) -> tuple[Launch, int] | None:
        """Return the launch that `run` has for such arrays, as `Correlation.launch_of` does.

        None where they are copied before it.
        """
        launch = None if self._copied(x) else self._launches.get(x.strides + y.strides)
        return None if launch is None else (launch, 0)

    def _copied(self, x: Any) -> bool:
        return x.strides[1] != x.itemsize and self.shape.groups * self.shape.inner > 1

    def _run(self, x: tuple[int, ...], y: tuple[int, ...]) -> Launch:
        s, filters = self.shape, self.filters
        tap_bytes = filters.inner * filters.row
        table = np.stack([_offsets(self._from, s.in_size, x[2:]), self._taps * tap_bytes], -1)
        positions = prod(s.out_size)
        to = _offsets(np.arange(positions), s.out_size, y[2:])
        places = np.concatenate([_spans(self._to, positions), to[:, None]], -1).astype(np.int64)
        pieces = -(-filters.block_bytes // PIECE_BYTES)
        inner_block = max(1, min(filters.inner, 16 * -(-filters.inner // (16 * pieces))))
        last = s.images - (self.strips - 1) * self.strip
        arguments = (
            *(0,) * 4, x[0], x[1], y[0], address(table), address(places), positions, s.images, self.strip,
            self.strips, self.parts, filters.inner, inner_block, filters.outer, filters.blocks,
            filters.block_bytes, filters.width, s.elementwise,
            *micro(
                self.dtype, self.rows, filters.vectors, (self.strip, last), elementwise=s.elementwise,
                ends=s.elementwise and filters.outer % filters.width > 0,
            ),
        )  # fmt: skip
        products = len(table) * s.images * s.groups * s.inner * s.outer
        tasks = filters.all_blocks * self.strips * self.parts
        return Launch(_kernel(self.dtype), arguments, tasks, 0, (table, places), products / MULTIPLY_ADDS)
