"""Pictures as a target for fuzzing."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from fconv.vision.images import read_image
from tests.fuzz.files import in_file

_MAGIC = b"\x89PNG\r\n\x1a\n"
_KINDS = [
    ("PNG", ("1", "L", "LA", "RGB", "RGBA", "P", "I;16"), [{}]),
    ("JPEG", ("L", "RGB", "CMYK"), [{}, {"progressive": True}]),
    ("WEBP", ("RGB", "RGBA"), [{}, {"lossless": True}]),
    ("TIFF", ("L", "RGB", "I;16"), [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}]),
    ("BMP", ("1", "L", "RGB"), [{}]),
    ("GIF", ("L", "P"), [{}]),
    ("PPM", ("1", "L", "RGB"), [{}]),
]


def seeds():
    """Whole files of every format and mode that is read, one turned by its metadata, one of two frames."""
    draw = np.random.default_rng(0)
    base = Image.fromarray(draw.integers(0, 256, (6, 8, 3), np.uint8)).resize((16, 12))
    deep = Image.fromarray(draw.integers(0, 65536, (6, 8), np.uint16))
    found = [
        _saved(deep if mode == "I;16" else base.convert(mode), kind, **each)
        for kind, modes, options in _KINDS
        for mode in modes
        for each in options
    ]
    exif = Image.Exif()
    exif[0x0112] = 6
    found.append(_saved(base, "JPEG", exif=exif))
    found.append(_saved(base, "GIF", save_all=True, append_images=[base.convert("L")]))
    return found


def _saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data):
    """Read a picture of these bytes; every other damaged PNG has right checksums again."""
    if data.startswith(_MAGIC) and data[-1] % 2:
        data = with_checksums(data)
    picture = in_file(".png", data, read_image)
    assert picture.pixels.dtype == np.float32
    assert 0 <= picture.pixels.min(initial=0) <= picture.pixels.max(initial=1) <= 1
    return picture


def with_checksums(data):
    """Write the checksum of each chunk of a PNG again, so that damage reaches what is behind them."""
    whole, at = bytearray(data), len(_MAGIC)
    while at + 12 <= len(whole):
        end = at + 8 + struct.unpack_from(">I", whole, at)[0]
        if end + 4 > len(whole):
            break
        struct.pack_into(">I", whole, end, zlib.crc32(whole[at + 4 : end]))
        at = end + 4
    return bytes(whole)
