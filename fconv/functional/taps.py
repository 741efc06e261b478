"""Reading along an axis through tables of positions, and the adjoint that adds back to them.

Padding by reflection, averages over uneven bins and every kind of interpolation are sums over a
few taps along one axis after another: output i is the sum over taps of ``weight[i] * x[source[i]]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from fconv.arrays import Array, Index, full_like_order, xp_of


@dataclass(frozen=True, eq=False)
class Tap:
    """One read for every output, or for some.

    Attributes
    ----------
    sources : array of int64
        The element that is read.
    targets : array of int64, optional
        The outputs that read, in ascending order; all of them by default.
    weights : array of float64, optional
        What is read is multiplied by these; 1 by default.
    """

    sources: Array
    targets: Array | None = None
    weights: Array | None = None

    @cached_property
    def rounds(self) -> tuple[tuple[Array, Array], ...]:
        """Divide the reads into rounds (reads, sources) in which no element is read twice.

        What one round adds back meets no element twice, so it is a plain indexed addition.
        """
        order = np.argsort(self.sources, kind="stable")
        ranked = self.sources[order]
        turns = np.arange(ranked.size) - np.searchsorted(ranked, ranked)
        return tuple(
            (order[turns == turn], ranked[turns == turn]) for turn in range(int(turns.max(initial=-1)) + 1)
        )


Taps: TypeAlias = tuple[Tap, ...]


def _at(xp: Any, axis: int, positions: Array) -> Index:
    """Index an axis by positions, through a slice where their steps are even: a view, and no copy."""
    before = (slice(None),) * axis
    steps = np.diff(positions)
    if positions.size and (steps == steps[:1]).all() and (steps[:1] > 0).all():
        return (*before, slice(int(positions[0]), int(positions[-1]) + 1, int(steps[0]) if steps.size else 1))
    return (*before, xp.asarray(positions))


def _read(x: Array, axis: int, positions: Array) -> Array:
    """Take elements along an axis: a view where their steps are even."""
    at = _at(xp_of(x), axis, positions)
    if isinstance(at[-1], slice):
        return x[at]
    size = x.shape[axis]
    times = positions.size // max(1, size)
    if times * size == positions.size and (positions == np.arange(positions.size) // max(1, times)).all():
        return _repeated(x, axis, times)
    return xp_of(x).take(x, at[-1], axis=axis)


def _repeated(x: Array, axis: int, times: int) -> Array:
    """Repeat each element along an axis; in the memory order of `x`, where the library's repeat is slow."""
    y = full_like_order(x, (*x.shape[:axis], times * x.shape[axis], *x.shape[axis + 1 :]), None)
    for i in range(times):
        y[(*(slice(None),) * axis, slice(i, None, times))] = x
    return y


def _weighted(part: Array, tap: Tap, axis: int) -> Array:
    if tap.weights is None:
        return part
    weights = xp_of(part).asarray(tap.weights.astype(part.dtype))
    with np.errstate(over="ignore", invalid="ignore"):  # infinities times 0
        return part * weights.reshape(-1, *(1,) * (part.ndim - axis - 1))


def gather(x: Array, axis: int, taps: Taps) -> Array:
    """Sum over taps along an axis.

    Parameters
    ----------
    x : array
        The input.
    axis : int
        The axis, 0 or more.
    taps : tuple of Tap
        The first serves every output.

    Returns
    -------
    array
        Possibly a view of `x` where there is nothing to add or multiply.

    Examples
    --------
    >>> gather(np.array([1.0, 2.0, 4.0]), 0, (Tap(np.array([0, 1])), Tap(np.array([1, 2]))))
    array([3., 6.])
    """
    xp = xp_of(x)
    y = _weighted(_read(x, axis, taps[0].sources), taps[0], axis)
    if len(taps) > 1 and taps[0].weights is None:
        y = y.copy(order="K")
    for tap in taps[1:]:
        part = _weighted(_read(x, axis, tap.sources), tap, axis)
        if tap.targets is None:
            y += part
        else:
            y[_at(xp, axis, tap.targets)] += part
    return y


def scatter(g: Array, axis: int, taps: Taps, size: int) -> Array:
    """Add the gradient of each output to the elements that it read: the adjoint of `gather`.

    Examples
    --------
    >>> scatter(np.array([1.0, 10.0]), 0, (Tap(np.array([0, 1])), Tap(np.array([1, 2]))), 3)
    array([ 1., 11., 10.])
    """
    out = full_like_order(g, (*g.shape[:axis], size, *g.shape[axis + 1 :]))
    for tap in taps:
        part = g if tap.targets is None else _read(g, axis, tap.targets)
        add_at(out, _weighted(part, tap, axis), axis, tap)
    return out


def add_at(out: Array, part: Array, axis: int, tap: Tap) -> None:
    """Add what a tap's outputs give back, one element for each read, to the elements of `out` it read."""
    for reads, sources in tap.rounds:
        out[_at(xp_of(out), axis, sources)] += _read(part, axis, reads)
