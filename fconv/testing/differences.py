"""Directional differences in float64, and where they can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from fconv import random
from fconv.arrays import Array, asnumpy, xp_of

Point = Mapping[str, Array]
"""Float64 arrays by name: what a function is differentiated at."""

_STEPS = (1e-4, 1e-5, 1e-6)
_ATTEMPTS = 12
_EPS = float(np.finfo(np.float64).eps)


class Slope(NamedTuple):
    """A directional derivative by differences, how far it can be trusted, and the step taken."""

    value: float
    error: float
    step: float


def direction_like(key: Array, x: Array) -> Array:
    """Draw a direction in the shape of `x`: random signs, sizes from 0.5 to 1.5.

    No component is small, so that no entry of a wrong gradient can hide behind one.
    """
    sign_key, size_key = random.split(key)
    sign = np.where(random.bernoulli(sign_key, 0.5, x.shape), 1.0, -1.0)
    return xp_of(x).asarray(sign * random.uniform(size_key, x.shape, np.float64, 0.5, 1.5))


def inner(a: Array, b: Array) -> float:
    """Give the sum of products, in float64."""
    return float((a * b).sum())


def moved(point: Point, directions: Point, step: float) -> dict[str, Array]:
    """Step from `point` along `directions`; arrays without a direction stay."""
    return {name: x + step * directions[name] if name in directions else x for name, x in point.items()}


def slope(
    value: Callable[[Point], Array], point: Point, g: Array, directions: Point, tolerance: float
) -> Slope | None:
    """Differentiate ``<g, value(point)>`` along a direction.

    Central differences at two steps are extrapolated (Richardson). A kink between or at the
    points shows in their disagreement, or in second differences that do not shrink with the
    step; then a smaller step is tried.

    Parameters
    ----------
    value : callable
        The function.
    point : mapping of array
        Where to differentiate.
    g : array
        Weights of the outputs.
    directions : mapping of array
        The direction.
    tolerance : float
        Disagreement that is taken for rounding, relative to the slope's size.

    Returns
    -------
    Slope or None
        None where the function has a kink at every step tried.
    """
    middle = value(point)
    # Products of outputs carry rounding errors of this size, whatever they sum to.
    noise = 64 * _EPS * float(abs(g * middle).sum() + abs(g).sum() * _EPS)
    centre = inner(g, middle)
    for step in _STEPS:
        at = {s: inner(g, value(moved(point, directions, s * step))) for s in (-1.0, -0.5, 0.5, 1.0)}
        wide, narrow = (at[1.0] - at[-1.0]) / (2 * step), (at[0.5] - at[-0.5]) / step
        bend_wide = (at[1.0] - 2 * centre + at[-1.0]) / step
        bend_narrow = (at[0.5] - 2 * centre + at[-0.5]) / (0.5 * step)
        allowed = tolerance * max(abs(wide), abs(narrow)) + noise / step
        if abs(wide - narrow) <= allowed and abs(bend_wide - 2 * bend_narrow) <= 4 * allowed:
            return Slope((4 * narrow - wide) / 3, noise / step, step)
    return None


def compare(
    name: str,
    value: Callable[[Point], Array],
    gradient: Callable[[Point, Array], Mapping[str, Array | None]],
    point: Point,
    *,
    key: Array,
    directions: int,
    rtol: float,
) -> None:
    """Compare a gradient with directional differences, stepping away from kinks.

    Parameters
    ----------
    name : str
        What error messages call the function.
    value : callable
        ``value(point) -> array``.
    gradient : callable
        ``gradient(point, g) -> {name: array}``, None for an array that has no gradient.
    point : mapping of array
        Float64 arrays by name.
    key : array of uint64, shape (2,)
        Directions follow from it.
    directions : int
        How many random directions.
    rtol : float
        Allowed difference, relative to the sum of the absolute contributions of all entries.

    Raises
    ------
    AssertionError
        The gradient is wrong, or no point near the given one is smooth.
    """
    for number in range(directions):
        g_key, u_key, *nudges = random.split(random.fold_in(key, number), 2 + _ATTEMPTS)
        for attempt, nudge in enumerate(nudges):
            here = _nudged(point, nudge, attempt)
            g = direction_like(g_key, value(here))
            grads = {n: grad for n, grad in gradient(here, g).items() if grad is not None}
            keys = random.split(u_key, len(point))
            along = {
                n: direction_like(k, x) for k, (n, x) in zip(keys, point.items(), strict=True) if n in grads
            }
            if not any(u.size for u in along.values()) or g.size == 0:
                return
            products = {n: grads[n] * u for n, u in along.items()}
            found = sum(float(p.sum()) for p in products.values())
            size = sum(float(abs(p).sum()) for p in products.values())
            expected = slope(value, here, g, along, 1e-2 * rtol)
            if expected is not None:
                break
        else:
            raise AssertionError(
                f"{name}: no smooth point was found near the given one, so the gradient cannot be checked "
                f"by differences (tried {_ATTEMPTS} points)"
            )
        allowed = rtol * max(size, abs(expected.value)) + 8 * expected.error
        if not abs(found - expected.value) <= allowed:
            raise AssertionError(_report(name, value, here, g, along, grads, found, expected))


def _nudged(point: Point, key: Array, attempt: int) -> dict[str, Array]:
    """Move all arrays a little, the further the more attempts have met a kink."""
    if attempt == 0:
        return dict(point)
    keys = random.split(key, len(point))
    size = 1e-3 * 2.0 ** (attempt - 1)
    return {n: x + size * direction_like(k, x) for k, (n, x) in zip(keys, point.items(), strict=True)}


def _report(
    name: str,
    value: Callable[[Point], Array],
    point: Point,
    g: Array,
    along: Point,
    grads: Mapping[str, Array],
    found: float,
    expected: Slope,
) -> str:
    """Say what differs, in which direction, and at which entry the most."""
    lines = [
        f"{name}: the gradient disagrees with differences of the value",
        f"  <g, f'(x) u> by differences  {expected.value:.12g} (step {expected.step:g})",
        f"  <vjp(g), u>                  {found:.12g}",
        f"  worst entry                  {_worst(value, point, g, grads)}",
    ]
    lines += [_shown(f"direction u of {n}", u) for n, u in along.items()]
    lines += [_shown(f"{n}", x) for n, x in point.items()]
    return "\n".join([*lines, _shown("g", g)])


def _shown(what: str, x: Array) -> str:
    text = np.array2string(asnumpy(x), threshold=20, edgeitems=3, precision=6, prefix="    ")
    return f"  {what}, shape {x.shape}:\n    {text}"


def _worst(
    value: Callable[[Point], Array], point: Point, g: Array, grads: Mapping[str, Array], limit: int = 1000
) -> str:
    """Difference single entries, and name the one whose gradient is furthest off."""
    worst, text = -1.0, "none was found"
    for name, grad in grads.items():
        x = point[name]
        for flat in range(0, x.size, max(1, x.size // limit)):
            index = np.unravel_index(flat, x.shape)
            values = []
            for step in (1e-5, -1e-5):
                bumped = x.copy()
                bumped[index] += step
                values.append(inner(g, value({**point, name: bumped})))
            numeric = (values[0] - values[1]) / 2e-5
            off = abs(numeric - float(grad[index]))
            if not off <= worst:
                worst = off
                place = ", ".join(str(int(i)) for i in index)
                text = f"{name}[{place}]: gradient {float(grad[index]):.9g}, by differences {numeric:.9g}"
    return text
