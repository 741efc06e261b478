"""Figures of merit, which need no gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fconv import functional as F
from fconv import trees
from fconv.arrays import Array, asnumpy, describe, namespace
from fconv.options import whole

__all__ = [
    "RunningMean",
    "accuracy",
    "confusion_matrix",
    "f1_score",
    "mean_iou",
    "precision",
    "psnr",
    "recall",
    "ssim",
    "top_k_accuracy",
]


@trees.register
class RunningMean(NamedTuple):
    """A mean of numbers that come one after another.

    Attributes
    ----------
    total : float
        Their weighted sum.
    weight : float
        The sum of their weights.

    Examples
    --------
    >>> RunningMean().add(1.0, 3).add(5.0).value
    2.0
    """

    total: float = 0.0
    weight: float = 0

    def add(self, value: Any, count: float = 1) -> RunningMean:
        """Return the mean that includes a further number, weighted as `count` examples."""
        return RunningMean(self.total + float(value) * count, self.weight + count)

    @property
    def value(self) -> float:
        """The mean; NaN of nothing."""
        return self.total / self.weight if self.weight else float("nan")


def accuracy(y: Array, target: Array) -> float:
    """Share of samples whose highest score is that of their class.

    Parameters
    ----------
    y : array, shape (N, C)
        Scores: logits or probabilities.
    target : array of int, shape (N,)
        Class numbers.

    Returns
    -------
    float
        0 to 1; NaN for no samples.

    Raises
    ------
    ValueError, TypeError
        Shapes that do not fit, or labels that are not integers.

    Examples
    --------
    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    return _top_k("accuracy", y, target, 1)


def top_k_accuracy(y: Array, target: Array, k: int = 5) -> float:
    """Share of samples whose class is among the `k` highest scores.

    Parameters
    ----------
    y : array, shape (N, C)
        Scores: logits or probabilities.
    target : array of int, shape (N,)
        Class numbers.
    k : int
        How many of the highest scores count, 1 to C. Of equal scores, those of the lower class count first.

    Returns
    -------
    float
        0 to 1; NaN for no samples.

    Raises
    ------
    ValueError, TypeError
        Shapes that do not fit, labels that are not integers or no classes, or `k` out of range.

    Examples
    --------
    >>> y = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    >>> top_k_accuracy(y, np.array([2, 1]), k=2)
    0.5
    """
    return _top_k("top_k_accuracy", y, target, k)


def _top_k(name: str, y: Array, target: Array, k: int) -> float:
    namespace(name, y=y, target=target)
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer class labels, got {describe(target)}")
    if y.ndim != 2 or target.shape != y.shape[:1]:
        raise ValueError(
            f"{name}: expected scores (N, C) and labels (N,), got shapes {y.shape} and {target.shape}"
        )
    if whole(name, "k", k) > y.shape[1]:
        raise ValueError(f"{name}: expected k up to the number of classes, {y.shape[1]}, got {k}")
    if k == 1:
        return float((y.argmax(axis=1) == target).mean()) if len(y) else float("nan")
    highest = (-asnumpy(y)).argsort(axis=1, kind="stable")[:, :k]
    return float((highest == asnumpy(target)[:, None]).any(axis=1).mean()) if len(y) else float("nan")


def confusion_matrix(y: Array, target: Array, classes: int | None = None) -> Array:
    """Count the samples of each class by the class that is predicted.

    Parameters
    ----------
    y : array
        Scores (N, C) or, for segmentation, (N, C, H, W); or, of the shape of `target`, class numbers.
    target : array of int, shape (N,) or (N, H, W)
        Class numbers. Negative ones are left out, as ``ignore_index=-100`` leaves them out of a loss.
    classes : int, optional
        Number of classes; that of the scores by default.

    Returns
    -------
    array of int64, shape (classes, classes)
        Rows are the classes of `target`, columns those of `y`. Matrices of several batches add.

    Raises
    ------
    ValueError, TypeError
        Shapes that do not fit, labels that are no integers or no classes, or class numbers without `classes`.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2)
    array([[1, 1],
           [0, 1]])
    """
    name = "confusion_matrix"
    namespace(name, y=y, target=target)
    y, target = asnumpy(y), asnumpy(target)
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer class labels, got {describe(target)}")
    if y.ndim == target.ndim + 1 and (y.shape[0], *y.shape[2:]) == target.shape:
        if classes not in (None, y.shape[1]):
            raise ValueError(f"{name}: expected scores of {classes} classes, got shape {y.shape}")
        classes, y = y.shape[1], y.argmax(axis=1)
    elif y.shape != target.shape or y.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: expected scores (N, C, ...) or class numbers of the labels' shape {target.shape}, "
            f"got {describe(y)} of shape {y.shape}"
        )
    if classes is None:
        raise ValueError(f"{name}: class numbers do not tell how many classes there are; give classes=")
    classes = whole(name, "classes", classes)
    y, target = y[target >= 0].astype(np.int64), target[target >= 0].astype(np.int64)
    for what, values in (("target", target), ("y", y)):
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(f"{name}: expected class numbers below {classes} in {what}, got {values.max()}")
    return np.bincount(target * classes + y, minlength=classes * classes).reshape(classes, classes)


def _counts(y: Array, target: Array | None, classes: int | None) -> tuple[Array, Array, Array]:
    """Return hits, samples taken for each class, and samples of each; `y` may be a confusion matrix."""
    counts = asnumpy(y) if target is None else confusion_matrix(y, target, classes)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(
            f"expected a confusion matrix (C, C) where there is no target, got shape {counts.shape}"
        )
    return counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)


def _mean_of(above: Array, below: Array, present: Array) -> float:
    """Mean of quotients over the classes that are there; 0 over 0 is 0."""
    quotients = np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
    return float(quotients[present].mean()) if present.any() else float("nan")


def precision(y: Array, target: Array | None = None, classes: int | None = None) -> float:
    """Mean over the classes of the share of samples taken for one that are of it.

    Parameters
    ----------
    y, target, classes
        As `confusion_matrix` takes them; or a confusion matrix alone, such as the sum of
        those of all batches.

    Returns
    -------
    float
        0 to 1: the macro average over the classes that occur in `y` or `target`, in which a class that is
        never predicted counts 0, as scikit-learn's precision_score has it. NaN for no samples.

    Raises
    ------
    ValueError, TypeError
        As `confusion_matrix`.

    Examples
    --------
    >>> precision(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2)
    0.75
    """
    hits, taken, own = _counts(y, target, classes)
    return _mean_of(hits, taken, taken + own > 0)


def recall(y: Array, target: Array | None = None, classes: int | None = None) -> float:
    """Mean over the classes of the share of their samples that are found; see `precision`.

    Examples
    --------
    >>> recall(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2)
    0.75
    """
    hits, taken, own = _counts(y, target, classes)
    return _mean_of(hits, own, taken + own > 0)


def f1_score(y: Array, target: Array | None = None, classes: int | None = None) -> float:
    """Mean over the classes of the harmonic mean of precision and recall; see `precision`.

    Examples
    --------
    >>> round(f1_score(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2), 4)
    0.6667
    """
    hits, taken, own = _counts(y, target, classes)
    return _mean_of(2 * hits, taken + own, taken + own > 0)


def mean_iou(y: Array, target: Array | None = None, classes: int | None = None) -> float:
    """Mean over the classes of intersection over union, the usual figure of segmentation; see `precision`.

    Examples
    --------
    >>> mean_iou(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2)
    0.5
    """
    hits, taken, own = _counts(y, target, classes)
    return _mean_of(hits, taken + own - hits, taken + own > 0)


def psnr(y: Array, target: Array, data_range: float = 1.0) -> float:
    """Mean peak signal-to-noise ratio of pictures in decibels; see `fconv.functional.psnr`.

    Examples
    --------
    >>> psnr(np.full((1, 1, 2, 2), 0.1), np.zeros((1, 1, 2, 2)))
    20.0
    """
    return float(F.psnr(y, target, data_range))


def ssim(y: Array, target: Array, data_range: float = 1.0) -> float:
    """Mean structural similarity of pictures, with the paper's windows; see `fconv.functional.ssim`.

    Examples
    --------
    >>> ssim(np.ones((1, 1, 16, 16)), np.ones((1, 1, 16, 16)))
    1.0
    """
    return float(F.ssim(y, target, data_range))
