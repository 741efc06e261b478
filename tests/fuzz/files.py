"""Targets for fuzzing the readers of .safetensors, .npz and idx: seeds, and functions of bytes.

A function returns what was read or raises ValueError; anything else is a finding.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np

import fconv as fc
from fconv.files.checkpoint import describe_file
from fconv.files.formats import mapping
from fconv.files.formats.pt import flat

mapping.SMALL = 0  # so that what is damaged is mapped too

TREE = {
    "net": ({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}, (), {"bias": np.zeros(0)}),
    "step": 3, "none": None, "half": np.ones((), np.float16), "key": np.array([1, 2], np.uint64),
}  # fmt: skip


def saved(extension, tree):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"seed{extension}"
        fc.save(path, tree, metadata={"epoch": "3"})
        return path.read_bytes()


def safetensors_seeds():
    """Whole files: ours, a flat one, an empty one, one of widened dtypes."""
    import json

    entries = {"b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
               "f": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [4, 8]}}  # fmt: skip
    header = json.dumps(entries).encode()
    wide = len(header).to_bytes(8, "little") + header + bytes(range(8))
    return [
        saved(".safetensors", TREE),
        saved(".safetensors", {"a": np.ones(3, ">i4")}),
        saved(".safetensors", ()),
        wide,
    ]


def npz_seeds():
    """Whole files: ours, compressed and plain ones of NumPy's, with text and Fortran order."""
    buffers = [io.BytesIO() for _ in range(3)]
    np.savez(buffers[0], a=np.arange(3), b=np.asfortranarray(np.ones((2, 3), ">f4")), c=np.array(["é"]))
    np.savez_compressed(buffers[1], a=np.zeros((20, 30)), t=np.array(["2020"], "M8[Y]"))
    with zipfile.ZipFile(buffers[2], "w") as archive, archive.open("x.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, np.ones(2), version=(3, 0))
    return [saved(".npz", TREE), saved(".npz", ()), *(buffer.getvalue() for buffer in buffers)]


def npy_seeds():
    """Whole files: of all versions, orders and some dtypes."""
    arrays = [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.ones((2, 3), ">f4")),
        np.array(["é"]),
        np.ones(()),
    ]
    buffers = [io.BytesIO() for _ in arrays]
    for i, (buffer, x) in enumerate(zip(buffers, arrays, strict=True)):
        np.lib.format.write_array(buffer, x, version=(1 + i % 3, 0))
    return [buffer.getvalue() for buffer in buffers]


def read_npy(data):
    """Load, mapped and read, and describe a .npy file of these bytes."""
    return read_file(".npy", data)


def read_safetensors(data):
    """Load, mapped and read, and describe a .safetensors file of these bytes."""
    return read_file(".safetensors", data)


def read_npz(data):
    """Load, mapped and read, and describe a .npz file of these bytes."""
    return read_file(".npz", data)


def idx_seeds():
    """Whole idx files of several dtypes, gzipped and not."""
    plain = [
        b"\0\0\x08\3" + struct.pack(">3I", 2, 3, 4) + bytes(range(24)),
        b"\0\0\x0d\1" + struct.pack(">I3f", 3, 1, 2, 3),
        b"\0\0\x0b\2" + struct.pack(">2I4h", 2, 2, 1, 2, 3, 4),
    ]
    return [*plain, *(gzip.compress(data) for data in plain)]


def read_idx(data):
    """Read an idx file of these bytes."""
    return in_file(".idx", data, fc.data.read_idx)


def any_seeds():
    """Whole files of every format, and what people take for one."""
    return [
        *safetensors_seeds(),
        *npz_seeds(),
        *npy_seeds(),
        saved(".pt", TREE),
        b"version https://git-lfs",
        b"<html>",
    ]


def read_any(data):
    """Load a file whose name says nothing."""
    return read_file(".ckpt", data)


def read_file(extension, data):
    """Load, mapped and read, and describe a file of these bytes."""

    def everything(path):
        fc.load_metadata(path)
        describe_file(path)
        mapped = fc.load(path)
        for x in flat(mapped).values():  # an array by itself too
            x.tobytes()  # a view beyond the file would end the process here
        repr(mapped)
        return fc.load(path, mmap=False)

    return in_file(extension, data, everything)


def in_file(extension, data, read):
    """Read a file of these bytes, in memory where the system has such a folder."""
    handle, path = tempfile.mkstemp(suffix=extension, dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return read(path)
    finally:
        os.unlink(path)
