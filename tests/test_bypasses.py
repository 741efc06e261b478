"""Published ways around scanners of pickles: nothing in a file is executed, looked up or imported."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pytest

import fconv as fc
from fconv.files.checkpoint import describe_file
from tests.bypasses import BENIGN, NO_PAYLOAD, PICKLES, SYSTEM, TWO
from tests.hostile import raw_zip
from tests.test_hostile_pt import MAGIC, archive

INNER = TWO + SYSTEM + b"."
PLAIN = (dict, list, tuple, set, frozenset, str, bytes, int, float, bool, complex, type(None), np.ndarray)
CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    path = tmp_path / "harmed"
    monkeypatch.setenv("FCONV_HARM", str(path))
    return path


def inert(value):
    """Require that nothing but plain values, arrays and placeholders was made."""
    pending, seen = [value], set()
    while pending:
        x = pending.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        assert type(x) in (*PLAIN, fc.Placeholder), type(x)
        if isinstance(x, dict):
            pending += [*x, *x.values()]
        elif isinstance(x, (list, tuple, set, frozenset)):
            pending += x
        elif isinstance(x, fc.Placeholder):
            pending += [x.name, x.arguments, x.items, x.state]
            assert repr(x).isprintable()
    return True


def harmless(path, sentinel):
    """Read a file in every way; count how often it was read and how often refused."""
    outcomes = []
    before = set(sys.modules)
    for options in ({}, {"mmap": False}, {"strict": True}):
        try:
            outcomes.append(inert(fc.load(path, **options)))
        except ValueError as error:
            assert path.name in str(error)  # noqa: PT017
            outcomes.append(False)
    with suppress(ValueError):
        describe_file(path)
    assert not sentinel.exists()
    assert set(sys.modules) == before
    return outcomes


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory):
    """Import what reading itself needs, so that any other import shows."""
    import fconv.files.formats.npz
    import fconv.files.formats.safetensors  # noqa: F401

    path = tmp_path_factory.mktemp("warm") / "x.pt"
    for data in (archive(TWO + BENIGN + b"."), archive(b"\x80\x02\xff."), b"\x80\x02"):
        path.write_bytes(data)
        with suppress(ValueError):
            fc.load(path)


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_inert_or_refused(name, tmp_path, sentinel):
    path = tmp_path / "x.pt"
    path.write_bytes(archive(PICKLES[name]))
    assert not harmless(path, sentinel)[2]  # strict
    header = (MAGIC, pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2))
    path.write_bytes(b"".join(header) + PICKLES[name] + pickle.dumps([], 2))
    assert not harmless(path, sentinel)[2]
    for other in ("x.ckpt", "x.bin", "x.npz", "x.safetensors", "x"):
        (tmp_path / other).write_bytes(PICKLES[name])
        assert harmless(tmp_path / other, sentinel) == [False] * 3
    for i in range(4):  # in the place of each of the older format's streams
        streams = [*header, TWO + BENIGN + b"."]
        streams[i] = PICKLES[name]
        path.write_bytes(b"".join(streams) + pickle.dumps([], 2))
        assert not harmless(path, sentinel)[2]


RUN = """
import os, sys
sys.path.insert(0, {root!r})
from tests.bypasses import NO_PAYLOAD, PICKLES, run
for i, (name, data) in enumerate(PICKLES.items()):
    os.environ["FCONV_HARM"] = os.path.join(sys.argv[1], str(i))
    child = os.fork()
    if not child:
        quiet = os.open(os.devnull, os.O_RDWR)
        for handle in (0, 1, 2):
            os.dup2(quiet, handle)
        try:
            run(data)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if os.path.exists(os.environ["FCONV_HARM"]):
        print(name)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a shell and fork")
def test_python_itself_executes_them(tmp_path):
    """The files are what they claim to be: Python's unpickler does the harm of nearly all."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = RUN.format(root=root)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=100
    )
    executed = set(done.stdout.split("\n")) - {""}
    assert not executed & NO_PAYLOAD
    # Some gadgets of the standard library come and go with Python's version.
    assert len(set(PICKLES) - executed - NO_PAYLOAD) <= 4, set(PICKLES) - executed - NO_PAYLOAD
    assert len(executed) >= 50


def patched(data, magic, offset, value):
    """Change a field of the last header of a kind."""
    out = bytearray(data)
    at = out.rindex(magic) + offset
    out[at : at + len(value)] = value
    return bytes(out)


def zipped(*files, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive_:
        for name, data in files:
            archive_.writestr(name, data)
    return buffer.getvalue()


def npy_of_objects():
    buffer = io.BytesIO()
    np.save(buffer, np.array([len], object), allow_pickle=True)
    return buffer.getvalue()


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive_:
        info = tarfile.TarInfo("pickle")
        info.size = len(INNER)
        archive_.addfile(info, io.BytesIO(INNER))
    return buffer.getvalue()


WHOLE = archive(INNER)
NAME, GOOD = b"archive/data.pkl", TWO + BENIGN + b"."
FILES = {
    "another name in the local header": WHOLE.replace(NAME, b"archive/data.txt", 1),
    "another name in the directory": b"archive/data.txt".join(WHOLE.rsplit(NAME, 1)),
    "a checksum that lies": patched(patched(WHOLE, CENTRAL, 16, b"abcd"), LOCAL, 14, b"abcd"),
    "a checksum that lies in the directory": patched(WHOLE, CENTRAL, 16, b"abcd"),
    "encrypted, as the directory says": patched(WHOLE, CENTRAL, 8, b"\1\0"),
    "encrypted, as the local header says": patched(WHOLE, LOCAL, 6, b"\1\0"),
    "another compression in the local header": patched(WHOLE, LOCAL, 8, b"\x08\0"),
    "compression that is not read": zipped(("a/data.pkl", INNER), method=zipfile.ZIP_BZIP2),
    "a size that lies": patched(WHOLE, LOCAL, 22, struct.pack("<L", 3)),
    "two pickles of one name": raw_zip((NAME, GOOD, {}), (NAME, INNER, {})),
    "two pickles at one place": raw_zip((NAME, INNER, {}), (b"archive/version", b"3", {"offset": 0})),
    "a pickle that no directory lists": raw_zip((NAME, INNER, {}), (NAME, GOOD, {}), directory={"count": 1}),
    "a second directory in the comment": WHOLE[:-2] + struct.pack("<H", len(WHOLE)) + WHOLE,
    "a pickle before the archive": INNER + archive(GOOD),
    "bytes behind the archive": archive(GOOD) + INNER,
    "pickles of other names": archive(GOOD, **{"evil.pkl": INNER, "constants.p": INNER}),
    "a pickle in another folder": archive(GOOD, names=["other/data.pkl"]),
    "a folder above": zipped(("../data.pkl", INNER), ("a/data.pkl", GOOD)),
    "a program of TorchScript": archive(GOOD, **{"constants.pkl": INNER, "code/__torch__.py": b"import os"}),
    "a pickle in the place of a storage": archive(GOOD, {"0": INNER}),
    "a pickle as our texts": archive(GOOD, **{"fconv.json": INNER}),
    "compressed": zipped(("a/data.pkl", INNER), method=zipfile.ZIP_DEFLATED),
    "a tar archive": tar(),
    "gzip": gzip.compress(INNER),
    "zlib": zlib.compress(INNER),
    "7z": b"7z\xbc\xaf\x27\x1c" + INNER,
    "an array of objects": npy_of_objects(),
    "an array of objects in an archive": zipped(("a.npy", npy_of_objects())),
    "a pickle in an archive of arrays": zipped(("a.npy", INNER), ("b.pkl", INNER)),
    "a pickle behind safetensors": struct.pack("<Q", 2) + b"{}" + INNER,
}  # fmt: skip


@pytest.mark.parametrize("extension", [".pt", ".ckpt", ".npz", ".safetensors", ".bin"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_inert_or_refused(name, extension, tmp_path, sentinel):
    path = tmp_path / f"x{extension}"
    path.write_bytes(FILES[name])
    harmless(path, sentinel)


HONEST = ("compressed", "pickles of other names", "a pickle in the place of a storage")
REFUSED = [name for name in FILES if name not in HONEST]


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_contradicts_itself_is_refused(name, tmp_path, sentinel):
    path = tmp_path / "x.pt"
    path.write_bytes(FILES[name])
    options = {"mmap": False}  # which proves checksums of storages as well
    with pytest.raises(ValueError, match=r"x\.pt"):
        fc.load(path, **options)
    assert harmless(path, sentinel) == [False] * 3


def test_there_are_enough_of_them():
    assert len(PICKLES) >= 60
    assert len(FILES) >= 30
