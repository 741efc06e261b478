"""Reading zip archives whose every claim is proved first (PKWARE's APPNOTE.TXT 6.3.10).

Only what array libraries write is read: members that are stored or deflated, in one file, with
nothing before, after or over them. Writing is left to Python's zipfile.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from reprlib import repr as shortened
from typing import BinaryIO, NamedTuple

import numpy as np

from fconv.arrays import Array
from fconv.files.formats.claims import Budget

_PIECE = 1 << 20
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 1, 8, 0x800
_FULL = 0xFFFFFFFF  # a field that zip64 holds instead
_MOST_DEFLATED = 1032  # times that deflate can expand


class Member(NamedTuple):
    """A file in an archive: where its bytes are, and the length and checksum that they should have.

    Without a checksum nothing but their number is proved.
    """

    name: str
    deflated: bool
    checksum: int | None
    packed: int
    size: int
    start: int


class _Directory(NamedTuple):
    start: int
    end: int
    length: int


class _Central(NamedTuple):
    raw_name: bytes
    name: str
    flags: int
    method: int
    checksum: int
    packed: int
    size: int
    offset: int


def check_member_name(name: str) -> None:
    """Refuse a name that would lead out of a folder, were the archive unpacked into one.

    Nothing is ever unpacked to the disk here, but others unpack archives, and tools make file
    names of the names of arrays.
    """
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or name[1:2] == ":":
        raise ValueError(f"the name {shortened(name)} could lead out of a folder")


def members(file: BinaryIO, budget: Budget) -> list[Member]:
    """List the members of an archive, in the order of its directory.

    What they expand to is counted as memory, but for what is only stored.
    """
    size = os.fstat(file.fileno()).st_size
    directory = _directory(file, size)
    file.seek(directory.start)
    claims = _central(file.read(directory.end - directory.start), directory.length)
    seen: set[str] = set()
    for claim in claims:
        if claim.name in seen:
            raise ValueError(f"two members are named {shortened(claim.name)}")
        seen.add(claim.name)
        check_member_name(claim.name)
    found = [_member(file, claim, directory.start) for claim in claims]
    before = 0
    for claim, member in sorted(zip(claims, found, strict=True), key=lambda pair: pair[0].offset):
        if claim.offset < before:
            raise ValueError(f"{shortened(claim.name)} overlaps what stands before it")
        before = member.start + member.packed
    if before > directory.start:
        raise ValueError(f"its members reach to {before}, into the directory at {directory.start}")
    budget.spend(sum(member.size for member in found if member.deflated))
    return found


def _directory(file: BinaryIO, size: int) -> _Directory:
    """Find the directory through the record that ends the archive, in either of its two forms."""
    tail_start = max(0, size - 22 - 0xFFFF)
    file.seek(tail_start)
    tail = file.read(size - tail_start)
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and (
        len(tail) - at < 22 or at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail)
    ):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0:
        raise ValueError("it does not end as a zip archive does")
    disk, its_disk, here, count, length, start = struct.unpack_from("<4H2L", tail, at + 4)
    end = tail_start + at
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        end, disk, its_disk, here, count, length, start = _directory64(file, tail[at - 20 : at], end - 20)
    if disk or its_disk or here != count or start + length != end or 46 * count > length:
        raise ValueError(
            f"its directory of {count} members does not take {length} bytes from {start} to {end}"
        )
    return _Directory(start, end, count)


def _directory64(file: BinaryIO, locator: bytes, end: int) -> tuple[int, ...]:
    disk, offset, disks = struct.unpack_from("<LQL", locator, 4)
    file.seek(max(0, end - 56))
    record = file.read(56)
    if disk or disks != 1 or offset + 56 != end or record[:4] != b"PK\6\6" or len(record) < 56:
        raise ValueError("its zip64 record does not stand where the directory ends")
    return offset, *struct.unpack_from("<2L4Q", record, 16)


def _central(data: bytes, count: int) -> list[_Central]:
    found, at = [], 0
    for _ in range(count):
        if data[at : at + 4] != b"PK\1\2" or len(data) - at < 46:
            raise ValueError("its directory is damaged")
        flags, method, _, _, checksum, packed, size, n_name, n_extra, n_comment, disk, _, _, offset = (
            struct.unpack_from("<2H2H3L3H2H2L", data, at + 8)
        )
        raw_name = data[at + 46 : at + 46 + n_name]
        extra = data[at + 46 + n_name : at + 46 + n_name + n_extra]
        at += 46 + n_name + n_extra + n_comment
        if at > len(data) or disk:
            raise ValueError("its directory is damaged")
        size, packed, offset = _wide(extra, size, packed, offset)
        name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437")
        if flags & _ENCRYPTED:
            raise ValueError(f"{shortened(name)} is encrypted")
        if method not in (_STORED, _DEFLATED):
            raise ValueError(
                f"{shortened(name)} is compressed by method {method}; stored and deflated are read"
            )
        found.append(_Central(raw_name, name, flags, method, checksum, packed, size, offset))
    if at != len(data):
        raise ValueError("its directory is longer than its members")
    return found


def _wide(extra: bytes, *fields: int) -> tuple[int, ...]:
    """Take the fields that four bytes cannot hold from the zip64 field."""
    wide, at = b"", 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    found = []
    for field in fields:
        if field == _FULL and wide:
            if len(wide) < 8:
                raise ValueError("its directory is damaged")
            field, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(field)
    return tuple(found)


def _member(file: BinaryIO, claim: _Central, limit: int) -> Member:
    """Prove that the directory and the member's own header say the same."""
    if claim.offset + 30 > limit:
        raise ValueError(f"{shortened(claim.name)} lies at {claim.offset}, beyond the members")
    file.seek(claim.offset)
    header = file.read(30)
    if header[:4] != b"PK\3\4":
        raise ValueError(f"{shortened(claim.name)} is not where the directory says")
    flags, method, _, _, checksum, packed, size, n_name, n_extra = struct.unpack_from("<2H2H3L2H", header, 6)
    if file.read(n_name) != claim.raw_name or method != claim.method or flags & _ENCRYPTED:
        raise ValueError(f"{shortened(claim.name)} has a header that contradicts the directory")
    pairs = ((checksum, claim.checksum), (packed, claim.packed), (size, claim.size))
    if not flags & _SIZES_FOLLOW and any(here not in (there, _FULL) for here, there in pairs):
        raise ValueError(f"{shortened(claim.name)} has other sizes in its header than in the directory")
    start = claim.offset + 30 + n_name + n_extra
    deflated = claim.method == _DEFLATED
    if start + claim.packed > limit:
        raise ValueError(f"{shortened(claim.name)} reaches to {start + claim.packed}, beyond the members")
    if claim.size > _MOST_DEFLATED * claim.packed if deflated else claim.size != claim.packed:
        raise ValueError(f"{shortened(claim.name)} cannot hold {claim.size} bytes in {claim.packed}")
    return Member(claim.name, deflated, claim.checksum, claim.packed, claim.size, start)


class Unpacked:
    """The bytes of a member, from the first to the last, which proves their number and checksum."""

    def __init__(self, file: BinaryIO, member: Member) -> None:
        self._pieces = _pieces(file, member)
        self._piece = b""

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes; fewer at the end."""
        while len(self._piece) < count and (piece := next(self._pieces, b"")):
            self._piece += piece
        found, self._piece = self._piece[:count], self._piece[count:]
        return found

    def fill(self, x: Array) -> None:
        """Read a contiguous array, which must be all that is left."""
        into = x.reshape(-1).view(np.uint8)
        done = 0
        piece: bytes | None = self._piece
        while piece is not None:
            if done + len(piece) > len(into):
                raise ValueError("there are more bytes than its header says")
            into[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
            piece = next(self._pieces, None)
        if done < len(into):
            raise ValueError(f"it ends {len(into) - done} bytes early")


def _pieces(file: BinaryIO, member: Member) -> Iterator[bytes]:
    checksum = size = 0
    for piece in _inflated(file, member) if member.deflated else _raw(file, member):
        checksum, size = zlib.crc32(piece, checksum), size + len(piece)
        if size > member.size:
            break
        yield piece
    if size != member.size:
        raise ValueError(f"it comes to {size} bytes or more, expected {member.size}")
    if member.checksum is not None and checksum != member.checksum:
        raise ValueError(f"its bytes are not those that were written: checksum {checksum:08x}, "
                         f"expected {member.checksum:08x}")  # fmt: skip


def _raw(file: BinaryIO, member: Member) -> Iterator[bytes]:
    file.seek(member.start)
    left = member.packed
    while left and (piece := file.read(min(_PIECE, left))):
        left -= len(piece)
        yield piece


def _inflated(file: BinaryIO, member: Member) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for packed in _raw(file, member):
            if inflater.eof:
                raise ValueError("there is more behind its compressed bytes")
            piece = packed
            while piece or packed:  # what one piece holds may come to many, and be given in several calls
                piece = inflater.decompress(packed, _PIECE)
                packed = inflater.unconsumed_tail
                if piece:
                    yield piece
    except zlib.error as error:
        raise ValueError(f"its compressed bytes are damaged: {error}") from error
    if not inflater.eof or inflater.unused_data:
        raise ValueError("its compressed bytes end early or late")
