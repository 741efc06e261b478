"""Losses, reduced as torch.nn.functional reduces them."""

from __future__ import annotations

from fconv.arrays import Array, Shape, describe, xp_of
from fconv.functional.activation import log_softmax
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.reduction import (
    Reduction,
    accurate_sum,
    check_reduction,
    reduce_losses,
    reduced_shape,
    spread_gradient,
)

__all__ = [
    "cross_entropy",
    "cross_entropy_vjp",
    "mse_loss",
    "mse_loss_vjp",
    "nll_loss",
    "nll_loss_vjp",
]


def check_same_shape(name: str, x: Array, target: Array) -> None:
    """Require that target and input have one shape: losses do not broadcast."""
    if x.shape != target.shape:
        raise ValueError(f"{name}: expected a target of the input's shape {x.shape}, got {target.shape}")


@differentiable("x", "target")
def mse_loss(x: Array, target: Array, reduction: Reduction = "mean") -> Definition:
    """Squared difference, ``(x - target)**2``, over all entries.

    Parameters
    ----------
    x, target : array
        Floating-point, of one shape and dtype.
    reduction : {"mean", "sum", "none"}
        Mean over all entries, their sum, or each entry's own.

    Returns
    -------
    array
        0-dimensional, or in the shape of `x` for "none". The mean over no entries is NaN.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes differ, or the reduction is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> float(mse_loss(np.array([1.0, 3.0]), np.array([0.0, 0.0])))
    5.0
    """
    check_same_shape("mse_loss", x, target)
    check_reduction("mse_loss", reduction)
    difference = once(lambda: x - target)

    def pullback(g: Array) -> Thunks:
        dx = once(lambda: spread_gradient(g, x.shape, reduction) * 2 * difference())
        return {"x": dx, "target": lambda: -dx()}

    value = once(lambda: reduce_losses(difference() ** 2, reduction))
    return reduced_shape(x.shape, reduction), value, pullback


@differentiable("x", "target", "weight", constants=("target", "weight"))
def nll_loss(
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Definition:
    """Negative log-likelihood, ``-weight[target] * x[n, target]``, of log-probabilities.

    Parameters
    ----------
    x : array, shape (N, C, ...) or (C,)
        Log-probabilities, for instance from `log_softmax`.
    target : array of int, shape (N, ...) or ()
        Class numbers 0 to C - 1, or `ignore_index`.
    weight : array, shape (C,), optional
        Weight of each class. The mean divides by the sum of the targets' weights.
    ignore_index : int
        Targets of this value count for nothing.
    reduction : {"mean", "sum", "none"}
        As in PyTorch.

    Returns
    -------
    array
        0-dimensional, or in the shape of `target` for "none". The mean over no targets is NaN.

    Raises
    ------
    ValueError
        Shapes that do not fit, labels out of range, an unknown reduction.
    TypeError
        Labels that are not integers, `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> float(nll_loss(np.log([[0.5, 0.5]]), np.array([1]), reduction="sum"))
    0.69...
    """
    likelihood = _Likelihood("nll_loss", x, target, weight, ignore_index, reduction, 0.0)
    return (
        likelihood.shape,
        once(lambda: likelihood.value(x)),
        lambda g: {"x": lambda: likelihood.gradient(g)},
    )


@differentiable("x", "target", "weight", constants=("target", "weight"))
def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Definition:
    """Cross-entropy of logits and class numbers: `nll_loss` of `log_softmax`.

    Parameters
    ----------
    x : array, shape (N, C, ...) or (C,)
        Logits.
    target : array of int, shape (N, ...) or ()
        Class numbers 0 to C - 1, or `ignore_index`.
    weight : array, shape (C,), optional
        Weight of each class. The mean divides by the sum of the targets' weights.
    ignore_index : int
        Targets of this value count for nothing.
    reduction : {"mean", "sum", "none"}
        As in PyTorch.
    label_smoothing : float
        Share, 0 to 1, of the target's probability that is spread over all classes
        (Szegedy et al., "Rethinking the inception architecture for computer vision", 2016).

    Returns
    -------
    array
        0-dimensional, or in the shape of `target` for "none". The mean over no targets is NaN.

    Raises
    ------
    ValueError
        Shapes that do not fit, labels out of range, an unknown reduction, a smoothing
        outside [0, 1].
    TypeError
        Labels that are not integers, `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> float(cross_entropy(np.zeros((1, 4)), np.array([2])))
    1.38...
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: expected a label_smoothing from 0 to 1, got {label_smoothing}")
    likelihood = _Likelihood("cross_entropy", x, target, weight, ignore_index, reduction, label_smoothing)
    softened = once(lambda: log_softmax.forward(x, likelihood.class_axis))

    def value() -> Array:
        return likelihood.value(softened()[0])

    def pullback(g: Array) -> Thunks:
        return {"x": lambda: softened()[1](likelihood.gradient(g))}

    return likelihood.shape, once(value), pullback


class _Likelihood:
    """The sum of -q[n, c] * log p[n, c], where q holds each target's weight at its class.

    Smoothing moves a share of q to all classes alike.
    """

    def __init__(
        self,
        name: str,
        x: Array,
        target: Array,
        weight: Array | None,
        ignore_index: int,
        reduction: Reduction,
        smoothing: float,
    ) -> None:
        check_reduction(name, reduction)
        if x.ndim == 0:
            raise ValueError(f"{name}: expected an input of shape (N, C, ...) or (C,), got shape ()")
        self.class_axis = 0 if x.ndim == 1 else 1
        classes = x.shape[self.class_axis]
        _check_labels(name, x, target, classes, self.class_axis, ignore_index)
        if weight is not None and weight.shape != (classes,):
            raise ValueError(f"{name}: expected a weight of shape {(classes,)}, got {weight.shape}")
        if weight is not None and weight.dtype != x.dtype:
            raise TypeError(f"{name}: x is {x.dtype} but weight is {weight.dtype}; give them one dtype")
        self.shape: Shape = reduced_shape(target.shape, reduction)
        self._reduction: Reduction = reduction
        self._smoothing = smoothing
        xp = xp_of(x)
        along = (classes, *(1,) * (target.ndim - self.class_axis))
        kept = xp.expand_dims(target != ignore_index, self.class_axis)
        chosen = (xp.expand_dims(target, self.class_axis) == xp.arange(classes).reshape(along)) & kept
        per_class = xp.ones(along, x.dtype) if weight is None else weight.reshape(along)
        zero = xp.zeros((), x.dtype)
        self._where, self._zero = xp.where, zero
        self._at_target = xp.where(chosen, per_class, zero)
        self._everywhere = xp.where(kept, per_class, zero) if smoothing else None
        self._total = once(lambda: accurate_sum(self._at_target))
        self._classes = classes

    def value(self, log_p: Array) -> Array:
        """Give the loss of log-probabilities."""
        losses = -self._sum(self._at_target, log_p)
        if self._everywhere is not None:
            share = self._smoothing / self._classes
            losses = (1 - self._smoothing) * losses - share * self._sum(self._everywhere, log_p)
        return reduce_losses(losses, self._reduction, self._divisor())

    def gradient(self, g: Array) -> Array:
        """Give the gradient of the log-probabilities."""
        each = spread_gradient(g, (), self._reduction, self._divisor())
        if self._reduction == "none":
            each = xp_of(g).expand_dims(each, self.class_axis)
        if self._everywhere is None:
            return -each * self._at_target
        share = self._smoothing / self._classes
        return -each * ((1 - self._smoothing) * self._at_target + share * self._everywhere)

    def _sum(self, q: Array, log_p: Array) -> Array:
        # Entries that do not count stay out, even where log_p is -inf.
        return self._where(q == 0, self._zero, q * self._where(q == 0, self._zero, log_p)).sum(
            axis=self.class_axis
        )

    def _divisor(self) -> Array | None:
        return self._total() if self._reduction == "mean" else None


def _check_labels(
    name: str, x: Array, target: Array, classes: int, class_axis: int, ignore_index: int
) -> None:
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer class labels, got {describe(target)}")
    expected = (*x.shape[:class_axis], *x.shape[class_axis + 1 :])
    if target.shape != expected:
        raise ValueError(
            f"{name}: expected labels of shape {expected} for an input of shape {x.shape}, got {target.shape}"
        )
    outside = (target != ignore_index) & ((target < 0) | (target >= classes))
    if outside.any():
        raise ValueError(
            f"{name}: expected labels from 0 to {classes - 1} (or ignore_index {ignore_index}), "
            f"got {int(target[outside].ravel()[0])} among {int(outside.sum())} out of range"
        )


mse_loss_vjp = mse_loss.vjp
nll_loss_vjp = nll_loss.vjp
cross_entropy_vjp = cross_entropy.vjp
