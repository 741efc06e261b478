"""Writing objects as PyTorch's zip files, which ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fconv.arrays import Array, describe, is_array
from fconv.files.atomic import atomic_write
from fconv.files.formats.mapping import as_bytes
from fconv.files.formats.pt.storages import STORAGES
from fconv.files.formats.pt.zipped import TEXTS, texts_member

_ALIGNMENT = 64
_CLASSES = {dtype: name for name, dtype in STORAGES.items() if name != "UntypedStorage"}
_UNTYPED = ("uint16", "uint32", "uint64")  # dtypes without a class of storages
_ARCHIVE = "archive"


class _Place(NamedTuple):
    """Location of an array: the number of its storage, and its first element there."""

    storage: int
    offset: int
    strides: tuple[int, ...]


def write_pt(path: str | os.PathLike[str], found: Any, texts: Mapping[str, str] | None = None) -> None:
    """Write an object as torch.save writes it, without PyTorch, under a temporary name that is renamed.

    Arrays that share memory share a storage in the file, as tensors do; others are written
    contiguous. The object is made of dicts with text or integer keys, lists, tuples, NumPy arrays, numbers,
    text and None; `texts` stand in a member of the archive that PyTorch passes over.

    Raises
    ------
    TypeError
        The object holds something else.
    ValueError
        A dtype that PyTorch lacks.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from fconv.files.formats.pt.files import read_pt
    >>> path = tempfile.mkdtemp() + "/net.pt"
    >>> write_pt(path, {"weight": np.ones(2, np.float32), "epoch": 3})
    >>> read_pt(path)[0]
    {'weight': array([1., 1.], dtype=float32), 'epoch': 3}
    """
    import zipfile

    arrays: dict[int, Array] = {}
    _collect(found, (), arrays)
    storages, places = _storages(arrays)
    pickle = _Pickler(storages, places).dumps(found)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def member(name: str, data: Any, aligned: bool = False) -> None:
            info = zipfile.ZipInfo(f"{_ARCHIVE}/{name}", (1980, 1, 1, 0, 0, 0))
            size = len(data)
            wide = size >= 1 << 31
            if aligned:
                start = file.tell() + 30 + len(info.filename) + 4 + (20 if wide else 0)
                room = -start % _ALIGNMENT
                info.extra = struct.pack("<2H", 0x4246, room) + bytes(room)
            info.file_size = size
            with archive.open(info, "w", force_zip64=wide) as entry:
                entry.write(data)

        member("data.pkl", pickle)
        member(TEXTS, texts_member(dict(texts or {})))
        member("byteorder", b"little")
        for number, storage in enumerate(storages):
            little = storage.astype(storage.dtype.newbyteorder("<"), copy=False)
            member(f"data/{number}", as_bytes(np.ascontiguousarray(little)), aligned=True)
        member("version", b"3\n")


def _collect(x: Any, path: tuple[str, ...], arrays: dict[int, Array]) -> None:
    """Find the arrays of an object, and refuse what cannot be written."""
    where = ".".join(path) or "the object"
    if len(path) > 100:
        raise ValueError(f"write_pt: {'.'.join(path[:3])}... is nested more than 100 deep")
    if isinstance(x, np.ndarray):
        if x.dtype.name not in _CLASSES and x.dtype.newbyteorder("=").name not in (*_CLASSES, *_UNTYPED):
            raise ValueError(f"write_pt: PyTorch has no dtype for {where}, which has {x.dtype}")
        arrays[id(x)] = x
    elif isinstance(x, dict):
        for key, child in x.items():
            if not isinstance(key, (str, int)):
                raise TypeError(
                    f"write_pt: expected text or integers for keys in {where}, got {describe(key)}"
                )
            _collect(child, (*path, str(key)), arrays)
    elif isinstance(x, (list, tuple)):
        for i, child in enumerate(x):
            _collect(child, (*path, str(i)), arrays)
    elif is_array(x) or not (x is None or isinstance(x, (bool, int, float, str))):
        raise TypeError(f"write_pt: {where} cannot be stored: {describe(x)}")


def _storages(arrays: Mapping[int, Array]) -> tuple[list[Array], dict[int, _Place]]:
    """Return each run of memory that arrays overlap in one storage, and every other array its own."""
    storages: list[Array] = []
    places: dict[int, _Place] = {}
    for group in _overlapping(arrays):
        (_, first), size = group[0], group[0][1].itemsize
        bounds = [np.lib.array_utils.byte_bounds(x) for _, x in group]
        low, high = min(a for a, _ in bounds), max(b for _, b in bounds)
        shared = len(group) > 1 and all(
            x.dtype == first.dtype
            and (a - low) % size == 0
            and all(s >= 0 and s % size == 0 for s in x.strides)
            for (_, x), (a, _) in zip(group, bounds, strict=True)
        )
        if shared:
            whole = np.empty((high - low) // size, first.dtype)
            for (key, x), (a, _) in zip(group, bounds, strict=True):
                strides = tuple(s // size for s in x.strides)
                places[key] = _Place(len(storages), (a - low) // size, strides)
                # What no array covers is left as zeros: only what the arrays show is written.
            _gather(whole, [(x, places[key]) for key, x in group])
            storages.append(whole)
            continue
        for key, x in group:
            storages.append(x)
            places[key] = _Place(len(storages) - 1, 0, _contiguous(x.shape))
    return storages, places


def _gather(whole: Array, parts: list[tuple[Array, _Place]]) -> None:
    whole[...] = 0
    for x, place in parts:
        size = whole.itemsize
        into: Array = np.ndarray(
            x.shape, whole.dtype, whole, place.offset * size, tuple(s * size for s in place.strides)
        )
        into[...] = x


def _overlapping(arrays: Mapping[int, Array]) -> list[list[tuple[int, Array]]]:
    """Put arrays together whose memory overlaps."""
    bounds = sorted(
        ((*np.lib.array_utils.byte_bounds(x), key) for key, x in arrays.items() if x.size),
        key=lambda b: b[:2],
    )
    groups: list[list[tuple[int, Array]]] = [[(key, x)] for key, x in arrays.items() if not x.size]
    reach = -1
    for low, high, key in bounds:
        if low >= reach:
            groups.append([])
        groups[-1].append((key, arrays[key]))
        reach = max(reach, high)
    return groups


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


class _Pickler:
    """Writes protocol 2, with the few opcodes that PyTorch's restricted reader knows."""

    def __init__(self, storages: list[Array], places: Mapping[int, _Place]) -> None:
        self.storages, self.places = storages, places
        self.out = bytearray()

    def dumps(self, x: Any) -> bytes:
        self.out += b"\x80\x02"
        self.put(x)
        self.out += b"."
        return bytes(self.out)

    def put(self, x: Any) -> None:
        out = self.out
        if x is None or isinstance(x, bool):
            out += {None: b"N", True: b"\x88", False: b"\x89"}[x]
        elif isinstance(x, int):
            self.integer(int(x))
        elif isinstance(x, float):
            out += b"G" + struct.pack(">d", x)
        elif isinstance(x, str):
            data = x.encode("utf-8", "surrogatepass")
            out += b"X" + struct.pack("<I", len(data)) + data
        elif isinstance(x, np.ndarray):
            self.tensor(x)
        elif isinstance(x, dict):
            out += b"}("
            for key, value in x.items():
                self.put(key)
                self.put(value)
            out += b"u"
        else:
            out += b"](" if isinstance(x, list) else b"("
            for child in x:
                self.put(child)
            out += b"e" if isinstance(x, list) else b"t"

    def integer(self, x: int) -> None:
        if -(1 << 31) <= x < 1 << 31:
            self.out += b"J" + struct.pack("<i", x)
            return
        data = x.to_bytes(x.bit_length() // 8 + 1, "little", signed=True)
        if len(data) > 255:
            raise ValueError(f"write_pt: an integer of {len(data)} bytes cannot be stored")
        self.out += b"\x8a" + bytes([len(data)]) + data

    def tensor(self, x: Array) -> None:
        """Write the call that makes a tensor of a storage."""
        place, name = self.places[id(x)], x.dtype.newbyteorder("=").name
        storage = self.storages[place.storage]
        untyped = name in _UNTYPED
        count = storage.nbytes if untyped else storage.size
        kind = (
            b"ctorch.storage\nUntypedStorage\n" if untyped else b"ctorch\n" + _CLASSES[name].encode() + b"\n"
        )
        self.out += (
            b"ctorch._utils\n_rebuild_tensor_v3\n(" if untyped else b"ctorch._utils\n_rebuild_tensor_v2\n("
        )
        self.out += b"("
        self.put("storage")
        self.out += kind
        for value in (str(place.storage), "cpu", count):
            self.put(value)
        self.out += b"tQ"
        for item in (place.offset, tuple(x.shape), place.strides, False):
            self.put(item)
        self.out += b"ccollections\nOrderedDict\n)R"
        if untyped:
            self.out += b"ctorch\n" + name.encode() + b"\n"
        self.out += b"tR"
