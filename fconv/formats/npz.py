"""The .npz format: a zip archive of .npy files, as numpy.savez writes it.

Nothing is unpickled, and nothing is unpacked to the disk. Entries that are not compressed are
mapped, where they are aligned; the writer here aligns them.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from reprlib import repr as shortened
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fconv.arrays import Array, Shape, asnumpy
from fconv.files import atomic_write, open_regular
from fconv.formats import Entry
from fconv.formats.claims import Budget, array_bytes, check_text, parse_json, refusing, texts_of
from fconv.formats.mapping import map_private, native, view
from fconv.formats.zips import Member, Unpacked, check_member_name, members

_KIND = ".npz file of arrays"
_METADATA = "__fconv__"
_ALIGNMENT, _PADDING = 64, 0xD935  # the number by which Android's zipalign marks its padding
_KINDS = "biufcSUmM"
_MOST_HEADER = 10_000  # numpy.load stops there, too
_PAIR = r"\s*'(descr|fortran_order|shape)'\s*:\s*('[^'\\]*'|True|False|\([\d\s,L]*\))"
_HEADER = re.compile(rf"\s*\{{{_PAIR}\s*,{_PAIR}\s*,{_PAIR}\s*(?:,\s*)?\}}\s*", re.ASCII)
_DESCR = re.compile(r"[<>|=]?[biufcSUmM]\d{1,9}(\[\d{0,9}[a-zA-Zμ]{1,7}\])?", re.ASCII)
_SHAPE = re.compile(r"\(\s*(?:(?:\d{1,20}L?\s*,\s*)+(?:\d{1,20}L?\s*)?)?\)", re.ASCII)


class _Npy(NamedTuple):
    dtype: np.dtype[Any]
    shape: Shape  # as it lies in memory, slowest axis first
    fortran: bool
    nbytes: int


def read(
    path: str | os.PathLike[str], *, mmap: bool, strict: bool = False
) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays, proving their checksums, or map them."""
    arrays: dict[str, Array] = {}
    texts: dict[str, str] = {}
    with open_regular(path, "load") as file, refusing(path, _KIND):
        found = _named(members(file, _budget(file)))
        memory = map_private(file) if mmap else None
        for name, member in found.items():
            with _naming(name):
                if name == _METADATA:
                    texts = _texts(file, member)
                else:
                    arrays[name] = _array(file, member, memory)
    return arrays, texts


def describe(path: str | os.PathLike[str]) -> tuple[list[Entry], dict[str, str]]:
    """Read the headers of the entries alone."""
    entries: list[Entry] = []
    texts: dict[str, str] = {}
    with open_regular(path, "load") as file, refusing(path, _KIND):
        for name, member in _named(members(file, _budget(file))).items():
            with _naming(name):
                if name == _METADATA:
                    texts = _texts(file, member)
                else:
                    npy, _ = _npy(Unpacked(file, member).read, member.size)
                    shape = npy.shape[::-1] if npy.fortran else npy.shape
                    entries.append(Entry(name, shape, npy.dtype.name, npy.nbytes))
    return entries, texts


def write(path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]) -> None:
    """Write the entries one after another, uncompressed, each array beginning at a multiple of 64."""
    for name, x in arrays.items():
        _check_writable(name, x)
    import zipfile

    note = np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, x in {_METADATA: note, **arrays}.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # of no date: the same tree, the same bytes
            # 30 bytes of header, the name, 20 bytes of zip64 sizes, 6 before the padding begins
            begin = file.tell() + 30 + len(member.filename.encode()) + 20 + 6
            padding = -begin % _ALIGNMENT
            member.extra = struct.pack("<3H", _PADDING, 2 + padding, _ALIGNMENT) + bytes(padding)
            with archive.open(member, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(asnumpy(x)), allow_pickle=False)


def _check_writable(name: str, x: Array) -> None:
    if name == _METADATA:
        raise ValueError(f"save: the name {name!r} is taken")
    if x.dtype.hasobject:
        raise ValueError(f"save: .npz cannot hold arrays of objects: {name}")
    if x.dtype.kind not in _KINDS or x.dtype.itemsize == 0:
        raise ValueError(f"save: .npz cannot hold {name}, which has dtype {x.dtype}")
    try:
        check_member_name(f"{name}.npy")
    except ValueError as error:
        raise ValueError(f"save: .npz cannot hold {name!r}: {error}") from None
    if len(name.encode()) > 60_000:
        raise ValueError(f"save: .npz cannot hold a name of {len(name)} letters: {name[:40]!r}...")


def _budget(file: BinaryIO) -> Budget:
    return Budget(os.fstat(file.fileno()).st_size)


def _named(found: list[Member]) -> dict[str, Member]:
    if strange := [member.name for member in found if not member.name.endswith(".npy")]:
        raise ValueError(f"it holds {shortened(strange[0])}, which is no .npy file")
    return {member.name.removesuffix(".npy"): member for member in found}


class _naming:  # noqa: N801  # a context manager, lighter than a generator: there is one for every array
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, ValueError):
            raise ValueError(f"{shortened(self._name)}: {error}") from error


def _texts(file: BinaryIO, member: Member) -> dict[str, str]:
    check_text("metadata", member.size, os.fstat(file.fileno()).st_size)
    x = _array(file, member, None)
    if x.dtype != np.uint8 or x.ndim != 1:
        raise ValueError(f"expected metadata in bytes, got {x.dtype} of shape {x.shape}")
    return texts_of(parse_json(x.tobytes(), depth=1))


def _array(file: BinaryIO, member: Member, memory: Any) -> Array:
    x = None
    if memory is not None and not member.deflated:
        file.seek(member.start)
        npy, begin = _npy(file.read, member.size)
        x = view(memory, npy.dtype, npy.shape, member.start + begin)
    if x is None:
        unpacked = Unpacked(file, member)
        npy, _ = _npy(unpacked.read, member.size)
        x = np.empty(npy.shape, npy.dtype)
        unpacked.fill(x)
    return native(x.T if npy.fortran else x)


def _npy(take: Callable[[int], bytes], size: int) -> tuple[_Npy, int]:
    """Read and prove the header of a .npy file of `size` bytes; give it and its length."""
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


def _parse(text: str) -> _Npy:
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
    return _Npy(dtype, tuple(shape[::-1] if fortran else shape), fortran, nbytes)
