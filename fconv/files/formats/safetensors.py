"""The safetensors format: the length of a JSON header, the header, the arrays.

Written and read here, after the format's published description (github.com/huggingface/safetensors).
Every claim of a header is proved before it is used. Arrays are left in the file and mapped.
"""

from __future__ import annotations

import json
import os
import zlib
from reprlib import repr as shortened
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fconv.arrays import Array, Shape, asnumpy
from fconv.files.atomic import atomic_write, open_regular
from fconv.files.formats import Entry
from fconv.files.formats.claims import MOST_TEXT, array_bytes, parse_json, refusing, texts_of
from fconv.files.formats.floats import WIDENED, widen
from fconv.files.formats.mapping import as_bytes, fill, map_private, native, view

_METADATA = "__metadata__"
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "C64": "<c8",
}  # fmt: skip
# The checksum stands at the head of the header, eight digits that are filled in last. It covers
# the header (with zeros in its own place) and the arrays. A file that another program wrote
# again does not begin like this, even where it kept the texts.
_CHECKSUM = "fconv.crc32"
_BEGINNING = json.dumps({_METADATA: {_CHECKSUM: ""}}).encode()[:-3]
_UNKNOWN = b"0" * 8


class _Place(NamedTuple):
    name: str
    code: str
    shape: Shape
    start: int
    end: int


class _Header(NamedTuple):
    places: list[_Place]
    texts: dict[str, str]
    raw: bytes


def read(
    path: str | os.PathLike[str], *, mmap: bool, strict: bool = False
) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays, or map them; where all is read, the checksum is proved too."""
    with open_regular(path, "load") as file, refusing(path, ".safetensors file"):
        header = _read_header(file)
        memory = map_private(file) if mmap else None
        arrays = _read_arrays(file, header) if memory is None else _map_arrays(memory, file, header)
    return {place.name: arrays[place.name] for place in header.places}, header.texts


def describe(path: str | os.PathLike[str]) -> tuple[list[Entry], dict[str, str]]:
    """Read the header alone."""
    with open_regular(path, "load") as file, refusing(path, ".safetensors file"):
        header = _read_header(file)
    return [
        Entry(p.name, p.shape, WIDENED[p.code][0] if p.code in WIDENED else np.dtype(_DTYPES[p.code]).name,
              p.end - p.start)
        for p in header.places
    ], header.texts  # fmt: skip


def write(path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]) -> None:
    """Write the widest entries first, so that every array is aligned, as the format asks for."""
    codes = {np.dtype(text): code for code, text in _DTYPES.items()}
    header: dict[str, Any] = {_METADATA: {_CHECKSUM: _UNKNOWN.decode(), **texts}}
    end = 0
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    for name in order:
        x = arrays[name]
        if name == _METADATA:
            raise ValueError(f"save: the name {name!r} is taken")
        if (little := x.dtype.newbyteorder("<")) not in codes:
            raise ValueError(f"save: .safetensors cannot hold {name}, which has dtype {x.dtype}")
        start, end = end, end + x.nbytes
        header[name] = {"dtype": codes[little], "shape": list(x.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MOST_TEXT:
        raise ValueError(f"save: the names and texts fill {len(text)} bytes; {MOST_TEXT} are allowed")
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        checksum = zlib.crc32(text)
        for name in order:
            data = _little_endian(asnumpy(arrays[name]))
            checksum = zlib.crc32(data, checksum)
            file.write(data)
            del data  # before the next is made
        file.seek(8 + len(_BEGINNING))
        file.write(b"%08x" % checksum)


def _little_endian(x: Array) -> memoryview:
    return as_bytes(np.ascontiguousarray(x.astype(x.dtype.newbyteorder("<"), copy=False)))


def _read_header(file: BinaryIO) -> _Header:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8:
        raise ValueError(f"it has {size} bytes, fewer than the length of a header takes")
    if length > min(size - 8, MOST_TEXT):
        raise ValueError(
            f"its header claims {length} bytes, of which there are {size - 8} and {MOST_TEXT} are allowed"
        )
    raw = file.read(length)
    if not raw.startswith(b"{"):
        raise ValueError(f"its header is no JSON object but begins with {raw[:8]!r}")
    claims = parse_json(raw, depth=3)
    texts = texts_of(claims.pop(_METADATA, {}))
    places = [_place(name, claim) for name, claim in claims.items()]
    position = 0
    for place in sorted(places, key=lambda place: (place.start, place.end)):
        if place.start != position:
            raise ValueError(
                f"{shortened(place.name)} starts at {place.start}, where {position} was expected"
            )
        position = place.end
    if position != size - 8 - length:
        raise ValueError(f"its arrays take {position} bytes, but {size - 8 - length} follow the header")
    return _Header(places, texts, raw)


def _place(name: str, claim: Any) -> _Place:
    """Prove what the header says of one array, all but where the others lie."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name {shortened(name)} is no text") from None
    if not isinstance(claim, dict) or claim.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{shortened(name)}: expected dtype, shape and data_offsets, got {shortened(claim)}")
    code, shape, offsets = claim["dtype"], claim["shape"], claim["data_offsets"]
    if not isinstance(code, str) or (code not in _DTYPES and code not in WIDENED):
        raise ValueError(
            f"{shortened(name)} has dtype {shortened(code)}, which is unknown or which NumPy lacks"
        )
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError(f"{shortened(name)} has shape {shortened(shape)} at {shortened(offsets)}")
    start, end = offsets
    needed = array_bytes(shape, WIDENED[code][1] if code in WIDENED else np.dtype(_DTYPES[code]).itemsize)
    if type(start) is not int or type(end) is not int or not 0 <= start <= end or end - start != needed:
        raise ValueError(
            f"{shortened(name)} lies at {shortened(offsets)}; "
            f"{code} of shape {shortened(shape)} needs {needed} bytes"
        )
    return _Place(name, code, tuple(shape), start, end)


def _stored_dtype(code: str) -> np.dtype[Any]:
    return np.dtype(_DTYPES.get(code) or f"<u{WIDENED[code][1]}")


def _finished(x: Array, code: str) -> Array:
    return widen(native(x), code) if code in WIDENED else native(x)


def _map_arrays(memory: Any, file: BinaryIO, header: _Header) -> dict[str, Array]:
    arrays = {}
    begin = 8 + len(header.raw)
    for place in header.places:
        dtype = _stored_dtype(place.code)
        x = view(memory, dtype, place.shape, begin + place.start)
        if x is None:
            x = np.empty(place.shape, dtype)
            file.seek(begin + place.start)
            fill(file, x)
        arrays[place.name] = _finished(x, place.code)
    return arrays


def _read_arrays(file: BinaryIO, header: _Header) -> dict[str, Array]:
    """Read all in the order of the file."""
    ours = header.raw.startswith(_BEGINNING)
    at = len(_BEGINNING)
    checksum = zlib.crc32(header.raw[:at] + _UNKNOWN + header.raw[at + 8 :]) if ours else 0
    arrays = {}
    file.seek(8 + len(header.raw))
    for place in sorted(header.places, key=lambda place: (place.start, place.end)):
        x = np.empty(place.shape, _stored_dtype(place.code))
        fill(file, x)
        if ours:
            checksum = zlib.crc32(as_bytes(x), checksum)
        arrays[place.name] = _finished(x, place.code)
    if ours and header.raw[at : at + 8] != b"%08x" % checksum:
        raise ValueError(
            f"its bytes are not those that were written: checksum {checksum:08x}, "
            f"expected {header.raw[at : at + 8].decode('latin-1')}"
        )
    return arrays
