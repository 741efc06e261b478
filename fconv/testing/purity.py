"""Checks that a function leaves its arguments alone and gives the same bits twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from fconv import trees
from fconv.arrays import Array, asnumpy, is_array


def same_bits(a: Any, b: Any) -> bool:
    """Return whether two trees have the same structure and, leaf by leaf, the same bits."""
    if not trees.same_structure(a, b):
        return False
    return all(_same(x, y) for x, y in zip(trees.leaves(a), trees.leaves(b), strict=True))


def _same(x: Any, y: Any) -> bool:
    if not (is_array(x) and is_array(y)):
        return type(x) is type(y) and bool(x == y)
    x, y = asnumpy(x), asnumpy(y)
    return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()


def copied(tree: Any) -> Any:
    """Copy every array of a tree."""
    return trees.map(lambda x: x.copy() if is_array(x) else x, tree)


def call_purely(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function twice and give its result.

    Raises
    ------
    AssertionError
        An argument was changed, or the second call gave other bits than the first.
    """
    before, state = copied((args, kwargs)), _global_state()
    first = function(*args, **kwargs)
    if _global_state() != state:
        raise AssertionError(
            f"{name}: the call changes the state of a global random generator; draw from the key"
        )
    for what, now, then in [
        *((f"argument {i}", a, b) for i, (a, b) in enumerate(zip(args, before[0], strict=True))),
        *((f"argument {k!r}", a, before[1][k]) for k, a in kwargs.items()),
    ]:
        if not same_bits(now, then):
            raise AssertionError(f"{name}: {what} was changed by the call")
    if not same_bits(first, function(*args, **kwargs)):
        raise AssertionError(f"{name}: the same arguments gave different bits the second time")
    return first


def _global_state() -> tuple[Any, ...]:
    state: Any = np.random.get_state()  # noqa: NPY002
    return *(part.tobytes() if is_array(part) else part for part in state), random.getstate()


def check_like(name: str, what: str, result: Any, like: Array) -> None:
    """Require that a gradient has the shape and dtype of what it belongs to."""
    if not is_array(result):
        raise AssertionError(f"{name}: the gradient of {what} is no array: {result!r}")
    if result.shape != like.shape or result.dtype != like.dtype:
        raise AssertionError(
            f"{name}: the gradient of {what} has shape {result.shape} and dtype {result.dtype}; "
            f"expected {like.shape} and {like.dtype}"
        )


def attempt(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that raised nothing for the same numbers before: an exception is a failed check."""
    try:
        return function(*args)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


def shown(what: str, x: Array) -> str:
    """Write an array out for error messages, shortened where it is long."""
    text = np.array2string(asnumpy(x), threshold=20, edgeitems=3, precision=6, prefix="    ")
    return f"  {what}, shape {x.shape}:\n    {text}"


def check_close(
    name: str,
    what: str,
    a: Any,
    b: Any,
    tolerance: float,
    floor: float = 1e-30,
    values: Mapping[str, Array] = MappingProxyType({}),
) -> None:
    """Require that two arrays agree, relative to the larger one's largest element; NaN equals NaN.

    What is rounded to nothing from terms of size `floor` need not agree in its own digits. The
    message shows `values`.
    """
    a, b = asnumpy(a).astype(np.float64), asnumpy(b).astype(np.float64)
    if a.shape != b.shape:
        raise AssertionError(f"{name}: {what}: shapes {a.shape} and {b.shape} differ")
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(a) & np.isfinite(b)
        scale = max((float(abs(v[finite]).max(initial=0.0)) for v in (a, b)), default=0.0)
        off = np.where(finite, abs(a - b), 0.0)
        differs = np.where(
            finite, off > tolerance * max(scale, floor), ~((a == b) | (np.isnan(a) & np.isnan(b)))
        )
    if differs.any():
        index = tuple(int(i) for i in np.argwhere(differs)[0])
        text = f"{name}: {what}: at {index}, {a[index]:.9g} and {b[index]:.9g}"
        raise AssertionError("\n".join([text, *(shown(n, x) for n, x in values.items())]))
