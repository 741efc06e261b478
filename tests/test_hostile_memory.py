"""Files of many small parts: what is read and made of them stays within 20 times their size and 64 MB."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from contextlib import suppress

import numpy as np
import pytest

import fconv as fc
from fconv.files.checkpoint import describe_file
from fconv.tools.weights import read_weights
from tests.fuzz.__main__ import Memory
from tests.spending import processor_time
from tests.test_hostile_pt import archive

MANY = 150_000


def safetensors(header):
    return struct.pack("<Q", len(header)) + header


def deflated(*files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in files:
            zipped.writestr(name, data)
    return buffer.getvalue()


def npy(x):
    buffer = io.BytesIO()
    np.save(buffer, x)
    return buffer.getvalue()


def structure(node):
    return {"fconv.format": "1", "fconv.structure": json.dumps({"list": [node] * MANY})}


def texts():
    return json.dumps({str(i): "" for i in range(MANY)}).encode()


def pickled(*parts):
    return archive(b"\x80\x02" + b"".join(parts) + b".")


DEEP = [b"}X" + struct.pack("<I", 900) + b"a" * 900 for _ in range(99)]
NONE = ("a/data.pkl", b"\x80\x02N.")
FILES = {
    "entries.safetensors": lambda: safetensors(
        json.dumps({str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(MANY // 4)}).encode()),
    "metadata.safetensors": lambda: safetensors(b'{"__metadata__":' + texts() + b"}"),
    "brackets.safetensors": lambda: safetensors(b'{"a":[' + b"[]," * MANY + b"[]]}"),
    "structure.safetensors": lambda: safetensors(json.dumps({"__metadata__": structure({"list": []})}).encode()),
    "members.npz": lambda: deflated(*((f"{i}.npy", npy(np.zeros(0, "u1"))) for i in range(MANY // 50))),
    "texts.npz": lambda: deflated(("__fconv__.npy", npy(np.frombuffer(texts(), "u1")))),
    "texts.pt": lambda: deflated(NONE, ("a/fconv.json", texts())),
    "spaces.pt": lambda: deflated(NONE, ("a/fconv.json", b" " * 40_000_000 + b"{}")),
    "structure.pt": lambda: deflated(NONE, ("a/fconv.json", json.dumps(structure({"value": None})).encode())),
    "lists.pt": lambda: pickled(b"](", b"]" * MANY, b"e"),
    "dicts.pt": lambda: pickled(b"](", b"}K\x01K\x01s" * MANY, b"e"),
    "placeholders.pt": lambda: pickled(b"ca\nb\nq\x00](", b"h\x00)R" * MANY, b"e"),
    "names.pt": lambda: pickled(b"](", *(b"c%d\nb\n" % i for i in range(MANY // 4)), b"e"),
    "long_names.pt": lambda: pickled(*DEEP, b"](", b"K\x01" * (MANY // 5), b"e", b"s" * 99),
    "wide_text.pt": lambda: pickled(b"X" + struct.pack("<I", 4 * MANY + 4) + b"a" * 4 * MANY + "\U0001f600".encode()),
}  # fmt: skip


@pytest.mark.skipif(not Memory().known, reason="needs Linux's /proc")
@pytest.mark.parametrize("name", FILES)
def test_many_small_parts_stay_small(name, tmp_path):
    data = FILES[name]()
    path = tmp_path / name
    path.write_bytes(data)
    memory = Memory()
    for read in (fc.load, describe_file, read_weights):
        memory.begin()
        with processor_time() as spent, suppress(ValueError):
            read(path)
        assert memory.taken() < 20 * len(data) + 64e6
        assert spent.seconds < 30  # the slowest takes 3


def test_texts_out_of_proportion_are_refused(tmp_path):
    for name in ("spaces.pt", "structure.pt"):
        (tmp_path / name).write_bytes(FILES[name]())
        with pytest.raises(
            ValueError, match=rf"{name} .* bytes hold 'a/fconv\.json' of .* out of proportion"
        ):
            fc.load(tmp_path / name)
