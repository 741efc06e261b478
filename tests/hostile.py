"""Files that lie, made byte by byte, and the way that each has to be refused."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zipfile
import zlib

import pytest

import fconv as fc
from fconv.files.checkpoint import describe_file
from tests.spending import processor_time

WHOLE = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def refused(path, text, seconds=20, megabytes=40):
    """Every way to read the file refuses it, with the same cause."""
    tracemalloc.start()
    try:
        with processor_time() as spent:
            for read in (fc.load, lambda p: fc.load(p, mmap=False), fc.load_metadata, describe_file):
                with pytest.raises(ValueError, match=text) as info:
                    read(path)
                assert path.name in str(info.value)
                assert len(str(info.value)) < 500
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert spent.seconds < seconds
    assert most < megabytes << 20


def safetensors(path, header, data=bytes(16), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def one(**changes):
    return {"a": {**WHOLE, **changes}}


def npy(header, data=bytes(16), version=(1, 0), length=None):
    text = header.encode() if isinstance(header, str) else header
    width = "<H" if version[0] == 1 else "<I"
    return (
        b"\x93NUMPY"
        + bytes(version)
        + struct.pack(width, len(text) if length is None else length)
        + text
        + data
    )


def plain(descr="'<f4'", order="False", shape="(4,)"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def npz(path, *files, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


GOOD = npy(plain())


def raw_zip(*files, directory=None):
    """A zip archive byte by byte: each file is (name, data, claims), which may lie."""
    data, central = b"", b""
    for name, body, claims in files:
        claim = {"flags": 0, "method": 0, "crc": zlib.crc32(body), "packed": len(body), "size": len(body),
                 "offset": len(data), "local_size": None, "extra": b"", **claims}  # fmt: skip
        local = claim["size"] if claim["local_size"] is None else claim["local_size"]
        data += struct.pack("<4s5H3L2H", b"PK\3\4", 20, claim["flags"], claim["method"], 0, 0, claim["crc"],
                            claim["packed"], local, len(name), 0) + name + body  # fmt: skip
        central += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 20, 20, claim["flags"], claim["method"], 0, 0, claim["crc"], claim["packed"],
            claim["size"], len(name), len(claim["extra"]), 0, 0, 0, 0, claim["offset"],
        ) + name + claim["extra"]  # fmt: skip
    ends = {"disk": 0, "count": len(files), "size": len(central), "start": len(data), **(directory or {})}
    return data + central + struct.pack("<4s4H2LH", b"PK\5\6", ends["disk"], 0, ends["count"], ends["count"],
                                        ends["size"], ends["start"], 0)  # fmt: skip
