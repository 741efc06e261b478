"""Normalisation of channels by statistics that may be kept running: batch and instance norm."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TypeAlias

import numpy as np

from fconv.arrays import Array, check_floating, namespace, native, widened, xp_of
from fconv.functional.batch_normal import batch_normal, passes_over
from fconv.functional.channels import sample_passes
from fconv.functional.core import Definition, differentiable
from fconv.functional.moments import Statistics, mean_over, moments, normalised

__all__ = [
    "batch_moments",
    "batch_norm", "batch_norm_jvp", "batch_norm_vjp",
    "instance_moments",
    "instance_norm", "instance_norm_jvp", "instance_norm_vjp",
    "running_statistics",
]  # fmt: skip

Axes: TypeAlias = tuple[int, ...]


def batch_moments(x: Array) -> Statistics:
    """Mean and biased variance of each channel over the batch and all positions.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point.

    Returns
    -------
    tuple of float64 array, each of shape (C,)
        (mean, variance): what `batch_norm` normalises by in training.

    Raises
    ------
    ValueError
        `x` has fewer than two axes, or one value a channel, which has no variance.
    TypeError
        `x` is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> batch_moments(np.array([[1.0, 5.0], [3.0, 5.0]]))
    (array([2., 5.]), array([1., 0.]))
    """
    return _channel_moments("batch_norm", x, _over_batch)


def instance_moments(x: Array) -> Statistics:
    """Mean and biased variance of each channel of each sample over all positions.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point.

    Returns
    -------
    tuple of float64 array, each of shape (N, C)
        (mean, variance): what `instance_norm` normalises by.

    Raises
    ------
    ValueError
        `x` has fewer than three axes, or one position, which has no variance.
    TypeError
        `x` is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> instance_moments(np.array([[[1.0, 3.0], [5.0, 5.0]]]))
    (array([[2., 5.]]), array([[1., 0.]]))
    """
    return _channel_moments("instance_norm", x, _over_positions)


def _channel_moments(name: str, x: Array, over: Callable[[str, Array, bool], Axes]) -> Statistics:
    if type(x) is not np.ndarray or x.dtype.char not in "fd" or not x.dtype.isnative:
        namespace(name, x=x)
        check_floating(name, x=x)
        x = widened(native(x))
    axes = over(name, x, True)
    kept = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    passes = passes_over(x) if kept == x.shape[1:2] else None
    mean, variance = moments(x, axes) if passes is None else passes.moments()
    return mean.reshape(kept), variance.reshape(kept)


def running_statistics(x: Array, batch: Statistics, running: Statistics, momentum: float) -> Statistics:
    """Move running statistics towards those of a batch, as PyTorch does.

    ``running = (1 - momentum) * running + momentum * batch``, the batch's variance being the
    unbiased one (divided by n - 1), and the statistics of instances being averaged.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        The batch.
    batch : tuple of array, each of shape (C,) or (N, C)
        What `batch_moments` or `instance_moments` gave for it.
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
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> running_statistics(x, batch_moments(x), (np.zeros(1), np.ones(1)), 0.1)
    (array([0.2]), array([1.1]))
    """
    if x.size == 0:
        return running
    count, share = x.size // batch[0].size, float(momentum)

    def moved(old: Array, new: Array) -> Array:
        new = mean_over(new, (0,))[0] if new.ndim == 2 else new
        old = native(old)
        return ((1 - share) * widened(old) + share * new).astype(old.dtype, copy=False)

    with np.errstate(over="ignore"):
        return moved(running[0], batch[0]), moved(running[1], batch[1] * (count / max(1, count - 1)))


def _over_batch(name: str, x: Array, by_batch: bool) -> Axes:
    """List the axes of a channel's statistics: the batch and all positions."""
    if x.ndim < 2:
        raise ValueError(f"{name}: expected an input of shape (N, C, ...), got {x.shape}")
    axes = (0, *range(2, x.ndim))
    if by_batch and prod(x.shape[axis] for axis in axes) == 1:
        raise ValueError(
            f"{name}: expected more than one value per channel in training, got input shape {x.shape}"
        )
    return axes


def _over_positions(name: str, x: Array, by_batch: bool) -> Axes:
    """List the axes of an instance's statistics: all positions."""
    if x.ndim < 2:
        raise ValueError(f"{name}: expected an input of shape (N, C, ...), got {x.shape}")
    if by_batch and prod(x.shape[2:]) == 1:
        raise ValueError(f"{name}: expected more than one position, got input shape {x.shape}")
    return tuple(range(2, x.ndim))


def _by_channel(
    x: Array,
    axes: Axes,
    running: Statistics | None,
    batch: Statistics | None,
    weight: Array | None,
    bias: Array | None,
    eps: float,
) -> Definition:
    """Define a norm of each channel by running statistics, by `batch`, or by moments over `axes`."""
    along = (x.shape[1], *(1,) * (x.ndim - 2))
    laid = (*(1 if axis in axes else size for axis, size in enumerate(x.shape[:2])), *along[1:])
    given = running or batch
    shape = along if running else laid
    return normalised(
        x, axes, (1, *along), weight, bias, eps,
        given=None if given is None else lambda: (given[0].reshape(shape), given[1].reshape(shape)),
        fixed=running is not None,
    )  # fmt: skip


def _check_channels(name: str, x: Array, **named: Array | None) -> None:
    channels = x.shape[1]
    for argument, array in named.items():
        if array is not None and array.shape != (channels,):
            raise ValueError(
                f"{name}: expected a {argument} of shape {(channels,)} for {channels} channels "
                f"(input shape {x.shape}), got {array.shape}"
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
    batch: Statistics | None = None,
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
        Accepted as in PyTorch, but without effect, since running statistics are not updated in place. See
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
        Arrays that are not floating-point, or that differ in dtype or library.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> batch_norm(np.array([[1.0], [3.0]]), training=True, eps=0.0)
    array([[-1.],
           [ 1.]])
    """
    if not training and (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: expected both running_mean and running_var or neither, got one of them")
    running = None if training or running_mean is None or running_var is None else (running_mean, running_var)
    if x.shape == (0,):  # as PyTorch has it: of no samples not even the channels are looked at
        none = {"weight": weight, "bias": bias}
        return (
            (0,),
            lambda: x,
            lambda g: (
                {"x": lambda: g}
                | {name: lambda v=v: xp_of(v).zeros_like(v) for name, v in none.items() if v is not None}
            ),
            lambda moved: x,
        )
    axes = _over_batch("batch_norm", x, running is None)
    _check_channels(
        "batch_norm", x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    passes = passes_over(x)
    if passes is not None:
        return batch_normal(passes, x, weight, bias, eps, running or batch, running is not None)
    return _by_channel(x, axes, running, batch, weight, bias, eps)


@differentiable(
    "x", "running_mean", "running_var", "weight", "bias", constants=("running_mean", "running_var")
)
def instance_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    batch: Statistics | None = None,
) -> Definition:
    """Normalise each channel of each sample, ``y = (x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point, with one spatial axis or more.
    running_mean, running_var : array, shape (C,), optional
        What to normalise by without `use_input_stats`.
    weight, bias : array, shape (C,), optional
        Scale and shift.
    use_input_stats : bool
        Normalise by mean and biased variance over the positions, and differentiate through them.
    momentum : float
        Without effect, as in `batch_norm`; see `running_statistics`.
    eps : float
        Added to the variance.
    batch : tuple of array, optional
        What `instance_moments` gives for `x`, where the caller has it already.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    ValueError
        Shapes that do not fit, one position alone, or no running statistics where they are needed.
    TypeError
        Arrays that are not floating-point, or that differ in dtype or library.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, "Instance normalization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> instance_norm(np.array([[[1.0, 3.0], [5.0, 9.0]]]), eps=0.0)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    running = None
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError(
                "instance_norm: expected running_mean and running_var where use_input_stats is False"
            )
        running = (running_mean, running_var)
    axes = _over_positions("instance_norm", x, use_input_stats)
    _check_channels(
        "instance_norm", x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    passes = None if running else sample_passes(x, x.shape[1])
    if passes is not None:
        return batch_normal(passes, x, weight, bias, eps, batch, False, within=passes)
    return _by_channel(x, axes, running, batch, weight, bias, eps)


batch_norm_jvp, batch_norm_vjp = batch_norm.jvp, batch_norm.vjp
instance_norm_jvp, instance_norm_vjp = instance_norm.jvp, instance_norm.vjp
