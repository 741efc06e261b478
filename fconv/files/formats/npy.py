"""The .npy format: one array of NumPy's. Its header is matched by an expression, and nothing is unpickled."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from reprlib import repr as shortened
from typing import Any, NamedTuple

import numpy as np

from fconv.arrays import Array, Shape, asnumpy
from fconv.files.atomic import atomic_write, open_regular
from fconv.files.formats import Entry
from fconv.files.formats.claims import array_bytes, refusing
from fconv.files.formats.mapping import fill, map_private, native, view

_KIND = ".npy file"
_NAME = "array"
_KINDS = "biufcSUmM"
_MOST_HEADER = 10_000  # numpy.load stops there, too
_PAIR = r"\s*'(descr|fortran_order|shape)'\s*:\s*('[^'\\]*'|True|False|\([\d\s,L]*\))"
_HEADER = re.compile(rf"\s*\{{{_PAIR}\s*,{_PAIR}\s*,{_PAIR}\s*(?:,\s*)?\}}\s*", re.ASCII)
_DESCR = re.compile(r"[<>|=]?[biufcSUmM]\d{1,9}(\[\d{0,9}[a-zA-Zμ]{1,7}\])?", re.ASCII)
_SHAPE = re.compile(r"\(\s*(?:(?:\d{1,20}L?\s*,\s*)+(?:\d{1,20}L?\s*)?)?\)", re.ASCII)


class Npy(NamedTuple):
    """Contents of a header."""

    dtype: np.dtype[Any]
    shape: Shape  # as it lies in memory, slowest axis first
    fortran: bool
    nbytes: int


def read(path: str | os.PathLike[str], *, mmap: bool, strict: bool = False) -> tuple[Array, dict[str, str]]:
    """Read the array, or map it."""
    with open_regular(path, "load") as file, refusing(path, _KIND):
        npy, begin = header(file.read, os.fstat(file.fileno()).st_size)
        memory = map_private(file) if mmap else None
        x = None if memory is None else view(memory, npy.dtype, npy.shape, begin)
        if x is None:
            x = np.empty(npy.shape, npy.dtype)
            fill(file, x)
        return finished(x, npy), {}


def describe(path: str | os.PathLike[str]) -> tuple[list[Entry], dict[str, str]]:
    """Read the header alone."""
    with open_regular(path, "load") as file, refusing(path, _KIND):
        npy, _ = header(file.read, os.fstat(file.fileno()).st_size)
    return [Entry(_NAME, npy.shape[::-1] if npy.fortran else npy.shape, npy.dtype.name, npy.nbytes)], {}


def write(path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]) -> None:
    """Write the one array of a tree that is an array; there is no room for texts."""
    if arrays.keys() != {_NAME} or texts.get("fconv.structure") != '{"array": "array"}':
        raise ValueError("save: .npy holds one array; write a tree of arrays to .npz")
    if given := [key for key in texts if not key.startswith("fconv.")]:
        raise ValueError(f"save: .npy has no room for metadata, got {shortened(given[0])}")
    check_dtype(".npy", "the array", arrays[_NAME])
    with atomic_write(path) as file:
        np.lib.format.write_array(file, np.asanyarray(asnumpy(arrays[_NAME])), allow_pickle=False)


def finished(x: Array, npy: Npy) -> Array:
    """Return what lies in memory as the array that its header says, once its text is known to be text."""
    x = native(x)
    if x.dtype.kind == "U" and x.size and (most := int(x.view(np.uint32).max(initial=0))) > sys.maxunicode:
        raise ValueError(f"it holds text with the character number {most:,}, of which there is none")
    return x.T if npy.fortran else x


def check_dtype(extension: str, name: str, x: Array) -> None:
    """Require a dtype that a file of NumPy's holds without a pickle."""
    if x.dtype.hasobject:
        raise ValueError(f"save: {extension} cannot hold arrays of objects: {name}")
    if x.dtype.kind not in _KINDS or x.dtype.itemsize == 0:
        raise ValueError(f"save: {extension} cannot hold {name}, which has dtype {x.dtype}")


def header(take: Callable[[int], bytes], size: int) -> tuple[Npy, int]:
    """Read and prove the header of a .npy file of `size` bytes; return it and its length."""
    magic = take(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError(f"it is no .npy file of version 1, 2 or 3, but begins with {magic!r}")
    width = 2 if magic[6] == 1 else 4
    length = int.from_bytes(take(width), "little")
    begin = 8 + width + length
    if length > _MOST_HEADER or begin > size:
        raise ValueError(
            f"its header claims {length} bytes; the file has {size}, and {_MOST_HEADER} are allowed"
        )
    npy = _parse(take(length).decode("utf-8" if magic[6] == 3 else "latin-1"))
    if begin + npy.nbytes != size:
        raise ValueError(
            f"its header claims {npy.nbytes} bytes of {npy.dtype} of shape {shortened(npy.shape)}, "
            f"there are {size - begin}"
        )
    return npy, begin


def _parse(text: str) -> Npy:
    """Understand the dict that a header is, for dtypes of numbers and texts, and no other."""
    match = _HEADER.fullmatch(text)
    fields = dict(zip(match.groups()[::2], match.groups()[1::2], strict=True)) if match else {}
    descr, order, shape_text = (fields.get(key, "") for key in ("descr", "fortran_order", "shape"))
    if order not in ("True", "False") or not _SHAPE.fullmatch(shape_text) or not descr.startswith("'"):
        raise ValueError(f"its header is not that of a plain array: {shortened(text)}")
    if not _DESCR.fullmatch(descr[1:-1]):
        what = "objects, which would have to be unpickled" if "O" in descr else f"dtype {shortened(descr)}"
        raise ValueError(f"it is an array of {what}")
    try:
        dtype = np.dtype(descr[1:-1])
    except TypeError as error:
        raise ValueError(f"it has dtype {descr}, which NumPy lacks") from error
    if dtype.itemsize == 0:
        raise ValueError(f"it has dtype {descr}, which has no size")
    shape = [int(digits) for digits in re.findall(r"\d+", shape_text)]
    nbytes = array_bytes(shape, dtype.itemsize)
    fortran = order == "True"
    return Npy(dtype, tuple(shape[::-1] if fortran else shape), fortran, nbytes)
