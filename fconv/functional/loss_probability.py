"""Losses of probabilities against probabilities, element by element."""

from __future__ import annotations

from collections.abc import Callable

from fconv.arrays import Array, Shape, any_of, xp_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.loss_reduction import (
    TINY,
    BatchReduction,
    Reduction,
    check_reduction,
    check_same_shape,
    check_weight,
    per_element,
)
from fconv.functional.smooth import sigmoid
from fconv.functional.sums import quietly

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_jvp", "binary_cross_entropy_vjp",
    "binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_jvp",
    "binary_cross_entropy_with_logits_vjp", "kl_div", "kl_div_jvp", "kl_div_vjp",
]  # fmt: skip


@differentiable("x", "target", "weight", constants=("weight",))
def binary_cross_entropy(
    x: Array, target: Array, weight: Array | None = None, reduction: Reduction = "mean"
) -> Definition:
    """Cross-entropy of probabilities, ``-weight (target log(x) + (1 - target) log(1 - x))``.

    Parameters
    ----------
    x, target : array
        Probabilities, 0 to 1, of one shape and dtype.
    weight : array, optional
        Weight of each element; broadcasts to the shape of `x`.
    reduction : {"mean", "sum", "none"}
        As for `mse_loss`; the mean divides by the number of elements, whatever their weights.

    Returns
    -------
    array
        0-dimensional, or in the shape of `x` for "none". As in PyTorch, the logarithms are held
        at -100 or more in the value, and ``x (1 - x)`` at 1e-12 or more in the gradient of `x`.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes that do not fit, probabilities outside of 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> binary_cross_entropy(np.array([0.0, 1.0]), np.array([1.0, 1.0]), reduction="none")
    array([100.,   0.])
    """
    name = "binary_cross_entropy"
    check_same_shape(name, x, target=target)
    check_weight(name, "weight", x, weight)
    check_reduction(name, reduction)
    outside = (x < 0) | (x > 1)  # NaN is let through
    if any_of(outside, unseen=False):  # elsewhere, their logarithms are NaN
        raise ValueError(f"{name}: expected probabilities from 0 to 1, got {float(x[outside].ravel()[0]):g}")
    xp = xp_of(x)
    log_yes, log_no = once(lambda: quietly(lambda: xp.log(x))), once(lambda: quietly(lambda: xp.log1p(-x)))
    return _binary(
        x.shape,
        reduction,
        target,
        weight,
        (lambda: -xp.maximum(log_yes(), -100), lambda: -xp.maximum(log_no(), -100)),
        lambda: (x - target) / xp.maximum((1 - x) * x, TINY),
        lambda: log_no() - log_yes(),
    )


@differentiable("x", "target", "weight", "pos_weight", constants=("weight", "pos_weight"))
def binary_cross_entropy_with_logits(
    x: Array,
    target: Array,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    pos_weight: Array | None = None,
) -> Definition:
    """Cross-entropy of the probabilities ``sigmoid(x)``, without overflow at any `x`.

    ``weight (pos_weight target softplus(-x) + (1 - target) softplus(x))``, where
    ``softplus(x) = log(1 + exp(x))``.

    Parameters
    ----------
    x, target : array
        Logits, and probabilities from 0 to 1, of one shape and dtype.
    weight : array, optional
        Weight of each element; broadcasts to the shape of `x`.
    reduction : {"mean", "sum", "none"}
        As for `mse_loss`; the mean divides by the number of elements, whatever their weights.
    pos_weight : array, optional
        Weight of the targets' own probability; broadcasts to the shape of `x`.

    Returns
    -------
    array
        0-dimensional, or in the shape of `x` for "none".

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> binary_cross_entropy_with_logits(np.array([1e4, -1e4]), np.array([1.0, 1.0]), reduction="none")
    array([    0., 10000.])
    """
    name = "binary_cross_entropy_with_logits"
    check_same_shape(name, x, target=target)
    check_weight(name, "weight", x, weight)
    check_weight(name, "pos_weight", x, pos_weight)
    check_reduction(name, reduction)
    xp = xp_of(x)

    def positive(yes: Array) -> Array:
        return yes if pos_weight is None else pos_weight * yes

    yes = once(lambda: positive(xp.logaddexp(-x, 0)))
    no = once(lambda: xp.logaddexp(x, 0))
    return _binary(
        x.shape,
        reduction,
        target,
        weight,
        (yes, no),
        lambda: (1 - target) * sigmoid(x) - target * positive(sigmoid(-x)),
        lambda: yes() - no(),
    )


def _binary(
    shape: Shape,
    reduction: Reduction,
    target: Array,
    weight: Array | None,
    costs: tuple[Callable[[], Array], Callable[[], Array]],
    of_x: Callable[[], Array],
    of_target: Callable[[], Array],
) -> Definition:
    """Define the loss ``weight (target yes + (1 - target) no)`` by the costs of yes and no."""
    yes, no = costs

    def weighted(part: Callable[[], Array]) -> Callable[[], Array]:
        return part if weight is None else lambda: weight * part()

    return per_element(
        weighted(lambda: target * yes() + (1 - target) * no()),
        shape,
        reduction,
        x=weighted(of_x),
        target=weighted(of_target),
    )


@differentiable("x", "target")
def kl_div(
    x: Array, target: Array, reduction: BatchReduction = "mean", log_target: bool = False
) -> Definition:
    """Kullback-Leibler divergence of log-probabilities from a target, ``target (log(target) - x)``.

    Parameters
    ----------
    x, target : array
        Log-probabilities, and probabilities (or their logarithms), of one shape and dtype.
    reduction : {"mean", "batchmean", "sum", "none"}
        As for `mse_loss`. "batchmean" divides the sum by the length of the first axis, which
        is the divergence; "mean" divides it by the number of elements.
    log_target : bool
        `target` holds logarithms, ``exp(target) (target - x)``.

    Returns
    -------
    array
        0-dimensional, or in the shape of `x` for "none". Elements of target 0 are 0; the gradient
        of such a target is -inf (PyTorch's is NaN).

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes differ, or the reduction is unknown.

    References
    ----------
    Kullback and Leibler, "On information and sufficiency", 1951.

    Examples
    --------
    >>> import numpy as np
    >>> float(kl_div(np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]]), "batchmean"))
    0.69...
    """
    check_same_shape("kl_div", x, target=target)
    check_reduction("kl_div", reduction, batch=True)
    xp = xp_of(x)
    probability = once(lambda: xp.exp(target) if log_target else target)
    # A factor of exactly 1 keeps the logarithm of 0 out of the value.
    log_probability = once(lambda: target if log_target else xp.log(xp.where(target == 0, 1, target)))

    def of_target() -> Array:
        if log_target:
            return probability() * (target - x + 1)
        return xp.log(target) + 1 - x

    return per_element(
        lambda: probability() * (log_probability() - x),
        x.shape,
        reduction,
        x=lambda: -probability(),
        target=of_target,
    )


binary_cross_entropy_jvp, binary_cross_entropy_vjp = binary_cross_entropy.jvp, binary_cross_entropy.vjp
binary_cross_entropy_with_logits_jvp, binary_cross_entropy_with_logits_vjp = (
    binary_cross_entropy_with_logits.jvp,
    binary_cross_entropy_with_logits.vjp,
)
kl_div_jvp, kl_div_vjp = kl_div.jvp, kl_div.vjp
