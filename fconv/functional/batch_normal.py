"""Batch normalisation on the CPU: each pass over memory does all that can be done in it."""

from __future__ import annotations

import numpy as np

from fconv.arrays import Array
from fconv.functional.channels import Layout, channel_moments, each_piece
from fconv.functional.core import Definition, Thunks, once
from fconv.functional.moments import Statistics


def batch_normal(
    layout: Layout,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    given: Statistics | None,
    fixed: bool,
) -> Definition:
    """Define what `moments.normalised` defines, for statistics of channels over all other axes.

    Parameters
    ----------
    layout : Layout
        How `x` is divided.
    x : array, shape (N, C, ...)
        The input.
    weight, bias : array or None, shape (C,)
        Scale and shift.
    eps : float
        Added to the variance.
    given : tuple of array, optional
        (mean, variance) of each channel, in place of the moments of `x`.
    fixed : bool
        They do not depend on `x`.

    Returns
    -------
    Definition
        Its pullback has the gradients of ``x``, ``weight`` and ``bias``.
    """
    seen = layout.seen(x)

    @once
    def statistics() -> tuple[Array, Array, Array]:
        """Give the mean as near as the dtype can say it, what that lacks, and 1 / sqrt(var + eps).

        The near mean is subtracted first and the rest at the end, so that a mean far larger than
        the deviation costs no digits.
        """
        mean, var = channel_moments(layout, seen) if given is None else given
        near, wide = mean.astype(x.dtype), mean.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 and 0, infinity less infinity
            return near, wide - near, 1 / np.sqrt(var.astype(np.float64) + eps)

    def numbers(by_channel: Array) -> Array:
        with np.errstate(over="ignore"):
            return layout.spread(by_channel.astype(x.dtype))

    def scale() -> Array:
        spread = statistics()[2]
        return spread if weight is None else spread * weight

    def value() -> Array:
        near, lacking, _ = statistics()
        with np.errstate(invalid="ignore"):
            shift = (0.0 if bias is None else bias) - lacking * scale()
        first, second, third = layout.spread(near), numbers(scale()), numbers(shift)
        y = np.empty_like(seen)

        def work(_: int, piece: slice) -> None:
            out = y[piece]
            layout.apply(np.subtract, seen[piece], first, out)
            layout.apply(np.multiply, out, second, out)
            layout.apply(np.add, out, third, out)

        each_piece(layout, work)
        return layout.shaped(y)

    def pullback(g: Array) -> Thunks:
        along = layout.seen(g)

        @once
        def sums() -> tuple[Array, Array]:
            """Sum g, and g times the normalised input."""
            near, lacking, spread = statistics()
            lowered = layout.spread(near)
            found = np.empty((2, len(layout.pieces), layout.channels))

            def work(i: int, piece: slice) -> None:
                product = np.empty_like(seen[piece])
                layout.apply(np.subtract, seen[piece], lowered, product)
                np.multiply(product, along[piece], out=product)
                found[:, i] = layout.sum(along[piece]), layout.sum(product)

            each_piece(layout, work)
            summed, weighted = found.sum(axis=1)
            with np.errstate(invalid="ignore"):
                return summed, (weighted - lacking * summed) * spread

        def dx() -> Array:
            dx = np.empty_like(seen)
            if fixed:
                factor = numbers(scale())
                each_piece(
                    layout, lambda _, piece: layout.apply(np.multiply, along[piece], factor, dx[piece])
                )
                return layout.shaped(dx)
            near, lacking, spread = statistics()
            summed, weighted = (each * layout.channels / x.size for each in sums())
            with np.errstate(invalid="ignore", over="ignore"):
                slope = -scale() * spread * weighted
                shift = -lacking * slope - scale() * summed
            lowered, by, to, factor = layout.spread(near), numbers(slope), numbers(shift), numbers(scale())

            def work(_: int, piece: slice) -> None:
                out, scaled = dx[piece], np.empty_like(along[piece])
                layout.apply(np.subtract, seen[piece], lowered, out)
                layout.apply(np.multiply, out, by, out)
                layout.apply(np.add, out, to, out)
                layout.apply(np.multiply, along[piece], factor, scaled)
                np.add(out, scaled, out=out)

            each_piece(layout, work)
            return layout.shaped(dx)

        return {
            "x": dx,
            "weight": lambda: sums()[1].astype(x.dtype),
            "bias": lambda: sums()[0].astype(x.dtype),
        }

    return x.shape, once(value), pullback
