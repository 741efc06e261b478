"""Negative log-likelihoods: losses of probabilities, logits, counts and classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Array
from fconv.functional.loss_classification import cross_entropy_curvature
from fconv.functional.loss_reduction import BatchReduction, Reduction, check_reduction
from fconv.losses.base import Loss
from fconv.losses.from_function import from_function
from fconv.options import number, whole

__all__ = [
    "bce_loss",
    "bce_with_logits_loss",
    "cross_entropy_loss",
    "gaussian_nll_loss",
    "kl_div_loss",
    "nll_loss",
    "poisson_nll_loss",
]


@constructor
def poisson_nll_loss(
    *, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: Reduction = "mean"
) -> Loss:
    """Negative log-likelihood of counts; see `fconv.functional.poisson_nll_loss`."""
    check_reduction("poisson_nll_loss", reduction)
    number("poisson_nll_loss", "eps", eps, 0)
    return from_function(F.poisson_nll_loss, log_input=log_input, full=full, eps=eps, reduction=reduction)


@constructor
def gaussian_nll_loss(*, full: bool = False, eps: float = 1e-6, reduction: Reduction = "mean") -> Loss:
    """Negative log-likelihood of normal distributions; see `fconv.functional.gaussian_nll_loss`.

    `y` is the tuple (x, var) of means and variances, and so is its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> loss = gaussian_nll_loss()
    >>> loss.vjp((np.array([1.0]), np.array([2.0])), np.array([3.0]))
    (array([-1.]), array([-0.25]))
    """
    check_reduction("gaussian_nll_loss", reduction)
    number("gaussian_nll_loss", "eps", eps, 0, above=True)
    return from_function(F.gaussian_nll_loss, "x", "var", full=full, eps=eps, reduction=reduction)


@constructor
def bce_loss(*, weight: Array | None = None, reduction: Reduction = "mean") -> Loss:
    """Cross-entropy of probabilities; see `fconv.functional.binary_cross_entropy`."""
    check_reduction("bce_loss", reduction)
    return from_function(F.binary_cross_entropy, weight=weight, reduction=reduction)


@constructor
def bce_with_logits_loss(
    *, weight: Array | None = None, reduction: Reduction = "mean", pos_weight: Array | None = None
) -> Loss:
    """Cross-entropy of logits; see `fconv.functional.binary_cross_entropy_with_logits`.

    Examples
    --------
    >>> import numpy as np
    >>> bce_with_logits_loss().vjp(np.array([1e4, -1e4]), np.array([0.0, 0.0]))
    array([0.5, 0. ])
    """
    check_reduction("bce_with_logits_loss", reduction)
    return from_function(
        F.binary_cross_entropy_with_logits, weight=weight, reduction=reduction, pos_weight=pos_weight
    )


@constructor
def nll_loss(*, weight: Array | None = None, ignore_index: int = -100, reduction: Reduction = "mean") -> Loss:
    """Negative log-likelihood of log-probabilities; see `fconv.functional.nll_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> nll_loss().vjp(np.zeros((1, 3)), np.array([1]))
    array([[-0., -1., -0.]])
    """
    check_reduction("nll_loss", reduction)
    whole("nll_loss", "ignore_index", ignore_index, -(1 << 62))
    return from_function(F.nll_loss, weight=weight, ignore_index=ignore_index, reduction=reduction)


@constructor
def cross_entropy_loss(
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Loss:
    """Cross-entropy of logits and class numbers or probabilities; see `fconv.functional.cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy_loss().vjp(np.zeros((1, 2)), np.array([1]))
    array([[ 0.5, -0.5]])
    """
    check_reduction("cross_entropy_loss", reduction)
    whole("cross_entropy_loss", "ignore_index", ignore_index, -(1 << 62))
    number("cross_entropy_loss", "label_smoothing", label_smoothing, 0, most=1)
    options: dict[str, Any] = {
        "weight": weight,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "reduction": reduction,
    }

    def curvature(y: Array, target: Array, t: Array) -> Array:
        return cross_entropy_curvature(t, y, target, **options)

    made = from_function(F.cross_entropy, **options)
    return made if reduction == "none" else replace(made, curvature=curvature)


@constructor
def kl_div_loss(*, reduction: BatchReduction = "mean", log_target: bool = False) -> Loss:
    """Divergence of log-probabilities from a target; see `fconv.functional.kl_div`."""
    check_reduction("kl_div_loss", reduction, batch=True)
    return from_function(F.kl_div, reduction=reduction, log_target=log_target)
