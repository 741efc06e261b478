"""The largest element of each window."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from math import inf, prod
from typing import Any

import numpy as np

from fconv.arrays import Array, any_of, full_like_order, xp_of
from fconv.engine.windows import crop, kernel_offsets, pad
from fconv.functional import pooling_gpu
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.one_pass import formulas_serve
from fconv.functional.pieces import over_batch
from fconv.functional.planned import Planned
from fconv.functional.pooling_windows import pool_geometry, spread_over_windows, window_elements
from fconv.functional.selecting import where
from fconv.functional.single import for_sample
from fconv.geometry import Size, Windows, check_rank

__all__ = [
    "max_pool1d", "max_pool1d_jvp", "max_pool1d_vjp",
    "max_pool2d", "max_pool2d_jvp", "max_pool2d_vjp",
    "max_pool3d", "max_pool3d_jvp", "max_pool3d_vjp",
]  # fmt: skip


def _max_pool(
    name: str,
    ndim: int,
    x: Array,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    return_indices: bool,
) -> Definition:
    def define(x: Array) -> Definition:
        check_rank(name, "input", x.shape, ndim)
        windows = pool_geometry(name, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
        if 0 in x.shape[1:]:
            raise ValueError(
                f"{name}: expected an input of which only the batch axis is empty, got {x.shape}"
            )
        way: _Passes = _Passes(x, windows)
        if pooling_gpu.serves(x, windows):
            way = _Kernels(x, windows)
        elif formulas_serve(x):
            way = _Compiled(x, windows)

        def value() -> Any:
            if not return_indices:
                return way.largest
            corners, steps = map(xp_of(x).asarray, _places(windows))
            return way.largest, corners + xp_of(x).take(steps, way.choice)

        found = way.out_shape, once(value), way.spread, way.picked
        if isinstance(way, _Compiled) and not return_indices:
            return *found, partial(way.planned, name)
        return found

    return for_sample(x, ndim + 2, define)


class _Passes:
    """Max pooling by passes of the array library, one for each kernel position."""

    def __init__(self, x: Array, windows: Windows) -> None:
        self.x, self.windows = x, windows
        self.out_shape = (*x.shape[:2], *windows.out_size)
        self.padded = windows.padding != ((0, 0),) * windows.ndim

    @cached_property
    def largest(self) -> Array:
        """The largest element of each window."""
        y = full_like_order(self.x, self.out_shape, None)

        def work(samples: slice) -> None:
            part = y[samples]
            first, *others = self._elements(samples)
            part[...] = first
            for element in others:
                xp_of(y).maximum(part, element, out=part)  # NaN wins, as in PyTorch

        over_batch(self.x, work)
        return y

    @cached_property
    def choice(self) -> Array:
        """The kernel position that each window takes: the first maximum, or the last NaN."""
        xp, y = xp_of(self.x), self.largest
        numbered = list(enumerate(self._elements(slice(None))))
        chosen = xp.zeros_like(y, dtype=np.min_scalar_type(len(numbered)))
        for number, element in reversed(numbered):
            xp.copyto(chosen, chosen.dtype.type(number), where=element == y)
        if self.padded:  # of nothing but -inf, one that is no padding
            inside = xp.asarray(_first_inside(self.windows).astype(chosen.dtype))
            xp.copyto(chosen, xp.broadcast_to(inside, y.shape), where=y == -inf)
        if any_of(xp.isnan(y), unseen=True):
            for number, element in numbered:
                xp.copyto(chosen, chosen.dtype.type(number), where=xp.isnan(element))
        return chosen

    def picked(self, t: Array) -> Array:
        """Take the tangent of the element that each window takes."""
        dy, chosen = full_like_order(self.x, self.out_shape, None), self.choice

        def work(samples: slice) -> None:
            part, mine = dy[samples], chosen[samples]
            tangents = window_elements(pad(t[samples], self.windows.padding), self.windows)
            for number, element in enumerate(tangents):
                xp_of(t).copyto(part, element, where=mine == number)

        over_batch(self.x, work)
        return dy

    def spread(self, g: Array) -> Array:
        """Add the gradient of each window to the element that was its maximum."""
        windows, y = self.windows, self.largest
        dx = full_like_order(self.x, (*self.x.shape[:2], *windows.padded_size))
        numbers = None if self._plain() else self.choice

        def work(samples: slice) -> None:
            if numbers is None:
                shares = _shares(self._elements(samples), y[samples], g[samples])
            else:
                shares = _chosen(numbers[samples], g[samples], prod(windows.kernel))
            spread_over_windows(dx[samples], windows, shares)

        over_batch(self.x, work)
        return crop(dx, windows.padding)

    def _elements(self, samples: slice) -> list[Array]:
        """List the elements of all windows at each kernel position."""
        return list(window_elements(pad(self.x[samples], self.windows.padding, -inf), self.windows))

    def _plain(self) -> bool:
        """Require that each window has a largest element that is not padding."""
        y = self.largest
        if xp_of(y) is not np:
            return False  # which may be, and need not be waited for
        return not y.size or bool(y.max() == y.max() and not (self.padded and y.min() == -inf))


class _Compiled(_Passes):
    """Max pooling by kernels compiled for the CPU."""

    def __init__(self, x: Array, windows: Windows) -> None:
        super().__init__(x, windows)
        from fconv.engine.compiled.pooling import pooling

        self._pooling = pooling(windows)

    @cached_property
    def largest(self) -> Array:
        return self._pooling.largest(self.x)

    def picked(self, t: Array) -> Array:
        return self._pooling.picked(self.x, t)

    def spread(self, g: Array) -> Array:
        return self._pooling.spread(self.x, g)

    def planned(self, name: str) -> Planned:
        """Return the plan for arrays of this shape."""
        spread = self._pooling.spread
        return Planned(name, self.out_shape, self._pooling.largest, {"x": lambda g, x: spread(x, g)})


class _Kernels(_Passes):
    """Max pooling by kernels on the GPU, which find the largest element and its number at once."""

    @cached_property
    def _found(self) -> tuple[Array, Array]:
        return pooling_gpu.largest(self.x, self.windows)

    @cached_property
    def largest(self) -> Array:
        return self._found[0]

    @cached_property
    def choice(self) -> Array:
        return self._found[1]

    def spread(self, g: Array) -> Array:
        return pooling_gpu.spread(g, self.choice, self.x.shape, self.windows)


def _shares(elements: list[Array], y: Array, g: Array) -> Iterator[Array]:
    """Return the gradient of each element: all of `g` for the first that is the largest."""
    free: Array | None = None
    for element in elements[:-1]:
        mine = element == y
        if free is None:
            free = ~mine
        else:
            mine &= free
            free ^= mine
        yield where(mine, g, 0.0)
    yield g if free is None else where(free, g, 0.0)


def _chosen(numbers: Array, g: Array, count: int) -> Iterator[Array]:
    """Return the gradient of each element: all of `g` for the one of its window's number."""
    return (where(numbers == number, g, 0.0) for number in range(count))


def _first_inside(windows: Windows) -> Array:
    """Find the number of the first kernel position of each window that is not before the input."""
    first = np.zeros(windows.out_size, np.int64)
    for axis, at in enumerate(np.indices(windows.out_size, sparse=True)):
        lacking = windows.padding[axis][0] - at * windows.stride[axis]
        position = np.clip(-(-lacking // windows.dilation[axis]), 0, windows.kernel[axis] - 1)
        first = first * windows.kernel[axis] + position
    return first


def _places(windows: Windows) -> tuple[Array, Array]:
    """Return the flat place of each window's first element, and what each kernel position adds to it."""
    corners = np.zeros(windows.out_size, np.int64)
    for axis, at in enumerate(np.indices(windows.out_size, sparse=True)):
        plane = prod(windows.in_size[axis + 1 :])
        corners = corners + (at * windows.stride[axis] - windows.padding[axis][0]) * plane
    steps = [
        sum(
            k * d * prod(windows.in_size[axis + 1 :])
            for axis, (k, d) in enumerate(zip(position, windows.dilation, strict=True))
        )
        for position, _ in kernel_offsets(windows)
    ]
    return corners, np.array(steps, np.int64)


@differentiable("x")
def max_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Definition:
    """Maximum over windows of two spatial axes.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Floating-point.
    kernel_size : int or (int, int)
        Size of a window.
    stride : int or (int, int), optional
        Steps between windows; the kernel size by default.
    padding : int or (int, int)
        Elements of -inf on both sides, at most half the kernel size.
    dilation : int or (int, int)
        Steps between a window's elements.
    ceil_mode : bool
        Let the last window hang over the end.
    return_indices : bool
        Give ``(y, indices)``: beside each maximum its place in the flat (H, W) plane, int64.

    Returns
    -------
    array, shape (N, C, H', W')
        NaN where a window holds a NaN. The gradient goes to the first maximum of a window
        (to the last NaN where there is one), as in PyTorch.

    Raises
    ------
    ValueError, TypeError
        Shapes or options that do not fit; an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@differentiable("x")
def max_pool1d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Definition:
    """Maximum over windows of one spatial axis: `max_pool2d` for x (N, C, L)."""
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@differentiable("x")
def max_pool3d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Definition:
    """Maximum over windows of three spatial axes: `max_pool2d` for x (N, C, D, H, W)."""
    return _max_pool("max_pool3d", 3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


max_pool1d_jvp, max_pool1d_vjp = max_pool1d.jvp, max_pool1d.vjp
max_pool2d_jvp, max_pool2d_vjp = max_pool2d.jvp, max_pool2d.vjp
max_pool3d_jvp, max_pool3d_vjp = max_pool3d.jvp, max_pool3d.vjp
