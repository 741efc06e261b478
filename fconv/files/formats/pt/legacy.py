"""PyTorch's files before 1.6: pickles one after another, and the storages behind them.

They are a magic number, a protocol number, what the writing machine was like, the object, and the
keys of its storages; then each storage: how many numbers it has, in eight bytes, and the numbers.
"""

from __future__ import annotations

from reprlib import repr as shortened
from typing import Any, BinaryIO

import numpy as np

from fconv.files.formats.claims import Budget
from fconv.files.formats.mapping import map_private
from fconv.files.formats.pt.objects import resolved
from fconv.files.formats.pt.pickles import unpickle
from fconv.files.formats.pt.storages import Storage
from fconv.files.formats.pt.vocabulary import CALLS, VALUES, storage_of

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read(file: BinaryIO, mmap: bool, strict: bool) -> Any:
    """Read the object in a file of this format."""
    memory = map_private(file) if mmap else None
    data: Any = file.read() if memory is None else memory
    at, budget = 0, Budget(len(data))
    storages: dict[str, Storage] = {}

    def plain() -> Any:
        nonlocal at
        value, at = unpickle(data, at, {}, {}, _no_storage, budget=budget, strict=True)
        return value

    if plain() != _MAGIC:
        raise ValueError("it is a plain pickle, not what torch.save writes")
    protocol, system = plain(), plain()
    if protocol != _PROTOCOL or not isinstance(system, dict):
        raise ValueError(f"it begins as none of PyTorch's files does (protocol {shortened(protocol)})")
    value, at = unpickle(
        data, at, CALLS, VALUES, lambda identifier: storage_of(identifier, storages),
        budget=budget, strict=strict,
    )  # fmt: skip
    keys = plain()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is damaged")
    if len(set(keys)) != len(keys):
        raise ValueError("its list of storages names one twice")
    swap = system.get("little_endian") is False
    for key in keys:
        storage = storages.get(key)
        if storage is None:
            raise ValueError(f"it holds a storage {shortened(key)} that no tensor uses")
        count = int.from_bytes(data[at : at + 8], "big" if swap else "little")
        if count != storage.count or len(data) - at - 8 < storage.nbytes:
            raise ValueError(
                f"the storage {shortened(key)} should have {storage.count} numbers, {storage.nbytes} bytes, "
                f"but says {count} and {max(0, len(data) - at - 8)} bytes are left"
            )
        storage.raw = (
            np.frombuffer(data, np.uint8, storage.nbytes, at + 8) if storage.nbytes else np.empty(0, np.uint8)
        )
        if not storage.raw.flags.writeable:
            storage.raw = storage.raw.copy()  # the arrays are the caller's to change
        at += 8 + storage.nbytes
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes stand behind its last storage")
    return resolved(value, swap, budget, strict=strict)


def _no_storage(identifier: Any) -> Any:
    raise ValueError("its pickle holds a storage where none should stand")
