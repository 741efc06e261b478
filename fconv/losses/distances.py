"""Distances between an output and a target, and penalties: the losses of regression and of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, xp_of
from fconv.functional.loss_reduction import Reduction, check_reduction
from fconv.functional.protocols import Differentiable
from fconv.losses.base import Loss, each_gradient, loss_forward
from fconv.losses.from_function import from_function
from fconv.options import number, whole

__all__ = [
    "huber_loss",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "mse_loss",
    "smooth_l1_loss",
    "ssim_loss",
    "total_variation_loss",
]


@constructor
def mse_loss(*, reduction: Reduction = "mean") -> Loss:
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

    def curvature(y: Array, target: Any, t: Array) -> Array:
        return F.mse_loss.vjp(1.0, t, xp_of(t).zeros_like(t), reduction, wrt="x")[0]  # linear in y

    made = from_function(F.mse_loss, reduction=reduction)
    return made if reduction == "none" else replace(made, curvature=curvature)


@constructor
def l1_loss(*, reduction: Reduction = "mean") -> Loss:
    """Absolute difference; see `fconv.functional.l1_loss`."""
    check_reduction("l1_loss", reduction)
    return from_function(F.l1_loss, reduction=reduction)


@constructor
def l1_penalty() -> Loss:
    """Sum of absolute values of an activation or parameter.

    There is no target: it is passed over, and may be None. With `fconv.with_outputs` and
    `losses_by_name` it penalises intermediate values or parameters of a network.

    References
    ----------
    tf.keras.regularizers.L1.

    Examples
    --------
    >>> import numpy as np
    >>> l1_penalty().vjp(np.array([2.0, -3.0]), None)
    array([ 1., -1.])
    """
    return _penalty(F.l1_loss)


@constructor
def l2_penalty() -> Loss:
    """Sum of squares of an activation or parameter; see `l1_penalty`.

    References
    ----------
    tf.keras.regularizers.L2.

    Examples
    --------
    >>> import numpy as np
    >>> float(l2_penalty().apply(np.array([2.0, -3.0]), None))
    13.0
    """
    return _penalty(F.mse_loss)


def _penalty(function: Differentiable[...]) -> Loss:
    """Make the loss of a distance from 0, summed."""
    distance = from_function(function, reduction="sum")

    def zeros(y: Any) -> Array:
        return xp_of(y).zeros_like(y)

    return Loss(
        apply=lambda y, target: distance.apply(y, zeros(y)),
        vjp=lambda y, target, g=1.0: distance.vjp(y, zeros(y), g),
        forward=lambda y, target: loss_forward(distance, y, zeros(y)),
        name="penalty",
        each=lambda y, target: each_gradient(distance, y, zeros(y)),
        count=distance.count,
    )


@constructor
def smooth_l1_loss(*, reduction: Reduction = "mean", beta: float = 1.0) -> Loss:
    """Absolute difference, a parabola below `beta`; see `fconv.functional.smooth_l1_loss`."""
    check_reduction("smooth_l1_loss", reduction)
    number("smooth_l1_loss", "beta", beta, 0)
    return from_function(F.smooth_l1_loss, reduction=reduction, beta=beta)


@constructor
def huber_loss(*, reduction: Reduction = "mean", delta: float = 1.0) -> Loss:
    """Half the squared difference, a line above `delta`; see `fconv.functional.huber_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> huber_loss(reduction="sum").vjp(np.array([0.5, 3.0]), np.zeros(2))
    array([0.5, 1. ])
    """
    check_reduction("huber_loss", reduction)
    number("huber_loss", "delta", delta, 0, above=True)
    return from_function(F.huber_loss, reduction=reduction, delta=delta)


@constructor
def total_variation_loss(*, reduction: Reduction = "mean") -> Loss:
    """Total variation, from differences of neighbouring pixels; see `fconv.functional.total_variation`.

    There is no target: it is passed over, and may be None.

    Examples
    --------
    >>> import numpy as np
    >>> total_variation_loss().vjp(np.array([[[[0.0, 2.0, 1.0]]]]), None)
    array([[[[-1.,  2., -1.]]]])
    """
    check_reduction("total_variation_loss", reduction)
    return from_function(F.total_variation, reduction=reduction)


@constructor
def ssim_loss(
    *, data_range: float = 1.0, kernel_size: int = 11, sigma: float = 1.5, k1: float = 0.01, k2: float = 0.03
) -> Loss:
    """One minus the mean structural similarity, 0 for equal pictures; see `fconv.functional.ssim`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0.0, 1.0, 144).reshape(1, 1, 12, 12)
    >>> round(float(ssim_loss().apply(x, x)), 6)
    0.0
    """
    if whole("ssim_loss", "kernel_size", kernel_size, 1) % 2 == 0:
        raise ValueError(f"ssim_loss: expected an odd kernel_size, got {kernel_size}")
    for what, value, above in (
        ("data_range", data_range, True),
        ("sigma", sigma, True),
        ("k1", k1, False),
        ("k2", k2, False),
    ):
        number("ssim_loss", what, value, 0, above=above)
    likeness = from_function(
        F.ssim, data_range=data_range, kernel_size=kernel_size, sigma=sigma, k1=k1, k2=k2
    )

    def forward(y: Any, target: Any) -> tuple[Any, Callable[..., Any]]:
        value, pull = loss_forward(likeness, y, target)
        return 1 - value, lambda g=1.0: pull(-g)

    return Loss(
        apply=lambda y, target: 1 - likeness.apply(y, target),
        vjp=lambda y, target, g=1.0: likeness.vjp(y, target, -g),
        forward=forward,
        name="ssim_loss",
        each=lambda y, target: -each_gradient(likeness, y, target),
    )
