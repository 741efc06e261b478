"""Normalisation by mean and variance."""

from __future__ import annotations

from math import prod

import numpy as np

from fconv.arrays import Array, check_floating, namespace, xp_of
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.reduction import accurate_sum

__all__ = [
    "batch_moments",
    "batch_norm",
    "batch_norm_vjp",
    "running_statistics",
]


def moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance over `axes`, which stay as axes of one entry.

    The variance takes a second pass over the differences from the mean, so that a mean far
    larger than the deviation costs no digits. Over no entries both are 0.

    Parameters
    ----------
    x : array
        Floating-point.
    axes : tuple of int
        Axes to average over.

    Returns
    -------
    tuple of array
        (mean, variance) in the dtype of `x`.
    """
    count = max(1, prod(x.shape[axis] for axis in axes))
    mean = accurate_sum(x, axes, keepdims=True) / count
    return mean, accurate_sum((x - mean) ** 2, axes, keepdims=True) / count


def batch_moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel over the batch and all positions.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point.

    Returns
    -------
    tuple of array, each of shape (C,)
        (mean, variance): what `batch_norm` normalises by in training.

    Raises
    ------
    ValueError
        `x` has fewer than two axes, or one value a channel, which has no variance.
    TypeError
        `x` is not floating-point.

    Examples
    --------
    >>> batch_moments(np.array([[1.0, 5.0], [3.0, 5.0]]))
    (array([2., 5.]), array([1., 0.]))
    """
    namespace("batch_norm", x=x)
    check_floating("batch_norm", x=x)
    _check_batch(x)
    mean, variance = moments(x, _others(x))
    return mean.ravel(), variance.ravel()


def running_statistics(
    x: Array, batch: tuple[Array, Array], running: tuple[Array, Array], momentum: float
) -> tuple[Array, Array]:
    """Move running statistics towards those of a batch, as PyTorch does.

    ``running = (1 - momentum) * running + momentum * batch``, the batch's variance being the
    unbiased one (divided by n - 1).

    Parameters
    ----------
    x : array, shape (N, C, ...)
        The batch.
    batch : tuple of array, each of shape (C,)
        What `batch_moments` gave for it.
    running : tuple of array, each of shape (C,)
        Running mean and variance so far.
    momentum : float
        Share of the new batch.

    Returns
    -------
    tuple of array, each of shape (C,)
        The new running mean and variance; the old ones for an empty batch.

    Examples
    --------
    >>> x = np.array([[1.0], [3.0]])
    >>> running_statistics(x, batch_moments(x), (np.zeros(1), np.ones(1)), 0.1)
    (array([0.2]), array([1.1]))
    """
    count = prod(x.shape[axis] for axis in _others(x))
    if count == 0:
        return running
    unbiased = batch[1] * (count / max(1, count - 1))
    share = float(momentum)
    mean = (1 - share) * running[0] + share * batch[0]
    return mean.astype(running[0].dtype), ((1 - share) * running[1] + share * unbiased).astype(
        running[1].dtype
    )


def _others(x: Array) -> tuple[int, ...]:
    """List all axes but the channels'."""
    return (0, *range(2, x.ndim))


def _check_batch(x: Array) -> None:
    if x.ndim < 2:
        raise ValueError(f"batch_norm: expected an input of shape (N, C, ...), got {x.shape}")
    if prod(x.shape[axis] for axis in _others(x)) == 1:
        raise ValueError(
            f"batch_norm: expected more than one value per channel in training, got input shape {x.shape}"
        )


@differentiable(
    "x", "running_mean", "running_var", "weight", "bias", constants=("running_mean", "running_var")
)
def batch_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    batch: tuple[Array, Array] | None = None,
) -> Definition:
    """Normalise each channel, ``y = (x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point: (N, C) features, (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    running_mean, running_var : array, shape (C,), optional
        What to normalise by outside training; without them, the batch's own statistics.
    weight, bias : array, shape (C,), optional
        Scale and shift.
    training : bool
        Normalise by the batch's mean and biased variance, and differentiate through them.
    momentum : float
        Taken for PyTorch's sake and without effect: nothing is mutated here. See
        `running_statistics` for the refreshed statistics.
    eps : float
        Added to the variance.
    batch : tuple of array, optional
        What `batch_moments` gives for `x`, where the caller has it already.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    ValueError
        Shapes that do not fit, or one value per channel in training.
    TypeError
        Arrays that are not floating-point, of different dtypes or of different libraries.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization", 2015.

    Examples
    --------
    >>> batch_norm(np.array([[1.0], [3.0]]), training=True, eps=0.0)
    array([[-1.],
           [ 1.]])
    """
    by_batch = training or running_mean is None or running_var is None
    if by_batch:
        _check_batch(x)
    elif x.ndim < 2:
        raise ValueError(f"batch_norm: expected an input of shape (N, C, ...), got {x.shape}")
    channels = x.shape[1]
    named = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for argument, array in named.items():
        if array is not None and array.shape != (channels,):
            raise ValueError(
                f"batch_norm: expected a {argument} of shape {(channels,)} for {channels} channels "
                f"(input shape {x.shape}), got {array.shape}"
            )
    xp = xp_of(x)
    along = (channels, *(1,) * (x.ndim - 2))
    axes = _others(x)
    count = max(1, prod(x.shape[axis] for axis in axes))

    @once
    def statistics() -> tuple[Array, Array]:
        """Give the mean and 1 / sqrt(var + eps), laid along the channels."""
        mean, var = (batch or batch_moments(x)) if by_batch else (running_mean, running_var)
        spread = xp.asarray(1 / xp.sqrt(var + eps), dtype=x.dtype)  # type: ignore[operator]
        return xp.asarray(mean, dtype=x.dtype).reshape(along), spread.reshape(along)

    @once
    def normal() -> Array:
        mean, spread = statistics()
        out = x - mean
        out *= spread
        return out

    def value() -> Array:
        out = normal()
        if weight is not None:
            out = out * weight.reshape(along)
        return out if bias is None else out + bias.reshape(along)

    def pullback(g: Array) -> Thunks:
        summed = once(lambda: accurate_sum(g, axes))
        weighted = once(lambda: accurate_sum(g * normal(), axes))

        def dx() -> Array:
            scale = statistics()[1] if weight is None else statistics()[1] * weight.reshape(along)
            if not by_batch:
                return g * scale
            inner = g - summed().reshape(along) / np.asarray(count, x.dtype)
            inner -= normal() * (weighted().reshape(along) / np.asarray(count, x.dtype))
            inner *= scale
            return inner

        return {"x": dx, "weight": weighted, "bias": summed}

    return x.shape, once(value), pullback


batch_norm_vjp = batch_norm.vjp
