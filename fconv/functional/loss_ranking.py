"""Losses of likeness: labels of 1 and -1, and pairs."""

from __future__ import annotations

from collections.abc import Callable

from fconv.arrays import Array, xp_of
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.loss_reduction import (
    TINY,
    Reduction,
    check_reduction,
    check_same_shape,
    check_target,
    hinge,
    hinge_slope,
    per_element,
    reduced,
)
from fconv.functional.smooth import sigmoid
from fconv.functional.sums import accurate_sum
from fconv.options import number

__all__ = [
    "cosine_embedding_loss", "cosine_embedding_loss_jvp", "cosine_embedding_loss_vjp",
    "hinge_embedding_loss", "hinge_embedding_loss_jvp", "hinge_embedding_loss_vjp",
    "margin_ranking_loss", "margin_ranking_loss_jvp", "margin_ranking_loss_vjp",
    "soft_margin_loss", "soft_margin_loss_jvp", "soft_margin_loss_vjp",
]  # fmt: skip


@differentiable("x", "target", constants=("target",))
def hinge_embedding_loss(
    x: Array, target: Array, margin: float = 1.0, reduction: Reduction = "mean"
) -> Definition:
    """Distances of similar pairs, and how far those of dissimilar pairs are below a margin.

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
    return per_element(
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
    return per_element(lambda: hinge(z()), x1.shape, reduction, x1=lambda: -of_x2(), x2=of_x2)


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
    return per_element(
        lambda: xp_of(x).logaddexp(z(), 0), x.shape, reduction, x=lambda: -sign() * sigmoid(z())
    )


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
        Cosine, -1 to 1, up to which dissimilar vectors have no loss.
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
cosine_embedding_loss_jvp, cosine_embedding_loss_vjp = cosine_embedding_loss.jvp, cosine_embedding_loss.vjp
