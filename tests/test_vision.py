"""Pictures through networks: tiles, guesses, preparation."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import fconv as fc
from fconv.engine import memory
from fconv.vision.classifying import class_names, prepare, settings
from fconv.vision.colour import rgb_to_ycbcr, ycbcr_to_rgb
from fconv.vision.guessing import guess_model
from fconv.vision.images import Picture, read_image, resized
from fconv.vision.restoring import denoised, upscaled
from fconv.vision.tiling import apply_tiled, reach, stride

DATA = Path(__file__).parents[2] / "shared" / "data"

PICTURES_TO_PICTURES = {
    "dncnn": (fc.models.dncnn(layers=6, width=4), 1, 6),
    "espcn": (fc.models.espcn(3), 3, 4),
    "fsrcnn": (fc.models.fsrcnn(2, d=6, s=4, m=2), 1, None),
    "srresnet": (fc.models.srresnet(1, blocks=2, width=4), 1, None),
    "noise2noise": (fc.models.noise2noise(1), 1, None),
    "noise2noise_strided": (fc.models.noise2noise_strided(1), 1, None),
    "noise2noise_shallow": (fc.models.noise2noise_shallow(1), 1, None),
    "unet": (fc.models.unet(2, width=2), 1, None),
    "dilated": (fc.conv2d(1, 3, padding=7, dilation=7), 1, 7),
    "shifted": (fc.compose(fc.pad((4, 0, 0, 0)), fc.conv2d(1, (1, 5))), 1, 4),
}


def made(net, channels):
    return net.init(fc.random.key(3), (1, channels, 64, 64), np.float64)


@pytest.mark.parametrize("name", PICTURES_TO_PICTURES)
@pytest.mark.parametrize("size", [(96, 144), (160, 64)])
def test_tiles_give_the_whole_pictures_result(name, size):
    net, channels, _ = PICTURES_TO_PICTURES[name]
    params = made(net, channels)
    x = np.random.default_rng(0).random((2, channels, *size))
    expected = net.apply(params, x)
    assert expected.std() > 1e-6
    calls = []
    y = apply_tiled(net, params, x, tile=40, progress=lambda *done: calls.append(done))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12 + 1e-10 * np.abs(expected).max())
    assert calls[-1][0] == calls[-1][1] == len(calls) > 1


@pytest.mark.parametrize("name", [name for name, (*_, known) in PICTURES_TO_PICTURES.items() if known])
def test_reach_is_that_of_the_kernels(name):
    net, channels, known = PICTURES_TO_PICTURES[name]
    assert reach(net, made(net, channels), channels) == known


def test_a_smaller_overlap_than_the_reach_does_not_do():
    net, channels, known = PICTURES_TO_PICTURES["dncnn"]
    params = made(net, channels)
    x = np.random.default_rng(0).random((1, 1, 60, 60))
    expected = net.apply(params, x)
    near = apply_tiled(net, params, x, tile=20, overlap=known - 1)
    assert np.abs(near - expected).max() > 1e-9
    exact = apply_tiled(net, params, x, tile=20, overlap=known)
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)


def test_float32_tiles_differ_by_rounding_alone():
    net, _, _ = PICTURES_TO_PICTURES["dncnn"]
    params = net.init(fc.random.key(3), (1, 1, 64, 64))
    x = np.random.default_rng(0).random((1, 1, 100, 130), np.float32)
    y = apply_tiled(net, params, x, tile=32)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, net.apply(params, x), rtol=0, atol=1e-5)


def test_tiles_bound_the_memory(monkeypatch):
    monkeypatch.setattr(memory, "kept", memory.Kept(0))  # what is used again would not be counted
    net = fc.models.dncnn(layers=4, width=16)
    params = net.init(fc.random.key(0), (1, 1, 8, 8))

    def peak(side):
        x = np.zeros((1, 1, side, side), np.float32)
        tracemalloc.start()
        apply_tiled(net, params, x, tile=64, overlap=4)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found - x.nbytes  # the result has to be held, whatever the tiles are

    peak(256)  # what is kept for good, such as plans and workspaces, is made here
    assert peak(1024) < 1.2 * peak(256)


def test_networks_that_see_the_whole_picture_are_not_cut():
    net = fc.models.srresnet(1, blocks=1, norm="instance", width=2)
    with pytest.raises(ValueError, match="cannot be cut into tiles"):
        apply_tiled(net, made(net, 1), np.zeros((1, 1, 64, 64)), tile=32)
    with pytest.raises(ValueError, match="an integer multiple of its input"):
        apply_tiled(fc.conv2d(1, 3), made(fc.conv2d(1, 3), 1), np.zeros((1, 1, 64, 64)), tile=32)


def test_strides_of_networks():
    found = {name: stride(net, channels) for name, (net, channels, _) in PICTURES_TO_PICTURES.items()}
    assert {name: s for name, s in found.items() if s > 1} == {
        "noise2noise_strided": 4, "noise2noise_shallow": found["noise2noise_shallow"], "unet": 16,
    }  # fmt: skip


def test_odd_sizes_are_denoised_where_a_network_halves_them():
    net = fc.models.noise2noise_strided(1)
    params = net.init(fc.random.key(0), (1, 1, 16, 16))
    picture = Picture(np.random.default_rng(0).random((1, 21, 30), np.float32))
    assert denoised(net, params, 1, picture).pixels.shape == (1, 21, 30)


def test_colour_spaces_are_those_of_the_recommendation():
    # ITU-R BT.601: white, black, and full red in 8 bits.
    for rgb, expected in (
        ((1, 1, 1), (235, 128, 128)),
        ((0, 0, 0), (16, 128, 128)),
        ((1, 0, 0), (81, 90, 240)),
    ):
        found = rgb_to_ycbcr(np.array(rgb, float).reshape(3, 1, 1)).ravel() * 255
        np.testing.assert_allclose(found, expected, atol=0.5)
    x = np.random.default_rng(0).random((3, 4, 5))
    np.testing.assert_allclose(ycbcr_to_rgb(rgb_to_ycbcr(x)), x, atol=1e-12)


def test_a_grey_picture_stays_what_it_is_in_a_colour_network_that_changes_nothing():
    net = fc.identity()
    picture = Picture(np.random.default_rng(0).random((1, 9, 7), np.float32))
    for channels, luma in ((1, True), (3, True), (3, False)):
        out = upscaled(net, (), channels, picture, luma=luma)
        np.testing.assert_allclose(out.pixels, picture.pixels, atol=1e-6)
    colour = Picture(np.random.default_rng(0).random((3, 9, 7), np.float32))
    for channels, luma in ((3, True), (3, False)):
        np.testing.assert_allclose(
            upscaled(net, (), channels, colour, luma=luma).pixels, colour.pixels, atol=1e-6
        )


# Guesses


@pytest.mark.parametrize(
    ("task", "name", "options", "channels"),
    [
        (
            "denoising",
            "dncnn",
            {"channels": 3, "layers": 4, "width": 8, "batch_norm": True, "bias": "all"},
            3,
        ),
        ("denoising", "noise2noise", {"channels": 1}, 1),
        ("denoising", "noise2noise_strided", {"channels": 3}, 3),
        ("denoising", "noise2noise_shallow", {"channels": 3}, 3),
        ("super-resolution", "espcn", {"scale": 4, "channels": 1}, 1),
        ("super-resolution", "srresnet", {"channels": 3, "blocks": 2, "norm": "instance", "width": 8}, 3),
        ("super-resolution", "fsrcnn", {"scale_factor": 2, "num_channels": 1, "d": 8, "s": 4, "m": 2}, 1),
    ],
)
def test_networks_are_seen_in_their_weights(task, name, options, channels):
    net = fc.models.MODELS[name].build(**options)
    weights = fc.to_state_dict(net.init(fc.random.key(0), (1, channels, 32, 32)))
    guess = guess_model(weights, task, factor=options.get("scale_factor"))
    assert (guess.name, guess.options, guess.channels) == (name, options, channels)
    first = next(iter(weights))
    with pytest.raises(ValueError, match="fit none of"):
        guess_model({**weights, first: weights[first][:1]}, task, factor=2)
    with pytest.raises(ValueError, match="fit none of"):
        guess_model({**weights, "more": weights[first]}, task, factor=2)
    with pytest.raises(ValueError, match="expected a model for"):
        guess_model(weights, task, name="lenet")


# Preparation


def test_a_picture_is_resized_cut_and_normalised(image):
    x = np.random.default_rng(0).random((3, 60, 90), np.float32)
    wanted = settings((1, 3, 16, 16), resize=20)
    y = prepare(Picture(x), wanted)
    small = resized(x, (20, 30))[:, 2:18, 7:23]
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (wanted.mean, wanted.std))
    np.testing.assert_allclose(y[0], (small - mean) / std, rtol=1e-5, atol=1e-6)
    assert y.dtype == np.float32
    assert prepare(Picture(x), settings((1, 1, 16, 16))).shape == (1, 1, 16, 16)
    assert prepare(Picture(x[:1]), wanted).shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="3 means"):
        settings((1, 3, 16, 16), mean=(0.5,))
    with pytest.raises(ValueError, match="a resize of 16 or more"):
        settings((1, 3, 16, 16), resize=8)


def test_names_of_classes_in_each_form(tmp_path):
    forms = {
        "a.txt": "tench\ngoldfish\n", "b.json": '["tench", "goldfish"]',
        "c.json": '{"1": "goldfish", "0": "tench"}',
        "d.json": '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
    }  # fmt: skip
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert class_names(tmp_path / name) == ["tench", "goldfish"]
    for text in ('{"1": "goldfish"}', "[1, 2]", "[", '{"0": []}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match="class_names"):
            class_names(tmp_path / "bad.json")


# Published weights


def published(name):
    path = DATA / "checkpoints" / name
    if not path.exists():
        pytest.skip(f"{name} is not at hand: it lies in ../shared/data/checkpoints, outside the project")
    from fconv.tools.weights import params_from, read_weights

    return read_weights(path).arrays, params_from


def test_the_published_dncnn_gains_its_decibels_in_tiles(image):
    arrays, params_from = published("kair_dncnn/dncnn_25.pth")
    guess = guess_model(arrays, "denoising")
    net = guess.build()
    params = params_from(net, (1, 1, 64, 64), arrays)
    assert reach(net, params, 1) == 17
    whole = read_image(DATA / "photos/skimage/brick.png").pixels[:, :150, :170]
    noisy = whole + np.float32(25 / 255) * fc.random.normal(fc.random.key(1), whole.shape)
    out = denoised(net, params, guess.channels, Picture(noisy), tile=64)
    np.testing.assert_allclose(
        out.pixels, denoised(net, params, 1, Picture(noisy), tile=200).pixels, atol=1e-5
    )
    assert fc.metrics.psnr(out.pixels[None], whole[None]) > 33


def test_the_published_espcn_beats_cubic_interpolation(image):
    arrays, params_from = published("nhat_espcn/ckpt-x3.pt")
    guess = guess_model(arrays, "super-resolution")
    assert guess.options == {"scale": 3, "channels": 3}
    net = guess.build()
    small, large = (
        read_image(DATA / f"photos/Set5_LRHR/x3/{kind}/img_003_SRF_3_{end}.png")
        for kind, end in (("data", "LR"), ("labels", "HR"))
    )
    out = upscaled(net, params_from(net, (1, 3, 64, 64), arrays), 3, small, tile=50)
    cubic = fc.functional.interpolate(small.pixels[None], scale_factor=3, mode="bicubic")
    assert fc.metrics.psnr(out.pixels[None], large.pixels[None]) > 1 + fc.metrics.psnr(
        cubic, large.pixels[None]
    )
