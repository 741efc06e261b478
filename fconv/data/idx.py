"""The idx format of MNIST and its kin (LeCun, Cortes and Burges, "The MNIST database")."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from fconv.arrays import Array
from fconv.files import open_regular

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
        A wrong magic number, a body shorter or longer than the header says, damaged gzip data.
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
            return _read(path, file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"read_idx: {path} is damaged or cut off: {error}") from error


def _read(path: str | os.PathLike[str], file: BinaryIO) -> Array:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] == 0:
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
    expected = prod(shape) * dtype.itemsize
    body = bytearray()  # read piece by piece: the header may promise far more than there is
    while len(body) <= expected and (piece := file.read(min(1 << 20, expected + 1 - len(body)))):
        body += piece
    if len(body) != expected:
        got = f"more than {expected}" if len(body) > expected else str(len(body))
        raise ValueError(f"read_idx: {path} has a body of {got} bytes; shape {shape} needs {expected}")
    try:
        return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError as error:
        raise ValueError(f"read_idx: {path} has a shape that no array can have: {error}") from error


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
