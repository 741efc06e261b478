"""PyTorch's files without PyTorch: what it recorded, and what is written here."""

import os
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fconv as fc
from fconv.files.formats.pt.files import read_pt, write_pt
from tests.data import record_pt

DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8", "c16")


def same(found, expected):
    assert type(found) is type(expected), (found, expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
    else:
        assert found == expected


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("name", record_pt.FILES)
def test_pytorchs_own_files(name, mmap):
    path = record_pt.FOLDER / name
    found = fc.load(path, mmap=mmap)
    same(found, record_pt.expected())
    state = found["state_dict"]
    assert np.shares_memory(state["conv.weight"], state["conv.bias"])
    before = path.read_bytes()
    state["conv.weight"][...] = 0  # the arrays are the caller's
    assert path.read_bytes() == before


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=3), elements=st.booleans() if dtype == "?" else None)
)  # fmt: skip
keys = st.text(max_size=5) | st.integers(-(2**63), 2**63 - 1)
objects = st.recursive(
    leaves | arrays,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(objects, st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2))
def test_what_is_written_comes_back(tmp_path_factory, held, texts):
    path = tmp_path_factory.mktemp("pt") / "x.pt"
    write_pt(path, held, texts)
    for mmap in (True, False):
        found, its_texts = read_pt(path, mmap=mmap)
        same_bits(found, held)
        assert its_texts == texts
    shutil.rmtree(path.parent)


def same_bits(found, expected):
    if isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape, found.tobytes()) == (
            expected.dtype,
            expected.shape,
            expected.tobytes(),
        )
    elif isinstance(expected, dict):
        assert [*found] == [*expected]
        assert all(same_bits(found[key], value) for key, value in expected.items())
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        assert all(map(same_bits, found, expected))
    else:
        assert (type(found), found) == (type(expected), expected)
    return True


def test_arrays_that_share_memory_share_a_storage(tmp_path):
    base = np.arange(12.0).reshape(3, 4)
    held = {"whole": base, "part": base[1:, ::2], "turned": base.T, "alone": np.ones(3), "again": base}
    path = tmp_path / "x.pt"
    write_pt(path, held)
    with zipfile.ZipFile(path) as archive:
        sizes = [info.file_size for info in archive.infolist() if "/data/" in info.filename]
    assert sorted(sizes) == [24, 96]
    found, _ = read_pt(path)
    same(found, held)
    assert np.shares_memory(found["whole"], found["turned"])
    assert not np.shares_memory(found["whole"], found["alone"])


@pytest.mark.parametrize(
    "x",
    [
        np.arange(6.0)[::-1],
        np.arange(6, dtype=">i4"),
        np.ones((2, 3)).T[:, ::2],
        np.broadcast_to(1.0, (2, 3)),
    ],
    ids=str,
)
def test_any_memory_order_is_written(tmp_path, x):
    path = tmp_path / "x.pt"
    write_pt(path, x)
    found, _ = read_pt(path)
    np.testing.assert_array_equal(found, x)
    assert found.dtype == x.dtype.newbyteorder("=")


def test_storages_are_aligned_and_mapped(tmp_path):
    path = tmp_path / "x.pt"
    held = {f"a{i}": np.ones(i, np.float32) for i in range(1, 9)}
    write_pt(path, held)
    found, _ = read_pt(path)
    assert all(x.ctypes.data % 64 == 0 for x in found.values())
    write_pt(path, {"other": np.zeros(99)})  # a mapped file may be replaced
    same(found, held)


def test_a_training_state_goes_through_a_pt_file(tmp_path):
    net, opt = fc.compose(a=fc.linear(2), b=fc.batch_norm()), fc.adam(0.1)
    state = fc.train_state(net, opt, fc.random.key(0), (3, 4))
    step = fc.train_step(net, fc.mse_loss(), opt)
    x, t = np.ones((3, 4), np.float32), np.zeros((3, 2), np.float32)
    state, _ = step(state, x, t)
    fc.save(tmp_path / "state.pt", state)
    again = fc.load(tmp_path / "state.pt")
    for a, b in zip(
        fc.trees.leaves(step(state, x, t)[0]), fc.trees.leaves(step(again, x, t)[0]), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("held", "kind", "text"),
    [
        ({"a": object()}, TypeError, "write_pt: a cannot be stored: object"),
        ({("a",): 1}, TypeError, "write_pt: expected text or integers for keys in the object, got tuple"),
        ({"a": [np.array(["x"])]}, ValueError, "write_pt: PyTorch has no dtype for a.0, which has <U1"),
        ({"a": 1j}, TypeError, "write_pt: a cannot be stored: complex"),
        ({"a": 1 << 4000}, ValueError, "write_pt: an integer of 501 bytes"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, held, kind, text):
    with pytest.raises(kind, match=text):
        write_pt(tmp_path / "x.pt", held)
    assert os.listdir(tmp_path) == []


def test_rename():
    assert fc.rename({"module.a": 1, "b": 2}, {"module.": "", "b": "c"}) == {"a": 1, "c": 2}
    with pytest.raises(ValueError, match=r"two entries would be named 'a', one of them 'module\.a'"):
        fc.rename({"a": 1, "module.a": 2}, {"module.": ""})
    with pytest.raises(TypeError, match="expected names as text"):
        fc.rename({"a": 1}, {"a": 2})


def test_a_whole_checkpoint_in_place_of_a_state_dict_names_find_state_dict():
    params = {"weight": np.ones(2, np.float32)}
    for checkpoint in (
        {"model": params, "epoch": 3},
        {"model": params, "optimizer": {"state": {0: {"step": np.ones(())}}}},
        {"model": params, "scheduler": {"last_epoch": 3}},
    ):
        with pytest.raises(TypeError, match=r"got a dict of model, .*; fconv.find_state_dict finds the one"):
            fc.from_state_dict(params, checkpoint)


def test_find_state_dict():
    sd = {"w": np.ones(1)}
    nested = {"a": sd, "b": ({"v": np.ones(2)}, ())}
    flat = {"a.w", "b.0.v"}
    for tree in (sd, {"state_dict": sd, "e": 1}, {"model": {"state_dict": sd}}, {"generator": sd, "epoch": 1},
                 {"state_dict": {}, "model": sd}):  # fmt: skip
        assert fc.find_state_dict(tree) == sd
    for tree in (nested, {"params": nested, "epoch": 1}, {"epoch": 1, "mine": nested}):
        assert set(fc.find_state_dict(tree)) == flat
    state = fc.train_state(fc.compose(fc.linear(2)), fc.adam(0.1), fc.random.key(0), (1, 2))
    assert set(fc.find_state_dict(state)) == {"0.weight", "0.bias"}
    assert set(fc.find_state_dict(state.params)) == {"0.weight", "0.bias"}
    with pytest.raises(ValueError, match="got several: a, b among a, b, c"):
        fc.find_state_dict({"a": sd, "b": sd, "c": 1})
    with pytest.raises(ValueError, match="got none among a"):
        fc.find_state_dict({"a": 1})
    with pytest.raises(TypeError, match="find_state_dict: expected what a checkpoint holds, got int"):
        fc.find_state_dict(1)


def test_hints_where_a_state_dict_does_not_fit():
    params = {"w": np.zeros(1), "num_batches_tracked": np.array(3)}
    assert fc.from_state_dict(params, {"w": np.ones(1)})["num_batches_tracked"] == 3
    with pytest.raises(
        ValueError, match=r'every name begins with "module\.", which fconv\.rename can take away'
    ):
        fc.from_state_dict(params, {"module.w": np.ones(1)})
    with pytest.raises(TypeError, match=r"got a dict of state_dict, epoch; fconv\.find_state_dict finds"):
        fc.from_state_dict(params, {"state_dict": params, "epoch": 3})
    with pytest.raises(TypeError, match="rename: expected a dict of prefixes, got str"):
        fc.rename(params, "module.")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_small_files_are_read_rather_than_mapped(tmp_path, monkeypatch, suffix):
    """Another program may write into the file itself, which must not change what was loaded."""
    monkeypatch.setattr("fconv.files.formats.mapping.SMALL", 1 << 20)
    path = tmp_path / f"x{suffix}"
    fc.save(path, {"a": np.arange(1000.0)})
    found = fc.load(path)
    path.write_bytes(b"")
    np.testing.assert_array_equal(found["a"], np.arange(1000.0))


def test_tensors_of_another_networks_shape_are_refused():
    x = np.ones((1, 3, 8, 8), np.float32)
    params = fc.conv2d(8, 3).init(fc.random.key(0), x.shape)
    with pytest.raises(
        ValueError,
        match=r"conv2d: expected a weight of shape \(4, 3, 3, 3\) for an input .* got \(8, 3, 3, 3\)",
    ):
        fc.conv2d(4, 3).apply(params, x)
