"""Training data: splitting and normalising it, and augmenting batches as pure functions of a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fconv import random
from fconv.arrays import Array, describe, xp_of
from fconv.options import number, whole

__all__ = ["color_jitter", "cutout", "mixup", "normalize", "random_rotations", "train_test_split"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and torchvision weight red, green and blue


def train_test_split(key: Array, *arrays: Array, test_size: float | int = 0.2) -> tuple[Array, ...]:
    """Split arrays into two parts, shuffled by a key and alike in all of them.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key splits alike.
    *arrays : array
        Of one length, such as pictures and labels.
    test_size : float or int
        Share of the samples in the second part, above 0 and below 1, rounded up; or their number.

    Returns
    -------
    tuple of array
        ``(x_train, x_test, t_train, t_test, ...)``, as scikit-learn's function of this name orders them.

    Raises
    ------
    ValueError, TypeError
        No arrays, different lengths, a part without samples, or `key` is no key.

    Examples
    --------
    >>> x_train, x_test, t_train, t_test = train_test_split(random.key(0), np.arange(10), -np.arange(10))
    >>> len(x_train), len(x_test), bool((t_test == -x_test).all())
    (8, 2, True)
    """
    name = "train_test_split"
    random.check_key(name, key)
    count = _length(name, arrays)
    if isinstance(test_size, float):
        share = number(name, "test_size", test_size, 0, above=True, most=1)
        size = int(np.ceil(share * count))
    else:
        size = whole(name, "test_size", test_size)
    if not 0 < size < count:
        raise ValueError(f"{name}: expected samples in both parts, got {count} with test_size={test_size}")
    order = random.permutation(key, count)
    return tuple(x[part] for x in arrays for part in (order[size:], order[:size]))


def normalize(x: Array, mean: Any, std: Any) -> Array:
    """Subtract the mean of each channel and divide by its deviation.

    Parameters
    ----------
    x : array, shape (..., C, H, W)
        Pictures, floating-point.
    mean, std : float or sequence of float
        One number, or one for each channel; `std` above 0.

    Returns
    -------
    array
        New, in the shape and dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        Numbers for other channels, a deviation that is not above 0, or integer pictures.

    Examples
    --------
    >>> normalize(np.full((1, 2, 1, 1), 0.75), (0.5, 0.25), 0.25).ravel()
    array([1., 2.])
    """
    _pictures("normalize", x)
    center, width = _per_channel("normalize", "mean", mean, x), _per_channel("normalize", "std", std, x)
    if not all(w > 0 for w in width):
        raise ValueError(f"normalize: expected std above 0, got {std}")
    xp = xp_of(x)
    return (x - xp.asarray(center, x.dtype)[:, None, None]) / xp.asarray(width, x.dtype)[:, None, None]


def random_rotations(key: Array, *batches: Array, degrees: float, fill: float = 0.0) -> tuple[Array, ...]:
    """Rotate the samples of batches about their centre by angles drawn from a key, the same in all batches.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key draws the same angles.
    *batches : array, each (N, C, H, W)
        Floating-point batches of one length and size, such as inputs and targets.
    degrees : float
        Angles are drawn evenly from ``-degrees`` to ``degrees``.
    fill : float
        Value of what comes from outside the picture.

    Returns
    -------
    tuple of array
        New batches, interpolated bilinearly.

    Raises
    ------
    ValueError, TypeError
        No batches, different lengths, negative degrees, or `key` is no key.

    Examples
    --------
    >>> x = np.eye(5).reshape(1, 1, 5, 5)
    >>> (y,) = random_rotations(random.key(0), x, degrees=0)
    >>> bool((x == y).all())
    True
    """
    name = "random_rotations"
    count = _length(name, batches)
    degrees, fill = number(name, "degrees", degrees, 0), number(name, "fill", fill)
    angles = np.deg2rad((2 * random.uniform(key, (count,), np.float64) - 1) * degrees)
    return tuple(_rotated(name, x, angles, fill) for x in batches)


def _rotated(name: str, x: Array, angles: Array, fill: float) -> Array:
    _pictures(name, x, 4)
    xp, (height, width) = xp_of(x), x.shape[2:]
    rows, columns = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    cos, sin = (f(angles)[:, None, None] for f in (np.cos, np.sin))
    # Where each pixel comes from, in a picture with a border of one pixel around it.
    down = np.clip(cos * rows + sin * columns + (height - 1) / 2 + 1, 0, height + 1)
    right = np.clip(cos * columns - sin * rows + (width - 1) / 2 + 1, 0, width + 1)
    top, left = np.minimum(down.astype(int), height), np.minimum(right.astype(int), width)
    lower, later = (xp.asarray(a, x.dtype)[:, None] for a in (down - top, right - left))
    padded = xp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=fill)
    sample = xp.arange(len(x))[:, None, None]
    top, left = xp.asarray(top), xp.asarray(left)

    def at(i: int, j: int) -> Array:
        return xp.moveaxis(padded[sample, :, top + i, left + j], -1, 1)

    upper = at(0, 0) * (1 - later) + at(0, 1) * later
    return upper * (1 - lower) + (at(1, 0) * (1 - later) + at(1, 1) * later) * lower


def color_jitter(
    key: Array, x: Array, *, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0
) -> Array:
    """Change brightness, contrast and saturation of each picture by factors that a key draws.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key draws the same factors.
    x : array, shape (N, 3, H, W) or (N, 1, H, W)
        Pictures from 0 to 1, floating-point; red, green and blue, or grey.
    brightness, contrast, saturation : float
        Each factor is drawn evenly from ``max(0, 1 - option)`` to ``1 + option``. They blend the picture with
        black, with the mean of its grey values, and with its grey picture, in this order.

    Returns
    -------
    array
        New pictures, from 0 to 1.

    Raises
    ------
    ValueError, TypeError
        Other channels, a negative option, integer pictures, or `key` is no key.

    Examples
    --------
    >>> y = color_jitter(random.key(0), np.full((2, 3, 4, 4), 0.5), brightness=0.2)
    >>> y.shape, bool((0.4 <= y).all() and (y <= 0.6).all())
    ((2, 3, 4, 4), True)
    """
    name = "color_jitter"
    random.check_key(name, key)
    _pictures(name, x, 4)
    if x.shape[1] not in (1, 3):
        raise ValueError(f"{name}: expected pictures of 1 or 3 channels, got shape {x.shape}")
    options = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    xp = xp_of(x)
    luma = xp.asarray(_LUMA if x.shape[1] == 3 else (1.0,), x.dtype)[:, None, None]
    y = x
    for option, k in zip(options, random.split(key, 3), strict=True):
        most = number(name, option, options[option], 0)
        low = max(0.0, 1 - most)
        drawn = low + random.uniform(k, (len(x), 1, 1, 1), np.float64) * (1 + most - low)
        factor = xp.asarray(drawn, x.dtype)
        grey = (y * luma).sum(axis=1, keepdims=True)
        other = {
            "brightness": 0 * grey,
            "contrast": grey.mean(axis=(2, 3), keepdims=True),
            "saturation": grey,
        }
        y = xp.clip(factor * y + (1 - factor) * other[option], 0, 1)
    return y


def cutout(key: Array, x: Array, size: int, *, fill: float = 0.0) -> Array:
    """Blank a square of each picture, around a position drawn from a key.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key blanks the same squares.
    x : array, shape (N, C, H, W)
        Pictures.
    size : int
        Side of the square; a part outside the picture is ignored.
    fill : float
        What the square holds.

    Returns
    -------
    array
        New pictures.

    Raises
    ------
    ValueError, TypeError
        A size below 1, integer pictures, or `key` is no key.

    References
    ----------
    DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.

    Examples
    --------
    >>> y = cutout(random.key(0), np.ones((2, 1, 6, 6)), 1)
    >>> (y == 0).sum(axis=(1, 2, 3))
    array([1, 1])
    """
    random.check_key("cutout", key)
    _pictures("cutout", x, 4)
    size, fill = whole("cutout", "size", size), number("cutout", "fill", fill)
    count, (height, width) = len(x), x.shape[2:]
    drawn = random.uniform(key, (2, count), np.float64)
    inside = []
    for share, length in zip(drawn, (height, width), strict=True):
        first = np.minimum((share * length).astype(int), length - 1)[:, None] - size // 2
        inside.append((np.arange(length) >= first) & (np.arange(length) < first + size))
    xp = xp_of(x)
    blank = xp.asarray(inside[0][:, None, :, None] & inside[1][:, None, None, :])
    return xp.where(blank, xp.asarray(fill, x.dtype), x)


def mixup(key: Array, x: Array, target: Array, *, alpha: float = 0.2) -> tuple[Array, Array]:
    """Mix each sample of a batch with another, and their targets alike.

    ``share * x + (1 - share) * x[order]``, with a share for each sample from the distribution
    Beta(alpha, alpha) and an order that the key draws.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key mixes the same samples.
    x : array, shape (N, ...)
        Samples, floating-point.
    target : array, shape (N, ...)
        Floating-point: probabilities or one-hot vectors, as `cross_entropy_loss` takes them, or values.
    alpha : float
        Above 0; the larger, the more evenly they are mixed.

    Returns
    -------
    (array, array)
        Mixed samples and targets.

    Raises
    ------
    ValueError, TypeError
        Different lengths, integer labels, `alpha` not above 0, or `key` is no key.

    References
    ----------
    Zhang et al., "mixup: beyond empirical risk minimization", 2018.

    Examples
    --------
    >>> x, t = mixup(random.key(0), np.eye(4), np.eye(4))
    >>> bool((x == t).all()), x.sum(axis=1)
    (True, array([1., 1., 1., 1.]))
    """
    random.check_key("mixup", key)
    count = _length("mixup", (x, target))
    alpha = number("mixup", "alpha", alpha, 0, above=True)
    for what, array in (("x", x), ("target", target)):
        if array.dtype.kind != "f":
            raise TypeError(
                f"mixup: expected {what} in floating point, got {array.dtype}; one-hot labels are "
                f"np.eye(classes, dtype=x.dtype)[labels]"
            )
    order_key, share_key = random.split(key)
    order = random.permutation(order_key, count)
    drawn = np.random.Generator(np.random.Philox(key=share_key)).beta(alpha, alpha, count)

    def mixed(a: Array) -> Array:
        share = xp_of(a).asarray(drawn, a.dtype).reshape(count, *(1,) * (a.ndim - 1))
        return share * a + (1 - share) * a[order]

    return mixed(x), mixed(target)


def _length(name: str, arrays: Sequence[Array]) -> int:
    """Require arrays of one length, and return it."""
    if not arrays or len({len(x) for x in arrays}) != 1:
        raise ValueError(f"{name}: expected arrays of one length, got lengths {[len(x) for x in arrays]}")
    return len(arrays[0])


def _pictures(name: str, x: Any, axes: int | None = None) -> None:
    if getattr(getattr(x, "dtype", None), "kind", "") != "f":
        raise TypeError(f"{name}: expected floating-point pictures, got {describe(x)}; divide bytes by 255")
    if x.ndim < 3 or (axes is not None and x.ndim != axes):
        form = "(N, C, H, W)" if axes == 4 else "(..., C, H, W)"
        raise ValueError(f"{name}: expected pictures {form}, got shape {x.shape}")


def _per_channel(name: str, what: str, values: Any, x: Array) -> list[float]:
    given = list(values) if hasattr(values, "__len__") else [values] * x.shape[-3]
    if len(given) != x.shape[-3]:
        raise ValueError(f"{name}: expected {what} for {x.shape[-3]} channels, got {len(given)} numbers")
    return [number(name, what, float(v) if hasattr(v, "dtype") else v) for v in given]
