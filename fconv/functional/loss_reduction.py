"""The one rule by which losses are reduced, and the checks that losses share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np

from fconv.arrays import Array, Shape, narrowed, xp_of
from fconv.functional.core import Pushed, Thunks, once
from fconv.functional.sums import quietly, quotient

Reduction: TypeAlias = Literal["mean", "sum", "none"]
BatchReduction: TypeAlias = Literal["mean", "batchmean", "sum", "none"]

TINY = float(np.float32(1e-12))
"""1e-12 in float32, with which PyTorch keeps some denominators from being 0."""


def check_reduction(name: str, reduction: str, batch: bool = False) -> None:
    """Require one of PyTorch's three reductions, or "batchmean" where there is a fourth."""
    known = ("mean", "batchmean", "sum", "none") if batch else ("mean", "sum", "none")
    if reduction not in known:
        names = ", ".join(f'"{each}"' for each in known[:-1])
        raise ValueError(f'{name}: expected reduction {names} or "none", got {reduction!r}')


def reduced_shape(shape: Shape, reduction: BatchReduction) -> Shape:
    """Return the shape of a loss of elements of `shape`."""
    return shape if reduction == "none" else ()


def reduced(
    losses: Callable[[], Array],
    shape: Shape,
    reduction: BatchReduction,
    pullback: Callable[[Array], Thunks],
    push: dict[str, Callable[[Array], Array]],
    total: Callable[[], Array | float] | None = None,
) -> Pushed:
    """Define a loss by the losses of its elements: the one rule of reduction that all losses share.

    Parameters
    ----------
    losses : callable
        Gives one loss an element, in `shape`.
    pullback : callable
        That of the unreduced losses. It takes their gradient, which is 0-dimensional where it
        is the same for all elements.
    push : dict
        For each array the derivative of the unreduced losses along its tangent, which broadcasts to `shape`.
    total : callable, optional
        Gives what the mean divides by; the number of elements by default. The mean of nothing
        is NaN, as in PyTorch.
    """

    # A mean over nothing depends on nothing, though its value is NaN.
    @once
    def divisor() -> Array | float:
        if reduction == "batchmean":
            return shape[0] if shape else 1
        return prod(shape) if total is None else total()

    def joined(losses: Callable[[], Array]) -> Array:
        each = quietly(losses)
        if reduction == "none":
            return each
        summed: Any = np.add.reduce if type(each) is np.ndarray else xp_of(each).sum
        summed = summed(each, axis=None, dtype=np.float64)
        return narrowed(summed if reduction == "sum" else quotient(summed, divisor()), each.dtype)

    def along(of: Callable[[Array], Array], t: Array) -> Array:
        xp = xp_of(t)
        dy = joined(lambda: xp.broadcast_to(of(t), shape))
        if reduction in ("sum", "none"):
            return dy
        return xp.where(xp.asarray(divisor() == 0), xp.zeros((), dy.dtype), dy)

    def spread(g: Array) -> Array:
        if reduction in ("sum", "none"):
            return g
        count = divisor()
        if type(count) is int and count:
            return quotient(g, count)
        xp = xp_of(g)
        return xp.where(xp.asarray(count == 0), xp.zeros((), g.dtype), quotient(g, count))

    return (
        reduced_shape(shape, reduction),
        once(lambda: joined(losses)),
        lambda g: pullback(spread(g)),
        {name: functools.partial(along, of) for name, of in push.items()},
    )


def per_element(
    losses: Callable[[], Array], shape: Shape, reduction: BatchReduction, **slopes: Callable[[], Array]
) -> Pushed:
    """Define a loss whose every element depends on the same element of its arrays alone.

    `slopes` give the derivative of each element's loss by each array, in the array's shape.
    """

    def pullback(each: Array) -> Thunks:
        def pull(slope: Callable[[], Array]) -> Callable[[], Array]:
            return lambda: quietly(lambda: each * slope())

        return {name: pull(slope) for name, slope in slopes.items()}

    def by(slope: Callable[[], Array]) -> Callable[[Array], Array]:
        return lambda t: slope() * t

    return reduced(losses, shape, reduction, pullback, {name: by(slope) for name, slope in slopes.items()})


def hinge(z: Array) -> Array:
    """Return ``max(z, 0)``."""
    return xp_of(z).maximum(z, 0)


def hinge_slope(z: Array) -> Array:
    """Return the derivative of `hinge`, 1 at the kink as PyTorch's clamp has it."""
    xp = xp_of(z)
    return xp.where(z < 0, xp.zeros((), z.dtype), xp.ones((), z.dtype))


def check_same_shape(name: str, x: Array, **others: Array) -> None:
    """Require that all arrays have one shape: losses do not broadcast."""
    for what, other in others.items():
        if x.shape != other.shape:
            raise ValueError(
                f"{name}: expected {'an' if what[0] == 'x' else 'a'} {what} of the input's shape {x.shape}, "
                f"got {other.shape}"
            )


def check_target(name: str, target: Array) -> None:
    """Require a target of real numbers, which need not be of the input's dtype."""
    if target.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected a target of real numbers, got {target.dtype}")


def check_weight(name: str, what: str, x: Array, weight: Array | None) -> None:
    """Require a weight in the input's dtype that broadcasts to the input's shape."""
    if weight is None:
        return
    if weight.dtype != x.dtype:
        raise TypeError(f"{name}: x is {x.dtype} but {what} is {weight.dtype}; give them one dtype")
    fits = weight.ndim <= x.ndim and all(
        w in (1, n) for w, n in zip(reversed(weight.shape), reversed(x.shape), strict=False)
    )
    if not fits:
        raise ValueError(
            f"{name}: expected a {what} that broadcasts to the input's shape {x.shape}, got {weight.shape}"
        )
