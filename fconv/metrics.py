"""Figures of merit, which need no gradient."""

from __future__ import annotations

from fconv import functional as F
from fconv.arrays import Array, describe, namespace


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
    >>> import numpy as np
    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    namespace("accuracy", y=y, target=target)
    if target.dtype.kind not in "iu":
        raise TypeError(f"accuracy: expected integer class labels, got {describe(target)}")
    if y.ndim != 2 or target.shape != y.shape[:1]:
        raise ValueError(
            f"accuracy: expected scores (N, C) and labels (N,), got shapes {y.shape} and {target.shape}"
        )
    return float((y.argmax(axis=1) == target).mean()) if len(y) else float("nan")


def psnr(y: Array, target: Array, data_range: float = 1.0) -> float:
    """Mean peak signal-to-noise ratio of pictures in decibels; see `fconv.functional.psnr`.

    Examples
    --------
    >>> import numpy as np
    >>> psnr(np.full((1, 1, 2, 2), 0.1), np.zeros((1, 1, 2, 2)))
    20.0
    """
    return float(F.psnr(y, target, data_range))


def ssim(y: Array, target: Array, data_range: float = 1.0) -> float:
    """Mean structural similarity of pictures, with the paper's windows; see `fconv.functional.ssim`.

    Examples
    --------
    >>> import numpy as np
    >>> ssim(np.ones((1, 1, 16, 16)), np.ones((1, 1, 16, 16)))
    1.0
    """
    return float(F.ssim(y, target, data_range))
