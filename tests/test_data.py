"""Readers of idx files, and batches."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fconv as fc
from fconv.testing import strategies as fst

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(x, code=None):
    kind = x.dtype.str[1:]
    head = bytes([0, 0, CODES[kind] if code is None else code, x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape)
    return head + x.astype(f">{kind}").tobytes()


@pytest.mark.parametrize("zipped", [False, True])
@given(kind=st.sampled_from(list(CODES)), shape=st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_idx_comes_back(tmp_path_factory, zipped, kind, shape):
    x = (np.arange(np.prod(shape, dtype=int)) - 3).astype(kind).reshape(shape)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(x)) if zipped else idx(x))
    y = fc.data.read_idx(path)
    assert y.dtype == np.dtype(kind)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "has magic number none"),
        (b"\0\0", "has magic number 0000;"),
        (b"\1\0\x08\1\0\0\0\0", "has magic number 01000801; expected 0000"),
        (b"\0\0\x07\1\0\0\0\0", "has magic number 00000701"),
        (b"\0\0\x08\0", "has magic number 00000800"),
        (b"\0\0\x08\2\0\0\0\1", "ends within its header of 2 sizes"),
        (b"\0\0\x08\1\0\0\0\5abcd", r"has a body of 4 bytes; shape \(5,\) needs 5"),
        (b"\0\0\x08\1\0\0\0\5abcdef", r"has a body of more than 5 bytes; shape \(5,\) needs 5"),
        (
            b"\0\0\x0e\3\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xffab",
            "says that its shape is .* no array can",
        ),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, zipped, data, text):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(ValueError, match=f"read_idx: .*file {text}"):
        fc.data.read_idx(path)


def test_gzip_cut_off_is_named(tmp_path):
    whole = gzip.compress(idx(np.arange(100, dtype=np.uint8)))
    for length in range(2, len(whole)):
        (tmp_path / "cut.gz").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"read_idx: .*cut\.gz"):
            fc.data.read_idx(tmp_path / "cut.gz")


def test_gzip_is_not_a_bomb(tmp_path):
    path = tmp_path / "bomb.gz"
    size = 1 << 30
    with gzip.open(path, "wb", 1) as file:
        file.write(b"\0\0\x08\1" + struct.pack(">I", size))
        for _ in range(100):  # a tenth would do: it is refused by its header
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"bomb\.gz says that its shape is .* more than 48 MB"):
            fc.data.read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_pointer_in_the_place_of_an_idx_file_is_named(tmp_path):
    (tmp_path / "x").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:01\n")
    with pytest.raises(ValueError, match="is no idx file but a Git LFS pointer"):
        fc.data.read_idx(tmp_path / "x")


def write_mnist(folder, zipped=False, train=5, test=3, labels=None):
    for part, count in (("train", train), ("t10k", test)):
        images = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
        for kind, x in (("images-idx3", images), ("labels-idx1", np.arange(labels or count, dtype=np.uint8))):
            data = gzip.compress(idx(x)) if zipped else idx(x)
            (folder / f"{part}-{kind}-ubyte{'.gz' if zipped else ''}").write_bytes(data)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_is_read(tmp_path, zipped):
    write_mnist(tmp_path, zipped)
    data = fc.data.read_mnist(tmp_path)
    assert data.train_images.shape == (5, 2, 2)
    assert data.test_labels.tolist() == [0, 1, 2]


def test_folders_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        fc.data.read_mnist(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no train-images-idx3-ubyte, gzipped or not"):
        fc.data.read_mnist(tmp_path)
    write_mnist(tmp_path, labels=4)
    with pytest.raises(ValueError, match="has 5 images but 4 labels"):
        fc.data.read_mnist(tmp_path)
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(ValueError, match="has 1 axes; expected 3"):
        fc.data.read_mnist(tmp_path)


@given(n=st.integers(0, 30), size=st.integers(1, 10), drop=st.booleans(), key=st.none() | fst.keys())
def test_batches_hold_every_sample_once(n, size, drop, key):
    x, t = np.arange(n), 10 * np.arange(n)
    found = list(fc.data.batches(x, t, batch_size=size, key=key, drop_last=drop))
    assert all(len(a) == size for a, _ in found[:-1])
    for a, b in found:
        np.testing.assert_array_equal(10 * a, b)
    together = [int(v) for a, _ in found for v in a]
    assert len(together) == (n - n % size if drop else n)
    assert len(set(together)) == len(together)
    if key is None:
        assert together == sorted(together)
    again = [int(v) for a, _ in fc.data.batches(x, t, batch_size=size, key=key, drop_last=drop) for v in a]
    assert again == together


def test_batches_refuse_what_cannot_be():
    with pytest.raises(ValueError, match=r"expected arrays of one length, got lengths \[3, 4\]"):
        fc.data.batches(np.zeros(3), np.zeros(4), batch_size=1)
    with pytest.raises(ValueError, match="expected a batch_size of 1 or more, got 0"):
        fc.data.batches(np.zeros(3), batch_size=0)
    with pytest.raises(TypeError, match="expected a key"):
        fc.data.batches(np.zeros(3), batch_size=1, key=0)
