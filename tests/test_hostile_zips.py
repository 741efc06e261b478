"""Archives that lie: each is refused with a ValueError that names it, in bounded time and memory."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

import fconv as fc
from fconv.testing.purity import same_bits
from tests.hostile import GOOD, npy, npz, plain, raw_zip, refused

NPY = {
    "a huge shape": (npy(plain(shape="(1000000000000,)")), "claims 4000000000000 bytes"),
    "a product that overflows": (npy(plain(shape="(4294967296, 4294967296, 4)")), "no array can have"),
    "empty, but huge": (npy(plain(shape="(0, 9223372036854775807)"), b""), "no array can have"),
    "a shape too small": (npy(plain(shape="(3,)")), "claims 12 bytes"),
    "a negative size": (npy(plain(shape="(-4,)")), "not that of a plain array"),
    "a fraction": (npy(plain(shape="(4.0,)")), "not that of a plain array"),
    "a call": (npy(plain(shape="(exit(),)")), "not that of a plain array"),
    "no tuple": (npy(plain(shape="4")), "not that of a plain array"),
    "no tuple, in brackets": (npy(plain(shape="(4)")), "not that of a plain array"),
    "65 axes": (npy(plain(shape=f"({'1, ' * 65})")), "no array can have"),
    "objects": (npy(plain("'|O'"), b"cos\nsystem\n"), "array of objects, which would have to be unpickled"),
    "a structured dtype": (npy(plain("[('a', '<f4'), ('b', '|O')]")), "not that of a plain array"),
    "a void dtype": (npy(plain("'|V4'")), "array of dtype"),
    "a dtype that NumPy lacks": (npy(plain("'<f3'")), "which NumPy lacks"),
    "a dtype beyond all bounds": (npy(plain("'<U999999999'")), "which NumPy lacks|claims"),
    "a dtype of no size": (npy(plain("'|S0'", shape="(99999999999,)"), b""), "which has no size"),
    "a dtype in an alias": (npy(plain("'float32'")), "array of dtype"),
    "an order that is no boolean": (npy(plain(order="1")), "not that of a plain array"),
    "a missing key": (npy("{'descr': '<f4', 'shape': (4,)}\n"), "not that of a plain array"),
    "a double key": (npy("{'descr': '<f4', 'descr': '<f4', 'shape': (4,)}\n"), "not that of a plain array"),
    "another key": (npy(plain().replace("}", "'more': 1}")), "not that of a plain array"),
    "no header at all": (npy(b"\xff" * 64), "not that of a plain array"),
    "brackets without end": (npy("(" * 9_000), "not that of a plain array"),
    "blanks without end": (npy("{" + " " * 9_900), "not that of a plain array"),
    "a header beyond the file": (npy(plain(), length=60_000), "header claims 60000 bytes"),
    "a header of 4 GB": (npy(plain(), version=(2, 0), length=2**32 - 1), "header claims 4294967295"),
    "a header too long": (npy(plain() + " " * 20_000, version=(2, 0)), "10000 are allowed"),
    "a header that ends early": (npy(plain(), length=20), "not that of a plain array"),
    "version 4": (npy(plain(), version=(4, 0)), "version 1, 2 or 3"),
    "version 1.7": (npy(plain(), version=(1, 7)), "version 1, 2 or 3"),
    "three bytes": (b"\x93NU", "version 1, 2 or 3"),
    "nothing": (b"", "version 1, 2 or 3"),
    "a pickle": (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "version 1, 2 or 3"),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", NPY)
def test_npy_headers_that_lie(tmp_path, name, method):
    data, text = NPY[name]
    refused(npz(tmp_path / "x.npz", ("x.npy", data), method=method), text)


@pytest.mark.parametrize("name", NPY)
def test_headers_of_npy_files_that_lie(tmp_path, name):
    data, text = NPY[name]
    (tmp_path / "x.npy").write_bytes(data)
    refused(tmp_path / "x.npy", text)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("mmap", [True, False])
def test_all_versions_orders_and_byte_orders_are_read(tmp_path, version, mmap):
    arrays = [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(["é", "zwei"]),
              np.arange(3, dtype=">i4"), np.ones(()), np.zeros((0, 3)), np.array([True]), np.array(["2020"], "M8[D]"),
              np.asfortranarray(np.arange(24, dtype="c8").reshape(2, 3, 4)).swapaxes(0, 1)]  # fmt: skip
    for x in arrays:
        with open(tmp_path / "x.npy", "wb") as file:
            np.lib.format.write_array(file, x, version=version)
        alone = fc.load(tmp_path / "x.npy", mmap=mmap)
        np.testing.assert_array_equal(alone, x)
        assert alone.dtype == x.dtype.newbyteorder("=")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for i, x in enumerate(arrays):
            with archive.open(f"a{i}.npy", "w") as entry:
                np.lib.format.write_array(entry, x, version=version)
    found = fc.load(tmp_path / "x.npz", mmap=mmap)
    for i, x in enumerate(arrays):
        np.testing.assert_array_equal(found[f"a{i}"], x)
        assert found[f"a{i}"].dtype == x.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    "name",
    [
        "../x.npy",
        "/etc/x.npy",
        "a/../../x.npy",
        "..\\x.npy",
        "a\\x.npy",
        "C:/x.npy",
        "C:x.npy",
        "a\0b.npy",
        "../",
    ],
)
def test_names_that_lead_out_of_a_folder(tmp_path, name):
    stand_in = "?" * len(name)  # zipfile itself would tidy the name
    data = npz(tmp_path / "x.npz", (stand_in, GOOD)).read_bytes()
    (tmp_path / "x.npz").write_bytes(data.replace(stand_in.encode(), name.encode()))
    refused(tmp_path / "x.npz", "could lead out of a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_stand_twice_or_are_no_arrays(tmp_path):
    refused(npz(tmp_path / "x.npz", ("x.npy", GOOD), ("x.npy", GOOD)), "two members are named 'x.npy'")
    refused(npz(tmp_path / "x.npz", ("readme.txt", b"hello")), "holds 'readme.txt', which is no .npy file")
    refused(npz(tmp_path / "x.npz", ("folder/", b"")), "which is no .npy file")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (npy(plain("'|u1'", shape="(16,)")), "'__fconv__': "),
        (GOOD, "expected metadata in bytes, got float32"),
        (npy(plain("'|u1'", shape="(8,)"), b'{"a": 1}'), "maps text to text"),
        (npy(plain("'|u1'", shape="(3,)"), b"[1]"), "maps text to text"),
        (npy(plain("'|u1'", shape="(9000,)"), b"[" * 9000), "nested at most 1 deep"),
    ],
)
def test_a_member_named_as_our_metadata(tmp_path, data, text):
    refused(npz(tmp_path / "x.npz", ("__fconv__.npy", data)), text)


def test_names_that_cannot_be_read_again_are_not_written(tmp_path):
    for name in ["../x", "/x", "a\\b", "a\0b", "C:x", "\ud800", "x" * 70_000, "__fconv__"]:
        with pytest.raises(ValueError, match="save: "):
            fc.save(tmp_path / "x.npz", {name: np.ones(1)})
    for name in ["\ud800", "__metadata__"]:
        with pytest.raises(ValueError, match="save: "):
            fc.save(tmp_path / "x.safetensors", {name: np.ones(1)})
    assert not list(tmp_path.iterdir())
    for suffix in [".npz", ".safetensors"]:
        tree = {"..": np.ones(1), "a/b": np.ones(2), "": np.ones(3), "é\n": np.ones(4), "array": np.zeros(1)}
        fc.save(tmp_path / f"x{suffix}", tree)
        assert same_bits(fc.load(tmp_path / f"x{suffix}"), tree)


def bomb(path, size):
    """Zeros, behind a header that tells their number truly."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as entry:
        entry.write(npy(plain("'|u1'", shape=f"({size},)"), b""))
        for _ in range(size >> 20):
            entry.write(bytes(1 << 20))
    return path


def test_zip_bombs(tmp_path):
    refused(bomb(tmp_path / "x.npz", 300 << 20), "would come to more than 48 MB and 16 times its size")
    zeros = fc.load(bomb(tmp_path / "y.npz", 40 << 20))  # what a machine can spare is read
    assert zeros["x"].nbytes == 40 << 20


DEFLATED = zlib.compress(GOOD, wbits=-15)


ZIPS = {
    "encrypted": ([(b"x.npy", GOOD, {"flags": 1})], "is encrypted"),
    "bzip2": ([(b"x.npy", GOOD, {"method": 12})], "compressed by method 12"),
    "two names for the same bytes": ([(b"x.npy", GOOD, {}), (b"y.npy", GOOD, {"offset": 0})], "contradicts"),
    "the same bytes twice": ([(b"x.npy", GOOD, {}), (b"x.npy", GOOD, {"offset": 0})], "named 'x.npy'"),
    "an offset beyond the file": ([(b"x.npy", GOOD, {"offset": 2**31})], "beyond the members"),
    "an offset into the data": ([(b"x.npy", GOOD, {"offset": 7})], "not where the directory says"),
    "bytes beyond the members": ([(b"x.npy", GOOD, {"packed": 2**31, "size": 2**31})], "beyond the members"),
    "stored, and yet expanding": ([(b"x.npy", GOOD, {"size": 2**31})], "cannot hold 2147483648 bytes"),
    "deflated beyond what deflate can": (
        [(b"x.npy", DEFLATED, {"method": 8, "size": 2**31, "crc": zlib.crc32(GOOD)})], "cannot hold 2147483648 bytes",
    ),
    "sizes that contradict": ([(b"x.npy", GOOD, {"local_size": 5})], "other sizes in its header"),
    "a damaged stream": ([(b"x.npy", b"\xff" * 40, {"method": 8, "size": 200})], "damaged"),
    "a stream that ends early": (
        [(b"x.npy", DEFLATED[:-4], {"method": 8, "size": len(GOOD), "crc": zlib.crc32(GOOD)})], "'x': ",
    ),
    "more members than there are": ([(b"x.npy", GOOD, {})], "does not take|damaged", {"count": 2}),
    "fewer members than there are": ([(b"x.npy", GOOD, {}), (b"y.npy", GOOD, {})], "longer than its members",
                                     {"count": 1}),
    "65535 members": ([(b"x.npy", GOOD, {})], "does not take", {"count": 65535}),
    "a directory of 4 GB": ([(b"x.npy", GOOD, {})], "does not take", {"size": 2**32 - 1}),
    "a directory elsewhere": ([(b"x.npy", GOOD, {})], "does not take", {"start": 0}),
    "a part of a set of disks": ([(b"x.npy", GOOD, {})], "does not take", {"disk": 1}),
    "a zip64 size cut short": (
        [(b"x.npy", GOOD, {"size": 2**32 - 1, "extra": struct.pack("<2H4s", 1, 4, b"abcd")})], "directory is damaged",
    ),
    "a zip64 size of 2**63": (
        [(b"x.npy", GOOD, {"size": 2**32 - 1, "extra": struct.pack("<2HQ", 1, 8, 2**63)})], "has other sizes|cannot hold",
    ),
    "a name that is not UTF-8": ([(b"\xff\xfe.npy", GOOD, {"flags": 0x800})], "utf-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", ZIPS)
def test_zip_archives_that_lie(tmp_path, name):
    files, text, *directory = ZIPS[name]
    path = tmp_path / "x.npz"
    path.write_bytes(raw_zip((b"x.npy", GOOD, {})))
    assert fc.load(path)["x"].tolist() == [0, 0, 0, 0]  # so made, an honest one is read
    path.write_bytes(raw_zip(*files, directory=directory[0] if directory else None))
    if name in ("a damaged stream", "a stream that ends early"):
        with pytest.raises(ValueError, match=text):
            fc.load(path)
    else:
        refused(path, text)


def test_overlapping_members_are_refused(tmp_path):
    # The outer member holds the whole inner one, header and all, as in D. Fifield's bomb.
    inner = raw_zip((b"y.npy", GOOD, {}))[: 30 + 5 + len(GOOD)]
    outer = npy(plain("'|u1'", shape=f"({len(inner)},)"), inner)
    begin = 30 + 5 + len(outer) - len(inner)
    data = raw_zip((b"x.npy", outer, {}))
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, zlib.crc32(GOOD), len(GOOD), len(GOOD), 5, 0, 0, 0,
                        0, 0, begin) + b"y.npy"  # fmt: skip
    start = data.index(b"PK\1\2")
    central = data[start:-22] + entry
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(central), start, 0)
    (tmp_path / "x.npz").write_bytes(data[:start] + central + end)
    refused(tmp_path / "x.npz", "'y.npy' overlaps what stands before it")


def test_anything_before_or_after_an_archive_is_refused(tmp_path):
    data = npz(tmp_path / "x.npz", ("x.npy", GOOD)).read_bytes()
    for changed in (b"#!/bin/sh\n" + data, data + b"more", data + data):
        (tmp_path / "x.npz").write_bytes(changed)
        refused(tmp_path / "x.npz", "does not take|does not end as|not where")


def test_numpy_reads_what_is_written(tmp_path):
    fc.save(tmp_path / "x.npz", {"a": np.arange(3), "b": (np.ones((2, 2), np.float32).T,)})
    with np.load(io.BytesIO((tmp_path / "x.npz").read_bytes())) as found:
        assert sorted(found) == ["__fconv__", "a", "b.0"]
        np.testing.assert_array_equal(found["a"], np.arange(3))


def test_archives_too_large_for_plain_zip_are_read_and_proved(tmp_path, monkeypatch):
    """The long form of sizes, places and counts, here of a small archive."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = tmp_path / "x.npz"
    tree = {"a": np.arange(3), "b": np.ones((2, 2), np.float32)}
    fc.save(path, tree)
    data = path.read_bytes()
    record = data.index(b"PK\6\6")
    for mmap in (True, False):
        assert same_bits(fc.load(path, mmap=mmap), tree)
    for at, what in [(record + 24, 2**63), (record + 32, 1), (record + 40, 2**62), (record + 48, 2**64 - 1),
                     (record + 56 + 8, 2**63), (record + 56 + 8, 0)]:  # fmt: skip
        path.write_bytes(data[:at] + what.to_bytes(8, "little") + data[at + 8 :])
        refused(path, "does not take|zip64 record")
    for i in range(record, len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[i] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                assert same_bits(fc.load(path), tree)
            except ValueError as error:
                assert path.name in str(error)  # noqa: PT017
