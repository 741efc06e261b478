"""Max and average pooling and their gradients, compiled: each reads its arrays once, in any memory order.

The lanes of vectors are channels where those are neighbours in memory, and otherwise output positions along
a row, as long as windows are at most 2 elements apart. Windows that hang over the border are taken one by
one. A task takes some channels of one sample, so that no two tasks write to the same element of the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import inf
from typing import Any, TypeAlias

import numpy as np

from fconv.arrays import full_like_order
from fconv.engine.compiled.launches import Launch
from fconv.engine.compiled.llvm import INT, Module, Number, Value, name_of
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.transcendental import Maths
from fconv.engine.memory import empty_in_order, zeros
from fconv.geometry import Windows

Array: TypeAlias = np.ndarray[Any, Any]
Strides: TypeAlias = tuple[int, ...]

_AXES = ("n", "c", "d", "h", "w")
_SIZES = ("in", "out", "kernel", "stride", "padding", "dilation")
_FIELDS = (
    "x", "y", "dx", *(f"{array}_{axis}" for array in ("x", "y", "dx") for axis in _AXES), "channels", "block",
    "blocks", *(f"{what}_{axis}" for what in _SIZES for axis in "dhw"),
)  # fmt: skip
_UNROLLED = 16
"""Entries of a window, at most, for windows that lie inside to be written out one by one."""
_LEAST_TASKS = 16


_MOST_LAUNCHES = 256


class Pooling:
    """Pooling of arrays (N, C, ...) over windows, and its gradients; launches are kept by strides.

    Parameters
    ----------
    windows : Windows
        The windows.
    """

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._launches: dict[Any, tuple[Launch, int | None]] = {}
        sides = zip(windows.kernel, windows.stride, windows.out_size, windows.in_size, strict=True)
        tiled = all(k == step and k * out == size for k, step, out, size in sides)
        self._once = tiled and not any(map(any, windows.padding)) and set(windows.dilation) == {1}

    def largest(self, x: Array) -> Array:
        """Return the largest element of each window; NaN where there is one."""
        return self._run("largest", _aligned(x), self._output(x), None)

    def sums(self, x: Array) -> Array:
        """Return the sum of each window's elements."""
        return self._run("sum", _aligned(x), self._output(x), None)

    def spread(self, x: Array, g: Array) -> Array:
        """Return the gradient of `x`: each window's goes to its first largest element, or to its last NaN."""
        dx = self._gradient_of(x)
        self._run("largest", _aligned(x), _aligned(g), dx)
        return dx

    def picked(self, x: Array, t: Array) -> Array:
        """Return the element of `t` at each window's first largest element of `x`, or at its last NaN."""
        x = _aligned(x)
        if t.strides != x.strides or not t.flags.aligned:
            laid, t = t, full_like_order(x, x.shape, None)
            t[...] = laid
        return self._run("picked", x, self._output(x), t)

    def repeat(self, x: Array, g: Array) -> Array:
        """Return the gradient of the `x` that was summed; of `x` only shape and memory order count."""
        dx = self._gradient_of(x)
        self._run("sum", dx, _aligned(g), dx)
        return dx

    def _output(self, x: Array) -> Array:
        return empty_in_order(x, (*x.shape[:2], *self._windows.out_size))

    def _gradient_of(self, x: Array) -> Array:
        """Make an array in the memory order of `x`: of zeros, unless windows write each of its elements once.

        Rows of windows two apart add to what there is.
        """
        if self._once and x.strides[1] == x.itemsize and x.shape[1] > 1:
            return empty_in_order(x, x.shape)
        return empty_in_order(x, x.shape, zeros)

    def _run(self, kind: str, x: Array, y: Array, dx: Array | None) -> Array:
        """Run a kernel of `x` and `y`, which writes to `y`, or to `dx` if given; return `y`."""
        if not y.size:
            return y
        facts = (kind, dx is not None, x.dtype, x.shape, x.strides, (y if dx is None else dx).strides)
        launch, axis = self._planned(*facts, y.strides, None)
        if axis is not None:  # a gradient in another memory order
            laid, y = y, full_like_order(x, y.shape, None)
            y[...] = laid
            along = None if y.strides[axis] == x.itemsize else "none"  # one element may lie anywhere
            launch, _ = self._planned(*facts, y.strides, along)
        pool().run(launch, (x, y) if dx is None else (x, y, dx))
        return y

    def _planned(self, *facts: Any) -> tuple[Launch, int | None]:
        found = self._launches.get(facts)
        if found is None:
            if len(self._launches) >= _MOST_LAUNCHES:
                self._launches.clear()
            found = self._launches[facts] = _planned(self._windows, *facts)
        return found


@lru_cache(maxsize=256)
def pooling(windows: Windows) -> Pooling:
    """Return the pooling over windows."""
    return Pooling(windows)


def _aligned(x: Array) -> Array:
    return x if x.flags.aligned else x.copy()


def _planned(
    windows: Windows, kind: str, gradient: bool, dtype: np.dtype[Any], shape: Sequence[int], x: Strides,
    written: Strides, y: Strides, along: str | None,
) -> tuple[Launch, int | None]:  # fmt: skip
    """Plan a kernel for arrays of these strides.

    The second value is the axis along which `y` should lie as `x` does, where it does not.
    """
    missing = 3 - windows.ndim

    def three(sizes: Sequence[int], blank: int) -> list[int]:
        return [*(blank,) * missing, *sizes]

    (images, channels), item = shape[:2], dtype.itemsize
    lanes = machine().vector_bytes // item
    if along is None:
        along = "none"
        if channels > 1 and x[1] == written[1] == item:
            along = "c"
        elif windows.stride[-1] <= 2 and x[-1] == written[-1] == item:
            along = "w"
    axis = 1 if along == "c" else -1
    other = axis if along != "none" and y[axis] != item else None
    block = 1
    if along == "c":  # few long blocks, unless there are few samples
        block = lanes * max(1, -(-channels // lanes) // -(-_LEAST_TASKS // images))
    blocks = -(-channels // block)
    kernel = tuple(three(windows.kernel, 1))
    apart = all(s >= span for s, span in zip(windows.stride, windows.span, strict=True))
    step = windows.stride[-1] if along == "w" else 1
    address = _kernel(kind, name_of(dtype), along, step, channels % lanes == 0, kernel, gradient, apart)
    padding = [low for low, _ in windows.padding]
    strides = [[*a[:2], *three(a[2:], 0)] for a in (x, y, written)]
    arguments = (
        0, 0, 0, *strides[0], *strides[1], *(strides[2] if gradient else [0] * 5), channels, block,
        blocks, *three(windows.in_size, 1), *three(windows.out_size, 1), *kernel, *three(windows.stride, 1),
        *three(padding, 0), *three(windows.dilation, 1),
    )  # fmt: skip
    return Launch(address, arguments, images * blocks), other


class _Access:
    """Layout of a vector's lanes in memory: contiguous, or every other element."""

    def __init__(self, n: Maths, step: int, count: Value | None) -> None:
        self.n, self._step = n, step
        self.mask = None if count is None else n.mask(count)
        if step == 2 and count is not None:
            reach = count * 2 - 1  # nothing behind the last lane is touched
            self._masks = n.mask(reach), n.mask(reach - n.lanes)

    def load(self, place: Value) -> Value:
        """Load a vector."""
        n = self.n
        if self._step == 1:
            return n.load(place, self.mask)
        halves = [n.load(place + i * n.bytes, self._masks[i]) for i in range(2)]
        return n.shuffle(halves[0], halves[1], list(range(0, 2 * n.lanes, 2)))

    def add(self, share: Value, place: Value, replace: bool) -> None:
        """Add to a vector in memory; or replace it, where its lanes are neighbours."""
        n = self.n
        if self._step == 1:
            n.store(share if replace else n.load(place, self.mask) + share, place, self.mask)
            return
        zero = n.number_of(0.0)
        for i, mask in enumerate(self._masks):
            at = place + i * n.bytes
            first = i * n.lanes // 2
            places = [first + lane // 2 if lane % 2 == 0 else n.lanes for lane in range(n.lanes)]
            n.store(n.load(at, mask) + n.shuffle(share, zero, places), at, mask)


@lru_cache(maxsize=128)
def _kernel(
    kind: str,
    dtype: str,
    along: str,
    step: int,
    whole: bool,
    kernel: tuple[int, ...],
    gradient: bool,
    apart: bool,
) -> int:
    """Compile the "largest" elements of windows or their "sum", or the gradient of that.

    Or those of another array, "picked" where the largest are, with `gradient`.

    Vectors run along channels ("c"), along rows of the output ("w"), whose windows are `step` apart, or have
    one lane ("none"). `whole` vectors of channels need no mask.
    """
    module = Module()
    f, task, given, _ = kernel_of(module)
    one, many = Maths(f, dtype, 1), Maths(f, dtype)
    fields = Fields(f, given, _FIELDS)
    a = {name: getattr(fields, name) for name in _FIELDS[3:]}
    image, first = task // a["blocks"], task % a["blocks"] * a["block"]
    last = f.least(first + a["block"], a["channels"])
    arrays = {
        name: fields.pointer(name) + image * a[f"{name}_n"]
        for name in ("x", "y", "dx")[: 3 if gradient else 2]
    }
    steps = {
        name: [a[f"dilation_{axis}"] * a[f"{name}_{axis}"] for axis in "dhw"]
        for name in arrays
        if name != "y"
    }
    positions = list(product(*(range(k) for k in kernel)))
    unrolled = len(positions) <= _UNROLLED
    all_taps = None if unrolled else [(0, k) for k in kernel]
    inner = {
        name: [_along(steps[name], [f.constant(k, INT) for k in position]) for position in positions]
        for name in steps
        if unrolled
    }

    def window(to: _Access, start: dict[str, Value], bounds: Sequence[tuple[Number, Number]] | None) -> None:
        n, x, y, dx = to.n, start["x"], start["y"], start.get("dx", start["x"])

        def taps() -> Iterator[tuple[Value, Value, Value]]:
            """Yield the place in x, the place in dx and the number of each element that lies inside."""
            if bounds is None:
                for i, offset in enumerate(inner["x"]):
                    yield x + offset, dx + inner["dx" if gradient else "x"][i], n.number_of(float(i))
                return
            (d0, d1), (h0, h1), (w0, w1) = bounds
            with f.loop(d1, d0) as d, f.loop(h1, h0) as h, f.loop(w1, w0) as w:
                place = (d * kernel[1] + h) * kernel[2] + w
                number = n.spread(f.value(f"sitofp i64 {place.name} to {n.element}", n.element))
                at = [d, h, w]
                yield x + _along(steps["x"], at), dx + _along(steps["dx" if gradient else "x"], at), number

        if kind == "sum" and gradient:
            g = n.load(y, to.mask)
            for _, place, _ in taps():
                to.add(g, place, apart)
            return
        found, chosen = f.variable(n.vector, 0.0 if kind == "sum" else -inf), f.variable(n.vector, -1.0)
        moved = f.variable(n.vector, 0.0)
        for place, beside, number in taps():
            element = to.load(place)
            if kind == "sum":
                found.set(found.get() + element)
                continue
            taken = n.masks("or", n.compare("ogt", element, found.get()), n.compare("uno", element, element))
            if gradient:  # the first of all is taken even where it is -inf
                taken = n.masks("or", taken, n.compare("olt", chosen.get(), 0.0))
                chosen.set(n.choose(taken, number, chosen.get()))
            if kind == "picked":
                moved.set(n.choose(taken, to.load(beside), moved.get()))
            found.set(n.choose(taken, element, found.get()))
        if not gradient or kind == "picked":
            n.store((found if not gradient else moved).get(), y, to.mask)
            return
        g = n.load(y, to.mask)
        for _, place, number in taps():
            share = n.choose(n.compare("oeq", chosen.get(), number), g, 0.0)
            to.add(share, place, apart)

    def corner(axis: str, at: Value) -> Value:
        return at * a[f"stride_{axis}"] - a[f"padding_{axis}"]

    def within(axis: str, at: Value, k: int) -> Value:
        return f.all_of(at > -1, at + a[f"dilation_{axis}"] * (k - 1) < a[f"in_{axis}"])

    def channels(start: dict[str, Value], bounds: Sequence[tuple[Number, Number]] | None) -> None:
        n = many if along == "c" else one
        with f.loop(last, first, n.lanes) as c:
            at = {name: place + c * a[f"{name}_c"] for name, place in start.items()}
            window(_Access(n, 1, None if whole or along != "c" else last - c), at, bounds)

    with f.loop(a["out_d"]) as d, f.loop(a["out_h"]) as h:
        at_d, at_h = corner("d", d), corner("h", h)
        rows = {
            name: array
            + (d if name == "y" else at_d) * a[f"{name}_d"]
            + (h if name == "y" else at_h) * a[f"{name}_h"]
            for name, array in arrays.items()
        }
        deep = f.all_of(within("d", at_d, kernel[0]), within("h", at_h, kernel[1]))

        def place(w: Value) -> tuple[Value, dict[str, Value]]:
            at = corner("w", w)
            return at, {name: row + (w if name == "y" else at) * a[f"{name}_w"] for name, row in rows.items()}

        done = f.variable(INT, 0)
        with f.repeat(lambda: done.get() < a["out_w"]):
            w = done.get()
            at_w, start = place(w)
            inside = f.all_of(deep, within("w", at_w, kernel[2]))
            done.set(w + 1)
            with f.when(inside):
                if along == "w":
                    # Windows from here to where they begin to hang over the end.
                    reach = a["in_w"] - at_w - a["dilation_w"] * (kernel[2] - 1)
                    count = f.least(f.least((reach + (step - 1)) // step, a["out_w"] - w), many.lanes)
                    done.set(w + count)
                    own = {name: p + first * a[f"{name}_c"] for name, p in start.items()}
                    window(_Access(many, step, count), own, all_taps)
                else:
                    channels(start, all_taps)
            with f.when(f.negation(inside)):
                bounds = [_inside(a, axis, at) for axis, at in zip("dhw", (at_d, at_h, at_w), strict=True)]
                channels(start, bounds)
    f.finish()
    return machine().compile(module)[0]


def _along(steps: Sequence[Value], at: Sequence[Value]) -> Value:
    """Return the bytes to a place."""
    return steps[0] * at[0] + steps[1] * at[1] + steps[2] * at[2]


def _inside(a: dict[str, Value], axis: str, at: Value) -> tuple[Value, Value]:
    """Return the first element of a window that lies inside along an axis, and the one behind the last."""
    f, dilation = at.function, a[f"dilation_{axis}"]
    low = f.most((f.constant(0, INT) - at + dilation - 1) // dilation, 0)
    high = f.least((a[f"in_{axis}"] - at + dilation - 1) // dilation, a[f"kernel_{axis}"])
    return low, high
