"""A correlation by whichever kernel suits its shape, and the memory order that kernels want."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.engine.compiled.correlate import Correlation
from fconv.engine.compiled.depthwise import Depthwise
from fconv.engine.compiled.dots import Dots
from fconv.engine.compiled.heavy import HeavyCorrelation, outweighs
from fconv.engine.compiled.heavy_winograd import HeavyWinograd
from fconv.engine.compiled.launches import BYTES, Launch
from fconv.engine.compiled.llvm import INT, Module, itemsize_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.packing import compiled_box
from fconv.engine.compiled.planes import Planes
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.positions import Positions
from fconv.engine.compiled.routes import Route
from fconv.engine.compiled.scaling import Scaling
from fconv.engine.compiled.scratch import address, scratch
from fconv.engine.compiled.shapes import ROW, Phases, Shape, Tap, few_channels, thinned
from fconv.engine.compiled.squares import squares_of
from fconv.engine.compiled.winograd import LEAST_PIECES, PRODUCTS, Winograd, pieces_in_cache
from fconv.engine.constants import Constant
from fconv.engine.memory import empty, empty_like

LEAST_GROUP = 16 << 20
"""Multiplications of a group that is worth launches of its own."""
COPY_BYTES = 4 << 20
"""Most bytes of contiguous pictures that are copied to channels-last at once."""


def new_channels_last(shape: tuple[int, ...], dtype: Any, make: Callable[..., Array] | None = None) -> Array:
    """Make an array (N, C, D, H, W) that is channels-last in memory; `make` may be that of zeros."""
    n, c, *size = shape
    return (make or empty)((n, *size, c), np.dtype(dtype)).transpose(0, 4, 1, 2, 3)


class Pass:
    """A correlation by whichever kernel suits its shape."""

    _stride = (1, 1, 1)  # of the output, which has phases where it is larger

    def __init__(
        self,
        shape: Shape,
        dtype: str,
        algorithm: str,
        filters: tuple[Tap, ...] | None = None,
        lists: Positions | None = None,
        *,
        by_rows: bool = False,
        phases: Phases | None = None,
    ) -> None:
        self.shape, self.dtype = shape, dtype
        lanes = machine().vector_bytes // itemsize_of(dtype)
        self._rows_gain = False
        self.few: Planes | Dots | None = None
        self.winograd: Winograd | None = None
        self.heavy: HeavyCorrelation | HeavyWinograd | None = None
        if by_rows:
            self.few = _by_planes(shape, dtype)
        elif lists is not None:
            self.direct: Positions | Correlation = lists
        elif phases is not None:
            self.direct, self._stride = Correlation(shape, dtype, filters, phases), phases.stride
        elif algorithm == "winograd" or (algorithm == "auto" and winograd_pays(shape, dtype)):
            heavy = HeavyWinograd.serves(shape, dtype)
            self.winograd = (HeavyWinograd if heavy else Winograd)(shape, dtype)
            self.heavy = self.winograd if isinstance(self.winograd, HeavyWinograd) else None
        elif (other := _instead_of_direct(shape, dtype)) is HeavyCorrelation:
            self.heavy = HeavyCorrelation(shape, dtype)
        elif other is not None:
            self.few = Dots(shape, dtype) if other is Dots else _by_planes(shape, dtype)
        else:
            self.direct = (Depthwise if Depthwise.serves(shape) else Correlation)(shape, dtype, filters)
            self._rows_gain = Scaling.serves(thinned(shape)[0]) or (
                shape.elementwise and few_channels(shape, lanes, ROW)
            )

        self.lays = self.few is None and self.heavy is None
        """Whether filters are laid out before."""
        if self.few is None:
            self.filters = (self.winograd or self.heavy or self.direct).filters
        self._plan_output()

    def suited(self, x: Array) -> Pass:
        """Return the pass for `x`: by planes where its rows are contiguous and those alone gain by it."""
        return self._by_rows if self._rows_gain and x.strides[-1] == x.itemsize else self

    @cached_property
    def _by_rows(self) -> Pass:
        return Pass(self.shape, self.dtype, "direct", by_rows=True)

    @property
    def along_rows(self) -> bool:
        """Return whether rows of the output are contiguous, not its channels."""
        return isinstance(self.few, Planes)

    def _plan_output(self) -> None:
        s = self.shape
        c = s.groups * s.outer
        d, h, w = (size * stride for size, stride in zip(s.out_size, self._stride, strict=True))
        self._out_shape = (s.images, c, d, h, w)
        item = itemsize_of(self.dtype)
        self._out_strides = (
            None if self.along_rows else tuple(item * k for k in (d * h * w * c, 1, h * w * c, w * c, c))
        )

    def output(self, dtype: np.dtype[Any], memory: Array | None = None) -> Array:
        """Make an array for the output, of `memory` if given, in the order that is written fastest."""
        if memory is not None:
            return np.ndarray(self._out_shape, dtype, memory, 0, self._out_strides)
        return empty(self._out_shape, dtype, self._out_strides)

    def lay(self, weight: Array) -> Array:
        """Return a weight (groups, outer, inner, D, H, W), in any memory order, as `run` reads it.

        That may be the weight itself, or scratch memory, for `give_back`.
        """
        if self.few is not None:
            return self.few.lay(weight)
        if self.heavy is not None:
            return weight
        laid = self.filters.lay(weight)
        if self.winograd is None:
            return laid
        transformed = self.winograd.transformed(laid)
        self.give_back(laid, weight)
        return transformed

    def give_back(self, laid: Array, weight: Array) -> None:
        """Release the scratch memory that a weight was laid out in."""
        if self.lays and laid is not weight:
            scratch.give_back(laid)

    def correlate(
        self, x: Array, weight: Array, bias: Array | None, y: Array, kept: Constant | None = None
    ) -> None:
        """Correlate `x` with a weight (groups, outer, inner, D, H, W), of which what is made is `kept`."""
        if kept is not None and not self._lies(weight):
            self.run(x, kept.get(self.filters_key, lambda: self._own(weight)), bias, y)
            return
        laid = self.lay(weight)
        self.run(x, laid, bias, y)
        self.give_back(laid, weight)

    def _lies(self, weight: Array) -> bool:
        """Return whether filters are read where they lie."""
        return self.lays and self.winograd is None and self.filters.launch_of(weight) is None

    @cached_property
    def filters_key(self) -> Hashable:
        """Return what decides how the filters of a forward pass are laid out, also for other pictures.

        The gradient of the input has others, which may have the same key.
        """
        s = self.shape
        kinds = (type(each).__name__ for each in (self.few, self.winograd, self.heavy))
        block = self.heavy.block if self.heavy is not None else 0
        return (*kinds, block, s.groups, s.taps, self.winograd is not None and self.winograd.squares.planes)

    def _own(self, weight: Array) -> Array:
        """Lay out a weight in memory of its own, heavy filters too."""
        if self.heavy is not None:
            return self.heavy.pieces.laid(weight)
        laid = self.lay(weight)
        own = empty_like(laid)
        own[...] = laid
        self.give_back(laid, weight)
        return own

    def route(self, x: Array, weight: Array, y: Array, out: Array, *, keeps: bool) -> Route | None:
        """Return the route of arrays that were correlated into `y`, of which callers see `out`.

        It `keeps` filters that do not change, or none. None where more than one kernel correlates them.
        """
        if not self.lays or self.winograd is not None:
            return None
        found = self.direct.launch_of(x, y)
        if found is None:
            return None
        key = self.filters_key if keeps else None
        return Route(self.filters, self.filters.launch_of(weight), *found, out, key)

    def run(self, x: Array, laid: Array, bias: Array | None, y: Array) -> None:
        """Correlate `x` with a weight that was laid out."""
        if self.few is not None:
            start = np.zeros(y.shape[1], y.dtype) if bias is None else np.ascontiguousarray(bias)
            self.few.run(x, laid, start, y)
            return
        start = self.filters.start(bias, y.dtype)
        if self.winograd is not None:
            step = len(x) if is_channels_last(x) else max(1, COPY_BYTES // (x.nbytes // len(x)))
            for run in (slice(i, i + step) for i in range(0, len(x), step)):
                self.winograd.run(channels_last(x[run], self.dtype), laid, start, y[run])
        else:
            (self.heavy or self.direct).run(x, laid, start, y)


class Apart(Pass):
    """A correlation whose groups go one after another, each by the way that suits one."""

    def __init__(self, shape: Shape, dtype: str, algorithm: str) -> None:
        self.one = Pass(replace(shape, groups=1), dtype, algorithm)
        self.shape, self.dtype = shape, dtype
        self.few, self.winograd, self.heavy, self.lays = None, self.one.winograd, self.one.heavy, False
        self._rows_gain = False
        self._plan_output()

    @staticmethod
    def pays(shape: Shape, dtype: str, algorithm: str) -> bool:
        """Return whether groups are so large that each has a better way by itself than all have together."""
        if shape.groups == 1 or few_channels(shape, machine().vector_bytes // itemsize_of(dtype)):
            return False
        one = replace(shape, groups=1)
        large = algorithm == "auto" and one.multiply_adds >= LEAST_GROUP
        return outweighs(one, dtype) or (large and winograd_pays(one, dtype))

    def lay(self, weight: Array) -> Array:
        """Return the weight: each group's is laid out when it is needed."""
        return weight

    def _lies(self, weight: Array) -> bool:
        return True

    def run(self, x: Array, laid: Array, bias: Array | None, y: Array) -> None:
        """Correlate `x` with a weight."""
        for k, (seen, made) in enumerate(channels_of(self.shape)):
            own_bias = None if bias is None else bias[made]
            self.one.correlate(x[:, seen], laid[k : k + 1], own_bias, y[:, made])


def _instead_of_direct(shape: Shape, dtype: str) -> type[Dots | Planes | HeavyCorrelation] | None:
    """Return the way of a correlation without Winograd's algorithm, None if that is direct."""
    lanes = machine().vector_bytes // itemsize_of(dtype)
    if Dots.pays(shape, lanes):
        return Dots
    if few_channels(shape, lanes):
        return Planes
    return HeavyCorrelation if outweighs(shape, dtype) else None


def written_together(phases: Sequence[Shape], dtype: str) -> bool:
    """Return whether some correlations of one input, which write as many positions each, are all direct."""
    return not any(
        each.elementwise or _instead_of_direct(each, dtype) or Apart.pays(each, dtype, "direct")
        for each in phases
    )


def in_phases(
    phases: Sequence[tuple[tuple[int, int, int], Shape]],
    stride: tuple[int, int, int],
    dtype: str,
    filters: tuple[Tap, ...],
) -> Pass:
    """Plan correlations of one input as one that writes the positions of all, from the first of each on."""
    parts = tuple((first, each.taps) for first, each in phases)
    whole = replace(phases[0][1], taps=tuple(tap for _, taps in parts for tap in taps))
    return Pass(whole, dtype, "direct", filters, phases=Phases(stride, parts))


def _by_planes(shape: Shape, dtype: str) -> Planes:
    return (Scaling if Scaling.serves(thinned(shape)[0]) else Planes)(shape, dtype)


def channels_of(shape: Shape) -> Iterator[tuple[slice, slice]]:
    """Yield the input and the output channels of each group."""
    for k in range(shape.groups):
        yield (
            slice(k * shape.inner, (k + 1) * shape.inner),
            slice(k * shape.outer, (k + 1) * shape.outer),
        )


def pass_for(
    shape: Shape,
    dtype: str,
    algorithm: str,
    filters: tuple[Tap, ...] | None = None,
    lists: Positions | None = None,
) -> Pass:
    """Plan a correlation, all groups together or one after another."""
    if lists is None and Apart.pays(shape, dtype, algorithm):
        return Apart(shape, dtype, algorithm)
    return Pass(shape, dtype, algorithm, filters, lists)


def is_channels_last(x: Array) -> bool:
    """Return whether channels are neighbours in memory."""
    return x.strides[1] == x.itemsize or x.shape[1] == 1


def channels_last(x: Array, dtype: str) -> Array:
    """Return (N, C, D, H, W) with neighbouring channels, itself if they are."""
    if is_channels_last(x):
        return x
    out = new_channels_last(x.shape, x.dtype)
    n, c, d, h, w = x.shape
    image, channel, plane, row, column = x.strides
    rows = max(1, h // 8)
    pieces = -(-h // rows)
    arguments = (
        address(x), address(out), out.strides[2], out.strides[3], image, channel, plane, row, column, c, d, h,
        w, rows, pieces, compiled_box(dtype),
    )  # fmt: skip
    pool().run(Launch(_last_kernel(dtype), arguments, n * d * pieces, cost=x.nbytes / BYTES), ())
    return out


@lru_cache(maxsize=4)
def _last_kernel(dtype: str) -> int:
    """Compile the copy of pictures to channels-last; a task takes some rows of one plane."""
    f, task, address, _ = kernel_of(Module())
    names = (
        "x", "y", "y_plane", "y_row", "image", "channel", "plane", "row", "column", "channels", "deep",
        "high", "wide", "rows", "pieces", "box",
    )  # fmt: skip
    a = Fields(f, address, names)
    n, first = task // a.pieces, task % a.pieces * a.rows
    source = a.pointer("x") + n // a.deep * a.image + n % a.deep * a.plane
    zero, one = f.constant(0, INT), f.constant(1, INT)
    f.call_address(
        a.box, a.pointer("y") + n * a.y_plane + first * a.y_row, source, one,
        f.least(a.high - first, a.rows), a.wide, zero, first, zero, one, a.high, a.wide, a.channels,
        a.channel, zero, a.row, a.column,
    )  # fmt: skip
    f.finish()
    return machine().compile(f.module)[0]


def winograd_pays(shape: Shape, dtype: str) -> bool:
    """Compare what the two ways cost, in multiplications.

    What a transform reads and writes costs as much as some multiplications, and more for filters, which
    are written to memory. The constants are fitted to measured times, docs/design/convolution.md.

    Parameters
    ----------
    shape : Shape
        Of the correlation.
    dtype : str
        Of the arrays.
    """
    squares = squares_of(shape)
    if squares is None or not squares.worth_transforming(dtype):
        return False
    inner, outer, blocks = squares.inner, shape.outer, squares.pieces
    if HeavyWinograd.serves(shape, dtype):
        products = inner * outer * (2 * blocks + 6) + 24 * blocks * (inner + outer)
        return PRODUCTS * products < shape.multiply_adds
    if pieces_in_cache(squares, dtype) < LEAST_PIECES:
        return False
    filters = 25 if inner * outer < 1 << 17 else 60
    cost = PRODUCTS * (blocks * (1.25 * inner * outer + 12 * (inner + outer)) + inner * outer * filters)
    return cost < shape.multiply_adds
