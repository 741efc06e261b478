"""The exact check of linear functions: integers make float64 exact, so that nothing needs a tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fconv import random
from fconv.arrays import Array, asnumpy, xp_of
from fconv.options import whole
from fconv.testing.borders import at_border
from fconv.testing.differences import Outputs, Point, Subject, inner, worst_element
from fconv.testing.functions import floating, subject_of
from fconv.testing.layouts import LAYOUTS, laid_out
from fconv.testing.purity import shown

__all__ = ["check_adjoint"]

_LARGEST = 1023  # of the integers drawn
_HEADROOM = 2.0**20  # sums of numbers that much larger must be exact too
_ROUNDING = 2.0**-40  # what is off by less, relative to the largest element, is taken for rounding
_SETTLED = 1e-10  # distance to the nearest integer with exact=False, relative to the largest element


def check_adjoint(
    function: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    args: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    linear_in: Sequence[int] | None = None,
    exact: bool = True,
    scale: int = 1,
    reference: Callable[..., Any] | None = None,
    key: Array | None = None,
) -> None:
    """Prove that the gradient of a linear function is its adjoint, without tolerances.

    The argument in question and the gradient g are drawn from the integers of -1023 to 1023 without 0,
    twice; the other arguments stay as given. Sums and products of such integers are exact in float64, so
    these hold with ``==`` or not at all:

    - ``f(x + k y) - f(0) == (f(x) - f(0)) + k (f(y) - f(0))``, for k = 1 and, which shows that no sum on the
      way was rounded, for k = 2**20; the vjp is linear in g in the same way;
    - ``<g, f(x) - f(0)> == <vjp(g), x>``; the size of the terms proves that both sides are exact;
    - the value and the gradient in every memory layout are the same numbers, and the gradient does not depend
      on x;
    - ``f(x) == reference(x)``.

    A wrong element of the vjp passes both draws with a probability below (2 / 2046)**2 (Schwartz, Zippel).

    Parameters
    ----------
    function, vjp, args, options
        As for `check_vjp`. Arrays other than the argument in question must hold integers.
    linear_in : sequence of int, optional
        Positions in `args` of the arrays in which the function is linear (or affine), one at a time.
        By default, of all floating-point arrays but those that are known to have no gradient.
    exact : bool
        False for a function that rounds, as Winograd's convolution does: its fractions, such as 128/243, are
        no binary numbers. Values and gradients must then be integers within 1e-10 of the largest element,
        and all of the above holds with ``==`` for these integers.
    scale : int
        Draw multiples of it, for functions that divide: 9 for the mean of nine numbers.
    reference : callable, optional
        ``reference(*args, **options)``, the definition, which the value must equal.
    key : array of uint64, shape (2,), optional
        The integers are drawn from it.

    Raises
    ------
    TypeError, ValueError
        `args` is no list; `linear_in` names no floating-point array; an array holds other numbers than
        integers, or so large ones that float64 is not exact.
    AssertionError
        The function is not linear (the message shows a counterexample), or a check failed.

    References
    ----------
    Claerbout, "Earth Soundings Analysis", 1992, section 5.1, on the dot-product test of adjoints; Schwartz,
    "Fast probabilistic algorithms for verification of polynomial identities", 1980, on random integers.

    Examples
    --------
    >>> from fconv import functional as F
    >>> check_adjoint(F.conv1d, F.conv1d_vjp, [np.ones((1, 1, 5)), np.ones((1, 1, 3)), None])
    >>> check_adjoint(np.cumsum, lambda g, x: np.cumsum(g), [np.ones(3)])
    Traceback (most recent call last):
    AssertionError: cumsum: the vjp is not the adjoint in args[0]
    ...
    >>> check_adjoint(np.square, lambda g, x: g * x, [np.ones(3)])
    Traceback (most recent call last):
    AssertionError: square: not linear in args[0]: f(x + y) - f(0) and f(x) + f(y) - 2 f(0) differ: at ...
    ...
    """
    function, given, args, options = at_border("check_adjoint", function, vjp, args, options)
    subject, point = subject_of("check_adjoint", function, given, args, options)
    whole("check_adjoint", "scale", scale)
    for i in linear_in or ():
        if not 0 <= i < len(args) or not floating(args[i]):
            raise ValueError(f"check_adjoint: linear_in names argument {i}, no floating-point array of args")
    names = (
        [n for n in point if n not in subject.fixed]
        if linear_in is None
        else [f"args[{i}]" for i in linear_in]
    )
    for n, x in point.items():
        fraction = asnumpy(x[(x != np.rint(x)) | ~np.isfinite(x)]) if set(names) != {n} else np.empty(0)
        if fraction.size:
            raise ValueError(
                f"check_adjoint: {subject.name}: expected integers in {n}, got {fraction[0]:g}; "
                "write np.rint(x)"
            )
    for n, each in zip(names, random.split(random.key(0) if key is None else key, len(names)), strict=True):
        check = _Check(subject, point, n, exact)
        check.run(*(lambda a, k=k: _integers(k, a, scale) for k in random.split(each, 4)))
        if reference is not None:
            x = _integers(each, point[n], scale)
            values = [x if f"args[{i}]" == n else a for i, a in enumerate(args)]
            _require(subject.name, "the value and the reference", check.value(x),
                     check.settled((reference(*values, **options),)), {n: x})  # fmt: skip


def _integers(key: Array, like: Array, scale: int) -> Array:
    """Draw an array of integers other than 0, in the shape of another one."""
    sign_key, size_key = random.split(key)
    sign = np.where(random.bernoulli(sign_key, 0.5, like.shape), scale, -scale)
    sizes = np.floor(random.uniform(size_key, like.shape, np.float64, 1, _LARGEST + 1))
    return xp_of(like).asarray(sign * sizes)


@dataclass(frozen=True)
class _Check:
    """The check of one argument."""

    subject: Subject
    point: Point
    n: str
    exact: bool

    def value(self, x: Array) -> Outputs:
        return self.settled(self.subject.value({**self.point, self.n: x}))

    def gradient(self, x: Array, g: Outputs) -> Outputs:
        """Return the gradient of the argument; None stands for zeros."""
        grad = self.subject.gradient({**self.point, self.n: x}, g)[self.n]
        return self.settled((xp_of(x).zeros_like(x) if grad is None else grad,))

    def settled(self, results: Outputs) -> Outputs:
        """Return results on the CPU; those of a function that rounds as the integers next to them."""
        results = tuple(asnumpy(y) for y in results)
        if self.exact:
            return results
        for y in results:
            off = abs(y - np.rint(y))
            if not (off <= _SETTLED * max(1.0, abs(y).max(initial=0))).all():
                worst = float(y[np.unravel_index(off.argmax(), y.shape)])
                raise AssertionError(
                    f"{self.subject.name}: expected integers up to rounding with exact=False, got {worst!r}; "
                    "scale= draws multiples of an integer"
                )
        return tuple(np.rint(y) for y in results)

    def run(self, x_of: Any, y_of: Any, g_of: Any, h_of: Any) -> None:
        name, n = self.subject.name, self.n
        x, y = x_of(self.point[n]), y_of(self.point[n])
        start = self.value(xp_of(x).zeros_like(x))
        fx, fy = (_minus(self.value(a), start) for a in (x, y))
        like = self.subject.value({**self.point, n: x})
        g, h = tuple(map(g_of, like)), tuple(map(h_of, like))
        dg, dh = self.gradient(x, g), self.gradient(y, h)
        steps = [(1.0, ""), (_HEADROOM, f"{_HEADROOM:.0f} ")][: 1 + self.exact]
        for k, times in steps:
            what = (
                f"not linear in {n}: f(x + {times}y) - f(0) and f(x) + {times}f(y) - {1 + k:.0f} f(0) differ"
            )
            self._linear(what, _minus(self.value(x + k * y), start), fx, fy, k, {"x": x, "y": y})
        for a, fa, b, db in ((x, fx, g, dg), (y, fy, h, dh)):
            self._adjoint(a, fa, b, db)
        for k, times in steps:
            what = f"the vjp for {n} is not linear in g: vjp(g + {times}h) and vjp(g) + {times}vjp(h) differ"
            both = tuple(a + k * b for a, b in zip(g, h, strict=True))
            self._linear(what, self.gradient(x, both), dg, dh, k, {"g": g[0], "h": h[0]})
        _require(name, f"the gradient of {n} at x and at another x", dg, self.gradient(y, g), {"x": y})
        for layout, of_g in zip(LAYOUTS[1:], (*LAYOUTS[2:], LAYOUTS[1]), strict=True):
            other = _Check(
                self.subject, {m: laid_out(a, layout) for m, a in self.point.items()}, n, self.exact
            )
            moved, what = laid_out(x, layout), f"{layout} arguments and as it was"
            _require(name, f"the value for {what}", _minus(other.value(moved), start), fx, {"x": x})
            found = other.gradient(moved, tuple(laid_out(part, of_g) for part in g))
            _require(name, f"the gradient of {n} for {what} (g {of_g})", found, dg, {"g": g[0]})

    def _linear(
        self, what: str, found: Outputs, a: Outputs, b: Outputs, k: float, values: Mapping[str, Array]
    ) -> None:
        """Require ``found == a + k b``; what is lost to rounding is the fault of the numbers."""
        for part, first, second in zip(found, a, b, strict=True):
            expected = first + k * second
            if not (part == expected).all():
                size = abs(expected).max()
                if abs(part - expected).max() <= k * _ROUNDING * size:
                    raise ValueError(self._rounds(f"{self.n}: sums of size {size:g} are rounded"))
                _require(self.subject.name, what, (part,), (expected,), values)

    def _adjoint(self, x: Array, fx: Outputs, g: Outputs, dx: Outputs) -> None:
        """Require ``<g, f(x)> == <dx, x>``."""
        weights, largest, exact = tuple(asnumpy(part) for part in g), 0.0, True
        for a, b in ((weights, fx), (dx, (asnumpy(x),))):
            size = sum(float(abs(u * v).sum()) for u, v in zip(a, b, strict=True))
            step = min((_step(u) * _step(v) for u, v in zip(a, b, strict=True)), default=1.0)
            largest, exact = max(largest, size), exact and size < 2.0**53 * step
        left, right = inner(weights, fx), inner(dx, (asnumpy(x),))
        if left == right and exact:
            return
        if abs(left - right) <= _ROUNDING * largest and not exact:
            raise ValueError(self._rounds(f"{self.n}: <g, f(x)> has terms of size {largest:g}"))
        point, grads = {**self.point, self.n: x}, {self.n: dx[0]}
        lines = [
            f"{self.subject.name}: the vjp is not the adjoint in {self.n}",
            f"  <g, f(x) - f(0)>  {left:.17g}",
            f"  <vjp(g), x>       {right:.17g}",
            f"  worst element     {worst_element(self.subject.value, point, g, grads, 1.0)}",
        ]
        raise AssertionError("\n".join([*lines, shown(self.n, x), *(shown("g", part) for part in g)]))

    def _rounds(self, why: str) -> str:
        return (
            f"check_adjoint: {self.subject.name} is not exact in float64 in {why}; give the other arguments "
            "smaller integers, draw multiples of what it divides by with scale=, or allow rounding with "
            "exact=False"
        )


def _minus(a: Outputs, b: Outputs) -> Outputs:
    return tuple(x - y for x, y in zip(a, b, strict=True))


def _step(x: Array) -> float:
    """Return the largest power of two that divides every element, at most 1."""
    mantissa, exponent = np.frexp(x[x != 0])
    bits = (mantissa * 2.0**53).astype(np.int64)
    return float(np.ldexp(1.0, exponent - 53 + np.log2(bits & -bits).astype(int)).min(initial=1.0))


def _require(name: str, what: str, found: Outputs, expected: Outputs, values: Mapping[str, Array]) -> None:
    """Require equal numbers."""
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            raise AssertionError(f"{name}: {what}: shapes {a.shape} and {b.shape} differ")
        if not (a == b).all():
            at = tuple(int(i) for i in np.argwhere(a != b)[0])
            text = f"{name}: {what}: at {at}, {float(a[at]):.17g} and {float(b[at]):.17g}"
            raise AssertionError("\n".join([text, *(shown(m, x) for m, x in values.items())]))
