"""Losses of likeness: labels of 1 and -1, pairs, and triplets."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from fconv.arrays import Array, xp_of
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.reduction import (
    TINY,
    Reduction,
    accurate_sum,
    check_reduction,
    check_same_shape,
    check_target,
    entrywise,
    hinge,
    hinge_slope,
    quietly,
    reduced,
)
from fconv.functional.smooth import sigmoid
from fconv.options import number

__all__ = [
    "cosine_embedding_loss", "cosine_embedding_loss_jvp", "cosine_embedding_loss_vjp",
    "hinge_embedding_loss", "hinge_embedding_loss_jvp", "hinge_embedding_loss_vjp",
    "margin_ranking_loss", "margin_ranking_loss_jvp", "margin_ranking_loss_vjp",
    "soft_margin_loss", "soft_margin_loss_jvp", "soft_margin_loss_vjp",
    "triplet_margin_loss", "triplet_margin_loss_jvp", "triplet_margin_loss_vjp",
]  # fmt: skip


@differentiable("x", "target", constants=("target",))
def hinge_embedding_loss(
    x: Array, target: Array, margin: float = 1.0, reduction: Reduction = "mean"
) -> Definition:
    """Distances of like pairs, and what those of unlike pairs lack of a margin.

    ``x`` where the target is 1, ``max(margin - x, 0)`` where it is -1 (and their sum elsewhere,
    as in PyTorch).

    Parameters
    ----------
    x : array
        Distances, floating-point.
    target : array, in the shape of `x`
        1 and -1, of any real dtype.
    margin : float
        Distance at which unlike pairs cost nothing.
    reduction : {"mean", "sum", "none"}
        As for `mse_loss`.

    Returns
    -------
    array
        0-dimensional, or in the shape of `x` for "none".

    Raises
    ------
    ValueError, TypeError
        Shapes that differ, or an option that does not fit.

    References
    ----------
    Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an invariant mapping", 2006.

    Examples
    --------
    >>> import numpy as np
    >>> hinge_embedding_loss(np.array([0.5, 0.25]), np.array([1, -1]), reduction="none")
    array([0.5 , 0.75])
    """
    name = "hinge_embedding_loss"
    check_target(name, target)
    check_same_shape(name, x, target=target)
    check_reduction(name, reduction)
    margin = number(name, "margin", margin)
    xp = xp_of(x)
    zero = xp.zeros((), x.dtype)
    short = once(lambda: margin - x)
    return entrywise(
        lambda: xp.where(target != -1, x, zero) + xp.where(target != 1, hinge(short()), zero),
        x.shape,
        reduction,
        x=lambda: (target != -1).astype(x.dtype) - xp.where(target != 1, hinge_slope(short()), zero),
    )


@differentiable("x1", "x2", "target", constants=("target",))
def margin_ranking_loss(
    x1: Array, x2: Array, target: Array, margin: float = 0.0, reduction: Reduction = "mean"
) -> Definition:
    """Ranking loss: what the order of two scores lacks of a margin.

    ``max(margin - target (x1 - x2), 0)``.

    Parameters
    ----------
    x1, x2 : array
        Scores (PyTorch's input1 and input2), of one shape and dtype.
    target : array, in their shape
        1 where x1 should be the higher, -1 where x2 should; of any real dtype.
    margin : float
        By how much.
    reduction : {"mean", "sum", "none"}
        As for `mse_loss`.

    Returns
    -------
    array
        0-dimensional, or in the shape of `x1` for "none".

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes that differ, or an option that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> margin_ranking_loss(np.array([1.0, 2.0]), np.array([3.0, 1.0]), np.array([1, 1]), reduction="none")
    array([2., 0.])
    """
    name = "margin_ranking_loss"
    check_target(name, target)
    check_same_shape(name, x1, x2=x2, target=target)
    check_reduction(name, reduction)
    margin = number(name, "margin", margin)
    sign = once(lambda: target.astype(x1.dtype))
    z = once(lambda: margin - sign() * (x1 - x2))

    of_x2 = once(lambda: sign() * hinge_slope(z()))
    return entrywise(lambda: hinge(z()), x1.shape, reduction, x1=lambda: -of_x2(), x2=of_x2)


@differentiable("x", "target", constants=("target",))
def soft_margin_loss(x: Array, target: Array, reduction: Reduction = "mean") -> Definition:
    """Logistic loss of labels 1 and -1, ``log(1 + exp(-target x))``, without overflow at any `x`.

    Parameters
    ----------
    x : array
        Scores, floating-point.
    target : array, in the shape of `x`
        1 and -1, of any real dtype.
    reduction : {"mean", "sum", "none"}
        As for `mse_loss`.

    Returns
    -------
    array
        0-dimensional, or in the shape of `x` for "none".

    Raises
    ------
    ValueError, TypeError
        Shapes that differ, or an unknown reduction.

    Examples
    --------
    >>> import numpy as np
    >>> soft_margin_loss(np.array([1e4, 1e4]), np.array([1, -1]), "none")
    array([    0., 10000.])
    """
    check_target("soft_margin_loss", target)
    check_same_shape("soft_margin_loss", x, target=target)
    check_reduction("soft_margin_loss", reduction)
    sign = once(lambda: target.astype(x.dtype))
    z = once(lambda: -sign() * x)
    return entrywise(lambda: xp_of(x).logaddexp(z(), 0), x.shape, reduction, x=lambda: -sign() * sigmoid(z()))


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


@differentiable("x1", "x2", "target", constants=("target",))
def cosine_embedding_loss(
    x1: Array, x2: Array, target: Array, margin: float = 0.0, reduction: Reduction = "mean"
) -> Definition:
    """One less the cosine of like vectors, and what that of unlike ones has above a margin.

    ``1 - cos(x1, x2)`` where the target is 1, ``max(cos(x1, x2) - margin, 0)`` where it is -1,
    and 0 elsewhere.

    Parameters
    ----------
    x1, x2 : array, shape (N, D) or (D,)
        Vectors (PyTorch's input1 and input2), of one shape and dtype.
    target : array, shape (N,) or ()
        1 and -1, of any real dtype.
    margin : float
        Cosine, -1 to 1, at which unlike vectors cost nothing.
    reduction : {"mean", "sum", "none"}
        As for `mse_loss`.

    Returns
    -------
    array
        0-dimensional, or in the shape of `target` for "none".

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes that differ, or an option that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> x1, x2 = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 2.0], [2.0, 0.0]])
    >>> cosine_embedding_loss(x1, x2, np.array([1, -1]), reduction="none")
    array([1., 1.])
    """
    name = "cosine_embedding_loss"
    check_target(name, target)
    if x1.ndim not in (1, 2):
        raise ValueError(f"{name}: expected an x1 of shape (N, D) or (D,), got {x1.shape}")
    check_same_shape(name, x1, x2=x2)
    if target.shape != x1.shape[:-1]:
        raise ValueError(f"{name}: expected a target of shape {x1.shape[:-1]}, got {target.shape}")
    check_reduction(name, reduction)
    margin = number(name, "margin", margin)
    xp = xp_of(x1)
    zero = xp.zeros((), x1.dtype)

    def length(x: Array) -> once[Array]:
        return once(lambda: xp.sqrt(accurate_sum(x * x, -1) + TINY)[..., None])

    length1, length2 = length(x1), length(x2)
    cosine = once(lambda: accurate_sum((x1 / length1()) * (x2 / length2()), -1))

    def losses() -> Array:
        unlike = xp.where(target == -1, hinge(cosine() - margin), zero)
        return xp.where(target == 1, 1 - cosine(), unlike)

    @once
    def of_cosine() -> Array:
        unlike = xp.where(target == -1, hinge_slope(cosine() - margin), zero)
        return xp.where(target == 1, -xp.ones((), x1.dtype), unlike)

    def slope(mine: Array, my_length: Array, other: Array, other_length: Array) -> Array:
        away = other / other_length - cosine()[..., None] * (mine / my_length)
        return of_cosine()[..., None] * away / my_length

    slopes = {
        "x1": once(lambda: slope(x1, length1(), x2, length2())),
        "x2": once(lambda: slope(x2, length2(), x1, length1())),
    }
    push: dict[str, Callable[[Array], Array]] = {
        "x1": lambda t: accurate_sum(slopes["x1"]() * t, -1),
        "x2": lambda t: accurate_sum(slopes["x2"]() * t, -1),
    }

    def pullback(each: Array) -> Thunks:
        return {
            "x1": lambda: each[..., None] * slopes["x1"](),
            "x2": lambda: each[..., None] * slopes["x2"](),
        }

    return reduced(losses, target.shape, reduction, pullback, push)


hinge_embedding_loss_jvp, hinge_embedding_loss_vjp = hinge_embedding_loss.jvp, hinge_embedding_loss.vjp
margin_ranking_loss_jvp, margin_ranking_loss_vjp = margin_ranking_loss.jvp, margin_ranking_loss.vjp
soft_margin_loss_jvp, soft_margin_loss_vjp = soft_margin_loss.jvp, soft_margin_loss.vjp
triplet_margin_loss_jvp, triplet_margin_loss_vjp = triplet_margin_loss.jvp, triplet_margin_loss.vjp
cosine_embedding_loss_jvp, cosine_embedding_loss_vjp = cosine_embedding_loss.jvp, cosine_embedding_loss.vjp
