"""Formulas of each element of arrays in one compiled pass, where kernels can be compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fconv.arrays import Array, Shape, from_order, memory_order
from fconv.engine import compiled
from fconv.engine.memory import empty, empty_like

if TYPE_CHECKING:
    from fconv.engine.compiled.formulas import Formula

_LEAST = 1 << 16  # elements; below, NumPy's passes cost no more than a launch


def formulas_serve(*arrays: Array) -> bool:
    """Return whether kernels are compiled for arrays: NumPy's, all of float32 or all of float64."""
    dtype = arrays[0].dtype
    if dtype.char not in "fd" or not dtype.isnative:
        return False
    for x in arrays:
        if type(x) is not np.ndarray or x.dtype != dtype:
            return False
    return compiled.wished() and compiled.problem() is None


def traced(function: Callable[..., Any], count: int, dtype: np.dtype[Any]) -> Formula | None:
    """Trace a function of `count` values; None where it asks for what kernels do not have."""
    from fconv.engine.compiled.formulas import Formula
    from fconv.engine.compiled.tracing import UntraceableError

    try:
        return Formula(function, count, dtype)
    except UntraceableError:
        return None


def in_one_pass(function: Callable[..., Any], *arrays: Array) -> Any:
    """Return ``function(*arrays)``, the same bits, compiled where that gains.

    The function is one of arrays, by operators, and stays, such as ``operator.add``: it is traced once.

    Examples
    --------
    >>> import operator
    >>> in_one_pass(operator.add, np.ones(2), np.ones(2))
    array([2., 2.])
    """
    x = arrays[0]
    alike = x.size >= _LEAST and all(y.shape == x.shape and y.strides == x.strides for y in arrays)
    if alike and formulas_serve(*arrays):
        formula = _kept(function, len(arrays), x.dtype)
        if formula is not None:
            return apply_formula(formula, *arrays)
    return function(*arrays)


def over_the_first(function: Callable[..., Any], *arrays: Array) -> bool:
    """Compute what `in_one_pass` does in the memory of the first array, where it is compiled.

    Return False where nothing was computed: on a GPU, for arrays of other shapes or with gaps, and for
    functions that kernels do not have.
    """
    y = arrays[0]
    order = memory_order(y) if isinstance(y, np.ndarray) else ()
    dense = isinstance(y, np.ndarray) and y.flags.writeable and y.transpose(order).flags.c_contiguous
    if not dense or not formulas_serve(*arrays) or any(x.shape != y.shape for x in arrays):
        return False
    formula = _kept(function, len(arrays), y.dtype)
    if formula is None or formula.many:
        return False
    flat = [in_line(x, order) for x in arrays]
    if not np.may_share_memory(flat[0], y):  # an unaligned array was copied
        return False
    formula.run(flat, flat[:1])
    return True


@lru_cache(maxsize=256)
def _kept(function: Callable[..., Any], count: int, dtype: np.dtype[Any]) -> Formula | None:
    return traced(function, count, dtype)


def apply_formula(formula: Formula, *arrays: Array) -> Any:
    """Compute a formula of arrays of one shape; results are contiguous in the memory order of the last.

    The formula is for their dtype; arrays that lie otherwise are copied.
    """
    y = empty_like(arrays[0])
    strides = y.strides
    for x in arrays:
        if x.strides != strides or not x.flags.aligned:
            break
    else:  # without gaps, as y is
        if not formula.many:
            formula.run(arrays, (y,))
            return y
        results = [y, *[empty_like(y) for _ in range(formula.outputs - 1)]]
        formula.run(arrays, results)
        return tuple(results)
    order = memory_order(arrays[-1])
    laid = [arrays[0].shape[axis] for axis in order]
    flat = [in_line(x, order) for x in arrays]
    found = [empty((flat[0].size,), x.dtype) for x in arrays[:1] * formula.outputs]
    formula.run(flat, found)
    shaped = tuple(from_order(y.reshape(laid), order) for y in found)
    return shaped if formula.many else shaped[0]


def in_line(x: Array, order: Shape) -> Array:
    """Return the elements of an array in a memory order, one behind the other: a view where they lie so."""
    flat = x.transpose(order).reshape(-1)
    return flat if flat.flags.aligned and flat.flags.c_contiguous else flat.copy()
