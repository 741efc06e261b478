"""Sums of float16 are made in float32, as PyTorch makes them: float16 itself ends at 65504."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.functional.core import Definition, once


def in_single(define: Callable[..., Definition], *arrays: Array | None) -> Definition:
    """Let a definition compute float16 in float32, and round its results once.

    Parameters
    ----------
    define : callable
        The definition, a function of the arrays.
    *arrays : array or None
        Its arrays; those that are not float16 are passed on.

    Returns
    -------
    Definition
        ``define(*arrays)`` itself where none is float16.
    """
    if not any(_is_half(a) for a in arrays):
        return define(*arrays)
    shape, value, pullback = define(
        *(a.astype(np.float32) if a is not None and _is_half(a) else a for a in arrays)
    )

    def pull(g: Array) -> Any:
        grads = pullback(g.astype(np.float32))
        if not isinstance(grads, dict):
            return _rounded(grads)
        return {name: (lambda thunk=thunk: _rounded(thunk())) for name, thunk in grads.items()}

    return shape, once(lambda: _rounded(value())), pull


def _is_half(x: Array | None) -> bool:
    return x is not None and x.dtype == np.float16


def _rounded(x: Any) -> Any:
    with np.errstate(over="ignore"):  # what is too large for float16 becomes infinite
        return None if x is None else x.astype(np.float16)
