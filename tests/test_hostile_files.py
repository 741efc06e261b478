"""Files that lie: each is refused with a ValueError that names it, in bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import fconv as fc
from fconv.testing.purity import same_bits
from tests.fuzz import files as fuzz_targets_files
from tests.hostile import GOOD, WHOLE, npy, npz, one, plain, raw_zip, refused, safetensors

SAFETENSORS = {
    "overlapping ranges": ({"a": WHOLE, "b": WHOLE}, "'b' starts at 0, where 16 was expected"),
    "partly overlapping": (
        {
            "a": {**WHOLE, "shape": [3], "data_offsets": [0, 12]},
            "b": {**WHOLE, "shape": [2], "data_offsets": [8, 16]},
        },
        "starts at 8, where 12",
    ),
    "a hole": (one(shape=[2], data_offsets=[8, 16]), "starts at 8, where 0 was expected"),
    "unused bytes at the end": (one(shape=[2], data_offsets=[0, 8]), "take 8 bytes, but 16 follow"),
    "beyond the file": (one(shape=[16], data_offsets=[0, 64]), "take 64 bytes, but 16 follow"),
    "far beyond the file": (one(shape=[2**60], data_offsets=[0, 2**62]), "bytes, but 16 follow"),
    "backwards": (one(data_offsets=[16, 0]), r"lies at \[16, 0\]"),
    "a shape that lies": (one(shape=[5]), "needs 20 bytes"),
    "a product that wraps to 16": (one(shape=[2**32, 2**32, 4]), "no array can have shape"),
    "a product that wraps to 0": (one(shape=[2**40, 2**40], data_offsets=[0, 0]), "no array can have shape"),
    "empty, but huge": (one(shape=[0, 2**62], data_offsets=[0, 0]), "no array can have shape"),
    "too many axes": (one(shape=[1] * 65), "no array can have shape"),
    "100,000 axes": (one(shape=[1] * 100_000), "no array can have shape"),
    "a negative size": (one(shape=[-4]), "expected a shape of integers"),
    "two negative sizes": (one(shape=[-2, -2]), "expected a shape of integers"),
    "a fraction": (one(shape=[4.0]), "expected a shape of integers"),
    "a boolean": (one(shape=[True, 4]), "expected a shape of integers"),
    "a text for a size": (one(shape=["4"]), "expected a shape of integers"),
    "no list for a shape": (one(shape=4), "has shape 4"),
    "offsets that are fractions": (one(data_offsets=[0.0, 16.0]), r"lies at \[0.0, 16.0\]"),
    "a negative offset": (one(data_offsets=[-16, 0]), r"lies at \[-16, 0\]"),
    "three offsets": (one(data_offsets=[0, 8, 16]), r"\[0, 8, 16\]"),
    "an unknown dtype": (one(dtype="F99"), "dtype 'F99', which is unknown"),
    "a dtype that NumPy lacks": (one(dtype="F4"), "dtype 'F4'"),
    "no text for a dtype": (one(dtype=["F32"]), "dtype"),
    "no dtype": ({"a": {"shape": [4], "data_offsets": [0, 16]}}, "expected dtype, shape and data_offsets"),
    "something more": (one(scale=2), "expected dtype, shape and data_offsets"),
    "no entry": ({"a": 3}, "expected dtype, shape and data_offsets, got 3"),
    "a name that is no text": (b'{"\\ud800": ' + json.dumps(WHOLE).encode() + b"}", "is no text"),
    "metadata that is no mapping": ({"__metadata__": [1], **one()}, "maps text to text"),
    "metadata of numbers": ({"__metadata__": {"a": 1}, **one()}, "maps text to text"),
    "not JSON": (b"{'a': 3}", "delimiter|property name"),
    "not text": (b'{"\xff\xfe": 1}', "utf-8"),
    "no object": (b'["a"]', "no JSON object"),
    "nothing": (b"", "no JSON object"),
    "more after the object": (b"{} {}", "Extra data"),
    "double keys": (b'{"a": %s, "a": %s}' % ((json.dumps(WHOLE).encode(),) * 2), "'a' occurs twice"),
    "double keys inside": (b'{"a": {"dtype": "F32", "dtype": "I32"}}', "'dtype' occurs twice"),
    "deep nesting": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested at most 3 deep"),
    "deep nesting behind a string": (b'{"[[\\"\\\\":' + b'{"a":' * 1000, "nested at most 3 deep"),
    "an endless number": (b'{"a": ' + b"9" * 100_000 + b"}", "at most 20 digits"),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_that_lie(tmp_path, name):
    header, text = SAFETENSORS[name]
    refused(safetensors(tmp_path / "x.safetensors", header), text)


@pytest.mark.parametrize("length", [0, 1, 1000, 2**31, 10**8 + 1, 2**32, 2**63, 2**64 - 1])
def test_a_header_length_that_lies(tmp_path, length):
    refused(safetensors(tmp_path / "x.safetensors", one(), length=length), "header|expected|delimiter")


def test_a_header_beyond_100_megabytes_is_refused_unread(tmp_path):
    path = tmp_path / "x.safetensors"
    with open(path, "wb") as file:
        file.write((200_000_000).to_bytes(8, "little") + b"{")
        file.truncate(300_000_000)  # a file of holes
    refused(path, "header claims 200000000 bytes, .* 100000000 are allowed", megabytes=1)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_truncation_at_every_tenth_byte(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    for seed in (
        fuzz_targets_files.safetensors_seeds if suffix == ".safetensors" else fuzz_targets_files.npz_seeds
    )():
        for length in {*range(0, len(seed), 10), len(seed) - 1}:
            path.write_bytes(seed[:length])
            with pytest.raises(ValueError, match=f"x{suffix} is not a whole"):
                fc.load(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_no_flipped_bit_goes_unnoticed(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    state = {"w": np.arange(5, dtype=np.float32), "step": 3}
    fc.save(path, state)
    data = path.read_bytes()
    for i in range(len(data)):
        damaged = bytearray(data)
        damaged[i] ^= 1 << (i % 8)
        path.write_bytes(damaged)
        try:
            found = fc.load(path, mmap=False)
        except ValueError as error:
            assert path.name in str(error)  # noqa: PT017
        else:  # what nobody reads: dates, padding, names of the texts
            assert same_bits(found, state), i


def test_a_structure_cannot_call_or_fill_the_memory(tmp_path):
    good = {"fconv.format": "1"}
    deep = '{"list": [' * 5000 + "]}" * 5000
    for structure in [deep, '{"value": [1, 2]}', '{"named": "os", "fields": ["system"], "items": [{"value": 1}, 3]}',
                      '{"array": "a", "array": "b"}', '{"dict": [1]}', '{"list": 3}', '{"keys": [1], "items": []}',
                      '{"array": ["a"]}', '{"keys": [[1]], "items": [{"value": 1}]}', '"value"']:  # fmt: skip
        path = safetensors(
            tmp_path / "x.safetensors", {"__metadata__": {**good, "fconv.structure": structure}, **one()}
        )
        with pytest.raises(ValueError, match=r"x\.safetensors has a damaged structure"):
            fc.load(path)


def test_nothing_is_allocated_for_what_a_file_only_claims(tmp_path):
    """With a gigabyte of memory to use, files that claim terabytes are refused, not died of."""
    safetensors(tmp_path / "a.safetensors", one(shape=[2**40], data_offsets=[0, 2**42]))
    npz(tmp_path / "b.npz", ("x.npy", npy(plain(shape="(1000000000000,)"))))
    (tmp_path / "c.npz").write_bytes(raw_zip((b"x.npy", GOOD, {}), directory={"size": 2**32 - 2}))
    code = (
        "import resource, sys, fconv\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "for path in sys.argv[1:]:\n"
        "    try: fconv.load(path)\n"
        "    except ValueError: print('refused')\n"
    )
    pytest.importorskip("resource")
    paths = [str(tmp_path / name) for name in ("a.safetensors", "b.npz", "c.npz")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * 3


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_fuzz_targets_take_their_seeds(kind):
    seeds = getattr(fuzz_targets_files, f"{kind}_seeds")()
    target = getattr(fuzz_targets_files, f"read_{kind}")
    for seed in seeds:
        target(seed)
        with pytest.raises(ValueError, match="not a whole"):
            target(seed[:-1])
