"""The passes over memory that batch normalisation is made of, on the CPU: in pieces, on all threads."""

from __future__ import annotations

import numpy as np

from fconv.arrays import Array
from fconv.functional.channels import Layout, channel_moments, each_piece


class CpuPasses:
    """Passes over an array (N, C, ...) as its layout divides it.

    Numbers of the channels are float64, shape (C,), or of its dtype.
    """

    def __init__(self, layout: Layout, x: Array) -> None:
        self._layout, self._x, self._seen = layout, x, layout.seen(x)

    def moments(self) -> tuple[Array, Array]:
        """Return mean and biased variance of each channel."""
        return channel_moments(self._layout, self._seen)

    def sums(self, g: Array, near: Array) -> tuple[Array, Array]:
        """Sum `g`, and ``g * (x - near)``, of each channel."""
        layout, seen, along = self._layout, self._seen, self._layout.seen(g)
        lowered = layout.spread(near)
        found = np.empty((2, len(layout.pieces), layout.channels))

        def work(i: int, piece: slice) -> None:
            product = np.empty_like(seen[piece])
            layout.apply(np.subtract, seen[piece], lowered, product)
            np.multiply(product, along[piece], out=product)
            found[:, i] = layout.sum(along[piece]), layout.sum(product)

        each_piece(layout, work)
        summed, weighted = found.sum(axis=1)
        return summed, weighted

    def mapped(self, near: Array, by: Array, to: Array) -> Array:
        """Return ``(x - near) * by + to``."""
        layout, seen = self._layout, self._seen
        first, second, third = layout.spread(near), self._numbers(by), self._numbers(to)
        y = np.empty_like(seen)

        def work(_: int, piece: slice) -> None:
            out = y[piece]
            layout.apply(np.subtract, seen[piece], first, out)
            layout.apply(np.multiply, out, second, out)
            layout.apply(np.add, out, third, out)

        each_piece(layout, work)
        return layout.shaped(y)

    def combined(self, near: Array, by: Array, to: Array, g: Array, factor: Array) -> Array:
        """Return ``(x - near) * by + to + g * factor``."""
        layout, seen, along = self._layout, self._seen, self._layout.seen(g)
        first, second = layout.spread(near), self._numbers(by)
        third, fourth = self._numbers(to), self._numbers(factor)
        y = np.empty_like(seen)

        def work(_: int, piece: slice) -> None:
            out, scaled = y[piece], np.empty_like(along[piece])
            layout.apply(np.subtract, seen[piece], first, out)
            layout.apply(np.multiply, out, second, out)
            layout.apply(np.add, out, third, out)
            layout.apply(np.multiply, along[piece], fourth, scaled)
            np.add(out, scaled, out=out)

        each_piece(layout, work)
        return layout.shaped(y)

    def scaled(self, g: Array, factor: Array) -> Array:
        """Return ``g * factor``."""
        layout, along = self._layout, self._layout.seen(g)
        y, numbers = np.empty_like(along), self._numbers(factor)
        each_piece(layout, lambda _, piece: layout.apply(np.multiply, along[piece], numbers, y[piece]))
        return layout.shaped(y)

    def _numbers(self, by_channel: Array) -> Array:
        with np.errstate(over="ignore"):
            return self._layout.spread(by_channel.astype(self._x.dtype))
