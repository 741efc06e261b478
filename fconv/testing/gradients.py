"""Checks of a gradient beyond one point in float64: other memory, other calls before, other dtypes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fconv import random
from fconv.arrays import Array, xp_of
from fconv.testing.differences import Outputs, Point, Subject, compare, directions_like, elsewhere
from fconv.testing.layouts import LAYOUTS, laid_out, read_only
from fconv.testing.purity import attempt, check_close, check_like, copied, same_bits

_SCALES = (-(2.0**30), 2.0**-30)


def check_gradient(
    subject: Subject, point: Point, dtypes: Sequence[Any], *, key: Array, directions: int, rtol: float
) -> Point:
    """Check a gradient against differences, and that it depends on its arguments alone.

    It is differentiated at `point`, in float64, along as many random directions as `directions` says, drawn
    from `key`; in each narrower one of `dtypes` it must be about the same. Return a point where the function
    is smooth.
    """
    first, second, third = random.split(key, 3)
    here, g = compare(subject, point, key=first, directions=directions, rtol=rtol)
    check_variants(subject, here, g, dtypes, key=second)
    there = elsewhere(here, third)
    with np.errstate(all="ignore"):  # there the function need not be defined
        finite = all(bool(np.isfinite(float(y.sum()))) for y in subject.value(there))
    if finite:

        def between() -> None:
            subject.value(here)
            subject.gradient(here, g)

        later = replace(subject, name=f"{subject.name}, called with other arguments before")
        compare(later, there, key=third, directions=1, rtol=rtol, between=between, required=False)
    return here


def check_variants(subject: Subject, here: Point, g: Outputs, dtypes: Sequence[Any], *, key: Array) -> None:
    """Check that value and gradient follow from the numbers in the arrays, and from nothing else."""
    with np.errstate(all="ignore"):
        results = subject.value(here), subject.gradient(here, g)
        _check_calls(subject, here, g, results, key)
        _check_memory(subject, here, g, *results)
        _check_scale(subject, here, g, results[1])
        for dtype in dtypes:
            _check_dtype(subject, here, dtype, key)


def _check_memory(
    subject: Subject, here: Point, g: Outputs, y: Outputs, grads: Mapping[str, Array | None]
) -> None:
    """Check other memory layouts of the arguments and of g."""
    for layout, of_g in zip(LAYOUTS[1:], (*LAYOUTS[2:], LAYOUTS[1]), strict=True):
        others = {n: read_only(laid_out(x, layout)) for n, x in here.items()}
        weights = tuple(read_only(laid_out(x, of_g)) for x in g)
        what = f"in another memory layout ({layout}, read-only)"
        _agree(subject, f"the value {what}", here, g, partial(subject.value, others), y)
        what = f"the gradient in another memory layout (arguments {layout}, g {of_g}, read-only)"
        _agree(subject, what, here, g, partial(subject.gradient, others, weights), grads)
    for what, axes in (("element", None), ("sample", 1)):
        broad = tuple(_broadcast(x, x.ndim if axes is None else min(axes, x.ndim)) for x in g)
        full = tuple(x.copy() for x in broad)
        expected = subject.gradient(here, full)
        what = f"the gradient for a g that broadcasts one {what}"
        _agree(subject, what, here, full, partial(subject.gradient, here, broad), expected)


def _broadcast(x: Array, axes: int) -> Array:
    """Repeat what comes first along the first axes, in memory of that part alone."""
    return xp_of(x).broadcast_to(x[(slice(0, 1),) * axes], x.shape)


def _check_scale(subject: Subject, here: Point, g: Outputs, grads: Mapping[str, Array | None]) -> None:
    """Check that the gradient is proportional to g."""
    for scale in _SCALES:
        large = tuple(xp_of(x).asarray(scale * x) for x in g)
        grads_of_large = attempt(f"{subject.name}: the gradient", subject.gradient, here, large)
        found = {n: None if grad is None else grad / scale for n, grad in grads_of_large.items()}
        what = f"the gradient for {scale:g} g, divided by {scale:g}, and for g"
        _close(subject, what, here, large, found, grads, 1e-11, 1.0)


def _check_calls(subject: Subject, here: Point, g: Outputs, results: Any, key: Array) -> None:
    """Check that no call changes what another one gives."""
    first, second = random.split(key)
    there = elsewhere(here, first)
    turned = directions_like(second, g)
    before = copied(results)
    y, grads = subject.value(there), subject.gradient(there, turned)
    if not same_bits(results, before):
        raise AssertionError(f"{subject.name}: the result of one call was changed by the next call")
    _agree(subject, "the value after other calls", here, g, partial(subject.value, here), before[0])
    _agree(subject, "the gradient after other calls", here, g, partial(subject.gradient, here, g), before[1])
    # The same arrays with other contents: who tells arrays by their identity takes them for the old ones.
    arrays, weights = {n: x.copy() for n, x in here.items()}, tuple(x.copy() for x in g)
    subject.value(arrays)
    subject.gradient(arrays, weights)
    for old, new in (*((arrays[n], there[n]) for n in arrays), *zip(weights, turned, strict=True)):
        old[...] = new
    what = "for the same arrays, written over in place"
    _agree(subject, f"the value {what}", there, turned, partial(subject.value, arrays), y)
    _agree(subject, f"the gradient {what}", there, turned, partial(subject.gradient, arrays, weights), grads)


def _check_dtype(subject: Subject, here: Point, dtype: Any, key: Array) -> None:
    """Check the gradient in a narrower dtype: its own dtypes, and about the values of float64.

    Rounding may put one element on the other side of a kink, and an eps of the dtype's own may weigh in a
    point close to 0. They do so at one point, not at all.
    """
    tolerance = 5 * float(np.finfo(dtype).eps) ** 0.5
    for shift in range(3):
        point = elsewhere(here, key, shift) if shift else here
        sizes = {n: _largest([x]) if shift == 2 else 1.0 for n, x in point.items()}
        narrow = {n: (x / sizes[n] if 0 < sizes[n] < 0.1 else x).astype(dtype) for n, x in point.items()}
        wide = {n: x.astype(np.float64) for n, x in narrow.items()}
        y = attempt(f"{subject.name}: in {dtype}, the value", subject.value, narrow)
        for part in y:
            if subject.keeps_dtype and part.dtype != dtype:
                raise AssertionError(f"{subject.name}: an input of {dtype} gave an output of {part.dtype}")
        g = tuple(x.astype(part.dtype) for x, part in zip(directions_like(key, y), y, strict=True))
        grads = attempt(f"{subject.name}: in {dtype}, the gradient", subject.gradient, narrow, g)
        for n, grad in grads.items():
            if grad is not None:
                check_like(f"{subject.name}, in {dtype}", n, grad, narrow[n])
        wide_g = tuple(x.astype(np.float64) for x in g)
        exact, exact_grads = subject.value(wide), subject.gradient(wide, wide_g)
        # What rounding leaves of a gradient that vanishes has the size of the outputs over the arguments.
        size = max(1.0, _largest(wide.values()))
        try:
            _close(subject, f"the value in {dtype} and in float64", narrow, g, y, exact, tolerance, 1e-30)
            floor = 0.1 * _largest([*exact_grads.values(), *(1.5 * part / size for part in exact)])
            what = f"the gradient in {dtype} and in float64"
            _close(subject, what, narrow, g, grads, exact_grads, tolerance, floor)
        except AssertionError:
            if shift == 2:
                raise
        else:
            return


def _agree(
    subject: Subject, what: str, point: Point, g: Outputs, compute: Callable[[], Any], expected: Any
) -> None:
    found = attempt(f"{subject.name}: {what}", compute)
    _close(subject, f"{what}, and as it was", point, g, found, expected, 1e-11, 1.0)


def _close(
    subject: Subject,
    what: str,
    point: Point,
    g: Outputs,
    found: Any,
    expected: Any,
    tolerance: float,
    floor: float,
) -> None:
    """Require that values, or gradients by name, agree."""
    values = {**point, **{f"g[{i}]" if len(g) > 1 else "g": x for i, x in enumerate(g)}}
    if not isinstance(found, Mapping):
        found, expected = (dict(enumerate(each)) for each in (found, expected))
    for n, mine in found.items():
        of = what if isinstance(n, int) else what.replace("the gradient", f"the gradient of {n}", 1)
        theirs = expected[n]
        if (mine is None) != (theirs is None):
            raise AssertionError(f"{subject.name}: {of}: one of the two is None")
        if mine is not None:
            check_close(subject.name, of, mine, theirs, tolerance, floor, values)


def _largest(xs: Iterable[Array | None]) -> float:
    """Return the largest finite absolute value."""
    sizes = [float(abs(x).max()) for x in xs if x is not None and x.size]
    return max((size for size in sizes if np.isfinite(size)), default=0.0)
