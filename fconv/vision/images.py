"""Pictures in files, through Pillow."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fconv.arrays import Array
from fconv.files.atomic import atomic_write, open_regular
from fconv.files.formats.contents import head, stranger

__all__ = [
    "Picture",
    "check_writable",
    "cubically_resized",
    "picture_suffixes",
    "read_image",
    "resized",
    "write_image",
]

_MODES = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA"}
_READ = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
"""Formats that are read. Pillow knows more, and starts another program for some, as Ghostscript for EPS."""
_LARGEST, _DENSEST = 3_000_000, 250  # pixels of any picture, and for each byte of its file
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_ALPHA = ("PNG", "WEBP", "TIFF")
_BITS_16 = ("PNG", "TIFF")


class Picture(NamedTuple):
    """A picture.

    Attributes
    ----------
    pixels : array, shape (C, H, W)
        float32 from 0 to 1; C is 1 (grey) or 3 (red, green, blue).
    alpha : array, shape (1, H, W), or None
        Opacity, float32 from 0 to 1.
    bits : int
        Bits per channel in the file, 8 or 16.
    """

    pixels: Array
    alpha: Array | None = None
    bits: int = 8


def read_image(path: str | os.PathLike[str]) -> Picture:
    """Read a picture: grey of 8 or 16 bits, or colour of 8 bits, either with alpha.

    Palettes are converted to colours, and the picture is rotated by its EXIF orientation.

    Parameters
    ----------
    path : str or path-like
        A PNG, JPEG, WebP, TIFF, BMP, GIF or PPM file, told by its contents.

    Returns
    -------
    Picture
        Its pixels from 0 to 1.

    Raises
    ------
    ValueError
        No picture, a damaged one, several in one file, one of more pixels than are allowed for its size, or
        of a mode that cannot be converted without loss: CMYK, Lab, floating point, 16-bit colour.
    ImportError
        Pillow is not installed.
    OSError
        The file cannot be read.

    Notes
    -----
    A picture may have three million pixels, and 250 more for each byte of its file. Of a large one
    Pillow warns, as its ``Image.MAX_IMAGE_PIXELS`` says; the caller's filters decide on the warning.
    """
    image_module, ops = _pillow("read_image", "Image"), _pillow("read_image", "ImageOps")
    shown = os.fspath(path)
    with open_regular(path, "read_image") as opened, _naming(shown):
        data = opened.read()
        file = io.BytesIO(data)  # where Pillow asks for as much as a chunk claims, it gets what there is
        image = image_module.open(file, formats=_READ)
        _check_size(image, len(data))
        if getattr(image, "n_frames", 1) > 1:
            raise ValueError(f"expected one picture, got {image.n_frames} of them")
        if image.mode in ("RGB", "RGBA", "LA") and _png_depth(file) == 16:
            kind = "grey with alpha" if image.mode == "LA" else "colour"
            raise ValueError(f"a 16-bit {kind} PNG: only plain grey ones are read in 16 bits")
        image = ops.exif_transpose(image)
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
        if image.mode in _SIXTEEN:
            deep = np.asarray(image).astype(np.float32)
            if deep.size and not 0 <= deep.min() <= deep.max() <= 65535:
                raise ValueError("expected values of 16 bits, got larger or negative ones")
            return Picture((deep / np.float32(65535))[None], None, 16)
        if image.mode not in _MODES:
            raise ValueError(f"expected a grey or an RGB picture, got one of mode {image.mode}")
        bands = image.convert(_MODES[image.mode])
        planes = np.empty((len(bands.getbands()), bands.height, bands.width), np.float32)
        for i, plane in enumerate(planes):
            np.divide(bands.getchannel(i), np.float32(255), out=plane, dtype=np.float32)
    colours = 3 if len(planes) > 2 else 1
    return Picture(planes[:colours], planes[colours:] if len(planes) > colours else None, 8)


def write_image(path: str | os.PathLike[str], picture: Picture) -> None:
    """Write a picture; the file appears only when it is complete.

    Parameters
    ----------
    path : str or path-like
        Its file extension names the format. The file is written under a temporary name and renamed.
    picture : Picture
        Values are clipped to 0 and 1 and rounded to the nearest level.

    Raises
    ------
    ValueError
        The file extension is unknown, or the format cannot hold the picture.
    ImportError
        Pillow is not installed.
    OSError
        The file cannot be written.
    """
    image_module = _pillow("write_image", "Image")
    kind = check_writable(path, alpha=picture.alpha is not None, bits=picture.bits)
    planes = picture.pixels if picture.alpha is None else np.concatenate([picture.pixels, picture.alpha])
    top, dtype = (65535, np.uint16) if picture.bits == 16 else (255, np.uint8)
    values = (np.clip(planes, 0, 1) * top + 0.5).astype(dtype).transpose(1, 2, 0)
    image = image_module.fromarray(np.ascontiguousarray(values[..., 0] if len(planes) == 1 else values))
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    with atomic_write(path) as file:
        image.save(file, kind, **options)


def picture_suffixes() -> frozenset[str]:
    """List the file extensions that can be read, in lower case, such as ``.png``.

    Raises
    ------
    ImportError
        Pillow is not installed.
    """
    image_module = _pillow("picture_suffixes", "Image")
    return frozenset(end for end, kind in image_module.registered_extensions().items() if kind in _READ)


def resized(planes: Array, size: tuple[int, ...]) -> Array:
    """Resize float32 planes (C, H, W) to `size` with Pillow's triangle filter.

    It averages where it shrinks; torchvision's transforms, with which most classifiers were trained,
    resize so.

    Raises
    ------
    ImportError
        Pillow is not installed.
    """
    return _resized(planes, size, "BILINEAR")


def cubically_resized(planes: Array, size: tuple[int, ...]) -> Array:
    """Resize float32 planes (C, H, W) to `size` with Pillow's cubic filter, of Keys' coefficient -1/2.

    It averages where it shrinks, as the small pictures of super-resolution's test sets were made.

    Raises
    ------
    ImportError
        Pillow is not installed.
    """
    return _resized(planes, size, "BICUBIC")


def _resized(planes: Array, size: tuple[int, ...], kind: str) -> Array:
    image = _pillow("resized", "Image")
    rows = [image.fromarray(np.ascontiguousarray(plane)) for plane in planes]
    return np.stack([np.asarray(row.resize(size[::-1], image.Resampling[kind])) for row in rows])


def check_writable(path: str | os.PathLike[str], *, alpha: bool = False, bits: int = 8) -> str:
    """Find the format for a name, and whether it can hold a picture with `alpha` or of 16 `bits`.

    Returns
    -------
    str
        Pillow's name for it.

    Raises
    ------
    ValueError
        The file extension is unknown, or the format cannot.
    """
    image_module = _pillow("write_image", "Image")
    shown = os.fspath(path)
    kind = image_module.registered_extensions().get(os.path.splitext(shown)[1].lower())
    if kind not in image_module.SAVE:
        raise ValueError(f"write_image: {shown}: expected the name of a picture, such as out.png")
    if alpha and kind not in _ALPHA:
        raise ValueError(f"write_image: {shown}: {kind} holds no alpha; {', '.join(_ALPHA)} do")
    if bits == 16 and kind not in _BITS_16:
        raise ValueError(f"write_image: {shown}: {kind} holds no 16 bits a pixel; {', '.join(_BITS_16)} do")
    return str(kind)


def _pillow(who: str, module: str) -> Any:
    try:
        from importlib import import_module

        return import_module(f"PIL.{module}")
    except ImportError as error:
        raise ImportError(f"{who}: pictures need Pillow: pip install 'fconv-nn[images]'") from error


def _check_size(image: Any, size: int) -> None:
    """Refuse a picture that would take far more memory than its file, before it is decoded."""
    most = _LARGEST + _DENSEST * size
    if image.width * image.height > most:
        raise ValueError(
            f"{size:,} bytes say that they hold {image.width}x{image.height} pixels, "
            f"expected at most {most:,}"
        )
    if image.format == "GIF" and any(tile[1] != (0, 0, *image.size) for tile in image.tile):
        raise ValueError("expected a GIF whose picture fills it, got one that covers a part of it")


def _png_depth(file: Any) -> int:
    """Read the bits a channel from a PNG's header: Pillow drops the lower half of 16 without a word."""
    place = file.tell()
    file.seek(0)
    head = file.read(26)
    file.seek(place)
    return head[24] if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 26 else 0


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn what Pillow raises for a bad file into a ValueError that names it."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except UnidentifiedImageError:
        what = stranger(head(path)) or "a file of another format"
        what = what.replace("a ", "a damaged ", 1) if what.endswith("picture") else what
        raise ValueError(f"read_image: {path}: expected a picture ({', '.join(_READ)}), got {what}") from None
    except MemoryError:
        raise
    except Exception as error:  # a plugin may raise anything: RuntimeError, TypeError, SyntaxError
        raise ValueError(f"read_image: {path}: {error}") from error
