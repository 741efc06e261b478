"""Losses: pairs of pure functions over `fconv.functional`, with torch.nn's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fconv import functional as F
from fconv.arrays import Array
from fconv.functional.core import Differentiable
from fconv.functional.reduction import Reduction, check_reduction

__all__ = ["Loss", "cross_entropy_loss", "mse_loss", "nll_loss"]


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss: its value and its gradient.

    Attributes
    ----------
    apply : callable
        ``apply(y, target) -> scalar``.
    vjp : callable
        ``vjp(y, target, g=1.0) -> dy``, the gradient of ``g * loss``.
    forward : callable
        ``forward(y, target) -> (scalar, pullback)`` with ``pullback(g=1.0) -> dy``, which
        computes nothing twice. Derived from `apply` and `vjp` where it is not given.
    name : str
        What error messages call it.
    """

    apply: Callable[[Any, Any], Any]
    vjp: Callable[..., Any]
    forward: Callable[[Any, Any], tuple[Any, Callable[..., Any]]] | None = None
    name: str = "loss"


def loss_forward(loss: Any, y: Any, target: Any) -> tuple[Any, Callable[..., Any]]:
    """Give a loss and its pullback, from `loss.forward` or, where there is none, `apply` and `vjp`."""
    forward = getattr(loss, "forward", None)
    if forward is not None:
        return forward(y, target)
    return loss.apply(y, target), lambda g=1.0: loss.vjp(y, target, g)


def _from_function(function: Differentiable[...], **options: Any) -> Loss:
    """Make a loss of a function of (x, target)."""

    def forward(y: Array, target: Array) -> tuple[Array, Callable[..., Any]]:
        value, pull = function.forward(y, target, **options)
        return value, lambda g=1.0: pull(g, wrt="x")[0]

    return Loss(
        apply=lambda y, target: function(y, target, **options),
        vjp=lambda y, target, g=1.0: function.vjp(g, y, target, wrt="x", **options)[0],
        forward=forward,
        name=function.__name__,
    )


def mse_loss(reduction: Reduction = "mean") -> Loss:
    """Squared difference; see `fconv.functional.mse_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> loss = mse_loss()
    >>> y, target = np.array([1.0, 3.0]), np.zeros(2)
    >>> float(loss.apply(y, target)), loss.vjp(y, target)
    (5.0, array([1., 3.]))
    """
    check_reduction("mse_loss", reduction)
    return _from_function(F.mse_loss, reduction=reduction)


def nll_loss(weight: Array | None = None, ignore_index: int = -100, reduction: Reduction = "mean") -> Loss:
    """Negative log-likelihood of log-probabilities; see `fconv.functional.nll_loss`."""
    check_reduction("nll_loss", reduction)
    return _from_function(F.nll_loss, weight=weight, ignore_index=ignore_index, reduction=reduction)


def cross_entropy_loss(
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Loss:
    """Cross-entropy of logits and class numbers; see `fconv.functional.cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy_loss().vjp(np.zeros((1, 2)), np.array([1]))
    array([[ 0.5, -0.5]])
    """
    check_reduction("cross_entropy_loss", reduction)
    return _from_function(
        F.cross_entropy,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
