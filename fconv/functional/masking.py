"""Random masks: each is a function of the key and of its shape."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import sqrt

import numpy as np

from fconv import random
from fconv.arrays import Array, Shape, describe, full_like_order, xp_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.one_pass import in_one_pass
from fconv.functional.smooth import SELU_ALPHA, SELU_SCALE
from fconv.geometry import spatial_names

__all__ = [
    "alpha_dropout", "alpha_dropout_jvp", "alpha_dropout_vjp", "dropout", "dropout1d", "dropout1d_jvp",
    "dropout1d_vjp", "dropout2d", "dropout2d_jvp", "dropout2d_vjp", "dropout3d", "dropout3d_jvp",
    "dropout3d_vjp", "dropout_jvp", "dropout_vjp", "stochastic_depth", "stochastic_depth_jvp",
    "stochastic_depth_vjp",
]  # fmt: skip


@differentiable("x", widens=False, symmetric=True)
def dropout(x: Array, p: float = 0.5, training: bool = True, key: Array | None = None) -> Definition:
    """Set elements to 0 with probability `p`, and scale the others by ``1 / (1 - p)``.

    Parameters
    ----------
    x : array
        Any shape, floating-point.
    p : float
        Probability that an element is dropped (torch's meaning: not the share that is kept).
    training : bool
        Outside training the result is `x` itself.
    key : array of uint64, shape (2,)
        The mask is a function of the key and the shape; needed in training.

    Returns
    -------
    array
        In the shape and dtype of `x`.

    Raises
    ------
    ValueError
        `p` is outside [0, 1], or training has no key.
    TypeError
        `x` is not floating-point, or `key` is no key.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(set(dropout(np.ones(100), 0.5, key=random.key(0)).tolist()))
    [0.0, 2.0]
    """
    return _dropped("dropout", x, p, training, key, x.shape)


@differentiable("x", widens=False, symmetric=True)
def dropout1d(x: Array, p: float = 0.5, training: bool = True, key: Array | None = None) -> Definition:
    """Drop whole channels: `dropout` with one draw for each channel of (N, C, L) or (C, L)."""
    return _dropped("dropout1d", x, p, training, key, channel_mask_shape("dropout1d", x.shape, 1))


@differentiable("x", widens=False, symmetric=True)
def dropout2d(x: Array, p: float = 0.5, training: bool = True, key: Array | None = None) -> Definition:
    """Drop whole channels: `dropout` with one draw for each channel of (N, C, H, W).

    An input of three axes is taken for (N, C, L), as PyTorch does, not for a single (C, H, W).

    References
    ----------
    Tompson et al., "Efficient object localization using convolutional networks", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> dropout2d(np.ones((1, 4, 1, 2)), 0.5, key=random.key(1))[0, :, 0]
    array([[2., 2.],
           [2., 2.],
           [0., 0.],
           [0., 0.]])
    """
    return _dropped("dropout2d", x, p, training, key, channel_mask_shape("dropout2d", x.shape, 2))


@differentiable("x", widens=False, symmetric=True)
def dropout3d(x: Array, p: float = 0.5, training: bool = True, key: Array | None = None) -> Definition:
    """Drop whole channels: `dropout` with one draw for each channel of (N, C, D, H, W) or (C, D, H, W)."""
    return _dropped("dropout3d", x, p, training, key, channel_mask_shape("dropout3d", x.shape, 3))


@differentiable("x", widens=False, symmetric=True)
def stochastic_depth(
    x: Array, p: float, mode: str = "row", training: bool = True, key: Array | None = None
) -> Definition:
    """Drop whole samples, as torchvision.ops.stochastic_depth: what a residual branch adds to them.

    Parameters
    ----------
    x, p, training, key
        As for `dropout`.
    mode : {"row", "batch"}
        One draw for each sample, or one for the whole batch.

    Returns
    -------
    array
        In the shape and dtype of `x`; what is kept is scaled by ``1 / (1 - p)``.

    Raises
    ------
    ValueError, TypeError
        Another mode, an input without a batch axis, and as for `dropout`.

    References
    ----------
    Huang et al., "Deep networks with stochastic depth", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> stochastic_depth(np.ones((4, 2)), 0.5, key=random.key(1))[:, 0]
    array([2., 2., 0., 0.])
    """
    check_mode(mode)
    if not x.ndim:
        raise ValueError("stochastic_depth: expected an input with a batch axis, got shape ()")
    mask = (x.shape[0] if mode == "row" else 1, *(1,) * (x.ndim - 1))
    return _dropped("stochastic_depth", x, p, training, key, mask)


def check_mode(mode: str) -> None:
    """Require a mode of `stochastic_depth`."""
    if mode not in ("row", "batch"):
        raise ValueError(f'stochastic_depth: expected mode "row" or "batch", got {mode!r}')


@differentiable("x", symmetric=True)
def alpha_dropout(x: Array, p: float = 0.5, training: bool = False, key: Array | None = None) -> Definition:
    """Dropout that keeps the mean 0 and the variance 1 of the elements that `selu` gives.

    Dropped elements become selu's value far below 0, and then all are scaled and shifted.

    Parameters
    ----------
    x, p, key
        As for `dropout`.
    training : bool
        As for `dropout`, but False by default, as in PyTorch.

    Returns
    -------
    array
        In the shape and dtype of `x`; 0 where ``p`` is 1.

    Raises
    ------
    ValueError, TypeError
        As for `dropout`.

    References
    ----------
    Klambauer et al., "Self-normalizing neural networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> alpha_dropout(np.zeros(4), 0.5, training=True, key=random.key(1)).round(2)
    array([ 0.78,  0.78, -0.78, -0.78])
    """
    kept = _kept("alpha_dropout", p, training, key)
    if kept is None or p == 1:
        return _dropped("alpha_dropout", x, p, training, key, x.shape)
    p = float(p)
    low = -SELU_ALPHA * SELU_SCALE
    scale = 1.0 / sqrt((1.0 - p) * (1.0 + p * low * low))
    mask = once(lambda: _in_order_of(x, kept(x.shape)))

    def value() -> Array:
        return scale * (x * mask() + low * (1 - mask())) - scale * low * p

    return x.shape, once(value), lambda g: g * (scale * mask())


def _dropped(
    name: str, x: Array, p: float, training: bool, key: Array | None, mask_shape: Shape
) -> Definition:
    """Return the definition of dropout by a mask of a shape that is broadcast to that of `x`."""
    kept = _kept(name, p, training, key)
    if kept is None:
        return x.shape, lambda: x, lambda g: g
    p = float(p)
    xp = xp_of(x)

    @once
    def mask() -> Array:
        # A product, not a selection, so that NaN passes through.
        scale = xp.asarray(1.0 / (1.0 - p) if p < 1 else 0.0, dtype=x.dtype)
        return _in_order_of(x, kept(mask_shape)) * scale

    return (
        x.shape,
        once(lambda: in_one_pass(operator.mul, x, mask())),
        lambda g: in_one_pass(operator.mul, g, mask()),
    )


def _in_order_of(x: Array, kept: Array) -> Array:
    """Return a mask in the library, dtype and memory order of `x`, so that products keep the order."""
    mask = full_like_order(x, kept.shape)
    mask[...] = xp_of(x).asarray(kept)
    return mask


def _kept(name: str, p: float, training: bool, key: Array | None) -> Callable[[Shape], Array] | None:
    """Check the options; give how to draw what is kept, or None where all is."""
    check_probability(name, p)
    p = float(p)
    if not training or p == 0:
        return None
    if key is None:
        raise ValueError(f"{name}: a key is needed in training (train=True); pass key=fconv.random.key(seed)")
    random.check_key(name, key)
    return lambda shape: random.bernoulli(key, 1.0 - p, shape)


def channel_mask_shape(name: str, shape: Shape, ndim: int) -> Shape:
    """Return the shape of a mask with one element for each channel.

    PyTorch takes an input of three axes to dropout2d for (N, C, L), and one of an axis less
    than a batch for a single sample elsewhere.
    """
    batch = ("N", "C", *spatial_names(ndim))
    other = ("N", "C", "L") if ndim == 2 else batch[1:]
    if len(shape) not in (ndim + 1, ndim + 2):
        raise ValueError(
            f"{name}: expected an input of shape ({', '.join(batch)}) or ({', '.join(other)}), got {shape}"
        )
    leading = 2 if len(shape) == ndim + 2 or ndim == 2 else 1
    return (*shape[:leading], *(1,) * (len(shape) - leading))


def check_probability(name: str, p: float) -> None:
    """Require a probability."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a probability p from 0 to 1, got {describe(p)}")
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: expected a probability p from 0 to 1, got {p}")


alpha_dropout_jvp, alpha_dropout_vjp = alpha_dropout.jvp, alpha_dropout.vjp
dropout1d_jvp, dropout1d_vjp = dropout1d.jvp, dropout1d.vjp
dropout2d_jvp, dropout2d_vjp = dropout2d.jvp, dropout2d.vjp
dropout3d_jvp, dropout3d_vjp = dropout3d.jvp, dropout3d.vjp
dropout_jvp, dropout_vjp = dropout.jvp, dropout.vjp
stochastic_depth_jvp, stochastic_depth_vjp = stochastic_depth.jvp, stochastic_depth.vjp
