"""Folders of pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from fconv.arrays import Array
from fconv.options import whole
from fconv.vision.images import picture_suffixes, read_image

__all__ = ["Images", "read_images"]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Images(NamedTuple):
    """The pictures of a folder.

    Attributes
    ----------
    pictures : list of array, each (C, H, W)
        uint8 from 0 to 255 where the file has 8 bits, else float32 from 0 to 1.
    names : list of str
        Their files' names.
    skipped : dict of str to str
        Files that were left out, and why.
    """

    pictures: list[Array]
    names: list[str]
    skipped: dict[str, str]


def read_images(folder: str | os.PathLike[str], *, channels: Literal[1, 3] = 3, least: int = 1) -> Images:
    """Read the pictures of a folder, in the order of their names.

    What cannot be read as a picture, and what is too small, is left out and said in `skipped`.

    Parameters
    ----------
    folder : str or path-like
        Files whose extensions name a picture; others, and folders within, are passed over.
    channels : {3, 1}
        Colour: a grey picture has three equal channels. Grey: the luma of BT.601. Alpha is left out.
    least : int
        Pixels that the shorter side must have.

    Returns
    -------
    Images
        The pictures, at least one.

    Raises
    ------
    ValueError
        `folder` is not a folder, or holds no pictures that can be used (the message gives the first reasons);
        invalid options.
    ImportError
        Pillow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from fconv.vision.images import Picture, write_image
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_image(folder / "a.png", Picture(np.full((1, 4, 6), 0.2, np.float32)))
    >>> _ = (folder / "b.png").write_text("no picture")
    >>> images = read_images(folder)
    >>> images.pictures[0].shape, images.pictures[0].max(), images.names, list(images.skipped)
    ((3, 4, 6), np.uint8(51), ['a.png'], ['b.png'])
    """
    home = Path(folder)
    if channels not in (1, 3):
        raise ValueError(f"read_images: expected channels 1 or 3, got {channels!r}")
    least = whole("read_images", "least", least, 0)
    if not home.is_dir():
        raise ValueError(f"read_images: {home} is not a folder")
    extensions = picture_suffixes()
    files = sorted(path for path in home.iterdir() if path.suffix.lower() in extensions and path.is_file())
    if not files:
        raise ValueError(f"read_images: {home} holds no pictures (files such as .png or .jpg)")
    images = Images([], [], {})
    for path in files:
        try:
            pixels = _pixels(path, channels, least)
        except (ValueError, OSError) as error:
            images.skipped[path.name] = str(error)
        except MemoryError:
            images.skipped[path.name] = "there is not enough memory for it"
        else:
            images.pictures.append(pixels)
            images.names.append(path.name)
    if not images.pictures:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(images.skipped.items())[:3])
        raise ValueError(f"read_images: none of the {len(files)} pictures in {home} can be used: {reasons}")
    return images


def _pixels(path: Path, channels: int, least: int) -> Array:
    picture = read_image(path)
    height, width = picture.pixels.shape[1:]
    if min(height, width) < least:
        raise ValueError(f"{height}x{width} pixels; at least {least} are needed on each side")
    pixels = _in_channels(picture.pixels, channels)
    return np.rint(pixels * 255).astype(np.uint8) if picture.bits == 8 else pixels


def _in_channels(pixels: Array, channels: int) -> Array:
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=0)
    return np.tensordot(_LUMA, pixels, axes=1)[None]
