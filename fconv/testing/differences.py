"""Directional differences in float64, and where they can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fconv import random, trees
from fconv.arrays import Array, xp_of
from fconv.testing.purity import shown

Point: TypeAlias = Mapping[str, Array]
"""Floating-point arrays by name: where a function is evaluated."""

Outputs: TypeAlias = tuple[Array, ...]
"""The arrays that a function returns, or the gradients of each."""

_STEPS = (1e-4, 1e-5, 1e-6)
_ATTEMPTS = 12
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Subject:
    """Subject of a check: a function of named arrays, and its gradient.

    Attributes
    ----------
    name : str
        What error messages call it.
    value : callable
        ``value(point) -> outputs``.
    gradient : callable
        ``gradient(point, g) -> {name: array}``, None for an array that has no gradient.
    fixed : frozenset of str
        Names of the arrays that are known to have none.
    keeps_dtype : bool
        The outputs must have the dtype of the arrays.
    """

    name: str
    value: Callable[[Point], Outputs]
    gradient: Callable[[Point, Outputs], Mapping[str, Array | None]]
    fixed: frozenset[str] = frozenset()
    keeps_dtype: bool = False


class Slope(NamedTuple):
    """A directional derivative by differences, how far it can be trusted, and the step taken."""

    value: float
    error: float
    step: float


def direction_like(key: Array, x: Array) -> Array:
    """Draw a direction in the shape of `x`: random signs, sizes from 0.5 to 1.5.

    No component is small, so that no element of a wrong gradient can hide behind one.
    """
    sign_key, size_key = random.split(key)
    sign = np.where(random.bernoulli(sign_key, 0.5, x.shape), 1.0, -1.0)
    return xp_of(x).asarray(sign * random.uniform(size_key, x.shape, np.float64, 0.5, 1.5))


def directions_like(key: Array, xs: Outputs) -> Outputs:
    """Draw a direction for each array."""
    return tuple(direction_like(k, x) for k, x in zip(random.split(key, len(xs)), xs, strict=True))


def refilled(tree: Any, parts: Iterable[Any]) -> Any:
    """Put other leaves in the places of those of a tree."""
    following = iter(parts)
    return trees.map(lambda _: next(following), tree)


def inner(a: Outputs, b: Outputs) -> float:
    """Sum the products, in float64."""
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))


def moved(point: Point, directions: Point, step: float) -> dict[str, Array]:
    """Step from `point` along `directions`; arrays without a direction stay."""
    return {n: _stepped(x, step * directions[n]) if n in directions else x for n, x in point.items()}


def _stepped(x: Array, step: Array) -> Array:
    return xp_of(x).asarray(x + step)  # NumPy gives a scalar for arrays of no axes


def slope(
    value: Callable[[Point], Outputs], point: Point, g: Outputs, directions: Point, tolerance: float
) -> Slope | None:
    """Differentiate ``<g, value(point)>`` along a direction; None where every step meets a kink.

    Central differences at two steps are extrapolated (Richardson). A kink between or at the
    points shows in their disagreement, beyond a `tolerance` for rounding relative to the slope's size, or in
    second differences that do not shrink with the step; then a smaller step is tried.
    """
    middle = value(point)
    # Products of outputs carry rounding errors of this size, whatever they sum to.
    terms = sum(float(abs(a * b).sum() + abs(a).sum() * _EPS) for a, b in zip(g, middle, strict=True))
    noise = 64 * _EPS * terms
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
    subject: Subject,
    point: Point,
    *,
    key: Array,
    directions: int,
    rtol: float,
    between: Callable[[], object] = lambda: None,
    required: bool = True,
) -> tuple[Point, Outputs]:
    """Compare a gradient with directional differences, stepping away from kinks.

    Parameters
    ----------
    subject : Subject
        What is checked.
    point : mapping of array
        Float64 arrays by name.
    key : array of uint64, shape (2,)
        The directions are drawn from it.
    directions : int
        How many random directions.
    rtol : float
        Allowed difference, relative to the sum of the absolute contributions of all elements.
    between : callable
        Called between the value and the gradient at one point.
    required : bool
        It is an error where no point near the given one is smooth.

    Returns
    -------
    point, g
        A smooth point, and weights of its outputs.

    Raises
    ------
    AssertionError
        The gradient is wrong, or no point near the given one is smooth.
    """
    here, g = point, directions_like(key, subject.value(point))
    for number in range(directions):
        g_key, u_key, *nudges = random.split(random.fold_in(key, number), 2 + _ATTEMPTS)
        for attempt, nudge in enumerate(nudges):
            here = _nudged(point, nudge, attempt)
            g = directions_like(g_key, subject.value(here))
            between()
            given = subject.gradient(here, g)
            grads = {n: grad for n, grad in given.items() if grad is not None}
            keys = dict(zip(point, random.split(u_key, len(point)), strict=True))
            along = _evened({n: direction_like(keys[n], here[n]) for n in grads}, grads)
            if sum(x.size for x in g) == 0:
                return here, g
            products = {n: grads[n] * u for n, u in along.items()}
            found = sum(float(p.sum()) for p in products.values())
            size = sum(float(abs(p).sum()) for p in products.values())
            expected = slope(subject.value, here, g, along, 1e-2 * rtol)
            if expected is not None:
                break
        else:
            if not required:
                return here, g
            raise AssertionError(
                f"{subject.name}: no smooth point was found near the given one, so the gradient cannot be "
                f"checked by differences (tried {_ATTEMPTS} points)"
            )
        allowed = rtol * max(size, abs(expected.value)) + 8 * expected.error
        if not abs(found - expected.value) <= allowed:
            raise AssertionError(_report(subject, here, g, along, grads, found, expected))
        if number == 0:
            for n in point:
                if n not in grads and n not in subject.fixed:
                    _check_no_slope(subject, n, here, g, {n: direction_like(keys[n], here[n])}, rtol)
    return here, g


def elsewhere(point: Point, key: Array, shift: int = 1) -> dict[str, Array]:
    """Move all arrays far away, but within the range of their elements, towards 0.

    Each element is mixed with another one of the array, so that probabilities stay probabilities and
    variances positive, and made a little smaller, which parts elements that are equal.
    """
    keys = random.split(key, len(point))
    return {n: _mixed(x, k, shift) for k, (n, x) in zip(keys, point.items(), strict=True)}


def _mixed(x: Array, key: Array, shift: int) -> Array:
    xp = xp_of(x)
    part = xp.asarray(random.uniform(key, x.shape, np.float64, 0.5, 1.0))
    other = xp.roll(x.reshape(-1), shift).reshape(x.shape)
    y = (0.75 * x + 0.25 * other) * (1 - part / 16)
    return xp.where(y == 0, part / 64, y)


def _evened(along: dict[str, Array], grads: Mapping[str, Array]) -> dict[str, Array]:
    """Shorten the directions of arrays with large gradients, behind which others could hide."""
    sizes = {n: float(abs(grads[n] * u).sum()) for n, u in along.items()}
    least = min((size for size in sizes.values() if size > 0), default=0.0)
    return {n: u * max(1e-3, least / sizes[n]) if sizes[n] > 0 else u for n, u in along.items()}


def _check_no_slope(subject: Subject, n: str, point: Point, g: Outputs, along: Point, rtol: float) -> None:
    """Require that the value does not depend on an array without a gradient."""
    found = slope(subject.value, point, g, along, 1e-2 * rtol)
    if found is not None and abs(found.value) > 64 * found.error:
        lines = [
            f"{subject.name}: the gradient of {n} is None, but the value changes along it",
            f"  <g, f'(x) u> by differences  {found.value:.12g} (step {found.step:g})",
            shown(f"direction u of {n}", along[n]),
        ]
        raise AssertionError("\n".join([*lines, *(shown(m, x) for m, x in point.items())]))


def _nudged(point: Point, key: Array, attempt: int) -> dict[str, Array]:
    """Move all arrays a little, the further the more attempts have met a kink."""
    if attempt == 0:
        return dict(point)
    keys = random.split(key, len(point))
    size = 1e-3 * 2.0 ** (attempt - 1)
    return {
        n: _stepped(x, size * direction_like(k, x)) for k, (n, x) in zip(keys, point.items(), strict=True)
    }


def _report(
    subject: Subject,
    point: Point,
    g: Outputs,
    along: Point,
    grads: Mapping[str, Array],
    found: float,
    expected: Slope,
) -> str:
    """Describe what differs, in which direction, and at which element the most."""
    lines = [
        f"{subject.name}: the gradient disagrees with differences of the value",
        f"  <g, f'(x) u> by differences  {expected.value:.12g} (step {expected.step:g})",
        f"  <vjp(g), u>                  {found:.12g}",
        f"  worst element                {worst_element(subject.value, point, g, grads)}",
    ]
    lines += [shown(f"direction u of {n}", u) for n, u in along.items()]
    lines += [shown(n, x) for n, x in point.items()]
    return "\n".join([*lines, *(shown("g", x) for x in g)])


def worst_element(
    value: Callable[[Point], Outputs],
    point: Point,
    g: Outputs,
    grads: Mapping[str, Array],
    size: float = 1e-5,
) -> str:
    """Difference single elements, and name the one whose gradient is furthest off."""
    worst, text = -1.0, "none was found"
    for name, grad in grads.items():
        x = point[name]
        for flat in range(0, x.size, max(1, x.size // 1000)):
            index = np.unravel_index(flat, x.shape)
            values = []
            for step in (size, -size):
                bumped = x.copy()
                bumped[index] += step
                values.append(inner(g, value({**point, name: bumped})))
            numeric = (values[0] - values[1]) / (2 * size)
            off = abs(numeric - float(grad[index]))
            if not off <= worst:
                worst = off
                place = ", ".join(str(int(i)) for i in index)
                text = f"{name}[{place}]: gradient {float(grad[index]):.9g}, by differences {numeric:.9g}"
    return text
