"""Single arrays in .npy files."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv.files.checkpoint import describe_file
from fconv.files.formats import mapping
from fconv.tools.weights import read_weights

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_an_array_goes_both_ways(tmp_path):
    fc.save(tmp_path / "x.npy", X)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy", allow_pickle=False), X)
    np.save(tmp_path / "y.npy", X.T)
    np.testing.assert_array_equal(fc.load(tmp_path / "y.npy"), X.T)
    (tmp_path / "y.npy").rename(tmp_path / "noise")
    np.testing.assert_array_equal(fc.load(tmp_path / "noise"), X.T)
    entry = {"name": "array", "shape": (3, 2), "dtype": "float32", "nbytes": 24}
    assert describe_file(tmp_path / "noise").entries[0]._asdict() == entry
    assert list(read_weights(tmp_path / "x.npy").arrays) == ["array"]


def test_a_large_file_is_mapped_and_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(mapping, "SMALL", 0)
    np.save(tmp_path / "x.npy", X)
    found = fc.load(tmp_path / "x.npy")
    found[:] = 7
    np.testing.assert_array_equal(fc.load(tmp_path / "x.npy"), X)


@pytest.mark.parametrize(
    ("tree", "metadata", "text"),
    [
        ({"w": X}, None, "holds one array; write a tree of arrays to .npz"),
        ({"array": X}, None, "holds one array"),
        ((X,), None, "holds one array"),
        (3.0, None, "holds one array"),
        (X, {"epoch": "3"}, "no room for metadata, got 'epoch'"),
        (np.array([None]), None, "arrays of objects"),
        (np.zeros(2, [("a", "f4")]), None, "cannot hold the array, which has dtype"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(tmp_path, tree, metadata, text):
    with pytest.raises((ValueError, TypeError), match=text):
        fc.save(tmp_path / "x.npy", tree, metadata)
    assert not list(tmp_path.iterdir())


def test_objects_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="objects, which would have to be unpickled"):
        fc.load(tmp_path / "x.npy")


@pytest.mark.parametrize("extension", [".npy", ".npz"])
def test_text_of_numbers_that_are_no_characters_is_refused(tmp_path, extension):
    x, path = np.array(["ab", "c"]), tmp_path / f"x{extension}"
    x.view(np.uint32)[1] = 0x110000
    np.save(path, x) if extension == ".npy" else np.savez(path, x=x)
    with pytest.raises(ValueError, match="character number 1,114,112"):
        fc.load(path)
