"""Pictures made ready for a classifier, and its answer in words."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fconv import functional as F
from fconv.arrays import Array, Shape
from fconv.files.atomic import open_regular
from fconv.vision.images import Picture, resized

__all__ = ["Prepared", "class_names", "most_likely", "prepare", "settings"]

# Mean and standard deviation of ImageNet's red, green and blue, which torchvision's networks and
# akamaster's for CIFAR were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MARGIN = 256 / 224


class Prepared(NamedTuple):
    """Input of a classifier: shape (1, C, H, W), and what is subtracted and divided by."""

    shape: Shape
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def settings(
    shape: Shape,
    *,
    resize: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Prepared:
    """Fill in what is usual for an input of `shape`.

    Parameters
    ----------
    shape : tuple of int
        (1, C, H, W) of the network's input.
    resize : int, optional
        Length that the shorter side gets before the middle is cut out: 256 for 224 and in that
        proportion for other sizes from 128 up; smaller pictures are not cut.
    mean, std : sequence of float, optional
        For each channel: ImageNet's for colour, 0 and 1 for grey.

    Returns
    -------
    Prepared
        All settings.

    Examples
    --------
    >>> settings((1, 3, 224, 224)).resize, settings((1, 1, 32, 32)).mean
    (256, (0.0,))
    """
    channels, side = shape[1], max(shape[2:])
    if resize is None:
        resize = round(side * _MARGIN) if side >= 128 else side
    if resize < side:
        raise ValueError(f"prepare: expected a resize of {side} or more for inputs {shape}, got {resize}")
    colour = channels == 3
    means = tuple(mean) if mean else IMAGENET_MEAN if colour else (0.0,) * channels
    stds = tuple(std) if std else IMAGENET_STD if colour else (1.0,) * channels
    if len(means) != channels or len(stds) != channels or not all(s > 0 for s in stds):
        raise ValueError(
            f"prepare: expected {channels} means and {channels} positive deviations, got {means} and {stds}"
        )
    return Prepared(tuple(shape), resize, means, stds)


def prepare(picture: Picture, wanted: Prepared) -> Array:
    """Resize, cut out the middle, and normalise.

    Parameters
    ----------
    picture : Picture
        Of any size; alpha is dropped, colour made grey or grey made colour as the network asks.
    wanted : Prepared
        From `settings`.

    Returns
    -------
    array, shape (1, C, H, W)
        float32.
    """
    channels, height, width = wanted.shape[1:]
    planes = picture.pixels
    if channels == 1 and len(planes) == 3:
        planes = np.tensordot(np.array([[0.299, 0.587, 0.114]], np.float32), planes, axes=1)
    elif channels != len(planes):
        planes = np.repeat(planes, channels, axis=0)
    h, w = planes.shape[1:]
    scale = wanted.resize / min(h, w)
    size = (max(round(h * scale), height), max(round(w * scale), width))
    if size != (h, w):
        planes = resized(planes, size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    planes = planes[:, top : top + height, left : left + width]
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (wanted.mean, wanted.std))
    return np.ascontiguousarray((planes - mean) / std, dtype=np.float32)[None]


def most_likely(scores: Array, count: int) -> list[tuple[int, float]]:
    """Return the classes of the largest scores with their probabilities (softmax), likeliest first.

    Parameters
    ----------
    scores : array, shape (C,)
        What the network gave for a picture.
    count : int
        How many.

    Returns
    -------
    list of (int, float)
        Class and probability.

    Examples
    --------
    >>> [(i, round(p, 6)) for i, p in most_likely(np.log(np.array([1.0, 7.0, 2.0])), 2)]
    [(1, 0.7), (2, 0.2)]
    """
    probabilities = F.softmax(scores.astype(np.float64), dim=0)
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(int(i), float(probabilities[i])) for i in order]


def class_names(path: str | os.PathLike[str]) -> list[str]:
    """Read the names of classes, one per line or as JSON.

    Parameters
    ----------
    path : str or path-like
        Text with one name per line, a JSON list of names, or a JSON object by class number, whose
        values may be lists that end with the name (``{"0": ["n01440764", "tench"], ...}``).

    Returns
    -------
    list of str
        By class number.

    Raises
    ------
    ValueError
        The file holds neither.
    """
    shown = os.fspath(path)
    try:
        with open_regular(path, "class_names") as file:
            text = file.read().decode()
        if text.lstrip()[:1] not in ("{", "["):
            return [line.strip() for line in text.splitlines() if line.strip()]
        found = json.loads(text)
        if isinstance(found, dict):
            found = [found[str(i)] for i in range(len(found))]
        names = [entry[-1] if isinstance(entry, list) else entry for entry in found]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, IndexError, RecursionError) as error:
        raise ValueError(f"class_names: {shown}: expected names of classes, got {error!r}") from error
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names: {shown}: expected texts as names of classes")
    return names
