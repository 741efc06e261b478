"""Loss of triplets: distances to a similar and to a dissimilar point."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from fconv.arrays import Array, xp_of
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.loss_reduction import (
    Reduction,
    check_reduction,
    check_same_shape,
    hinge,
    hinge_slope,
    reduced,
)
from fconv.functional.sums import accurate_sum, quietly
from fconv.options import number

__all__ = ["triplet_margin_loss", "triplet_margin_loss_jvp", "triplet_margin_loss_vjp"]


@differentiable("anchor", "positive", "negative")
def triplet_margin_loss(
    anchor: Array,
    positive: Array,
    negative: Array,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Definition:
    """Triplet loss: what the negative's greater distance from the anchor lacks of a margin.

    ``max(d(anchor, positive) - d(anchor, negative) + margin, 0)`` with distances of the p-norm
    along the last axis, ``d(u, v) = ||u - v + eps||``.

    Parameters
    ----------
    anchor, positive, negative : array, shape (N, D), (D,) or any with a last axis
        Points, of one shape and dtype.
    margin : float
        By how much the negative should be farther from the anchor than the positive; above 0.
    p : float
        The norm, 0 or more, or infinity.
    eps : float
        Added to every difference.
    swap : bool
        Take the negative's distance from the positive where that is the smaller one.
    reduction : {"mean", "sum", "none"}
        As for `mse_loss`.

    Returns
    -------
    array
        0-dimensional, or without the last axis for "none".

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes that differ, or an option that does not fit.

    References
    ----------
    Balntas et al., "Learning local feature descriptors with triplets and shallow convolutional
    neural networks", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> a, p, n = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([[2.0, 0.0]])
    >>> round(float(triplet_margin_loss(a, p, n)), 3)
    4.0
    """
    name = "triplet_margin_loss"
    if anchor.ndim == 0:
        raise ValueError(f"{name}: expected an anchor of shape (..., D), got shape ()")
    check_same_shape(name, anchor, positive=positive, negative=negative)
    check_reduction(name, reduction)
    margin = number(name, "margin", margin, 0, above=True)
    p, eps = number(name, "p", p, 0), number(name, "eps", eps)
    xp = xp_of(anchor)
    near = _Distance(anchor, positive, p, eps)
    far, other = _Distance(anchor, negative, p, eps), _Distance(positive, negative, p, eps)
    farther = once(lambda: xp.minimum(far.value(), other.value()) if swap else far.value())
    z = once(lambda: margin + near.value() - farther())

    @once
    def share() -> Array:
        # Where both distances are the smaller one, each has half of the gradient.
        return 0.5 * (1 + xp.sign(other.value() - far.value()))

    def of_farther(t: Array, from_positive: bool) -> Array:
        """Return the tangent of the farther distance along that of a point it ends at, but for its sign."""
        if not swap:
            return far.push(t)
        return (1 - share()) * other.push(t) if from_positive else share() * far.push(t)

    def pullback(each: Array) -> Thunks:
        along = once(lambda: each * hinge_slope(z()))
        of_near = once(lambda: near.gradient(along()))
        of_far = once(lambda: far.gradient(-along() * share() if swap else -along()))
        of_other = once(lambda: other.gradient(-along() * (1 - share())))
        return {
            "anchor": lambda: of_near() + of_far(),
            "positive": lambda: of_other() - of_near() if swap else -of_near(),
            "negative": lambda: -of_far() - of_other() if swap else -of_far(),
        }

    def of_positive(t: Array) -> Array:
        return -near.push(t) - (of_farther(t, True) if swap else 0)

    def of_negative(t: Array) -> Array:
        return of_farther(t, False) + (of_farther(t, True) if swap else 0)

    push: dict[str, Callable[[Array], Array]] = {
        "anchor": lambda t: hinge_slope(z()) * (near.push(t) - of_farther(t, False)),
        "positive": lambda t: hinge_slope(z()) * of_positive(t),
        "negative": lambda t: hinge_slope(z()) * of_negative(t),
    }
    return reduced(lambda: hinge(z()), anchor.shape[:-1], reduction, pullback, push)


class _Distance:
    """The p-norm of ``u - v + eps`` along the last axis, and its gradient by u."""

    def __init__(self, u: Array, v: Array, p: float, eps: float) -> None:
        self._p = p
        self._xp = xp_of(u)
        self._difference = once(lambda: u - v + eps)
        self._sizes = once(lambda: self._xp.abs(self._difference()))
        self.value = once(lambda: quietly(self._norm))

    def _norm(self) -> Array:
        sizes, p = self._sizes(), self._p
        if p == 0:
            return accurate_sum((sizes != 0).astype(sizes.dtype), -1)
        if p == inf:
            return sizes.max(axis=-1) if sizes.shape[-1] else accurate_sum(sizes, -1)
        if p == 1:
            return accurate_sum(sizes, -1)
        if p == 2:
            return self._xp.sqrt(accurate_sum(sizes * sizes, -1))
        return accurate_sum(sizes**p, -1) ** (1 / p)

    def gradient(self, each: Array) -> Array:
        """Return the gradient of u for that of the norm; 0 where the norm has none."""
        return quietly(lambda: each[..., None] * self._slope())

    def push(self, t: Array) -> Array:
        """Return the tangent of the norm for that of u."""
        return quietly(lambda: accurate_sum(self._slope() * t, -1))

    def _slope(self) -> Array:
        xp, p = self._xp, self._p
        difference, sizes, norm = self._difference(), self._sizes(), self.value()[..., None]
        zero = xp.zeros((), difference.dtype)
        if p == 0:
            return xp.zeros_like(difference)
        if p == inf:
            largest = sizes == norm
            return xp.sign(difference) * largest / largest.sum(axis=-1, keepdims=True).astype(sizes.dtype)
        if p == 1:
            return xp.sign(difference)
        if p == 2:
            return xp.where(norm == 0, zero, difference / norm)
        slope = xp.sign(difference) * (sizes / norm) ** (p - 1)
        return xp.where((norm == 0) | (sizes == 0), zero, slope)


triplet_margin_loss_jvp, triplet_margin_loss_vjp = triplet_margin_loss.jvp, triplet_margin_loss.vjp
