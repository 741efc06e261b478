"""Pictures in files: read, written, and refused."""

from __future__ import annotations

import contextlib
import tracemalloc
import warnings

import numpy as np
import pytest

from fconv.vision.images import Picture, read_image, write_image


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 5, 4)])
@pytest.mark.parametrize("alpha", [False, True])
def test_pictures_come_back(image, tmp_path, shape, alpha):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, shape).astype(np.float32) / np.float32(255)
    opaque = rng.integers(0, 256, (1, 5, 4)).astype(np.float32) / np.float32(255) if alpha else None
    for suffix in (".png", ".tif"):
        write_image(tmp_path / f"a{suffix}", Picture(values, opaque))
        found = read_image(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(found.pixels, values)
        assert (found.alpha is None) == (opaque is None)
        if alpha:
            np.testing.assert_array_equal(found.alpha, opaque)


def test_sixteen_bits_come_back(image, tmp_path):
    values = np.arange(0, 65536, 17).astype(np.float32)[None, None] / np.float32(65535)
    for suffix in (".png", ".tif"):
        write_image(tmp_path / f"a{suffix}", Picture(values, None, 16))
        found = read_image(tmp_path / f"a{suffix}")
        assert found.bits == 16
        np.testing.assert_array_equal(found.pixels, values)
    with pytest.raises(ValueError, match="JPEG holds no 16 bits"):
        write_image(tmp_path / "a.jpg", Picture(values, None, 16))


def test_palettes_and_orientation_are_resolved(image, tmp_path):
    colours = np.random.default_rng(0).integers(0, 2, (6, 4, 3), np.uint8) * 255
    image.fromarray(colours).convert("P").save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").pixels * 255, colours.transpose(2, 0, 1))
    exif = image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    image.fromarray(colours).save(tmp_path / "o.png", exif=exif)
    turned = np.rot90(colours, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "o.png").pixels * 255, turned)


def test_pictures_of_other_kinds_are_refused_by_name(image, tmp_path):
    image.new("CMYK", (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="one of mode CMYK"):
        read_image(tmp_path / "a.tif")
    frames = [image.new("L", (4, 4), level) for level in (0, 100, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="expected one picture, got 3"):
        read_image(tmp_path / "a.gif")
    (tmp_path / "a.png").write_text("none")
    with pytest.raises(ValueError, match=r"a\.png: expected a picture"):
        read_image(tmp_path / "a.png")
    image.new("RGB", (40, 40)).save(tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"c\.png: "):
        read_image(tmp_path / "c.png")
    # The same file with 16 bits in its header, which Pillow would read as 8.
    deep = sixteen_bit_png(np.full((2, 2, 3), 300, np.uint16))
    (tmp_path / "d.png").write_bytes(deep)
    with pytest.raises(ValueError, match="a 16-bit colour PNG"):
        read_image(tmp_path / "d.png")


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 9 9
%%EndComments
(harm) (w) file closefile
%%EOF
"""


def test_no_picture_starts_another_program(image, tmp_path, monkeypatch):
    """Pillow hands an EPS to Ghostscript, whatever the file is named; here formats are a short list."""
    import subprocess

    for start in ("Popen", "run", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, start, lambda *a, **k: pytest.fail("a program was started"))
    (tmp_path / "photo.png").write_bytes(EPS)
    others = {"photo.png"}
    for kind in ("PDF", "EPS", "TGA", "PCX", "ICO", "SGI", "JPEG2000"):
        if kind in image.SAVE:
            others.add(f"{kind}.png")
            with open(tmp_path / f"{kind}.png", "wb") as file:
                image.new("RGB", (16, 16)).save(file, kind)
    for name in others:
        with pytest.raises(ValueError, match=rf"{name}: expected a picture \(PNG, JPEG, .*, got a file"):
            read_image(tmp_path / name)
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"):
        with open(tmp_path / "x", "wb") as file:
            image.new("L", (3, 2)).save(file, kind)
        assert read_image(tmp_path / "x").pixels.shape[1:] == (2, 3), kind


def test_a_picture_out_of_proportion_is_refused_before_it_is_decoded(image, tmp_path):
    image.new("1", (10500, 10500)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 40_000
    with (
        pytest.warns(image.DecompressionBombWarning),
        pytest.raises(
            ValueError, match=r"a\.png: .* bytes say that they hold 10500x10500 pixels, expected at most"
        ),
    ):
        read_image(tmp_path / "a.png")
    image.new("P", (10, 10)).save(tmp_path / "a.gif")
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = b"\xff\x03\xff\x03"  # a larger canvas, of which no pixel is in the file
    (tmp_path / "a.gif").write_bytes(data)
    with pytest.raises(ValueError, match="expected a GIF whose picture fills it"):
        read_image(tmp_path / "a.gif")


def test_a_chunk_that_claims_gigabytes_takes_none(image, tmp_path):

    image.new("L", (9, 9)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = b"\xff\xff\xff\xf0"
    (tmp_path / "a.png").write_bytes(data)
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):  # some versions of Pillow read what they need and no more
            read_image(tmp_path / "a.png")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_callers_own_filters_decide_on_pillows_warnings(image, tmp_path, monkeypatch):
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 50)
    image.new("L", (10, 9)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"a\.png: Image size \(90 pixels\) exceeds"):
            read_image(tmp_path / "a.png")
        warnings.simplefilter("ignore")
        assert read_image(tmp_path / "a.png").pixels.shape == (1, 9, 10)
    with pytest.warns(image.DecompressionBombWarning):
        read_image(tmp_path / "a.png")


def test_a_pointer_in_the_place_of_a_picture_is_named(image, tmp_path):
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:01\n")
    with pytest.raises(ValueError, match=r"got a Git LFS pointer, .* run git lfs pull"):
        read_image(tmp_path / "a.png")


def sixteen_bit_png(values):
    """Write a colour PNG of 16 bits, which Pillow cannot."""
    import struct
    import zlib

    height, width, _ = values.shape

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
