"""Trees in files: what comes back, what is refused, and what a failed save leaves."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fconv as fc
from fconv.files.atomic import atomic_write
from fconv.files.checkpoint import describe_file
from fconv.testing import strategies as fst
from fconv.testing.purity import same_bits

SUFFIXES = [".safetensors", ".npz"]
NET = fc.compose(conv=fc.conv2d(4, 3), norm=fc.batch_norm(), rest=fc.compose(fc.flatten(), fc.linear(2)))
PARAMS = NET.init(fc.random.key(0), (2, 1, 5, 5))


class Unregistered(NamedTuple):
    a: object
    b: object


DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
leaf = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=5),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)).map(
        lambda d: np.arange(np.prod(d[1], dtype=int)).reshape(d[1]).astype(d[0])
    ),
    fst.arrays_like((2, 3, 2)),
)  # fmt: skip
names = st.text(st.characters(codec="utf-8", exclude_characters="./\\\0"), min_size=1, max_size=4)
tree = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(names, inner, max_size=3) | st.tuples(inner, inner).map(lambda t: Unregistered(*t)),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(data=tree)
def test_any_tree_comes_back_bit_for_bit(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("trees") / f"tree{suffix}"
    fc.save(path, data)
    again = fc.load(path)
    assert same_bits(again, data)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_comes_back(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    fc.save(path, PARAMS, metadata={"epoch": "7"})
    assert fc.load_metadata(path) == {"epoch": "7", "fconv.version": fc.__version__}
    with pytest.raises(TypeError, match="metadata must map text to text"):
        fc.save(path, PARAMS, metadata={"epoch": 7})
    with pytest.raises(ValueError, match=r"metadata name 'fconv\.version' is taken"):
        fc.save(path, PARAMS, metadata={"fconv.version": "7"})


def test_files_of_other_programs_come_as_a_flat_dict(tmp_path):
    from safetensors.numpy import save_file

    arrays = {"conv.weight": np.ones((2, 1), np.float32), "bias": np.arange(3)}
    save_file(arrays, tmp_path / "other.safetensors")
    np.savez(tmp_path / "other.npz", **arrays)
    for suffix in SUFFIXES:
        assert same_bits(
            dict(sorted(fc.load(tmp_path / f"other{suffix}").items())), dict(sorted(arrays.items()))
        )


def test_files_are_what_the_safetensors_library_reads_and_the_same_each_time(tmp_path):
    from safetensors.numpy import load_file

    odd = {"a": np.arange(3, dtype=np.uint8), "b": np.ones((), np.float64), "c": np.zeros((0, 2), np.float16),
           "d": np.arange(6, dtype=">i4").reshape(2, 3).T, "é": np.array([True])}  # fmt: skip
    for tree in (PARAMS, odd):
        fc.save(tmp_path / "x.safetensors", tree, metadata={"note": "n"})
        found = load_file(tmp_path / "x.safetensors")
        for name, x in fc.to_state_dict(tree).items():
            np.testing.assert_array_equal(found[name], x)
            assert found[name].dtype == x.dtype.newbyteorder("=")
        first = (tmp_path / "x.safetensors").read_bytes()
        fc.save(tmp_path / "x.safetensors", tree, metadata={"note": "n"})
        assert (tmp_path / "x.safetensors").read_bytes() == first


def test_bfloat16_is_widened(tmp_path):
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    bits = np.array([0x3F80, 0xC000], np.uint16).tobytes()
    (tmp_path / "b.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bits)
    assert fc.load(tmp_path / "b.safetensors")["x"].tolist() == [1.0, -2.0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_off_anywhere_is_refused(tmp_path, suffix):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    fc.save(whole, PARAMS)
    data = whole.read_bytes()
    for length in [*range(40), *range(40, len(data), 97), len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match=f"cut{suffix} is not a whole {suffix} file"):
            fc.load(cut)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for data in [
        b"",
        b"PK\x03\x04",
        os.urandom(300),
        b"\xff" * 8 + b"{}",
        (2**31).to_bytes(8, "little") + b"{}",
    ]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"not a whole \.safetensors file"):
            fc.load(path)
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    for header in [
        {"a": entry, "b": entry},  # overlapping
        {"a": {**entry, "data_offsets": [0, 64]}},  # beyond the file
        {"a": {**entry, "shape": [5]}},  # sizes that lie
        {"a": {**entry, "dtype": "F99"}},
    ]:
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
        with pytest.raises(ValueError, match=r"not a whole \.safetensors file"):
            fc.load(path)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.savez(tmp_path / "trap.npz", np.array([Trap()], dtype=object))
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        archive.writestr("x.npy", pickle.dumps(Trap()))
    np.save(tmp_path / "single.npz.npy", np.ones(2))
    (tmp_path / "single.npz.npy").rename(tmp_path / "single.npz")
    for name in ["trap.npz", "raw.npz", "single.npz"]:
        with pytest.raises(ValueError, match=rf"{name} is not a whole .npz file of arrays"):
            fc.load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_damaged_structures_are_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    good = {"fconv.format": "1"}
    named = '{"named": "X", "fields": ["a"], "items": []}'
    unsafe = '{"named": "x y", "fields": ["a"], "items": [{"value": 1}]}'
    for structure in ["", "[", "3", '{"array": "b"}', named, unsafe, '{"odd": 1}', "[" * 100_000]:
        save_file({"a": np.ones(1)}, path, {**good, "fconv.structure": structure})
        with pytest.raises(ValueError, match="damaged structure"):
            fc.load(path)
    save_file({"a": np.ones(1)}, path, {"fconv.format": "99", "fconv.structure": "{}"})
    with pytest.raises(ValueError, match="format version '99'; this fconv reads version 1"):
        fc.load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"net{suffix}"
    fc.save(path, PARAMS)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        fc.save(path, {"other": np.zeros(3)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_what_cannot_be_stored_is_refused_before_a_file_is_made(tmp_path):
    for suffix in SUFFIXES:
        for bad in [{"f": print}, {"a": {1, 2}}, {"c": np.array([object()])}]:
            with pytest.raises((TypeError, ValueError), match="save: "):
                fc.save(tmp_path / f"x{suffix}", bad)
    with pytest.raises(
        ValueError, match=r"expected a file extension of \.safetensors, \.npz, .* or \.tar, got"
    ):
        fc.save(tmp_path / "net.txt", PARAMS)
    (tmp_path / "net.txt").write_text("notes")
    with pytest.raises(
        ValueError, match=r"expected \.safetensors, .* got '.*net\.txt', .* begins with b'notes'"
    ):
        fc.load(tmp_path / "net.txt")
    (tmp_path / "net.txt").unlink()
    with pytest.raises(FileNotFoundError):
        fc.save(tmp_path / "nowhere" / "net.npz", PARAMS)
    with pytest.raises(FileNotFoundError):
        fc.load(tmp_path / "nowhere.safetensors")
    assert os.listdir(tmp_path) == []


def test_atomic_write_gives_the_usual_permissions(tmp_path):
    mask = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"x")
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_mapped_arrays_are_the_users_and_outlive_the_file(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    state = {
        "a": np.arange(70_000.0),
        "b": np.ones((3, 5), np.float32),
        "c": np.zeros(0),
        "d": np.ones((), "f2"),
    }
    fc.save(path, state)
    before = path.read_bytes()
    found = fc.load(path)
    for x in found.values():
        assert type(x) is np.ndarray
        assert x.flags.writeable
        assert x.flags.aligned
    assert same_bits(found, state)
    found["a"][:] = 7
    assert path.read_bytes() == before
    assert same_bits(fc.load(path), state)
    kept = fc.load(path)
    fc.save(path, {"other": np.ones(3)})
    assert same_bits(kept, state)
    path.unlink()
    assert same_bits(kept, state)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_loading_maps_and_saving_makes_no_second_copy(tmp_path, suffix):
    import tracemalloc

    path = tmp_path / f"x{suffix}"
    state = {str(i): np.full(2**18, i, np.float32) for i in range(32)}  # 32 MB in arrays of 1 MB
    state["0"] = state["0"].reshape(512, 512).T[::2]
    tracemalloc.start()
    try:
        fc.save(path, state)
        saving = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found = fc.load(path)
        loading = tracemalloc.get_traced_memory()[1] - tracemalloc.get_traced_memory()[0]
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        fc.load_metadata(path)
        describe_file(path)
        describing = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    assert saving < 20 << 20  # NumPy writes a .npy file in pieces of 16 MB
    assert held < 1 << 20
    assert loading < 2 << 20
    assert describing < 4 << 20
    assert same_bits(found, fc.load(path, mmap=False))


def test_one_array_at_a_time_is_moved(tmp_path, monkeypatch):
    from fconv.files.formats import npz, safetensors

    alive, most = [], []

    def moved(x):
        import weakref

        copy = x.copy()
        alive.append(weakref.ref(copy))
        most.append(sum(ref() is not None for ref in alive))
        return copy

    for room, suffix in ((safetensors, ".safetensors"), (npz, ".npz")):
        monkeypatch.setattr(room, "asnumpy", moved)
        fc.save(tmp_path / f"x{suffix}", {str(i): np.ones(9) for i in range(9)})
    assert max(most) <= 2  # the next one, while the name still holds the last


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_bit_is_found_where_all_is_read(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    fc.save(path, {"w": np.arange(100.0)})
    data = bytearray(path.read_bytes())
    data[data.index(np.arange(50, 52.0).tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its bytes are not those that were written: checksum"):
        fc.load(path, mmap=False)


def test_a_checksum_that_another_program_copied_is_not_taken_for_its_own(tmp_path):
    from safetensors.numpy import load_file, save_file

    fc.save(tmp_path / "a.safetensors", {"w": np.ones(2)})
    texts = describe_file(tmp_path / "a.safetensors").texts
    changed = {name: x + 1 for name, x in load_file(tmp_path / "a.safetensors").items()}
    save_file(changed, tmp_path / "b.safetensors", texts)
    assert fc.load(tmp_path / "b.safetensors", mmap=False)["w"].tolist() == [2, 2]


def test_describe_file_lists_what_is_stored(tmp_path):
    header = json.dumps(
        {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
         "y": {"dtype": "F8_E5M2", "shape": [4], "data_offsets": [4, 8]}}
    ).encode()  # fmt: skip
    (tmp_path / "b.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    found = describe_file(tmp_path / "b.safetensors")
    assert found == (".safetensors", [("x", (2,), "bfloat16", 4), ("y", (4,), "float8_e5m2", 4)], {})
    for suffix in SUFFIXES:
        fc.save(tmp_path / f"x{suffix}", {"w": np.ones((2, 3)).T, "n": 3}, metadata={"epoch": "3"})
        kind, entries, texts = describe_file(tmp_path / f"x{suffix}")
        assert (kind, entries) == (suffix, [("w", (3, 2), "float64", 48)])
        assert texts["epoch"] == "3"


def test_eight_bit_floats_are_widened():
    from fconv.files.formats.floats import WIDENED, widen

    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(
        widen(codes, "F8_E5M2"), (codes.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    )
    for code, most, least, nans in [
        ("F8_E4M3", 448, 2**-9, 2), ("F8_E4M3FNUZ", 240, 2**-10, 1), ("F8_E5M2FNUZ", 57344, 2**-17, 1),
        ("F8_E8M0", 2.0**127, 2.0**-127, 1),
    ]:  # fmt: skip
        x = widen(codes, code)
        assert x.dtype == np.float32
        assert np.nanmax(x) == most
        assert x[x > 0].min() == least
        assert np.isnan(x).sum() == nans
    assert len(WIDENED) == 6


def test_dicts_with_whole_numbers_for_keys(tmp_path):
    state = {
        "state": {0: {"step": np.ones(())}, 1: {"step": np.zeros(2)}, "x": 3},
        "groups": [{"params": [0, 1]}],
    }
    for suffix in SUFFIXES:
        fc.save(tmp_path / f"x{suffix}", state)
        found = fc.load(tmp_path / f"x{suffix}")
        assert list(found["state"]) == [0, 1, "x"]
        np.testing.assert_array_equal(found["state"][1]["step"], np.zeros(2))
        assert found["groups"] == state["groups"]
        with pytest.raises(ValueError, match=r"two entries are named '1'"):
            fc.save(tmp_path / f"y{suffix}", {1: np.ones(1), "1": np.ones(1)})
        with pytest.raises(TypeError, match="keys of text or integers"):
            fc.save(tmp_path / f"y{suffix}", {1: 3, (2,): 3})


def test_trees_of_a_hundred_levels_and_no_more(tmp_path):
    deep = np.ones(1)
    for _ in range(100):
        deep = {"x": deep}
    fc.save(tmp_path / "x.npz", deep)
    assert same_bits(fc.load(tmp_path / "x.npz"), deep)
    with pytest.raises(ValueError, match="nested deeper than 100 levels"):
        fc.save(tmp_path / "y.npz", [deep])
    assert not (tmp_path / "y.npz").exists()
