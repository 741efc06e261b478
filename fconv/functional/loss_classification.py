"""Losses of classes: log-likelihood and cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from fconv.arrays import Array, any_of, describe, xp_of
from fconv.functional.activation import log_softmax, softmax
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.loss_labels import each_class, of_lone_labels
from fconv.functional.loss_reduction import Reduction, check_reduction, reduced
from fconv.functional.segments import along_axis
from fconv.functional.sums import accurate_sum
from fconv.options import number

__all__ = [
    "cross_entropy", "cross_entropy_jvp", "cross_entropy_vjp",
    "nll_loss", "nll_loss_jvp", "nll_loss_vjp",
]  # fmt: skip


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
        Labels that are not integers, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> float(nll_loss(np.log([[0.5, 0.5]]), np.array([1]), reduction="sum"))
    0.69...
    """
    check_reduction("nll_loss", reduction)
    class_axis = _check_classes("nll_loss", x, weight)
    _check_labels("nll_loss", x, target, class_axis, ignore_index)
    per_class = _per_class(x, weight, class_axis)
    q, counted, total = _of_labels(x, target, per_class, class_axis, ignore_index, 0.0)
    return reduced(
        lambda: -_total(q(), counted(), x, class_axis),
        target.shape,
        reduction,
        lambda each: {"x": lambda: -each_class(each, class_axis) * q()},
        {"x": lambda t: -(q() * t).sum(axis=class_axis)},
        total,
    )


@differentiable("x", "target", "weight", constants=("weight",), sometimes=("target",))
def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Definition:
    """Cross-entropy of logits and class numbers or probabilities: `nll_loss` of `log_softmax`.

    Parameters
    ----------
    x : array, shape (N, C, ...) or (C,)
        Logits.
    target : array of int, shape (N, ...) or (), or of floats in the shape of `x`
        Class numbers 0 to C - 1, or `ignore_index`; or the probability of each class, which
        has a gradient too.
    weight : array, shape (C,), optional
        Weight of each class. The mean divides by the sum of the targets' weights; of
        probabilities, by the number of targets.
    ignore_index : int
        Targets of this value count for nothing. Negative where targets are probabilities.
    reduction : {"mean", "sum", "none"}
        As in PyTorch.
    label_smoothing : float
        Share, 0 to 1, of the target's probability that is spread over all classes
        (Szegedy et al., "Rethinking the inception architecture for computer vision", 2016).

    Returns
    -------
    array
        0-dimensional, or in the shape of `x` without its classes for "none". The mean over no targets is NaN.

    Raises
    ------
    ValueError
        Shapes that do not fit, labels out of range, an unknown reduction, a smoothing
        outside [0, 1].
    TypeError
        Labels that are neither integers nor in the shape of `x`, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> float(cross_entropy(np.zeros((1, 4)), np.array([2])))
    1.38...
    """
    label_smoothing = number("cross_entropy", "label_smoothing", label_smoothing, 0, most=1)
    check_reduction("cross_entropy", reduction)
    class_axis = _check_classes("cross_entropy", x, weight)
    if target.dtype.kind != "f" and not label_smoothing:
        segments = along_axis(x, class_axis)
        if segments is not None:
            within = _check_labels("cross_entropy", x, target, class_axis, ignore_index)
            return of_lone_labels(segments, x, target, within, weight, class_axis, ignore_index, reduction)
    softened = once(lambda: log_softmax.forward(x, class_axis))
    total: Callable[[], Array | float]
    per_class = _per_class(x, weight, class_axis)
    if target.dtype.kind == "f" and target.shape == x.shape:
        _check_probabilities(x, target, ignore_index)
        q, counted, total = _of_probabilities(x, target, per_class, class_axis, label_smoothing)
    else:
        _check_labels("cross_entropy", x, target, class_axis, ignore_index)
        q, counted, total = _of_labels(x, target, per_class, class_axis, ignore_index, label_smoothing)

    def pullback(each: Array) -> Thunks:
        apart = once(lambda: -each_class(each, class_axis))
        return {
            "x": lambda: softened()[1](apart() * q()),
            "target": lambda: (1 - label_smoothing) * apart() * per_class * softened()[0],
        }

    shape = (*x.shape[:class_axis], *x.shape[class_axis + 1 :])
    push: dict[str, Callable[[Array], Array]] = {
        "x": lambda t: -(q() * log_softmax.jvp(t, x, class_axis)).sum(axis=class_axis),
        "target": lambda t: (label_smoothing - 1) * (per_class * softened()[0] * t).sum(axis=class_axis),
    }
    return reduced(
        lambda: -_total(q(), counted(), softened()[0], class_axis), shape, reduction, pullback, push, total
    )


def cross_entropy_curvature(
    t: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Return the second derivatives of `cross_entropy` by the logits, times an array of their shape.

    The loss of a target is linear in the logits but for the logarithm of the sum of their exponentials, which
    stands there as often as the target's probabilities sum to; the gradient of that is the softmax.
    """
    class_axis = _check_classes("cross_entropy", x, weight)
    per_class = _per_class(x, weight, class_axis)
    total: Callable[[], Array | float]
    if target.dtype.kind == "f" and target.shape == x.shape:
        q, _, total = _of_probabilities(x, target, per_class, class_axis, label_smoothing)
    else:
        _check_labels("cross_entropy", x, target, class_axis, ignore_index)
        q, _, total = _of_labels(x, target, per_class, class_axis, ignore_index, label_smoothing)
    moved = softmax.jvp(t, x, class_axis) * q().sum(axis=class_axis, keepdims=True)
    if reduction == "sum":
        return moved
    xp, count = xp_of(x), total()
    return moved / xp.where(xp.asarray(count == 0), xp.ones((), x.dtype), xp.asarray(count, dtype=x.dtype))


_INT64 = np.dtype(np.int64)
# The loss of a target is the sum over classes of -q[n, c] * log p[n, c]. These give q, which of its
# elements count (a weight of 0 counts: NaN passes through it), and what the mean divides by.


def _of_labels(
    x: Array, target: Array, per_class: Array, class_axis: int, ignore_index: int, smoothing: float
) -> tuple[Callable[[], Array], Callable[[], Array], Callable[[], Array]]:
    """Return each target's weight at its class, of which smoothing moves a share to all classes alike."""
    xp, classes = xp_of(x), x.shape[class_axis]
    zero = xp.zeros((), x.dtype)
    kept = once(lambda: xp.expand_dims(target != ignore_index, class_axis))

    @once
    def chosen() -> Array:
        numbers = xp.arange(classes).reshape(per_class.shape)
        found = (xp.expand_dims(target, class_axis) == numbers) & kept()
        return found if xp is np else found | outside()

    def outside() -> Array:
        return xp.expand_dims((target < 0) | (target >= classes), class_axis) & kept()

    @once
    def at_target() -> Array:
        if xp is np:
            return xp.where(chosen(), per_class, zero)
        # On a GPU labels are not looked at beforehand: those out of range give NaN.
        return xp.where(chosen(), xp.where(outside(), xp.full((), xp.nan, x.dtype), per_class), zero)

    def smoothed() -> Array:
        share = smoothing / classes
        return (1 - smoothing) * at_target() + share * xp.where(kept(), per_class, zero)

    q, counted = (once(smoothed), kept) if smoothing else (at_target, chosen)
    return q, counted, lambda: accurate_sum(at_target())


def _of_probabilities(
    x: Array, target: Array, per_class: Array, class_axis: int, smoothing: float
) -> tuple[Callable[[], Array], Callable[[], Array], Callable[[], float]]:
    """Return the targets' probabilities, smoothed and weighted."""
    classes = x.shape[class_axis]
    q = once(lambda: per_class * ((1 - smoothing) * target + smoothing / max(classes, 1)))
    return q, lambda: q() != 0, lambda: float(prod(x.shape[:class_axis]) * prod(x.shape[class_axis + 1 :]))


def _per_class(x: Array, weight: Array | None, class_axis: int) -> Array:
    """Return the weights of the classes, to broadcast against `x`."""
    along = (x.shape[class_axis], *(1,) * (x.ndim - class_axis - 1))
    return xp_of(x).ones(along, x.dtype) if weight is None else weight.reshape(along)


def _total(q: Array, counted: Array, log_p: Array, class_axis: int) -> Array:
    # Classes that do not count stay out, even where log_p is -inf.
    xp = xp_of(q)
    return xp.where(counted, q * log_p, xp.zeros((), q.dtype)).sum(axis=class_axis)


def _check_classes(name: str, x: Array, weight: Array | None) -> int:
    """Check the input and the classes' weights, and give the axis of the classes."""
    if x.ndim == 0:
        raise ValueError(f"{name}: expected an input of shape (N, C, ...) or (C,), got shape ()")
    class_axis = 0 if x.ndim == 1 else 1
    classes = x.shape[class_axis]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{name}: expected a weight of shape {(classes,)}, got {weight.shape}")
    if weight is not None and weight.dtype != x.dtype:
        raise TypeError(f"{name}: x is {x.dtype} but weight is {weight.dtype}; give them one dtype")
    return class_axis


def _check_probabilities(x: Array, target: Array, ignore_index: int) -> None:
    if target.dtype != x.dtype:
        raise TypeError(f"cross_entropy: x is {x.dtype} but target is {target.dtype}; give them one dtype")
    if ignore_index >= 0:
        raise ValueError(
            f"cross_entropy: expected a negative ignore_index for probabilities, got {ignore_index}"
        )


def _check_labels(name: str, x: Array, target: Array, class_axis: int, ignore_index: int) -> bool:
    """Check class numbers; return whether all of them are known to be within range, the ignored one too."""
    classes = x.shape[class_axis]
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer class labels, got {describe(target)}")
    expected = (*x.shape[:class_axis], *x.shape[class_axis + 1 :])
    if target.shape != expected:
        hint = ""
        if target.shape == x.shape:
            hint = f"; write target.argmax({class_axis}), or target.astype(x.dtype) for probabilities"
        elif target.size == prod(expected):
            hint = f"; write target.reshape({expected})"
        raise ValueError(
            f"{name}: expected labels of shape {expected} for an input of shape {x.shape}, "
            f"got {target.shape}{hint}"
        )
    # A negative number is a large one without its sign: one comparison for both bounds.
    usual = type(target) is np.ndarray and target.dtype is _INT64
    if usual and not np.logical_or.reduce(target.view(np.uint64) >= classes, axis=None):
        return True
    outside = (target != ignore_index) & ((target < 0) | (target >= classes))
    if any_of(outside, unseen=False):
        raise ValueError(
            f"{name}: expected labels from 0 to {classes - 1} (or ignore_index {ignore_index}), "
            f"got {int(target[outside].ravel()[0])} among {int(outside.sum())} out of range"
        )
    return False


nll_loss_jvp, nll_loss_vjp = nll_loss.jvp, nll_loss.vjp
cross_entropy_jvp, cross_entropy_vjp = cross_entropy.jvp, cross_entropy.vjp
