"""Batch normalisation in training and its gradient, planned: what is by channel is computed by kernels too.

Around small pictures the arithmetic of some numbers a channel takes longer in Python than all passes over
memory do.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fconv.engine.compiled.by_channel import STEPS, ByChannel, Sums
from fconv.engine.compiled.channels import BEGIN, formula_of
from fconv.engine.compiled.formulas import PIECE
from fconv.engine.compiled.launches import WORK, Launch, chain
from fconv.engine.compiled.llvm import Module
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import Fields, kernel_of, pool
from fconv.engine.compiled.scratch import address
from fconv.engine.compiled.transcendental import Maths
from fconv.engine.memory import empty

Array: TypeAlias = np.ndarray[Any, Any]

_BEGIN_FIELDS = ("x", "near", "channels", "count", "channel_step", "step", "repeats", "elements")


@lru_cache(maxsize=4)
def _begin_kernel(dtype: str, columns: bool) -> int:
    """Compile the mean of the first elements of each channel."""
    f, _, arguments, _ = kernel_of(Module())
    a, n = Fields(f, arguments, _BEGIN_FIELDS), Maths(f, dtype)
    d = Maths(f, "float64", n.lanes)
    x, near = a.pointer("x"), a.pointer("near")
    elements = d.spread(d.number(a.pointer("elements")))
    total = f.variable(n.wide, 0.0)
    with f.loop(a.channels, step=n.lanes if columns else 1) as c:
        mask = n.mask(a.channels - c) if columns else n.mask(1)
        total.set(0.0)
        with f.loop(a.count) as k:  # one after another, in either memory order
            place = x + c * a.channel_step + k * a.step
            total.set(total.get() + n.widened(n.load(place, mask) if columns else n.spread(n.number(place))))
        mean = n.narrowed(total.get() // elements)
        with f.loop(a.repeats) as i:
            n.store(mean, near + (i * a.channels + c) * n.itemsize, mask)
    f.finish()
    return machine().compile(f.module)[0]


"""The `numbers` are n, eps, the share of the batch in the running statistics, and n / (n - 1)."""
_FORWARD_FIELDS = ("found", "weight", "bias", "mean", "var", "out", "state", "fresh", *STEPS)
_BACKWARD_FIELDS = ("found", "weight", "state", "out", "grads", *STEPS)


@lru_cache(maxsize=4)
def _forward_kernel(dtype: str) -> int:
    """Compile what follows from the sums about the mean of the first elements."""
    k = ByChannel(dtype, _FORWARD_FIELDS)
    f, a, n, d = k.f, k.a, k.n, k.d
    state = a.pointer("state")
    with f.loop(a.channels, step=n.lanes) as c:
        mask = n.mask(a.channels - c)
        first, second = (k.total(i, c, mask) // k.number(0) for i in range(2))
        mean = k.given("out", c, mask) + first
        var = d.maximum(second - first * first, d.number_of(0.0))
        near = n.narrowed(mean)
        lacking = mean - n.widened(near)
        spread = d.number_of(1.0) // d.sqrt(var + k.number(1))
        by = spread * k.given("weight", c, mask)
        to = k.given("bias", c, mask) - lacking * by
        for i, value in enumerate((near, n.narrowed(by), n.narrowed(to))):
            k.lay(i, value, c, mask)
        for i, value in enumerate((lacking, spread)):
            d.store(value, state + (a.channels * i + c) * 8, mask)
        share = k.number(2)
        for i, (name, value) in enumerate((("mean", mean), ("var", var * k.number(3)))):
            old = n.load(a.pointer(name) + c * n.itemsize, mask)  # multiplied in its own dtype, as NumPy does
            kept = n.widened(n.narrowed(d.number_of(1.0) - share) * old)
            k.put("fresh", i, kept + share * value, c, mask)
    return k.finished()


@lru_cache(maxsize=4)
def _backward_kernel(dtype: str) -> int:
    """Compile what follows from the sums of the gradient."""
    k = ByChannel(dtype, _BACKWARD_FIELDS)
    f, a, n, d = k.f, k.a, k.n, k.d
    state = a.pointer("state")
    with f.loop(a.channels, step=n.lanes) as c:
        mask = n.mask(a.channels - c)
        summed, weighted = (k.total(i, c, mask) for i in range(2))
        lacking, spread = (d.load(state + (a.channels * i + c) * 8, mask) for i in range(2))
        weighted = (weighted - lacking * summed) * spread
        k.put("grads", 0, weighted, c, mask)
        k.put("grads", 1, summed, c, mask)
        own = k.given("weight", c, mask)
        slope = d.negative(spread * spread * (own * (weighted // k.number(0))))
        shift = d.negative(lacking * slope) - spread * (own * (summed // k.number(0)))
        for i, value in enumerate((slope, shift, spread * own)):
            k.lay(i, n.narrowed(value), c, mask)
    return k.finished()


class Held(NamedTuple):
    """Statistics that a gradient needs.

    Attributes
    ----------
    near : array
        Its first row is the near means, as passes read them.
    state : array, shape (2, C)
        What the near means lack, and 1 / deviation.
    """

    near: Array
    state: Array


class BatchNormal:
    """Batch normalisation of arrays (N, C, ...) in training, planned.

    Parameters
    ----------
    shape, order : tuple of int
        Of the arrays, which are contiguous in the memory order: the channels last, or behind the batch.
    dtype : dtype
        float32 or float64.
    eps, share : float
        What is added to the variance, and the share of a batch in the running statistics.
    """

    def __init__(
        self, shape: tuple[int, ...], order: tuple[int, ...], dtype: np.dtype[Any], eps: float, share: float
    ) -> None:
        sums = Sums(shape, order, dtype, 2)
        rows, size, channels, item = sums.rows, prod(shape), shape[1], dtype.itemsize
        count, kind = size // channels, dtype.name
        self._shape, self._order, self._dtype, self._channels = shape, order, dtype, channels
        strides = [0] * len(shape)
        for i, axis in enumerate(order):
            strides[axis] = prod(sums.laid[i + 1 :]) * item
        self._strides = tuple(strides)
        self._length = sums.length
        begin = min(BEGIN, count if rows.columns else rows.row)
        elements = np.array([float(begin)])
        places = (item, channels * item) if rows.columns else (rows.row * item, item)
        first = (0, 0, channels, begin, *places, sums.repeats, address(elements))
        begin_launch = Launch(_begin_kernel(kind, rows.columns), first, 1, 0, (elements,), 0.0)
        numbers = np.array([count, eps, share, count / max(1, count - 1)])
        moments, summed = sums.launch("moments"), sums.launch("sums")
        mapped, combined = (
            formula_of(name, dtype).launch(
                size, rows.row, max(1, PIECE // rows.row), channels, rows.columns, False
            )
            for name in ("mapped", "combined")
        )
        line, second = sums.length * item, (WORK, sums.second)
        x, weight, bias, mean, var, out, state, fresh, y = range(9)
        self._forward = chain(
            [
                begin_launch.of(x, out),
                moments.of(x, out, WORK, second),
                sums.finish(_forward_kernel(kind), 8, numbers).of(
                    WORK, weight, bias, mean, var, out, state, fresh
                ),
                mapped.of(x, out, (out, line), (out, 2 * line), y),
            ],
            sums.size,
        )
        x, g, near, weight, state, out, grads, dx = range(8)
        after = sums.finish(_backward_kernel(kind), 5, numbers).of(WORK, weight, state, out, grads)
        backward = [summed.of(x, g, near, WORK, second), after]
        combining = combined.of(x, g, near, out, (out, line), (out, 2 * line), dx)
        self._sums = chain(backward, sums.size)
        self._gradients = chain([*backward, combining], sums.size)

    def forward(
        self, x: Array, weight: Array, bias: Array, mean: Array, var: Array
    ) -> tuple[Array, Array, Held]:
        """Return the output, the new running mean and variance (2, C), and what the gradient needs."""
        out = np.empty((3, self._length), self._dtype)
        state, fresh = np.empty((2, self._channels)), np.empty((2, self._channels), self._dtype)
        y = empty(self._shape, self._dtype, self._strides)
        pool().run(self._forward, (x, weight, bias, mean, var, out, state, fresh, y))
        return y, fresh, Held(out, state)

    def in_order(self, x: Array) -> Array:
        """Return an array of the shape in the memory order; it is copied where it lies otherwise."""
        if x.strides == self._strides or x.transpose(self._order).flags.c_contiguous:
            return x
        dense = empty(self._shape, self._dtype, self._strides)
        dense[...] = x
        return dense

    def gradients(
        self, g: Array, x: Array, weight: Array, held: Held, of_x: bool
    ) -> tuple[Array, Array | None]:
        """Return the gradients of weight and bias (2, C), and that of the input `of_x`."""
        out = np.empty((3, self._length), self._dtype)
        grads = np.empty((2, self._channels), self._dtype)
        given = (x, g, held.near, weight, held.state, out, grads)
        if not of_x:
            pool().run(self._sums, given)
            return grads, None
        dx = empty(self._shape, self._dtype, self._strides)
        pool().run(self._gradients, (*given, dx))
        return grads, dx
