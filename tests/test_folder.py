"""Checkpoints in several files: shards with their index, and folders that hold one model."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fconv as fc
from fconv.files.checkpoint import describe_file
from fconv.tools.weights import read_weights

PARTS = {
    "model-00001-of-00002.safetensors": {"a.weight": np.ones((2, 3), np.float32), "a.bias": np.zeros(2)},
    "model-00002-of-00002.safetensors": {"b.weight": np.arange(3.0)},
}


def write(folder, parts=PARTS, **places):
    for name, arrays in parts.items():
        fc.save(folder / name, arrays)
    held = {array: name for name, arrays in parts.items() for array in arrays}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 72}, "weight_map": {**held, **places}}))
    return index


def check(found):
    arrays = {name: array for part in PARTS.values() for name, array in part.items()}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("mmap", [True, False])
def test_shards_are_one_model(mmap, tmp_path):
    index = write(tmp_path)
    check(flat(fc.load(index, mmap=mmap)))
    check(flat(fc.load(tmp_path, mmap=mmap)))
    check(read_weights(tmp_path).arrays)
    assert {entry.name for entry in describe_file(tmp_path).entries} == {"a.weight", "a.bias", "b.weight"}


def flat(tree):
    return fc.to_state_dict(tree)


def test_a_folder_with_one_model_is_the_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    fc.save(tmp_path / "model.safetensors", {"weight": np.ones(3)})
    np.testing.assert_array_equal(fc.load(tmp_path)["weight"], np.ones(3))


def test_a_folder_without_a_model_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="expected a file, or a folder with one"):
        fc.load(tmp_path)
    for name in ("one.safetensors", "two.safetensors"):
        fc.save(tmp_path / name, {"weight": np.ones(3)})
    with pytest.raises(ValueError, match="expected a file, or a folder with one"):
        fc.load(tmp_path)


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ({"c": "../model.safetensors"}, "which is no .safetensors file beside it"),
        ({"c": "/etc/model.safetensors"}, "which is no .safetensors file beside it"),
        ({"c": "model.pt"}, "which is no .safetensors file beside it"),
        ({"c": "model-00002-of-00002.safetensors"}, "expected 'c' in model-00002.*, which lacks it"),
        ({"c": 3}, "no weight_map of names to files"),
    ],
)
def test_an_index_that_lies_is_refused(places, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        fc.load(write(tmp_path, **places))


def test_a_missing_shard_is_named(tmp_path):
    index = write(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00002"):
        fc.load(index)


def test_an_index_that_is_no_json_is_refused(tmp_path):
    index = write(tmp_path)
    index.write_text("[1, 2")
    with pytest.raises(ValueError, match=r"is not a whole index of .safetensors files"):
        fc.load(index)
