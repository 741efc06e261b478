"""Convolution and its gradients by compiled kernels: which of them serve a shape, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from typing import Any, TypeAlias

import numpy as np

from fconv.arrays import Array
from fconv.engine.compiled import positions
from fconv.engine.compiled.correlate import Correlation
from fconv.engine.compiled.few import FewWeights
from fconv.engine.compiled.heavy import HeavyCorrelation, HeavyWeights, box_of, serves
from fconv.engine.compiled.heavy_winograd import HeavyWinograd
from fconv.engine.compiled.llvm import INT, Module, machine
from fconv.engine.compiled.packing import compiled_box
from fconv.engine.compiled.planes import Planes
from fconv.engine.compiled.pool import BYTES, Fields, Launch, address, kernel_of, pool, scratch
from fconv.engine.compiled.positions import Meetings, Positions
from fconv.engine.compiled.shapes import Shape, Tap, few_channels
from fconv.engine.compiled.weights import PART_BYTES, WeightGradient
from fconv.engine.compiled.winograd import PRODUCTS, Winograd
from fconv.engine.winograd_matrices import STEP
from fconv.geometry import ConvGeometry


def _three(values: Any, filled: int) -> tuple[int, int, int]:
    return (*(filled,) * (3 - len(values)), *values)


def _deep(x: Array) -> Array:
    """View (N, C, *size) as (N, C, D, H, W)."""
    return x.reshape(x.shape[:2] + (1,) * (5 - x.ndim) + x.shape[2:]) if x.ndim < 5 else x


def _last(shape: tuple[int, ...], dtype: Any, make: Callable[..., Array] = np.empty) -> Array:
    """Make an array (N, C, D, H, W) that is channels-last in memory."""
    n, c, *size = shape
    return make((n, *size, c), dtype).transpose(0, 4, 1, 2, 3)


Phase: TypeAlias = tuple[tuple[slice, ...], "Pass | None"]
"""The input positions of one remainder, and the correlation of the gradient that gives them."""


COPY_BYTES = 4 << 20
"""Most bytes of contiguous pictures that are copied to channels-last at once."""


class Pass:
    """A correlation by whichever kernel suits its shape."""

    def __init__(
        self,
        shape: Shape,
        dtype: str,
        algorithm: str,
        filters: tuple[Tap, ...] | None = None,
        lists: Positions | None = None,
    ) -> None:
        self.shape, self.dtype = shape, dtype
        lanes = machine().vector_bytes // (4 if dtype == "float32" else 8)
        self.planes: Planes | None = None
        self.winograd: Winograd | None = None
        self.heavy: HeavyCorrelation | HeavyWinograd | None = None
        if lists is not None:
            self.direct: Positions | Correlation = lists
        elif algorithm == "winograd" or (algorithm == "auto" and winograd_pays(shape, dtype)):
            if serves(shape, dtype) and HeavyWinograd.serves(shape):
                self.winograd = self.heavy = HeavyWinograd(shape, dtype)
            else:
                self.winograd = Winograd(shape, dtype)
        elif few_channels(
            shape, lanes, prod(shape.out_size) * len(shape.taps), shape.out_size[2], prod(box_of(shape))
        ):
            self.planes = Planes(shape, dtype)
        elif serves(shape, dtype):
            self.heavy = HeavyCorrelation(shape, dtype)
        else:
            self.direct = Correlation(shape, dtype, filters)

        self.lays = self.planes is None and self.heavy is None
        """Whether filters are laid out before."""
        if self.lays:
            self.filters = (self.winograd or self.direct).filters
        self._out_shape = (shape.images, shape.groups * shape.outer, *shape.out_size)
        self._part: Pass | None = None

    def output(self, dtype: Any) -> Array:
        """Make an array for the output, in the memory order that is written fastest."""
        return np.empty(self._out_shape, dtype) if self.planes else _last(self._out_shape, dtype)

    def lay(self, weight: Array) -> Array | None:
        """Lay out a weight (groups, outer, inner, D, H, W), in any memory order, in scratch memory."""
        return self.filters.lay(weight) if self.lays else None

    def run(self, x: Array, weight: Array, laid: Array | None, bias: Array | None, y: Array) -> None:
        """Correlate `x` with a weight that `lay` laid out."""
        if self.planes is not None:
            start = np.zeros(y.shape[1], y.dtype) if bias is None else np.ascontiguousarray(bias)
            self.planes.run(x, self.planes.lay(weight), start, y)
            return
        if self.winograd is not None and not is_channels_last(x):
            images = even_run(len(x), COPY_BYTES // (x.nbytes // len(x)))
            if images < len(x):
                self._part = self._part or Pass(replace(self.shape, images=images), self.dtype, "winograd")
                for run in runs(len(x), images):
                    self._part.run(x[run], weight, laid, bias, y[run])
                return
            x = channels_last(x, self.dtype)
        if self.heavy is not None:
            self.heavy.run(x, weight, self.heavy.start(bias, y.dtype), y)
            return
        start = self.filters.start(bias, y.dtype)
        if self.winograd is not None:
            w = self.winograd.transformed(laid)
            self.winograd.run(x, w, start, y)
            scratch.give_back(w)
        else:
            self.direct.run(x, laid, start, y)


def is_channels_last(x: Array) -> bool:
    """Return whether channels are neighbours in memory."""
    return x.strides[1] == x.itemsize or x.shape[1] == 1


def runs(count: int, step: int) -> list[slice]:
    """Divide images into runs of one length, of which the last may begin in the one before."""
    return [slice(min(i, count - step), min(i + step, count)) for i in range(0, count, step)]


def even_run(count: int, most: int) -> int:
    """Return the longest run of images, up to a bound, whose repetition adds little to so many images.

    Examples
    --------
    >>> even_run(8, 5), even_run(100, 30), even_run(7, 9), even_run(7, 0)
    (4, 26, 7, 1)
    """
    lengths = range(1, max(1, min(count, most)) + 1)
    return max(n for n in lengths if -(-count // n) * n * 16 <= count * 17)


def channels_last(x: Array, dtype: str) -> Array:
    """Return (N, C, 1, H, W) with neighbouring channels, itself if they are."""
    if is_channels_last(x):
        return x
    out = _last(x.shape, x.dtype)
    n, c, _, h, w = x.shape
    image, channel, _, row, column = x.strides
    rows = max(1, h // 8)
    pieces = -(-h // rows)
    arguments = (
        address(x), address(out), out.strides[0], out.strides[3], image, channel, row, column, c, h, w,
        rows, pieces,
        compiled_box(dtype),
    )  # fmt: skip
    pool().run(Launch(_last_kernel(dtype), arguments, n * pieces, cost=x.nbytes / BYTES), ())
    return out


@lru_cache(maxsize=4)
def _last_kernel(dtype: str) -> int:
    """Compile the copy of pictures to channels-last; a task takes some rows of one."""
    f, task, address, _ = kernel_of(Module())
    names = [
        "x",
        "y",
        "y_image",
        "y_row",
        "image",
        "channel",
        "row",
        "column",
        "channels",
        "high",
        "wide",
        "rows",
        "pieces",
        "box",
    ]
    a = Fields(f, address, names)
    n, first = task // a.pieces, task % a.pieces * a.rows
    target = a.pointer("y") + n * a.y_image + first * a.y_row
    zero, one = f.constant(0, INT), f.constant(1, INT)
    f.call_address(
        a.box, target, a.pointer("x") + n * a.image, one, f.least(a.high - first, a.rows), a.wide, zero,
        first, zero,
        one, a.high, a.wide, a.channels, a.channel, zero, a.row, a.column,
    )  # fmt: skip
    f.finish()
    return machine().compile(f.module)[0]


def winograd_pays(shape: Shape, dtype: str, *, weights: bool = False) -> bool:
    """Compare what the two ways cost, in multiplications.

    What a transform reads and writes costs as much as some multiplications, and more for filters, which
    are written to memory. The constants are fitted to measured times, docs/design/convolution.md.

    Parameters
    ----------
    shape : Shape
        Of the forward pass.
    dtype : str
        Of the arrays.
    weights : bool
        Compare the weight gradients instead.
    """
    inner, outer = shape.inner, shape.outer
    if dtype != "float32" or not is_3x3(shape) or min(inner, outer) < machine().vector_bytes // 4:
        return False
    blocks = shape.images * prod(-(-n // STEP) for n in shape.out_size[1:])
    if not weights and serves(shape, dtype) and HeavyWinograd.serves(shape):
        return PRODUCTS * inner * outer * (2 * blocks + 6) < shape.multiply_adds
    filters = 25 if inner * outer < 1 << 17 else 75 if weights else 60
    cost = PRODUCTS * (blocks * (1.25 * inner * outer + 12 * (inner + outer)) + inner * outer * filters)
    slower = 1.5 if weights and not serves(shape, dtype, weights=True) else 1.1 if weights else 1
    return cost < shape.multiply_adds * slower


def is_3x3(shape: Shape) -> bool:
    """Return whether a correlation is one over two axes, 3x3, of stride and dilation 1, in one group."""
    reach = tuple(hi - lo for lo, hi in zip(shape.low, shape.high, strict=True))
    return shape.groups == 1 and shape.step == (1, 1, 1) and len(shape.taps) == 9 and reach == (0, 2, 2)


class CompiledConvolution:
    """A convolution and its gradients, planned: all that the shapes decide is decided."""

    engine = "compiled"

    def __init__(self, geometry: ConvGeometry, dtype: str, algorithm: str) -> None:
        w = geometry.windows
        self.geometry, self.dtype, self._wanted = geometry, dtype, algorithm
        self._in_shape, self._out_shape = geometry.in_shape, geometry.out_shape
        kernel, stride, dilation = (_three(v, 1) for v in (w.kernel, w.stride, w.dilation))
        pads = _three([lo for lo, _ in w.padding], 0)
        in_size, out_size = _three(w.in_size, 1), _three(w.out_size, 1)
        groups, inner = geometry.groups, geometry.in_channels // geometry.groups
        outer = geometry.out_channels // geometry.groups
        places = list(product(*map(range, kernel)))
        self.weight_shape = (groups, outer, inner, *kernel)
        self.in_shape = (geometry.batch, geometry.in_channels, *in_size)
        taps = tuple(
            Tap(tuple(k * d - p for k, d, p in zip(place, dilation, pads, strict=True)), place)  # type: ignore[arg-type]
            for place in places
        )
        self.shape = Shape(geometry.batch, groups, inner, outer, in_size, out_size, stride, taps)
        self._meetings = Meetings(in_size, out_size, kernel, stride, dilation, pads)
        self.forward = Pass(self.shape, dtype, algorithm, lists=self._by_positions(self.shape))
        self.algorithm = "winograd" if self.forward.winograd else "direct"
        self._phases: list[Phase] | None = None
        self._weights: WeightGradient | FewWeights | HeavyWeights | Winograd | None = None
        self._in = (kernel, stride, dilation, pads)

    def _by_positions(self, shape: Shape, *, turned: bool = False) -> Positions | None:
        """Plan a correlation by lists of what each position meets, where that pays."""
        if self._wanted == "winograd" or not positions.pays(shape, self._meetings, self.dtype, turned=turned):
            return None
        return Positions(shape, self._meetings, self.dtype, turned=turned)

    def convolve(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Return the output, (N, O, *out_size)."""
        y = self.forward.output(x.dtype)
        grouped = self._grouped(weight)
        laid = self.forward.lay(grouped)
        self.forward.run(_deep(x), grouped, laid, bias, y)
        if laid is not None and laid is not grouped:
            scratch.give_back(laid)
        return y.reshape(self._out_shape)

    def _grouped(self, weight: Array) -> Array:
        return _deep(weight).reshape(self.weight_shape)

    def input_gradient(self, g: Array, weight: Array) -> Array:
        """Return the gradient of the input, (N, C, *in_size)."""
        if self._phases is None:
            self._phases = self._planned()
        phases = self._phases
        turned = self._grouped(weight).swapaxes(1, 2)
        single = phases[0][1] if len(phases) == 1 else None
        if single is not None:
            dx = single.output(g.dtype)
        else:
            seen = all(phase for _, phase in phases)
            dx = _last(self.in_shape, g.dtype, np.empty if seen else np.zeros)
        laid = next((phase.lay(turned) for _, phase in phases if phase and phase.lays), None)
        for where, phase in phases:
            if phase is None:
                continue
            part = dx[(slice(None), slice(None), *where)]
            if phase.planes is None or phase is single:
                phase.run(_deep(g), turned, laid, None, part)
            else:
                made = phase.output(g.dtype)
                phase.run(_deep(g), turned, laid, None, made)
                part[...] = made
        if laid is not None and laid is not turned:
            scratch.give_back(laid)
        return dx.reshape(self._in_shape)

    def _planned(self) -> list[Phase]:
        """Divide the input positions by their remainder: each meets entries of its own."""
        kernel, stride, dilation, pads = self._in
        s = self.shape
        back = (s.images, s.groups, s.outer, s.inner, s.out_size)
        taps = tuple(Tap((0, 0, 0), tap.place) for tap in s.taps)
        single = self._by_positions(Shape(*back, s.in_size, (1, 1, 1), taps), turned=True)
        if single is not None:
            return [((slice(None),) * 3, Pass(single.shape, self.dtype, "direct", lists=single))]
        found: list[tuple[tuple[slice, ...], Shape | None]] = []
        for offsets in product(*map(range, stride)):
            size = tuple(max(0, -(-(n - a) // t)) for n, a, t in zip(s.in_size, offsets, stride, strict=True))
            if not all(size):
                continue
            met = []
            for place in product(*map(range, kernel)):
                reach = [a + p - k * d for a, p, k, d in zip(offsets, pads, place, dilation, strict=True)]
                if not any(r % t for r, t in zip(reach, stride, strict=True)):
                    met.append(Tap(tuple(r // t for r, t in zip(reach, stride, strict=True)), place))  # type: ignore[arg-type]
            met.sort(key=lambda tap: tap.shift)
            where = tuple(slice(a, None, t) for a, t in zip(offsets, stride, strict=True))
            shape = Shape(*back, size, (1, 1, 1), tuple(met))  # type: ignore[arg-type]
            found.append((where, shape if met else None))
        used = [tap for _, shape in found if shape for tap in shape.taps]
        unused = set(product(*map(range, kernel))) - {tap.place for tap in used}
        filters = (*used, *(Tap((0, 0, 0), place) for place in sorted(unused)))  # type: ignore[arg-type]
        algorithm = self._wanted if stride == (1, 1, 1) else "direct"
        return [
            (where, Pass(shape, self.dtype, algorithm, filters) if shape else None) for where, shape in found
        ]

    def _weight_pass(self) -> WeightGradient | FewWeights | HeavyWeights | Winograd:
        s = self.shape
        if self._wanted == "winograd" or (
            self._wanted == "auto" and winograd_pays(s, self.dtype, weights=True)
        ):
            return self.forward.winograd or Winograd(s, self.dtype)
        if serves(s, self.dtype, weights=True):
            return HeavyWeights(s, self.dtype)
        direct = WeightGradient(s, self.dtype)
        few = not direct.elementwise and FewWeights.pays(s, self.dtype, direct.products)
        return FewWeights(s, self.dtype, direct) if few else direct

    def weight_gradient(self, g: Array, x: Array, like: Array | None = None) -> Array:
        """Return the gradient of the weight, (O, C/groups, *kernel), in the memory order of `like`."""
        if like is None:
            like = np.empty(self.geometry.weight_shape, g.dtype)
        deep = _deep(like)
        if self._weights is None:
            self._weights = self._weight_pass()
        if isinstance(self._weights, Winograd):
            dw = self._weights.weight_gradient(
                channels_last(_deep(g), self.dtype), channels_last(_deep(x), self.dtype), deep
            )
        else:
            dw = self._weights.run(_deep(g), _deep(x), deep)
        return dw.reshape(self.geometry.weight_shape)

    @cached_property
    def _each(self) -> WeightGradient:
        one = WeightGradient(replace(self.shape, images=1), self.dtype, each=True)
        images = max(1, min(self.shape.images, PART_BYTES // one.part_bytes))
        return WeightGradient(replace(self.shape, images=images), self.dtype, each=True)

    def _runs(self) -> list[slice]:
        return runs(self.geometry.batch, self._each.shape.images)

    def each_weight_gradient(self, g: Array, x: Array) -> Array:
        """Return the gradient of the weight by each image, (N, O, C/groups, *kernel)."""
        dw = np.empty((self.geometry.batch, *self.geometry.weight_shape), g.dtype)
        for run in self._runs():
            self._each.run(_deep(g[run]), _deep(x[run]), _deep(dw[run].reshape(-1, *dw.shape[2:])))
        return dw

    def each_weight_norm(self, g: Array, x: Array) -> Array:
        """Return the norms of what `each_weight_gradient` returns, (N,)."""
        norms = np.empty(self.geometry.batch, g.dtype)
        for run in self._runs():
            norms[run] = self._each.norms(_deep(g[run]), _deep(x[run]))
        return norms
