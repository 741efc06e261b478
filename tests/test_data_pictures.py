"""Folders of pictures, and crops, flips, noise and prefetching."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fconv as fc
from fconv.data import (
    gaussian_noise,
    impulse_noise,
    poisson_noise,
    prefetch,
    random_crops,
    random_flips,
    read_images,
    text_noise,
)
from fconv.testing import strategies as fst

NOISES = [
    (gaussian_noise, "sigma", 0.1),
    (poisson_noise, "peak", 20.0),
    (impulse_noise, "share", 0.3),
    (text_noise, "share", 0.3),
]


def write(path, mode, size=(8, 6), value=100):
    Image.new(mode, size, value).save(path)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a_rgb.png", "RGB", value=(10, 20, 30))
    write(tmp_path / "b_grey.png", "L")
    write(tmp_path / "c_alpha.png", "RGBA", value=(10, 20, 30, 40))
    write(tmp_path / "d_deep.png", "I;16", value=40000)
    write(tmp_path / "e_small.png", "RGB", size=(4, 9), value=(1, 2, 3))
    write(tmp_path / "f_print.tif", "CMYK", value=(1, 2, 3, 4))
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    (tmp_path / "g_cut.png").write_bytes(whole.read_bytes()[:5000])
    whole.unlink()
    (tmp_path / "h_none.jpg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("not looked at")
    (tmp_path / "within.png").mkdir()
    return tmp_path


def test_pictures_of_every_kind_come_as_colour(folder):
    images = read_images(folder, least=5)
    assert images.names == ["a_rgb.png", "b_grey.png", "c_alpha.png", "d_deep.png"]
    assert [x.shape for x in images.pictures] == [(3, 6, 8)] * 4
    assert [x.dtype for x in images.pictures] == [np.uint8] * 3 + [np.float32]
    np.testing.assert_array_equal(images.pictures[0][:, 0, 0], [10, 20, 30])
    np.testing.assert_array_equal(images.pictures[1], 100)
    np.testing.assert_array_equal(images.pictures[2][:, 0, 0], [10, 20, 30])
    np.testing.assert_allclose(images.pictures[3], 40000 / 65535, rtol=1e-6)


def test_what_is_left_out_is_named_with_its_reason(folder):
    skipped = read_images(folder, least=5).skipped
    assert list(skipped) == ["e_small.png", "f_print.tif", "g_cut.png", "h_none.jpg"]
    assert skipped["e_small.png"] == "9x4 pixels; at least 5 are needed on each side"
    assert "CMYK" in skipped["f_print.tif"]
    assert all(name in skipped[name] for name in ("g_cut.png", "h_none.jpg"))


def test_grey_is_the_luma(folder):
    images = read_images(folder, channels=1, least=5)
    assert [x.shape for x in images.pictures] == [(1, 6, 8)] * 4
    assert [x.dtype for x in images.pictures] == [np.uint8] * 3 + [np.float32]
    np.testing.assert_array_equal(images.pictures[0], round(0.299 * 10 + 0.587 * 20 + 0.114 * 30))
    np.testing.assert_array_equal(images.pictures[1], 100)


def test_folders_without_pictures_are_refused(tmp_path, folder):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        read_images(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"empty holds no pictures \(files such as"):
        read_images(empty)
    with pytest.raises(ValueError, match=r"none of the 8 pictures .* a_rgb.png: 6x8 pixels; at least 100"):
        read_images(folder, least=100)
    with pytest.raises(ValueError, match="channels 1 or 3, got 2"):
        read_images(folder, channels=2)


def test_a_picture_too_large_for_the_memory_does_not_lose_the_folder(folder, monkeypatch):
    from fconv.data import folders

    def read(path):
        if path.name.startswith("a"):
            raise MemoryError
        return folders_read(path)

    folders_read = folders.read_image
    monkeypatch.setattr(folders, "read_image", read)
    images = read_images(folder, least=5)
    assert images.names == ["b_grey.png", "c_alpha.png", "d_deep.png"]
    assert images.skipped["a_rgb.png"] == "there is not enough memory for it"


@given(
    key=fst.keys(), size=st.integers(1, 5), factor=st.integers(1, 3), count=st.integers(1, 4),
    sides=st.lists(st.tuples(st.integers(5, 9), st.integers(5, 9)), min_size=1, max_size=3),
)  # fmt: skip
def test_crops_of_all_kinds_are_of_one_place(key, size, factor, count, sides):
    numbers = iter(range(10_000))
    small = [np.array([[[next(numbers) for _ in range(w)] for _ in range(h)]], np.float64) for h, w in sides]
    large = [x.repeat(factor, axis=1).repeat(factor, axis=2) for x in small]
    x, y = random_crops(key, small, large, count=count, size=size)
    assert x.shape == (count, 1, size, size)
    np.testing.assert_array_equal(x.repeat(factor, axis=2).repeat(factor, axis=3), y)
    for crop in x[:, 0]:  # each is a square of some picture: its numbers count on
        assert ((crop[:, 1:] - crop[:, :-1]) == 1).all()
        holder = next(p[0] for p in small if crop[0, 0] in p)
        top, left = np.argwhere(holder == crop[0, 0])[0]
        np.testing.assert_array_equal(crop, holder[top : top + size, left : left + size])
    again = random_crops(key, small, large, count=count, size=size)
    np.testing.assert_array_equal(x, again[0])


def test_every_square_is_as_likely():
    pictures = [np.arange(4.0).reshape(1, 2, 2), np.array([[[4.0, 5, 6, 7]]])]
    (x,) = random_crops(fc.random.key(0), pictures, count=8000, size=1)
    counts = np.bincount(x.astype(int).ravel(), minlength=8)
    assert counts.min() > 900
    assert counts.max() < 1100


def test_bytes_become_numbers_from_0_to_1():
    (x,) = random_crops(fc.random.key(0), [np.full((3, 4, 4), 51, np.uint8)], count=2, size=4)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, 0.2, rtol=1e-6)
    mixed = [np.full((1, 4, 4), 255, np.uint8), np.ones((1, 4, 4), np.float32)]
    np.testing.assert_array_equal(random_crops(fc.random.key(0), mixed, count=20, size=2)[0], 1)


@pytest.mark.parametrize(
    ("pictures", "options", "text"),
    [
        ([], {}, "at least one picture, got none"),
        ([[]], {}, "at least one picture, got none"),
        ([[np.ones((1, 3, 9))]], {}, "picture 0 of 3x9 is smaller than a crop of 4x4"),
        ([[np.ones((1, 4, 4))], []], {}, "as many pictures of each kind, got 1, 0"),
        ([[np.ones((1, 4, 4))], [np.ones((1, 8, 9))]], {}, r"multiple of \(4, 4\), got \(8, 9\)"),
        ([[np.ones((1, 4, 4))] * 2, [np.ones((1, 8, 8)), np.ones((1, 4, 4))]], {}, r"one factor .*\[1, 2\]"),
        ([[np.ones((1, 4, 4))]], {"count": 0}, "count"),
    ],
)  # fmt: skip
def test_crops_that_cannot_be_are_refused(pictures, options, text):
    with pytest.raises(ValueError, match=text):
        random_crops(fc.random.key(0), *pictures, **{"count": 1, "size": 4, **options})
    with pytest.raises(TypeError, match="picture 0: expected"):
        random_crops(fc.random.key(0), [np.ones((4, 4))], count=1, size=2)


@given(key=fst.keys(), vertical=st.booleans(), n=st.integers(1, 6))
def test_flips_are_alike_in_all_batches(key, vertical, n):
    x = np.arange(n * 6.0).reshape(n, 1, 2, 3)
    before = x.copy()
    a, b = random_flips(key, x, 10 * x, vertical=vertical)
    np.testing.assert_array_equal(10 * a, b)
    np.testing.assert_array_equal(x, before)
    turns = [slice(None), slice(None, None, -1)]
    for y, whole in zip(a, x, strict=True):
        ways = [whole[:, d, c] for d in (turns if vertical else turns[:1]) for c in turns]
        assert any((y == way).all() for way in ways)


def test_half_of_the_samples_are_flipped_each_way():
    x = np.tile(np.arange(4.0).reshape(1, 1, 2, 2), (4000, 1, 1, 1))
    (y,) = random_flips(fc.random.key(0), x, vertical=True)
    counts = np.unique(y[:, 0, 0, 0], return_counts=True)[1]
    assert len(counts) == 4
    assert counts.min() > 900
    with pytest.raises(ValueError, match=r"one length, got \[2, 3\]"):
        random_flips(fc.random.key(0), x[:2], x[:3])


@pytest.mark.parametrize(("noise", "option", "level"), NOISES)
@given(key=fst.keys(), dtype=st.sampled_from([np.float32, np.float64]))
def test_noise_is_a_function_of_its_key(noise, option, level, key, dtype):
    x = np.linspace(0, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16).astype(dtype)
    before = x.copy()
    y = noise(key, x, **{option: level})
    np.testing.assert_array_equal(x, before)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(y, noise(key, x, **{option: level}))
    assert (y != noise(fc.random.fold_in(key, 1), x, **{option: level})).any()
    assert (y[0] - x[0] != y[1] - x[1]).any()


@pytest.mark.parametrize(("noise", "option", "level"), NOISES)
def test_noise_refuses_what_it_cannot_take(noise, option, level):
    x, key = np.zeros((3, 8, 8), np.float32), fc.random.key(0)
    with pytest.raises(TypeError, match="float32 or float64, got"):
        noise(key, x.astype(np.uint8))
    with pytest.raises(ValueError, match=f"expected {option} from"):
        noise(key, x, **{option: -1.0})
    with pytest.raises((TypeError, ValueError), match=f"{noise.__name__}"):
        noise(np.zeros(2), x)
    with pytest.raises((TypeError, ValueError), match=option):
        noise(key, x, **{option: "much"})
    if option == "share":
        with pytest.raises(ValueError, match=r"pictures \(..., C, H, W\), got shape \(8, 8\)"):
            noise(key, x[0])


def test_noise_has_the_moments_that_it_says():
    x = np.full((3, 200, 200), 0.25)
    key = fc.random.key(1)
    y = gaussian_noise(key, x, 0.1)
    assert abs(y.mean() - 0.25) < 0.002
    assert abs(y.std() - 0.1) < 0.002
    y = poisson_noise(key, x, 40)
    assert abs(y.mean() - 0.25) < 0.002
    assert abs(y.var() - 0.25 / 40) < 2e-4
    np.testing.assert_allclose(y * 40, np.rint(y * 40), atol=1e-9)
    assert (poisson_noise(key, -x, 40) == 0).all()
    y = impulse_noise(key, np.full_like(x, 2.0), 0.3)
    hit = (y != 2).all(axis=0)
    assert abs(hit.mean() - 0.3) < 0.01
    assert abs(y[:, hit].mean() - 0.5) < 0.01
    assert (impulse_noise(key, x, 0.0) == x).all()
    for share in (0.1, 0.5):
        covered = (text_noise(key, np.full_like(x, 2.0), share) != 2).any(axis=0).mean()
        assert share <= covered < share + 0.1
    assert (text_noise(key, x[:, :1, :1], 0.5).shape) == (3, 1, 1)
    assert text_noise(key, x[:, :0]).shape == (3, 0, 200)
    large = text_noise(key, np.full((1, 700, 900), 2.0, np.float32), 0.5)
    assert 0.5 <= (large != 2).mean() < 0.55
    with pytest.raises(ValueError, match="poisson_noise: expected finite elements"):
        poisson_noise(key, np.array([np.nan]))


def test_text_noise_leaves_the_memory_order_alone():
    x = np.asfortranarray(np.full((2, 3, 16, 16), 2.0, np.float32))
    np.testing.assert_array_equal(
        text_noise(fc.random.key(0), x), text_noise(fc.random.key(0), np.ascontiguousarray(x))
    )


def test_prefetch_keeps_the_order_and_works_ahead():
    made = []

    def items():
        for i in range(6):
            made.append(i)
            yield i

    ahead = prefetch(items(), size=2)
    assert made == []  # nothing before it is asked for
    assert next(ahead) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made == [0, 1, 2, 3]  # one in hand, two made, and one being handed over
    assert list(ahead) == [1, 2, 3, 4, 5]


def test_prefetch_raises_what_the_items_raise_after_those_before():
    def items():
        yield 1
        raise ValueError("no second")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="no second"):
        next(ahead)
    with pytest.raises(ValueError, match="size"):
        prefetch([], size=0)


def test_prefetch_ends_its_thread_when_it_is_closed():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    ahead = prefetch(items())
    next(ahead)
    ahead.close()
    assert closed.is_set()
    assert threading.active_count() == before


def test_batches_begin_where_they_are_told_to():
    x, key = np.arange(10), fc.random.key(3)
    whole = [part.tolist() for (part,) in fc.data.batches(x, batch_size=3, key=key)]
    for start in range(6):
        rest = [part.tolist() for (part,) in fc.data.batches(x, batch_size=3, key=key, start=start)]
        assert rest == whole[start:]
    with pytest.raises(ValueError, match="start of 0 or more, got -1"):
        fc.data.batches(x, batch_size=3, start=-1)
