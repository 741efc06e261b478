"""Moving channels into space and back, and among each other."""

from __future__ import annotations

import numpy as np

from fconv.arrays import Array, Shape
from fconv.engine.memory import empty_in_order
from fconv.engine.threads import run
from fconv.functional.core import Definition, differentiable, once
from fconv.options import whole

__all__ = [
    "channel_shuffle", "channel_shuffle_jvp", "channel_shuffle_vjp",
    "pixel_shuffle", "pixel_shuffle_jvp", "pixel_shuffle_vjp",
    "pixel_unshuffle", "pixel_unshuffle_jvp", "pixel_unshuffle_vjp",
]  # fmt: skip

_LEAST = 1 << 18
"""Elements that threads gain by."""


def shuffled_shape(shape: Shape, upscale_factor: int) -> Shape:
    """Return the shape (..., C, H r, W r) of a picture (..., C r r, H, W)."""
    r = whole("pixel_shuffle", "upscale_factor", upscale_factor, 1)
    if len(shape) < 3:
        raise ValueError(
            f"pixel_shuffle: expected an input of 3 axes or more (..., C, H, W), got shape {shape}"
        )
    *leading, c, h, w = shape
    if c % r**2:
        raise ValueError(
            f"pixel_shuffle: expected channels that {r}**2 = {r**2} divides, got {c} (input shape {shape})"
        )
    return (*leading, c // r**2, h * r, w * r)


def unshuffled_shape(shape: Shape, downscale_factor: int) -> Shape:
    """Return the shape (..., C r r, H, W) of a picture (..., C, H r, W r)."""
    r = whole("pixel_unshuffle", "downscale_factor", downscale_factor, 1)
    if len(shape) < 3:
        raise ValueError(
            f"pixel_unshuffle: expected an input of 3 axes or more (..., C, H, W), got shape {shape}"
        )
    *leading, c, h, w = shape
    if h % r or w % r:
        raise ValueError(
            f"pixel_unshuffle: expected a height and width that {r} divides, got input shape {shape}"
        )
    return (*leading, c * r**2, h // r, w // r)


def check_shuffled(shape: Shape, groups: int) -> Shape:
    """Require channels that can be shuffled, and give the shape, which stays."""
    whole("channel_shuffle", "groups", groups, 1)
    if len(shape) < 3:
        raise ValueError(
            f"channel_shuffle: expected an input of 3 axes or more (N, C, ...), got shape {shape}"
        )
    if shape[1] % groups:
        raise ValueError(
            f"channel_shuffle: groups must divide the channels, got groups={groups} and {shape[1]} channels"
        )
    return shape


def _to_space(x: Array, r: int, shape: Shape) -> Array:
    """(..., C r r, H, W) to (..., C, H r, W r)."""
    *leading, c, h, w = x.shape
    n = len(leading)
    apart = x.reshape(*leading, c // r**2, r, r, h, w)
    return _copied(apart.transpose(*range(n + 1), n + 3, n + 1, n + 4, n + 2), x, shape)


def _to_channels(x: Array, r: int, shape: Shape) -> Array:
    """(..., C, H r, W r) to (..., C r r, H, W)."""
    *leading, c, h, w = x.shape
    n = len(leading)
    apart = x.reshape(*leading, c, h // r, r, w // r, r)
    return _copied(apart.transpose(*range(n + 1), n + 2, n + 4, n + 1, n + 3), x, shape)


def _copied(view: Array, x: Array, shape: Shape) -> Array:
    """Return ``view.reshape(shape)`` of a view of `x` in its memory order; a large copy on all threads."""
    if not isinstance(view, np.ndarray) or not view.size:
        return view.reshape(shape)
    y = empty_in_order(x, shape)
    laid = y.reshape(view.shape)  # a view: axes are only divided
    axis = next((axis for axis, size in enumerate(view.shape) if size > 1), 0)
    before = (0,) * axis

    def work(i: int) -> None:
        np.copyto(laid[(*before, i)], view[(*before, i)])

    if view.size < _LEAST:
        np.copyto(laid, view)
    else:
        run(work, view.shape[axis])
    return y


def _interleaved(x: Array, groups: int) -> Array:
    """Take the first channel of each group, then the second of each, and so on."""
    n, c, *size = x.shape
    return x.reshape(n, groups, c // groups, *size).swapaxes(1, 2).reshape(x.shape)


@differentiable("x", widens=False, linear=True)
def pixel_shuffle(x: Array, upscale_factor: int) -> Definition:
    """Move channels into space, ``y[..., c, h r + i, w r + j] = x[..., c r r + i r + j, h, w]``.

    Parameters
    ----------
    x : array, shape (..., C r r, H, W)
        Floating-point.
    upscale_factor : int
        The factor r.

    Returns
    -------
    array, shape (..., C, H r, W r)
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Channels that r r does not divide, a wrong rank, or an `x` that is not floating-point.

    References
    ----------
    Shi et al., "Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> pixel_shuffle(np.arange(4.0).reshape(1, 4, 1, 1), 2)
    array([[[[0., 1.],
             [2., 3.]]]])
    """
    shape = shuffled_shape(x.shape, upscale_factor)
    return (
        shape,
        once(lambda: _to_space(x, upscale_factor, shape)),
        lambda g: _to_channels(g, upscale_factor, x.shape),
    )


@differentiable("x", widens=False, linear=True)
def pixel_unshuffle(x: Array, downscale_factor: int) -> Definition:
    """Move space into channels: the inverse of `pixel_shuffle`.

    Parameters
    ----------
    x : array, shape (..., C, H r, W r)
        Floating-point.
    downscale_factor : int
        The factor r.

    Returns
    -------
    array, shape (..., C r r, H, W)
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        A picture that r does not divide, a wrong rank, or an `x` that is not floating-point.

    Examples
    --------
    >>> import numpy as np
    >>> pixel_unshuffle(np.arange(4.0).reshape(1, 1, 2, 2), 2).ravel()
    array([0., 1., 2., 3.])
    """
    shape = unshuffled_shape(x.shape, downscale_factor)
    return (
        shape,
        once(lambda: _to_channels(x, downscale_factor, shape)),
        lambda g: _to_space(g, downscale_factor, x.shape),
    )


@differentiable("x", widens=False, linear=True)
def channel_shuffle(x: Array, groups: int) -> Definition:
    """Take the channels of groups in turn, ``y[:, i groups + g] = x[:, g C/groups + i]``.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point, with one spatial axis or more.
    groups : int
        Number of groups; it divides C.

    Returns
    -------
    array, shape of `x`
        In the dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Channels that the groups do not divide, a wrong rank, or an `x` that is not floating-point.

    References
    ----------
    Zhang et al., "ShuffleNet: an extremely efficient convolutional neural network for mobile
    devices", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> channel_shuffle(np.arange(6.0).reshape(1, 6, 1), 2).ravel()
    array([0., 3., 1., 4., 2., 5.])
    """
    check_shuffled(x.shape, groups)
    return (
        x.shape,
        once(lambda: _interleaved(x, groups)),
        lambda g: _interleaved(g, x.shape[1] // groups if x.size else 1),
    )


channel_shuffle_jvp, channel_shuffle_vjp = channel_shuffle.jvp, channel_shuffle.vjp
pixel_shuffle_jvp, pixel_shuffle_vjp = pixel_shuffle.jvp, pixel_shuffle.vjp
pixel_unshuffle_jvp, pixel_unshuffle_vjp = pixel_unshuffle.jvp, pixel_unshuffle.vjp
