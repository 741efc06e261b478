"""Pytrees, array libraries and devices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import fconv as fc
from fconv import arrays, trees


class Point(NamedTuple):
    x: object
    y: object


TREE = {"b": (1, [2, None]), "a": Point(3, {}), "c": ()}


def test_leaves_keep_the_order_of_the_dict():
    assert trees.leaves(TREE) == [1, 2, 3]
    assert [".".join(path) for path, _ in trees.leaves_with_path(TREE)] == ["b.0", "b.1.0", "a.x"]


def test_map_keeps_every_kind_of_node():
    doubled = trees.map(lambda x: 2 * x, TREE)
    assert doubled == {"b": (2, [4, None]), "a": Point(6, {}), "c": ()}
    assert isinstance(doubled["a"], Point)
    assert list(doubled) == ["b", "a", "c"]


def test_other_trees_may_have_anything_at_a_leaf():
    found = trees.map(lambda x, y: y, {"a": 1, "b": 2}, {"b": None, "a": {"deep": 3}})
    assert found == {"a": {"deep": 3}, "b": None}


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (
            {"b": (1, [2, None]), "a": Point(3, {})},
            "trees differ at the root: expected a dict with 'b', 'a', 'c'",
        ),
        ({**TREE, "b": (1,)}, "trees differ at b: expected a tuple of 2, got a tuple of 1"),
        ({**TREE, "b": [1, [2, None]]}, "trees differ at b: expected a tuple of 2, got a list of 2"),
        ({**TREE, "a": 5}, "trees differ at a: expected a Point with 'x', 'y', got a leaf"),
        ({**TREE, "b": (1, [2, 7])}, "trees differ at b.1.1: expected None, got a leaf"),
    ],
)
def test_differing_trees_are_refused_by_place(other, text):
    with pytest.raises(ValueError, match=text):
        trees.map(lambda x, y: x, TREE, other)
    assert not trees.same_structure(TREE, other)


def test_keys_of_dicts_are_strings():
    with pytest.raises(TypeError, match="string keys, got 3"):
        trees.leaves({3: 1})


def test_namespace_names_what_is_no_array():
    class Fake:
        __module__ = "cupy"
        __cuda_array_interface__ = None
        dtype, shape = np.dtype("f4"), (2,)

    with pytest.raises(TypeError, match="f: host and device arrays are mixed: x is a numpy array of float64"):
        arrays.namespace("f", x=np.ones(2), y=Fake())
    with pytest.raises(TypeError, match="f: y must be a NumPy or CuPy array, got list"):
        arrays.namespace("f", x=np.ones(2), y=[1.0])


def test_to_device_without_a_gpu_says_what_to_install():
    try:
        import cupy  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match=r"CuPy is not installed: pip install 'fconv-nn\[cuda12\]'"):
            fc.to_device(np.ones(2), "cuda")


def test_full_like_order_takes_over_the_memory_order():
    x = np.zeros((2, 3, 4, 5)).transpose(0, 3, 1, 2)
    assert arrays.memory_order(x) == (0, 2, 3, 1)
    y = arrays.full_like_order(x, (1, 6, 7, 8), 2.5, np.float32)
    assert y.shape == (1, 6, 7, 8)
    assert y.dtype == np.float32
    assert (y == 2.5).all()
    assert arrays.memory_order(y) == (0, 2, 3, 1)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
