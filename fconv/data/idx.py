"""The idx format of MNIST and its kin (LeCun, Cortes and Burges, "The MNIST database")."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from fconv.arrays import Array
from fconv.files.atomic import open_regular
from fconv.files.formats.claims import Budget, array_bytes
from fconv.files.formats.contents import head, stranger
from fconv.files.formats.mapping import as_bytes

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Mnist(NamedTuple):
    """The four arrays of an MNIST-format folder."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def read_idx(path: str | os.PathLike[str]) -> Array:
    """Read an idx file, gzipped or not.

    Parameters
    ----------
    path : str or path-like
        The file. Compression is told by its first bytes, not by its name.

    Returns
    -------
    array
        In the shape and (native) dtype that the header gives.

    Raises
    ------
    ValueError
        A wrong magic number, a body shorter or longer than the header says, damaged gzip data, or
        gzip data that expand to more than 48 MB plus 16 times their size.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/labels"
    >>> _ = Path(path).write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]))
    >>> read_idx(path)
    array([5, 7], dtype=uint8)
    """
    with open_regular(path, "read_idx") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
    opened = gzip.open(path, "rb") if gzipped else open(path, "rb")  # noqa: SIM115
    with cast(BinaryIO, opened) as file:
        try:
            return _read(path, file, gzipped)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"read_idx: {path} is damaged or cut off: {error}") from error


def _read(path: str | os.PathLike[str], file: BinaryIO, gzipped: bool) -> Array:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] == 0:
        if not gzipped and (what := stranger(head(path))):
            raise ValueError(f"read_idx: {path} is no idx file but {what}")
        raise ValueError(
            f"read_idx: {path} has magic number {magic.hex() or 'none'}; expected 0000, a type "
            f"({', '.join(f'{code:02x}' for code in _DTYPES)}) and the number of axes"
        )
    axes = magic[3]
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise ValueError(f"read_idx: {path} ends within its header of {axes} sizes")
    shape = struct.unpack(f">{axes}I", sizes)
    dtype = np.dtype(_DTYPES[magic[2]])
    held = os.path.getsize(path) - file.tell()  # of a gzipped file, what its bytes expand to is not known yet
    try:
        expected = array_bytes(shape, dtype.itemsize)
        if gzipped:
            Budget(os.path.getsize(path)).spend(expected)
    except ValueError as error:
        raise ValueError(f"read_idx: {path} says that its shape is {shape}: {error}") from error
    got = 0
    if gzipped or held == expected:
        x = np.empty(shape, dtype)
        body = as_bytes(x)
        while got < expected and (count := file.readinto(body[got:])):  # type: ignore[attr-defined]
            got += count
        held = got + len(file.read(1))
    if held != expected:
        found = f"more than {expected}" if held > expected else str(held)
        raise ValueError(f"read_idx: {path} has a body of {found} bytes; shape {shape} needs {expected}")
    return x if dtype.isnative else x.byteswap(inplace=True).view(dtype.newbyteorder("="))


def read_mnist(folder: str | os.PathLike[str]) -> Mnist:
    """Read the four files of an MNIST-format folder (MNIST, Fashion-MNIST, EMNIST ...).

    Parameters
    ----------
    folder : str or path-like
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each with ``.gz`` or
        without.

    Returns
    -------
    Mnist
        train_images (N, H, W), train_labels (N,), test_images, test_labels.

    Raises
    ------
    ValueError
        A file is missing or damaged, or the images and labels do not match.
    OSError
        A file cannot be read.
    """
    home = Path(folder)
    if not home.is_dir():
        raise ValueError(f"read_mnist: {home} is not a folder")
    arrays: list[Array] = []
    for part in ("train", "t10k"):
        for kind, axes in (("images", 3), ("labels", 1)):
            stems = [f"{part}-{kind}-idx{axes}-ubyte", f"{part}-{kind}.idx{axes}-ubyte"]
            found = [
                home / (stem + end)
                for stem in stems
                for end in ("", ".gz")
                if (home / (stem + end)).is_file()
            ]
            if found:
                arrays.append(read_idx(found[0]))
                if arrays[-1].ndim != axes:
                    raise ValueError(f"read_mnist: {found[0]} has {arrays[-1].ndim} axes; expected {axes}")
            else:
                raise ValueError(f"read_mnist: {home} has no {stems[0]}, gzipped or not")
    for images, labels in (arrays[:2], arrays[2:]):
        if len(images) != len(labels):
            raise ValueError(f"read_mnist: {home} has {len(images)} images but {len(labels)} labels")
    return Mnist(*arrays)
