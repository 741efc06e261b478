"""Pickles alone as a target, so that damage reaches the interpreter and not the archive around it."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile

from fconv.files.formats.claims import Budget
from fconv.files.formats.pt.objects import resolved
from fconv.files.formats.pt.pickles import unpickle
from fconv.files.formats.pt.storages import Storage
from fconv.files.formats.pt.vocabulary import CALLS, VALUES, storage_of
from tests.fuzz import pt


def seeds():
    """Pickles inside PyTorch's files and ours, plain ones of every protocol, and one of all opcodes."""
    inside = []
    for data in pt.seeds():
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                inside += [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    numbers = [1, 2**40, 2**70, -1.5, None, (True, False)]
    held = {"a": numbers, "x" * 300: b"bytes", 3: {1, 2}, "f": frozenset("ab")}
    plain = [pickle.dumps(held, protocol) for protocol in range(2, 6)]
    return [*inside, *plain, b"\x80\x02" + bytes(ord(op.code) for op in pickletools.opcodes)]


def read(data):
    """Interpret a pickle, and make arrays of its tensors over storages that are all there."""
    import numpy as np

    storages: dict[str, Storage] = {}
    budget = Budget(len(data))
    value = unpickle(
        data, 0, CALLS, VALUES, lambda identifier: storage_of(identifier, storages),
        budget=budget, strict=False,
    ).value  # fmt: skip
    for storage in storages.values():
        if storage.nbytes > 1 << 20:
            raise ValueError("larger than any file of the fuzzer")
        storage.raw = np.zeros(storage.nbytes, np.uint8)
    return resolved(value, False, budget, strict=False)
