"""Choosing between elements by a mask, which has no gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fconv.arrays import Array, asnumpy, is_array, xp_of
from fconv.functional import selecting
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.sums import broadcast_shape, sum_to
from fconv.options import number

__all__ = [
    "masked_fill", "masked_fill_jvp", "masked_fill_vjp",
    "where", "where_jvp", "where_vjp",
]  # fmt: skip


def _mask(name: str, what: str, value: Any) -> Array:
    found = asnumpy(value) if is_array(value) else np.asarray(value)
    if found.dtype != np.bool_:
        raise TypeError(f"{name}: expected {what} to be boolean, got {found.dtype}")
    return found


@differentiable("x", widens=False, symmetric=True)
def masked_fill(x: Array, mask: Any, value: float) -> Definition:
    """Put a number in the place of the elements that a mask marks, as torch.masked_fill.

    Parameters
    ----------
    x : array
        Floating-point.
    mask : array of bool, or a nested sequence
        Broadcasts to the shape of `x`; True where an element is replaced.
    value : float
        The number.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        A mask that is not boolean or does not broadcast, or an `x` that is not floating-point.

    Examples
    --------
    >>> masked_fill(np.array([1.0, 2.0]), [True, False], -1.0)
    array([-1.,  2.])
    """
    marked, fill = _mask("masked_fill", "mask", mask), number("masked_fill", "value", value)
    if broadcast_shape("masked_fill", [x.shape, marked.shape]) != x.shape:
        raise ValueError(
            f"masked_fill: expected a mask that broadcasts to the input's shape {x.shape}, got {marked.shape}"
        )
    xp = xp_of(x)
    at = once(lambda: xp.asarray(marked))
    return (
        x.shape,
        once(lambda: selecting.where(at(), fill, x)),
        lambda g: selecting.where(at(), 0.0, g),
    )


@differentiable("input", "other", widens=False)
def where(condition: Any, input: Array, other: Array) -> Definition:
    """Return the elements of `input` where a condition is true and of `other` elsewhere, as torch.where.

    Parameters
    ----------
    condition : array of bool, or a nested sequence
        All three are stretched to one shape.
    input, other : array
        Floating-point, of one dtype.

    Returns
    -------
    array
        In the dtype of `input`.

    Raises
    ------
    ValueError, TypeError
        Shapes that do not fit each other, a condition that is not boolean, arrays that are not
        floating-point or not of one dtype.

    Examples
    --------
    >>> where([True, False], np.array([1.0, 2.0]), np.array([3.0]))
    array([1., 3.])
    """
    chosen = _mask("where", "condition", condition)
    if input.dtype != other.dtype:
        raise TypeError(f"where: input is {input.dtype} but other is {other.dtype}; give them one dtype")
    shape = broadcast_shape("where", [chosen.shape, input.shape, other.shape])
    xp = xp_of(input)
    at = once(lambda: xp.asarray(chosen))

    def pullback(g: Array) -> Thunks:
        return {
            "input": lambda: sum_to(selecting.where(at(), g, 0.0), input.shape),
            "other": lambda: sum_to(selecting.where(at(), 0.0, g), other.shape),
        }

    push: dict[str, Callable[[Array], Array]] = {
        "input": lambda t: selecting.where(at(), t, 0.0),
        "other": lambda t: selecting.where(at(), 0.0, t),
    }
    return shape, once(lambda: selecting.where(at(), input, other)), pullback, push


masked_fill_jvp, masked_fill_vjp = masked_fill.jvp, masked_fill.vjp
where_jvp, where_vjp = where.jvp, where.vjp
