"""Normalisation within each sample: layer, group and RMS norm."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fconv.arrays import Array, Shape, xp_of
from fconv.functional.batch_normal import batch_normal
from fconv.functional.channels import sample_passes
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.derivatives import pushed
from fconv.functional.moments import normalised
from fconv.options import whole

__all__ = [
    "group_norm", "group_norm_jvp", "group_norm_vjp",
    "layer_norm", "layer_norm_jvp", "layer_norm_vjp",
    "rms_norm", "rms_norm_jvp", "rms_norm_vjp",
]  # fmt: skip


@differentiable("x", "weight", "bias")
def layer_norm(
    x: Array,
    normalized_shape: Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Definition:
    """Normalise over the last axes, ``y = (x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    x : array, shape ``(..., *normalized_shape)``
        Floating-point.
    normalized_shape : sequence of int
        Sizes of the last axes, which mean and biased variance are taken over.
    weight, bias : array, shape normalized_shape, optional
        Scale and shift.
    eps : float
        Added to the variance.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    ValueError
        Shapes that do not fit.
    TypeError
        Arrays that are not floating-point, or that differ in dtype or library.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> layer_norm(np.array([[1.0, 3.0], [5.0, 9.0]]), (2,), eps=0.0)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    sizes = last_sizes("layer_norm", x.shape, normalized_shape)
    _check_parameters("layer_norm", sizes, weight=weight, bias=bias)
    return _over_last(x, sizes, weight, bias, eps, centred=True)


@differentiable("x", "weight")
def rms_norm(
    x: Array, normalized_shape: Sequence[int], weight: Array | None = None, eps: float | None = None
) -> Definition:
    """Divide by the root of the mean square over the last axes, ``x / sqrt(mean(x**2) + eps) * weight``.

    Parameters
    ----------
    x : array, shape ``(..., *normalized_shape)``
        Floating-point.
    normalized_shape : sequence of int
        Sizes of the last axes, which the mean is taken over.
    weight : array, shape normalized_shape, optional
        Scale.
    eps : float, optional
        Added to the mean square; by default the precision of the dtype computed in, which is
        that of float32 for float16, as in PyTorch.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    ValueError
        Shapes that do not fit.
    TypeError
        Arrays that are not floating-point, or that differ in dtype or library.

    References
    ----------
    Zhang and Sennrich, "Root mean square layer normalization", 2019.

    Examples
    --------
    >>> rms_norm(np.array([[1.0, 7.0]]), (2,))
    array([[0.2, 1.4]])
    """
    sizes = last_sizes("rms_norm", x.shape, normalized_shape)
    _check_parameters("rms_norm", sizes, weight=weight)
    added = float(np.finfo(x.dtype).eps) if eps is None else eps
    return _over_last(x, sizes, weight, None, added, centred=False)


@differentiable("x", "weight", "bias")
def group_norm(
    x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Definition:
    """Normalise groups of channels, ``y = (x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point.
    num_groups : int
        Into how many groups of neighbours the channels are divided; mean and biased variance
        are taken over the channels of a group and all positions of a sample.
    weight, bias : array, shape (C,), optional
        Scale and shift of each channel.
    eps : float
        Added to the variance.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    ValueError
        Shapes that do not fit, groups that do not divide the channels, or (as in PyTorch) a
        single value for each group in the whole batch.
    TypeError
        Arrays that are not floating-point, or that differ in dtype or library.

    References
    ----------
    Wu and He, "Group normalization", 2018.

    Examples
    --------
    >>> group_norm(np.array([[1.0, 3.0, 5.0, 9.0]]), 2, eps=0.0)
    array([[-1.,  1., -1.,  1.]])
    """
    groups = check_group_shape("group_norm", x.shape, num_groups)
    channels = x.shape[1]
    _check_parameters("group_norm", (channels,), weight=weight, bias=bias)
    split = (groups, channels // groups)
    if x.shape[0] * split[1] * prod(x.shape[2:]) == 1:
        raise ValueError(f"group_norm: expected more than one value per group, got input shape {x.shape}")
    passes = sample_passes(x, groups)
    if passes is not None:
        return batch_normal(passes, x, weight, bias, eps, None, False, within=passes)
    parted = x.reshape(x.shape[0], *split, *x.shape[2:])
    axes, along = tuple(range(2, parted.ndim)), (1, *split, *(1,) * (x.ndim - 2))
    _, value, pullback, push = normalised(parted, axes, along, weight, bias, eps)

    def joined(g: Array) -> dict[str, object]:
        grads = pullback(g.reshape(parted.shape))
        return {**grads, "x": lambda: grads["x"]().reshape(x.shape)}

    def joined_push(moved: dict[str, Array]) -> Array:
        entering = moved | ({"x": moved["x"].reshape(parted.shape)} if "x" in moved else {})
        return xp_of(x).broadcast_to(pushed(push, entering), parted.shape).reshape(x.shape)

    return x.shape, once(lambda: value().reshape(x.shape)), joined, joined_push


def last_sizes(name: str, shape: Shape, normalized_shape: Sequence[int]) -> Shape:
    """Return the sizes of the last axes, after checking that an input of `shape` has them."""
    sizes = check_sizes(name, normalized_shape)
    if shape[-len(sizes) :] != sizes:
        raise ValueError(
            f"{name}: expected an input of shape (..., {', '.join(map(str, sizes))}), got {shape}"
        )
    return sizes


def check_sizes(name: str, normalized_shape: Sequence[int]) -> Shape:
    """Return `normalized_shape` as a tuple of one or more ints."""
    if isinstance(normalized_shape, str) or not isinstance(normalized_shape, Sequence):
        raise TypeError(f"{name}: normalized_shape must be a sequence of integers, got {normalized_shape!r}")
    sizes = tuple(whole(name, "a size in normalized_shape", size, 0) for size in normalized_shape)
    if not sizes:
        raise ValueError(f"{name}: expected a normalized_shape of one axis or more, got ()")
    return sizes


def check_group_shape(name: str, shape: Shape, num_groups: int) -> int:
    """Require channels that `num_groups` divides, and give `num_groups` as an int."""
    groups = whole(name, "num_groups", num_groups, 1)
    if len(shape) < 2:
        raise ValueError(f"{name}: expected an input of shape (N, C, ...), got {shape}")
    if shape[1] % groups:
        raise ValueError(
            f"{name}: num_groups must divide the channels, got num_groups={groups} and input shape {shape}"
        )
    return groups


def _over_last(
    x: Array, sizes: Shape, weight: Array | None, bias: Array | None, eps: float, centred: bool
) -> Definition:
    before = x.ndim - len(sizes)
    return normalised(
        x, tuple(range(before, x.ndim)), (1,) * before + sizes, weight, bias, eps, centred=centred
    )


def _check_parameters(name: str, shape: Shape, **named: Array | None) -> None:
    for argument, array in named.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{name}: expected a {argument} of shape {shape}, got {array.shape}")


layer_norm_jvp, layer_norm_vjp = layer_norm.jvp, layer_norm.vjp
rms_norm_jvp, rms_norm_vjp = rms_norm.jvp, rms_norm.vjp
group_norm_jvp, group_norm_vjp = group_norm.jvp, group_norm.vjp
