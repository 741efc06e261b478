"""Noise on pictures as a pure function of a key: what Noise2Noise learns from."""

from __future__ import annotations

import numpy as np

from fconv import random
from fconv.arrays import Array, describe
from fconv.options import number

__all__ = ["gaussian_noise", "impulse_noise", "poisson_noise", "text_noise"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789"
_MISSES = 1000  # words in a row that cover nothing new


def gaussian_noise(key: Array, x: Array, sigma: float = 25 / 255) -> Array:
    """Add normal noise of deviation `sigma`; the result may leave the range from 0 to 1.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key draws the same noise.
    x : array
        NumPy, float32 or float64; of any shape.
    sigma : float
        In the units of `x`.

    Returns
    -------
    array
        New, in the shape and dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        `sigma` below 0, `x` no floating-point NumPy array, or `key` no key.

    Examples
    --------
    >>> y = gaussian_noise(random.key(0), np.zeros((100, 100), np.float32), 0.1)
    >>> round(float(y.std()), 2), y.dtype
    (0.1, dtype('float32'))
    """
    sigma = _checked("gaussian_noise", key, x, "sigma", sigma, 0, np.inf)
    return x + random.normal(key, x.shape, x.dtype, std=sigma)


def poisson_noise(key: Array, x: Array, peak: float = 30.0) -> Array:
    """Count photons: each element is a Poisson number of mean ``peak * x``, over `peak`.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key gives the same counts with the same version of NumPy.
    x : array
        As for `gaussian_noise`; elements below 0 count as 0.
    peak : float
        Mean count of an element of 1, above 0: the smaller, the noisier.

    Returns
    -------
    array
        New, in the shape and dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        As `gaussian_noise` raises them.

    Examples
    --------
    >>> y = poisson_noise(random.key(0), np.full((100, 100), 0.5), peak=30)
    >>> round(float(y.mean()), 2), round(float(y.var() * 30), 1)
    (0.5, 0.5)
    """
    peak = _checked("poisson_noise", key, x, "peak", peak, 1e-6, 1e9)
    if not np.isfinite(x).all():
        raise ValueError("poisson_noise: expected finite elements, got infinite ones or NaN")
    return (_generator(key).poisson(np.maximum(x, 0) * peak) / peak).astype(x.dtype)


def impulse_noise(key: Array, x: Array, share: float = 0.2) -> Array:
    """Replace pixels by a random colour, each channel uniform from 0 to 1.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key draws the same pixels and colours.
    x : array, shape (..., C, H, W)
        As for `gaussian_noise`.
    share : float
        Probability that a pixel is replaced, from 0 to 1.

    Returns
    -------
    array
        New, in the shape and dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        As `gaussian_noise` raises them; fewer than three axes.

    Examples
    --------
    >>> y = impulse_noise(random.key(0), np.full((3, 100, 100), 2.0), share=0.2)
    >>> round(float((y != 2).mean()), 1), bool((y == 2).all(axis=0).sum() == (y == 2).any(axis=0).sum())
    (0.2, True)
    """
    share = _checked("impulse_noise", key, x, "share", share, 0, 1, axes=3)
    which, colour = random.split(key)
    hit = random.bernoulli(which, share, (*x.shape[:-3], 1, *x.shape[-2:]))
    return np.where(hit, random.uniform(colour, x.shape, x.dtype), x)


def text_noise(key: Array, x: Array, share: float = 0.2) -> Array:
    """Write random words over pictures, in random sizes, colours and places.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        The same key writes the same words, with the same versions of NumPy and Pillow.
    x : array, shape (..., C, H, W)
        As for `gaussian_noise`.
    share : float
        Words are added until this share of the pixels is covered, from 0 to 0.9.

    Returns
    -------
    array
        New, in the shape and dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        As `gaussian_noise` raises them; fewer than three axes.
    ImportError
        Pillow is not installed.

    References
    ----------
    Lehtinen et al., "Noise2Noise: learning image restoration without clean data", 2018.

    Examples
    --------
    >>> y = text_noise(random.key(0), np.full((3, 64, 64), 2.0), share=0.25)
    >>> 0.25 <= (y != 2).any(axis=0).mean() < 0.5
    np.True_
    """
    share = _checked("text_noise", key, x, "share", share, 0, 0.9, axes=3)
    draw = _generator(key)
    y = x.copy(order="C")
    for picture in y.reshape(-1, *x.shape[-3:]) if y.size else ():
        _write_over(draw, picture, share)
    return y


def _write_over(draw: np.random.Generator, picture: Array, share: float) -> None:
    """Write words over a picture, in place."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise ImportError("text_noise: writing needs Pillow: pip install 'fconv-nn[images]'") from error
    channels, height, width = picture.shape
    covered = np.zeros((height, width), bool)
    wanted, written, misses = share * covered.size, 0, 0
    while written < wanted and misses < _MISSES:
        words = "".join(draw.choice(list(_LETTERS), draw.integers(3, 12)))
        font = ImageFont.load_default(float(draw.integers(8, 25)))
        top, left = int(draw.integers(-8, height)), int(draw.integers(-width // 4, width))
        colour = draw.random((channels, 1)).astype(picture.dtype)
        across, down = (int(n) + 1 for n in font.getbbox(words)[2:])
        page = Image.new("L", (across, down))
        ImageDraw.Draw(page).text((0, 0), words, 255, font)
        rows, columns = slice(max(0, top), top + down), slice(max(0, left), max(0, left + across))
        seen = covered[rows, columns]
        ink = np.asarray(page)[max(0, -top) :, max(0, -left) :][: seen.shape[0], : seen.shape[1]] > 127
        picture[:, rows, columns][:, ink] = colour
        added = int((ink & ~seen).sum())
        seen |= ink
        written, misses = written + added, 0 if added else misses + 1
    # What no word reaches, as in a picture of one pixel, stays as it is.


def _generator(key: Array) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def _checked(
    name: str, key: Array, x: Array, option: str, value: float, low: float, high: float, axes: int = 0
) -> float:
    random.check_key(name, key)
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected a NumPy array of float32 or float64, got {describe(x)}")
    if x.ndim < axes:
        raise ValueError(f"{name}: expected pictures (..., C, H, W), got shape {x.shape}")
    value = number(name, option, value)
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {option} from {low:g} to {high:g}, got {value}")
    return value
