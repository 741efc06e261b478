"""Let functions of batches take a single sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fconv.arrays import Array
from fconv.functional.core import Definition, once


def for_sample(x: Array, batched_ndim: int, define: Callable[[Array], Definition]) -> Definition:
    """Let a definition for batches serve a single sample too, as PyTorch's functions do.

    Where `x` has an axis less than a batch, a batch axis is added to it and taken from the results. In the
    pullback's dict, only the gradient of ``x`` has a batch axis; the push, if there is one, is a function.

    Examples
    --------
    >>> import numpy as np
    >>> double = lambda x: (x.shape, lambda: 2 * x, lambda g: 2 * g)
    >>> shape, value, pullback = for_sample(np.ones(3), 2, double)
    >>> shape, value(), pullback(np.ones(3))
    ((3,), array([2., 2., 2.]), array([2., 2., 2.]))
    """
    if x.ndim != batched_ndim - 1:
        return define(x)
    shape, value, pullback, *pushes = define(x[None])

    def lone_value() -> Any:
        y = value()
        return tuple(part[0] for part in y) if isinstance(y, tuple) else y[0]

    def lone_pullback(g: Array) -> Any:
        grads = pullback(g[None])
        return {**grads, "x": lambda: grads["x"]()[0]} if isinstance(grads, dict) else grads[0]

    if not pushes:
        return shape[1:], once(lone_value), lone_pullback
    push: Any = pushes[0]

    def lone_push(t: Any) -> Array:
        if isinstance(t, dict):
            return push({a: v[None] if a == "x" else v for a, v in t.items()})[0]
        return push(t[None])[0]

    return shape[1:], once(lone_value), lone_pullback, lone_push
