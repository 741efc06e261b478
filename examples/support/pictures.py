"""Photographs to train on and to test with."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

import fconv as fc

_TRAINED_ON = ("astronaut", "coffee", "rocket", "immunohistochemistry", "retina")
_HELD_OUT = ("chelsea", "motorcycle")


class Photographs(NamedTuple):
    """Pictures (3, H, W), uint8 from 0 to 255 or float32 from 0 to 1, with their names."""

    train: list[Any]
    test: list[Any]
    test_names: list[str]
    skipped: dict[str, str]


def photographs(folder: str | None, least: int, held_out: int = 4) -> Photographs:
    """Read a folder, of which the last pictures are held out; or those that come with scikit-image.

    At most half of the pictures are held out, but one at least, unless `held_out` is 0.

    Pictures with a side of less than `least` pixels are left out; those that are, are named.
    """
    if folder is None:
        return _from_skimage(least)
    images = fc.data.read_images(folder, least=least)
    for name, why in images.skipped.items():
        print(f"left out: {name}: {why}", file=sys.stderr)
    if len(images.pictures) < 2 and held_out:
        raise ValueError(f"{folder} has one picture that can be used; two are needed, one to test with")
    last = len(images.pictures) - min(held_out, len(images.pictures) // 2)
    return Photographs(images.pictures[:last], images.pictures[last:], images.names[last:], images.skipped)


def _from_skimage(least: int) -> Photographs:
    from skimage import data

    def planes(name: str) -> Any:
        pixels = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    train, test = ([planes(name) for name in names] for names in (_TRAINED_ON, _HELD_OUT))
    smallest = min(min(picture.shape[1:]) for picture in (*train, *test))
    if smallest < least:
        raise ValueError(f"crops of {least} pixels are more than scikit-image's photographs have: {smallest}")
    return Photographs(train, test, list(_HELD_OUT), {})


def from_0_to_1(pixels: Any) -> Any:
    """Return a picture as float32 from 0 to 1."""
    return pixels.astype(np.float32) / np.float32(255) if pixels.dtype == np.uint8 else pixels


def middle(pixels: Any, height: int, width: int) -> Any:
    """Cut the middle out of a picture, of at most this size."""
    top, left = (max(0, (n - m) // 2) for n, m in zip(pixels.shape[1:], (height, width), strict=True))
    return pixels[:, top : top + height, left : left + width]


def one(path: str | None) -> Any:
    """Read a picture as float32 from 0 to 1; scikit-image's cat where there is no path."""
    if path is not None:
        from fconv.vision.images import read_image

        return read_image(path).pixels
    from skimage import data

    return from_0_to_1(np.ascontiguousarray(data.chelsea().transpose(2, 0, 1)))
