"""PyTorch's files since 1.6: a zip archive with a pickle and a member for each storage."""

from __future__ import annotations

import json
import os
from reprlib import repr as shortened
from typing import Any, BinaryIO

import numpy as np

from fconv.arrays import Array
from fconv.files.formats.claims import Budget, check_text, parse_json, texts_of
from fconv.files.formats.mapping import map_private, view
from fconv.files.formats.pt.objects import resolved
from fconv.files.formats.pt.pickles import unpickle
from fconv.files.formats.pt.storages import Storage
from fconv.files.formats.pt.vocabulary import CALLS, VALUES, storage_of
from fconv.files.formats.zips import Member, Unpacked, members

TEXTS = "fconv.json"
"""The member that holds our texts; PyTorch passes over it."""


def read(file: BinaryIO, mmap: bool, strict: bool) -> tuple[Any, dict[str, str]]:
    """Read the object in an archive, and our texts where there are any.

    Storages that are stored as they are, which is how PyTorch writes them, are mapped
    copy-on-write; without `mmap` they are read, and their checksums proved.
    """
    budget = Budget(os.fstat(file.fileno()).st_size)
    listed = members(file, budget)
    if not any(member.checksum for member in listed):  # PyTorch can be told to leave them out
        listed = [member._replace(checksum=None) for member in listed]
    found = {member.name: member for member in listed}
    folder = _folder(found)
    swap = _text(file, found.get(f"{folder}byteorder"), b"little") == b"big"
    storages: dict[str, Storage] = {}
    pickle = _text(file, found[f"{folder}data.pkl"])
    value = unpickle(
        pickle, 0, CALLS, VALUES, lambda identifier: storage_of(identifier, storages),
        budget=budget, strict=strict,
    ).value  # fmt: skip
    memory = map_private(file) if mmap else None
    for key, storage in storages.items():
        held = found.get(f"{folder}data/{key}")
        if held is None:
            raise ValueError(f"it lacks the storage {shortened(key)}")
        if held.size != storage.nbytes:
            raise ValueError(
                f"the storage {shortened(key)} has {held.size} bytes, expected {storage.nbytes} "
                f"for {storage.count} numbers"
            )
        storage.raw = _bytes(file, memory, held)
    texts = _text(file, found.get(f"{folder}{TEXTS}"), b"{}")
    return resolved(value, swap, budget, strict=strict), texts_of(parse_json(texts, depth=2))


def _folder(found: dict[str, Member]) -> str:
    """Find the folder that holds everything; its name is the writer's choice."""
    places = [name.removesuffix("data.pkl") for name in found if name.endswith("data.pkl")]
    places = [place for place in places if place == "" or (place.count("/") == 1 and place.endswith("/"))]
    if len(places) != 1:
        raise ValueError("it is a zip archive without the data.pkl that torch.save writes")
    folder = places[0]
    if f"{folder}constants.pkl" in found or any(name.startswith(f"{folder}code/") for name in found):
        raise ValueError(
            "it is a TorchScript program, which holds code; save its state_dict() with torch.save instead"
        )
    return folder


def _text(file: BinaryIO, member: Member | None, default: bytes | None = None) -> bytes:
    if member is None:
        return default or b""
    check_text(shortened(member.name), member.size, os.fstat(file.fileno()).st_size)
    return Unpacked(file, member).read(member.size + 1)


def _bytes(file: BinaryIO, memory: Any, member: Member) -> Array:
    if memory is not None and not member.deflated:
        mapped = view(memory, np.dtype(np.uint8), (member.size,), member.start)
        if mapped is not None:
            return mapped
    raw = np.empty(member.size, np.uint8)
    Unpacked(file, member).fill(raw)
    return raw


def texts_member(texts: dict[str, str]) -> bytes:
    """Return the bytes of our member."""
    return json.dumps(texts).encode()
