"""Trees in PyTorch's files, without the reader and writer themselves."""

from __future__ import annotations

import os
from collections import namedtuple

import numpy as np
import pytest

import fconv as fc
from fconv.files.checkpoint import describe_file
from fconv.files.formats import pt
from fconv.testing.purity import same_bits

A, B = np.ones((2, 3), np.float32), np.arange(2.0)
Point = namedtuple("Point", ["x", "y"])


@pytest.fixture
def files(monkeypatch):
    """Objects by file name, in the place of the module that writes them."""
    kept = {}
    monkeypatch.setattr(pt, "read_pt", lambda path, **options: kept[os.fspath(path)])
    monkeypatch.setattr(
        pt, "write_pt", lambda path, found, texts: kept.update({os.fspath(path): (found, dict(texts))})
    )
    return kept


CASES = {
    "parameters": (({"weight": A, "bias": B}, (), {"w": A}), {"0.weight": A, "0.bias": B, "2.w": A}),
    "named layers": (
        {"conv": {"weight": A}, "act": (), "rest": ({"bias": B},)}, {"conv.weight": A, "rest.0.bias": B},
    ),
    "a flat state dict": ({"0.weight": A, "1.bias": B}, {"0.weight": A, "1.bias": B}),
    "one array": (A, A),
    "a list": ([A, B], [A, B]),
    "a tuple": ((A, B), (A, B)),
    "a list in parameters": ({"a": [A, B]}, {"a.0": A, "a.1": B}),
    "a named tuple": (Point(A, {"w": B}), {"x": A, "y.w": B}),
    "mixed": (
        {"state_dict": ({"weight": A}, ()), "epoch": 3, "lr": 0.1, "note": None, "extra": {}},
        {"state_dict": {"0.weight": A}, "epoch": 3, "lr": 0.1, "note": None, "extra": {}},
    ),
    "a mixed named tuple": (Point({"a": {"b": A}}, 3), {"x": {"a.b": A}, "y": 3}),
    "a mixed list": ([A, 3, (B, B)], [A, 3, (B, B)]),
    "an optimizer of PyTorch's": (
        {"state": {0: {"step": B, "exp_avg": A}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        {"state": {0: {"step": B, "exp_avg": A}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    ),
    "integers over arrays": ({0: A, 1: {"w": B}}, {0: A, 1: {"w": B}}),
    "nothing": ((), ()),
    "nothing in nothing": ({"a": (), "b": [{}]}, {"a": (), "b": [{}]}),
    "names with nothing in them": ({"": {"a": A}}, {".a": A}),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".tar"])
@pytest.mark.parametrize("name", CASES)
def test_the_object_is_what_pytorch_expects_and_the_tree_comes_back(files, name, suffix):
    tree, expected = CASES[name]
    path = f"x{suffix}"
    fc.save(path, tree, metadata={"epoch": "3"})
    found = files[path][0]
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)
    again = fc.load(path)
    if name != "a named tuple" and name != "a mixed named tuple":
        assert repr(again) == repr(tree)
    else:
        assert same_bits(again, tree)
    assert fc.load_metadata(path) == {"epoch": "3", "fconv.version": fc.__version__}


def test_a_training_state_comes_back(files):
    net, opt = fc.compose(a=fc.linear(2), b=fc.batch_norm()), fc.adam(0.1)
    state = fc.train_state(net, opt, fc.random.key(0), (3, 4))
    fc.save("x.pt", state)
    assert list(files["x.pt"][0]) == ["params", "opt_state", "key", "step"]
    assert list(files["x.pt"][0]["params"])[:2] == ["a.weight", "a.bias"]
    again = fc.load("x.pt")
    assert type(again) is fc.TrainState
    assert same_bits(again, state)


def test_an_object_of_pytorchs_own_comes_as_it_is(files):
    found = {"state_dict": {"0.weight": A}, "epoch": 3, "rest": [B, None, "x"]}
    files["x.pth"] = found, {}
    assert fc.load("x.pth") is found
    kind, entries, texts = describe_file("x.pth")
    assert (kind, texts) == (".pth", {})
    assert entries == [("state_dict.0.weight", (2, 3), "float32", 24), ("rest.0", (2,), "float64", 16)]


def test_a_structure_that_names_what_is_not_there_is_refused(files):
    fc.save("x.pt", {"a": A, "b": B})
    del files["x.pt"][0]["b"]
    with pytest.raises(ValueError, match=r"x\.pt has a damaged structure"):
        fc.load("x.pt")
