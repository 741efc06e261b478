"""Checkpoints as people have them: objects beside the weights, other names, and what is no checkpoint."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import gc
import json
import pathlib
import pickle
import weakref
from dataclasses import dataclass, field

import numpy as np
import pytest

import fconv as fc
from fconv.files.checkpoint import describe_file
from fconv.tools.inspection import other_values
from fconv.tools.weights import read_weights
from tests.hostile import npz, safetensors
from tests.test_hostile_pt import archive

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


class Colour(enum.Enum):
    RED = 1

    def __reduce_ex__(self, protocol):
        return Colour, (self.value,)  # as most versions of Python do; 3.11.2 writes getattr(Colour, "RED")


@dataclass
class Config:
    lr: float = 0.1
    sizes: list = field(default_factory=lambda: [1, 2])


class Options(dict):
    """As EasyDict and its kin are."""


class Steps(list):
    pass


class WithKeywords:
    def __getnewargs_ex__(self):
        return (1,), {"size": 2}

    def __new__(cls, *_, **__):
        return super().__new__(cls)


class Parent:
    def __init__(self):
        self.child = {"parent": self}


def here(name):
    return f"{__name__}.{name}"


class Outer:
    class Inner:
        pass


OBJECTS = {
    "a Namespace": (argparse.Namespace(lr=0.1), ("argparse.Namespace", (), None, {"lr": 0.1})),
    "an enum": (Colour.RED, (here("Colour"), (1,), None, None)),
    "a dataclass": (Config(), (here("Config"), (), None, {"lr": 0.1, "sizes": [1, 2]})),
    "a subclass of dict": (Options(a=1), (here("Options"), (), {"a": 1}, None)),
    "a subclass of list": (Steps([1, 2]), (here("Steps"), (), [1, 2], None)),
    "a function": (len, ("builtins.len", None, None, None)),
    "a class": (Config, (here("Config"), None, None, None)),
    "a time": (datetime.timedelta(3), ("datetime.timedelta", (3, 0, 0), None, None)),
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_beside_the_weights_is_shown_and_not_made(name, protocol, tmp_path, monkeypatch):
    held, expected = OBJECTS[name]
    path = tmp_path / "x.pt"
    path.write_bytes(archive(pickle.dumps({"state_dict": {"w": WEIGHTS}, "extra": held}, protocol)))
    for cls in (Config, Options, Steps, WithKeywords):
        monkeypatch.setattr(cls, "__new__", lambda *_, **__: pytest.fail("it was made"))
    found = fc.load(path)
    np.testing.assert_array_equal(fc.find_state_dict(found)["w"], WEIGHTS)
    extra = found["extra"]
    assert type(extra) is fc.Placeholder
    assert (
        extra.name.replace("__builtin__", "builtins"),
        extra.arguments,
        extra.items,
        extra.state,
    ) == expected
    assert read_weights(path).left_out == ["extra"]
    assert repr(other_values(path, describe_file(path))) == repr({"extra": extra})
    with pytest.raises(ValueError, match=r"x\.pt is not a whole file .* it asks for '.*; nothing was run"):
        fc.load(path, strict=True)
    with pytest.raises(TypeError, match=r"save: extra cannot be stored: .*Placeholder"):
        fc.save(tmp_path / "y.pt", found)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_many_objects_beside_the_weights(protocol, tmp_path):
    inner = Outer.Inner()
    inner.tensor = WEIGHTS
    extra = {
        "path": pathlib.PurePosixPath("/data/x"), "when": datetime.datetime(2024, 5, 1, 12),
        "default": collections.defaultdict(list, {"a": [1]}), "deque": collections.deque([1, 2], 5),
        "keywords": WithKeywords(), "parent": Parent(), "inner": inner, "set": {(1, 2), (3, 4)},
        "keys": {(1, 2): "a", 0.5: "b", Colour.RED: "c", None: "d"}, "range": range(3), "slice": slice(1, 2),
        "exact": 2**70, "complex": 1j, "frozen": frozenset({Colour.RED}),
    }  # fmt: skip
    path = tmp_path / "x.pt"
    path.write_bytes(archive(pickle.dumps({"w": WEIGHTS, "extra": extra}, protocol)))
    found = fc.load(path)
    np.testing.assert_array_equal(found["w"], WEIGHTS)
    extra = found["extra"]
    assert extra["default"] == {"a": [1]}
    assert "PurePosixPath', arguments=('/', 'data', 'x')" in repr(extra["path"])
    assert (extra["keys"][0.5], extra["keys"][None], len(extra["keys"])) == ("b", "d", 4)
    assert extra["exact"] == 2**70
    parent = extra["parent"]
    assert parent.state["child"]["parent"] is parent
    assert "Parent" in repr(parent)
    assert len(repr(parent)) < 1000
    state = extra["inner"].state
    np.testing.assert_array_equal(state["tensor"], WEIGHTS)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_numpys_numbers_and_arrays_are_read(protocol, tmp_path):
    arrays = {
        "big": np.arange(3, dtype=">i4"), "turned": np.arange(6.0).reshape(2, 3).T, "zero": np.ones((0, 2)),
        "half": np.ones((), np.float16), "truth": np.array([True, False]),
        "complex": np.array([1j], np.complex64),
    }  # fmt: skip
    numbers = {"best": np.float64(0.91), "step": np.int64(3), "flag": np.bool_(True), "byte": np.uint8(7)}
    rest = {
        "text": np.array(["a"]), "objects": np.array([{}], object), "dtype": np.dtype("f4"),
        "when": np.datetime64(0, "s"),
    }  # fmt: skip
    path = tmp_path / "x.pt"
    path.write_bytes(archive(pickle.dumps({**arrays, **numbers, **rest, "again": arrays["big"]}, protocol)))
    found = fc.load(path)
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], x)
        found[name][...] = 0  # they are the caller's
    assert found["again"] is found["big"]
    assert {name: found[name] for name in numbers} == {"best": 0.91, "step": 3, "flag": True, "byte": 7}
    assert {type(found[name]) for name in numbers} == {float, int, bool}
    assert {type(found[name]) for name in rest} == {fc.Placeholder}
    with pytest.raises(ValueError, match=r"it asks for 'numpy\.(_?core|dtype)"):
        fc.load(path, strict=True)


def test_an_array_of_numpys_that_lies_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    pickled = pickle.dumps(np.zeros(3), 2)
    path.write_bytes(archive(pickled.replace(b"K\x03\x85", b"K\x04\x85", 1)))
    with pytest.raises(ValueError, match=r"an array of shape \(4,\) and float64 has 24 bytes"):
        fc.load(path)


def test_a_placeholder_shows_no_control_characters(tmp_path):
    path = tmp_path / "x.pt"
    evil = "\x1b]0;title\x07\x9b31m\u202e\r\n"
    path.write_bytes(archive(pickle.dumps({"w": WEIGHTS, "n": argparse.Namespace(**{evil: evil})}, 2)))
    assert fc.load(path)["n"].state == {evil: evil}
    assert repr(fc.load(path)["n"]).isprintable()
    path.write_bytes(archive(b"\x80\x02c\x1b[31m\nx\x07\n."))
    assert repr(fc.load(path)).isprintable()
    assert "\\x1b[31m" in repr(fc.load(path))


def test_a_whole_module_is_called_one(tmp_path):
    state = {"_modules": {}, "_parameters": {"weight": WEIGHTS}, "training": False}
    pickled = pickle.dumps(argparse.Namespace(**state), 2).replace(b"argparse\nNamespace", b"models\nResNet")
    path = tmp_path / "x.pt"
    path.write_bytes(archive(pickled))
    with pytest.raises(ValueError, match=r"it is a whole module, models\.ResNet, .* save its state_dict\(\)"):
        fc.load(path)
    path.write_bytes(archive(pickled, names=["archive/code/__torch__.py"]))
    with pytest.raises(ValueError, match=r"it is a TorchScript program"):
        fc.load(path)


@pytest.mark.parametrize("name", ["epoch=1.ckpt", "pytorch_model.bin", "model", "model.v2", "x.weights"])
def test_files_of_any_name_are_recognised_by_content(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(archive(pickle.dumps({"w": WEIGHTS}, 2)))
    np.testing.assert_array_equal(fc.load(path)["w"], WEIGHTS)
    assert describe_file(path).format == ".pt"
    for suffix in (".npz", ".safetensors", ".pt"):
        fc.save(tmp_path / f"y{suffix}", {"w": WEIGHTS})
        (tmp_path / f"y{suffix}").replace(path)
        np.testing.assert_array_equal(fc.load(path)["w"], WEIGHTS)
        assert describe_file(path).format == suffix
        assert list(read_weights(path).arrays) == ["w"]
        assert fc.load_metadata(path)["fconv.version"]


STRANGERS = {
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:01\n", "git lfs pull"),
    "an HTML page": (b"\n<!DOCTYPE html><html>", "led to a page"),
    "an HDF5 file": (b"\x89HDF\r\n\x1a\n" + bytes(100), "Keras"),
    "a 7z archive": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "not read"),
    "compressed by gzip": (b"\x1f\x8b" + bytes(100), "run gunzip"),
    "a PNG picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.npz", "x.ckpt", "x"])
@pytest.mark.parametrize("what", STRANGERS)
def test_what_is_no_checkpoint_is_called_what_it_is(what, name, tmp_path):
    data, advice = STRANGERS[what]
    path = tmp_path / name
    path.write_bytes(data)
    for read in (fc.load, describe_file, fc.load_metadata, read_weights):
        with pytest.raises(ValueError, match=rf"{name}.*{what}.*{advice}"):
            read(path)


CLASHES = {
    "a name with a dot": {"a.b": WEIGHTS, "a": {"b": WEIGHTS + 1}},
    "a number and text": {1: WEIGHTS, "1": WEIGHTS + 1},
    "a list and a name": {"a": [WEIGHTS], "a.0": WEIGHTS},
}


@pytest.mark.parametrize("name", CLASHES)
def test_two_names_that_flatten_to_one_lose_no_array(name, tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(archive(pickle.dumps(CLASHES[name], 2)))
    assert len(fc.load(path)) == 2  # nothing is flattened here
    for read in (describe_file, read_weights):
        with pytest.raises(ValueError, match=r"x\.pt: two values are named '.*', so that one of"):
            read(path)
    with pytest.raises(ValueError, match="save: two entries are named"):
        fc.save(tmp_path / "y.npz", fc.load(path))


def test_parts_of_one_name_lose_no_array(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(archive(pickle.dumps({1: {"a": WEIGHTS}, "1": {"b": WEIGHTS}, "n": 3}, 2)))
    with pytest.raises(ValueError, match=r"read_weights: .*x\.pt: two parts have one name among 1, n"):
        read_weights(path)
    with pytest.raises(ValueError, match="expected one state dict, got several: 1, 1 among 1, 1, n"):
        fc.find_state_dict(fc.load(path))


def test_arrays_are_freed_with_the_last_name_for_them(tmp_path):
    """The reader holds them in no cycle, which would keep gigabytes until Python looks for cycles."""
    fc.save(tmp_path / "x.pt", {"w": WEIGHTS, "n": 3})
    gc.collect()
    gc.disable()
    try:
        for mmap in (True, False):
            found = fc.load(tmp_path / "x.pt", mmap=mmap)
            last = weakref.ref(found["w"])
            del found
            assert last() is None
    finally:
        gc.enable()


def test_strict_reads_every_other_format(tmp_path):
    safetensors(tmp_path / "x.safetensors", json.dumps({}).encode(), b"")
    npz(tmp_path / "x.npz")
    assert fc.load(tmp_path / "x.safetensors", strict=True) == {}
    assert fc.load(tmp_path / "x.npz", strict=True) == {}
