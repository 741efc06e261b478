"""The .npz format: a zip archive of .npy files, as numpy.savez writes it.

Nothing is unpickled, and nothing is unpacked to the disk. Entries that are not compressed are
mapped, where they are aligned; the writer here aligns them.
"""

from __future__ import annotations

import json
import os
import struct
from reprlib import repr as shortened
from typing import Any, BinaryIO

import numpy as np

from fconv.arrays import Array, asnumpy
from fconv.files.atomic import atomic_write, open_regular
from fconv.files.formats import Entry
from fconv.files.formats.claims import Budget, check_text, parse_json, refusing, texts_of
from fconv.files.formats.mapping import map_private, view
from fconv.files.formats.npy import check_dtype, finished, header
from fconv.files.formats.zips import Member, Unpacked, check_member_name, members

_KIND = ".npz file of arrays"
_METADATA = "__fconv__"
_ALIGNMENT, _PADDING = 64, 0xD935  # the number by which Android's zipalign marks its padding


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
                    npy, _ = header(Unpacked(file, member).read, member.size)
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
    check_dtype(".npz", name, x)
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
        npy, begin = header(file.read, member.size)
        x = view(memory, npy.dtype, npy.shape, member.start + begin)
    if x is None:
        unpacked = Unpacked(file, member)
        npy, _ = header(unpacked.read, member.size)
        x = np.empty(npy.shape, npy.dtype)
        unpacked.fill(x)
    return finished(x, npy)
