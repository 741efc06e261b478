"""Convolution and its gradients by compiled kernels: which of them serve a shape, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from fconv.arrays import Array
from fconv.engine.compiled import positions
from fconv.engine.compiled.by_channel import Total
from fconv.engine.compiled.choosing import (
    LEAST_GROUP,
    Pass,
    channels_last,
    channels_of,
    in_phases,
    new_channels_last,
    pass_for,
    written_together,
)
from fconv.engine.compiled.columns import Columns
from fconv.engine.compiled.few import FewWeights
from fconv.engine.compiled.gathered import Gathered
from fconv.engine.compiled.heavy import HeavyWeights, outweighs
from fconv.engine.compiled.positions import Meetings, Positions
from fconv.engine.compiled.routes import JointRoute, Route, WeightRoute
from fconv.engine.compiled.shapes import Shape, Tap
from fconv.engine.compiled.weights import PART_BYTES, WeightGradient
from fconv.engine.compiled.winograd_weights import WinogradWeights
from fconv.engine.constants import constant_of
from fconv.engine.memory import empty, zeros
from fconv.geometry import ConvGeometry


def _three(values: Any, filled: int) -> tuple[int, int, int]:
    return (*(filled,) * (3 - len(values)), *values)


def _deep(x: Array) -> Array:
    """View (N, C, *size) as (N, C, D, H, W)."""
    return x.reshape(x.shape[:2] + (1,) * (5 - x.ndim) + x.shape[2:]) if x.ndim < 5 else x


Weights: TypeAlias = WeightGradient | FewWeights | Gathered | HeavyWeights | WinogradWeights
Routes: TypeAlias = dict[tuple[tuple[int, ...], tuple[int, ...]], Route]
"""By the strides of what is correlated and of the weight."""
Phase: TypeAlias = tuple[tuple[slice, ...], "Pass | None"]
"""The input positions of one remainder, and the correlation of the gradient that gives them."""


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
        lists = self._lists(self.shape, [self.shape])
        self.forward = pass_for(self.shape, dtype, algorithm, lists=lists)
        self.algorithm = "winograd" if self.forward.winograd else "direct"
        share = self._meetings.share if lists else 1.0
        self._gathers = not self.forward.winograd and Gathered.pays(self.shape, dtype, share)
        self._routes: Routes = {}
        self._back_routes: Routes = {}
        self._weight_routes: dict[tuple[tuple[int, ...], ...], WeightRoute] = {}
        self._joint_routes: dict[tuple[Any, ...], JointRoute] = {}
        self._phases: list[Phase] | None = None
        self._columns: Columns | None = None
        self._weights: Weights | None = None
        self._apart = False  # whether the weight gradients of groups go one after another
        self._in = (kernel, stride, dilation, pads)

    def _lists(
        self, shape: Shape, phases: Sequence[Shape], *, turned: bool = False, together: bool = False
    ) -> Positions | None:
        """Plan a correlation by lists of what each position meets, where that pays."""
        pays = positions.pays(shape, self._meetings, phases, self.dtype, together=together)
        if self._wanted == "winograd" or not pays:
            return None
        return Positions(shape, self._meetings, self.dtype, turned=turned)

    def convolve(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """Return the output, (N, O, *out_size)."""
        route = self._routes.get((x.strides, weight.strides))
        if route is not None:
            return route.run(x, weight, bias)
        grouped = weight.reshape(self.weight_shape)
        if self._gathers:
            return self._gathered.convolve(_deep(x), grouped, bias).reshape(self._out_shape)
        by = self.forward.suited(x)
        return self._correlated(by, self._routes, x, weight, grouped, bias, self._out_shape)

    def _correlated(
        self, by: Pass, routes: Routes, x: Array, weight: Array, grouped: Array, bias: Array | None,
        shape: tuple[int, ...],
    ) -> Array:  # fmt: skip
        """Correlate arrays, and keep their route."""
        deep, y, keeps = _deep(x), by.output(x.dtype), by is self.forward
        by.correlate(deep, grouped, bias, y, constant_of(weight) if keeps else None)
        out = y.reshape(shape)
        route = by.route(deep, grouped, y, out, keeps=keeps)
        if route is not None:
            routes[x.strides, weight.strides] = route
        return out

    def input_gradient(self, g: Array, weight: Array) -> Array:
        """Return the gradient of the input, (N, C, *in_size)."""
        route = self._back_routes.get((g.strides, weight.strides))
        if route is not None:
            return route.run(g, weight, None)
        if self._phases is None:
            phases, self._columns = self._planned()
            self._phases = phases  # last, as another thread may ask for it
        if self._columns is not None:
            dx = self._columns.run(_deep(g), weight.reshape(self.weight_shape))
            return dx.reshape(self._in_shape)
        phases = [(where, phase and phase.suited(g)) for where, phase in self._phases]
        filters = weight.reshape(self.weight_shape).swapaxes(1, 2)
        single = phases[0][1] if len(phases) == 1 else None
        if single is not None:
            return self._correlated(single, self._back_routes, g, weight, filters, None, self._in_shape)
        seen = all(phase for _, phase in phases)
        dx = new_channels_last(self.in_shape, g.dtype, None if seen else zeros)
        shared = next(((phase, phase.lay(filters)) for _, phase in phases if phase and phase.lays), None)
        for where, phase in phases:
            if phase is None:
                continue
            part = dx[(slice(None), slice(None), *where)]
            laid = shared[1] if shared and phase.lays else phase.lay(filters)
            if not phase.along_rows:
                phase.run(_deep(g), laid, None, part)
            else:
                made = phase.output(g.dtype)
                phase.run(_deep(g), laid, None, made)
                part[...] = made
        if shared:
            shared[0].give_back(shared[1], filters)
        return dx.reshape(self._in_shape)

    def _planned(self) -> tuple[list[Phase], Columns | None]:
        """Divide the input positions by their remainder: each meets kernel elements of its own.

        Where products whose columns are added up take less time, they are planned instead.
        """
        kernel, stride, dilation, pads = self._in
        s = self.shape
        back = (s.images, s.groups, s.outer, s.inner, s.out_size)
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
        whole = Shape(*back, s.in_size, (1, 1, 1), tuple(Tap((0, 0, 0), tap.place) for tap in s.taps))
        if self._wanted != "winograd" and Gathered.columns_pay(s, self.dtype, self._meetings.share):
            return [], Columns(s, self.dtype, self._gathered)
        phases = [shape for _, shape in found if shape]
        by_columns = self._wanted != "winograd" and Columns.pays(s, phases, self.dtype)
        alike = all(n % t == 0 for n, t in zip(s.in_size, stride, strict=True))  # as many positions each
        alike = alike and 1 < len(phases) == len(found)
        together = alike and not by_columns and written_together(phases, self.dtype)
        lists = self._lists(whole, phases, turned=True, together=together)
        if lists is not None:
            return [((slice(None),) * 3, pass_for(whole, self.dtype, "direct", lists=lists))], None
        if by_columns:
            return [], Columns(s, self.dtype)
        used = [tap for shape in phases for tap in shape.taps]
        unused = set(product(*map(range, kernel))) - {tap.place for tap in used}
        filters = (*used, *(Tap((0, 0, 0), place) for place in sorted(unused)))  # type: ignore[arg-type]
        algorithm = self._wanted if stride == (1, 1, 1) else "direct"
        if together:
            firsts = [tuple(each.start for each in where) for where, _ in found]
            joint = in_phases(list(zip(firsts, phases, strict=True)), stride, self.dtype, filters)
            return [((slice(None),) * 3, joint)], None
        return [
            (where, pass_for(shape, self.dtype, algorithm, filters) if shape else None)
            for where, shape in found
        ], None

    @cached_property
    def _gathered(self) -> Gathered:
        return Gathered(self.shape, self.dtype)

    def _weight_pass(self) -> Weights:
        one = replace(self.shape, groups=1)
        winograd = self._wanted == "winograd" or (
            self._wanted == "auto" and WinogradWeights.pays(one, self.dtype)
        )
        large = self.shape.groups == 1 or one.multiply_adds >= LEAST_GROUP
        heavy = large and outweighs(one, self.dtype, weights=True)
        if self._wanted != "winograd" and Gathered.weights_pay(self.shape, self.dtype, heavy=heavy):
            return self._gathered
        if large and (winograd or heavy):
            self._apart = self.shape.groups > 1
            return (WinogradWeights if winograd else HeavyWeights)(one, self.dtype)
        direct = WeightGradient(self.shape, self.dtype)
        few = FewWeights.pays(self.shape, self.dtype, direct)
        return FewWeights(self.shape, self.dtype, direct) if few else direct

    def weight_gradient(self, g: Array, x: Array, like: Array | None = None) -> Array:
        """Return the gradient of the weight, (O, C/groups, *kernel), in the order of `like` or C order."""
        if like is None:
            like = np.empty(self.geometry.weight_shape, g.dtype)
        key = g.strides, x.strides, like.strides
        route = self._weight_routes.get(key)
        if route is not None:
            return route.run(g, x)
        deep = _deep(like)
        if self._weights is None:
            self._weights = self._weight_pass()
        if self._apart:
            dw = np.empty_like(deep)
            for seen, made in channels_of(self.shape):
                given = _deep(g)[:, made], _deep(x)[:, seen]
                dw[made] = self._one_weight_gradient(self._weights, *given, deep[made])
        else:
            dw = self._one_weight_gradient(self._weights, _deep(g), _deep(x), deep)
        found = dw.reshape(self.geometry.weight_shape)
        if isinstance(self._weights, WeightGradient):
            route = self._weights.route(_deep(g), _deep(x), found, np.empty_like(deep))
            if route is not None:
                self._weight_routes[key] = route
        return found

    def gradients(
        self, g: Array, x: Array, weight: Array, total: Callable[[Array], Total | None] | None, *, of_x: bool
    ) -> tuple[Array | None, Array, Array | None] | None:
        """Return the gradients of the input, the weight and the bias at once, of arrays met before.

        None where they take more than a launch. That of the input is left out unless `of_x`, and that of the
        bias where there is no `total`, which plans it for arrays like `g`.
        """
        key = g.strides, x.strides, weight.strides
        route = self._joint_routes.get((*key, of_x, total is None))
        if route is None:
            back = self._back_routes.get((g.strides, weight.strides))
            weights, sums = self._weight_routes.get(key), total and total(g)
            if (of_x and back is None) or weights is None or (total and sums is None):
                return None
            route = JointRoute(back if of_x else None, weights, sums)
            self._joint_routes[*key, of_x, total is None] = route
        return route.run(g, x, weight)

    def _one_weight_gradient(self, weights: Weights, g: Array, x: Array, like: Array) -> Array:
        if not isinstance(weights, WinogradWeights):
            return weights.run(g, x, like)
        parts = (
            weights.run(channels_last(g[run], self.dtype), channels_last(x[run], self.dtype), like)
            for run in weights.runs
        )
        dw = next(parts)
        with np.errstate(invalid="ignore", over="ignore"):
            for part in parts:
                dw += part
        return dw

    @cached_property
    def _each(self) -> WeightGradient:
        one = WeightGradient(replace(self.shape, images=1), self.dtype, each=True)
        images = max(1, min(self.shape.images, PART_BYTES // one.part_bytes))
        return WeightGradient(replace(self.shape, images=images), self.dtype, each=True)

    def _runs(self) -> list[slice]:
        """Divide the images into runs of one length, of which the last may begin in the one before."""
        n, step = self.geometry.batch, self._each.shape.images
        return [slice(min(i, n - step), min(i + step, n)) for i in range(0, n, step)]

    def each_weight_gradient(self, g: Array, x: Array) -> Array:
        """Return the gradient of the weight by each image, (N, O, C/groups, *kernel)."""
        dw = empty((self.geometry.batch, *self.geometry.weight_shape), g.dtype)
        for run in self._runs():
            self._each.run(_deep(g[run]), _deep(x[run]), _deep(dw[run].reshape(-1, *dw.shape[2:])))
        return dw

    def each_weight_norm(self, g: Array, x: Array) -> Array:
        """Return the norms of what `each_weight_gradient` returns, (N,)."""
        norms = np.empty(self.geometry.batch, g.dtype)
        for run in self._runs():
            norms[run] = self._each.norms(_deep(g[run]), _deep(x[run]))
        return norms
