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
from fconv.engine.compiled.llvm import Module
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.pool import Fields, Launch, kernel_of, pool
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
    """Statistics that a gradient needs: near means as passes read them, what they lack, and 1 / deviation."""

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
        self._found, self._length = sums.found, sums.length
        begin = min(BEGIN, count if rows.columns else rows.row)
        elements = np.array([float(begin)])
        places = (item, channels * item) if rows.columns else (rows.row * item, item)
        first = (0, 0, channels, begin, *places, sums.repeats, address(elements))
        self._begin = Launch(_begin_kernel(kind, rows.columns), first, 1, 0, (elements,), 0.0)
        numbers = np.array([count, eps, share, count / max(1, count - 1)])
        self._forward = sums.finish(_forward_kernel(kind), 8, numbers)
        self._backward = sums.finish(_backward_kernel(kind), 5, numbers)
        self._moments, self._sums = sums.launch("moments"), sums.launch("sums")
        self._mapped, self._combined = (
            formula_of(name, dtype).launch(
                size, rows.row, max(1, PIECE // rows.row), channels, rows.columns, False
            )
            for name in ("mapped", "combined")
        )

    def forward(
        self, x: Array, weight: Array, bias: Array, mean: Array, var: Array
    ) -> tuple[Array, Array, Held]:
        """Return the output, the new running mean and variance (2, C), and what the gradient needs."""
        run = pool().run
        found, out = np.empty(self._found), np.empty((3, self._length), self._dtype)
        state, fresh = np.empty((2, self._channels)), np.empty((2, self._channels), self._dtype)
        first, second = found
        near, by, to = out
        y = empty(self._shape, self._dtype, self._strides)
        run(self._begin, (x, near))
        run(self._moments, (x, near, first, second))
        run(self._forward, (found, weight, bias, mean, var, out, state, fresh))
        run(self._mapped, (x, near, by, to, y))
        return y, fresh, Held(near, state)

    def in_order(self, x: Array) -> Array:
        """Return an array of the shape in the memory order; it is copied where it lies otherwise."""
        if x.strides == self._strides or x.transpose(self._order).flags.c_contiguous:
            return x
        dense = empty(self._shape, self._dtype, self._strides)
        dense[...] = x
        return dense

    def sums(self, g: Array, x: Array, weight: Array, held: Held) -> tuple[Array, Array]:
        """Return the gradients of weight and bias (2, C), and what that of the input follows from."""
        run = pool().run
        found, out = np.empty(self._found), np.empty((3, self._length), self._dtype)
        grads = np.empty((2, self._channels), self._dtype)
        first, second = found
        run(self._sums, (x, g, held.near, first, second))
        run(self._backward, (found, weight, held.state, out, grads))
        return grads, out

    def input_gradient(self, g: Array, x: Array, held: Held, out: Array) -> Array:
        """Return the gradient of the input, of what `sums` returned."""
        slope, shift, factor = out
        dx = empty(self._shape, self._dtype, self._strides)
        pool().run(self._combined, (x, g, held.near, slope, shift, factor, dx))
        return dx
