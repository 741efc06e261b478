"""The command fconv on pictures: denoise, upscale, predict."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import fconv as fc
from tests.commands import weights


def small_dncnn(path, channels=1, prefix=""):
    net = fc.models.dncnn(channels, layers=3, width=4)
    params = net.init(fc.random.key(0), (1, channels, 8, 8))
    fc.save(path, {prefix + name: x for name, x in fc.to_state_dict(params).items()})
    return net, params


def read(path):
    with open(path, "rb") as file:
        return file.read()


def random_picture(image, path, shape, dtype=np.uint8):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
    image.fromarray(values).save(path)
    return values


def test_denoise_gives_what_the_network_gives(run, image):
    values = random_picture(image, "in.png", (20, 30))
    net, params = small_dncnn("w.pt", prefix="module.")
    shown = run("denoise", "in.png", "out.png", "--weights", "w.pt", "--tile", "8")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "30x20, by dncnn(channels=1, layers=3, width=4" in shown.output
    expected = net.apply(params, values[None, None].astype(np.float32) / 255)
    expected = np.clip(expected[0, 0], 0, 1) * 255
    assert np.abs(np.asarray(image.open("out.png")) - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((12, 9), np.uint8),
        ((12, 9), np.uint16),
        ((12, 9, 2), np.uint8),
        ((12, 9, 3), np.uint8),
        ((12, 9, 4), np.uint8),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_keep_their_kind(run, image, shape, dtype, channels):
    values = random_picture(image, "in.png", shape, dtype)
    small_dncnn("w.npz", channels)
    assert run("denoise", "in.png", "out.png", "--weights", "w.npz").exit_code == 0
    out = np.asarray(image.open("out.png"))
    assert (out.shape, out.dtype) == (values.shape, values.dtype)
    if shape[2:] in ((2,), (4,)):
        assert (out[..., -1] == values[..., -1]).all()


def test_denoise_shows_what_it_gains(run, image):
    random_picture(image, "in.png", (64, 64))
    small_dncnn("w.npz")
    args = ("denoise", "in.png", "out.png", "--weights", "w.npz", "--sigma", "25", "--force")
    first = run(*args).output
    assert "noise of 25: 20." in first
    assert run(*args).output == first
    assert run(*args, "--seed", "1").output != first


def test_upscale_enlarges_colour_and_alpha(run, image):
    random_picture(image, "in.png", (10, 12, 4))
    net = fc.models.espcn(2, channels=1)
    fc.save("w.npz", fc.to_state_dict(net.init(fc.random.key(0), (1, 1, 8, 8))))
    shown = run("upscale", "in.png", "out.png", "--weights", "w.npz", "--factor", "2")
    assert "24x20, by espcn(scale=2, channels=1)" in shown.output
    assert np.asarray(image.open("out.png")).shape == (20, 24, 4)
    shown = run("upscale", "in.png", "out2.png", "--weights", "w.npz", "--factor", "3")
    assert "holds a network for 2 times, not 3" in shown.stderr
    assert not os.path.exists("out2.png")


def test_the_input_is_never_overwritten_and_formats_that_lose_are_refused(run, image):
    random_picture(image, "in.png", (8, 8, 4))
    small_dncnn("w.npz")
    before = read("in.png")
    options = ("--weights", "w.npz", "--force")
    os.link("in.png", "link.png")
    assert "never overwritten" in run("denoise", "in.png", "link.png", *options).stderr
    assert "JPEG holds no alpha" in run("denoise", "in.png", "out.jpg", *options).stderr
    assert "expected the name of a picture" in run("denoise", "in.png", "out.xyz", *options).stderr
    assert read("in.png") == before
    assert sorted(os.listdir()) == ["in.png", "link.png", "w.npz"]


def test_weights_that_fit_nothing_are_named(run, image):
    random_picture(image, "in.png", (8, 8))
    fc.save("w.npz", weights())
    shown = run("denoise", "in.png", "out.png", "--weights", "w.npz")
    assert shown.exit_code == 1
    assert "fit none of dncnn, noise2noise" in shown.stderr
    assert "a.weight (2, 3)" in shown.stderr


def test_predict_says_what_the_network_says(run, image):
    values = random_picture(image, "digit.png", (32, 32))
    net = fc.models.lenet(num_classes=3)
    params = net.init(fc.random.key(0), (1, 1, 32, 32))
    fc.save("w.npz", params)
    with open("labels.txt", "w") as file:
        file.write("zero\none\ntwo\n")
    args = ("predict", "lenet", "digit.png", "--weights", "w.npz")
    scores = net.apply(params, values[None, None].astype(np.float32) / 255)[0].astype(np.float64)
    expected = np.exp(scores) / np.exp(scores).sum()
    found = json.loads(run(*args, "--json").output)[0]["classes"]
    assert [entry["class"] for entry in found] == list(np.argsort(-expected))
    np.testing.assert_allclose([entry["probability"] for entry in found], np.sort(expected)[::-1], rtol=1e-5)
    shown = run(*args, "--labels", "labels.txt", "--top", "1").output.splitlines()
    assert shown[1].split()[1] == ["zero", "one", "two"][expected.argmax()]
    assert run(*args, "--mean", "0.5", "--std", "0.25", "--json").output != run(*args, "--json").output
    with open("labels.txt", "a") as file:
        file.write("three\n")
    assert "names 4 classes, and the network has 3" in run(*args, "--labels", "labels.txt").stderr
    assert "for denoising" in run("predict", "dncnn", "digit.png", "--weights", "w.npz").stderr
    assert run("predict", "lenet", "digit.png").exit_code == 2


def test_upscale_asks_for_a_factor_that_the_weights_do_not_tell_and_refuses_a_wrong_one(run, image):
    random_picture(image, "in.png", (10, 12))
    net = fc.models.fsrcnn(3, d=6, s=4, m=1)
    params = net.init(fc.random.key(0), (1, 1, 8, 8))
    last = params["last_part"]
    grey = net.apply(params, np.full((1, 1, 16, 16), 0.5, np.float32))[..., 12:36, 12:36] - last["bias"]
    params["last_part"] = {
        "weight": last["weight"] * np.float32(0.5 / grey.mean()),
        "bias": np.zeros_like(last["bias"]),
    }  # as training leaves it: grey stays grey
    fc.save("w.npz", fc.to_state_dict(params))
    shown = run("upscale", "in.png", "out.png", "--weights", "w.npz")
    assert shown.stderr == (
        "fconv: w.npz: the weights are those of fsrcnn, which do not tell how many times larger a picture "
        "becomes: say it with --factor\n"
    )
    shown = run("upscale", "in.png", "out.png", "--weights", "w.npz", "--factor", "2")
    assert "with --factor 2 a flat grey picture does not stay grey, with 3 it does" in shown.stderr
    assert not os.path.exists("out.png")
    assert run("upscale", "in.png", "out.png", "--weights", "w.npz", "--factor", "3").exit_code == 0
    assert np.asarray(image.open("out.png")).shape == (30, 36)


def test_errors_do_not_begin_with_a_function_of_the_library(run, image):
    random_picture(image, "in.png", (8, 8))
    fc.save("w.npz", weights())
    shown = run("denoise", "in.png", "out.png", "--weights", "w.npz")
    assert shown.stderr.startswith("fconv: w.npz: the weights fit none of dncnn")
    shown = run("predict", "lenet", "in.png", "--weights", "w.npz")
    assert shown.exit_code == 1
    assert "from_state_dict" not in shown.stderr
    shown = run("summary", "resnet18", "--shape", "3,224,224")
    assert "got shape (3, 224, 224); the batch axis seems to be missing: (1, 3, 224, 224)" in shown.stderr


OWN = """
import fconv as fc

def cleaner():
    return fc.models.dncnn(1, layers=3, width=4)

def enlarger():
    return fc.compose(fc.conv2d(12, 3, padding=1), fc.pixel_shuffle(2))
"""


def test_networks_of_ones_own_and_renamed_weights(run, image, monkeypatch):
    random_picture(image, "in.png", (10, 12))
    small_dncnn("w.npz", prefix="generator.")
    with open("own_networks.py", "w", encoding="utf-8") as file:
        file.write(OWN)
    monkeypatch.syspath_prepend(os.getcwd())
    by_names = run("denoise", "in.png", "a.png", "--weights", "w.npz", "--rename", "generator.=")
    assert by_names.exit_code == 0, by_names.stderr
    own = run(
        "denoise",
        "in.png",
        "b.png",
        "--weights",
        "w.npz",
        "--rename",
        "generator.=",
        "--model",
        "own_networks:cleaner",
    )
    assert own.exit_code == 0, own.stderr
    assert "by own_networks:cleaner()" in own.output
    assert read("a.png") == read("b.png")
    net = fc.compose(fc.conv2d(12, 3, padding=1), fc.pixel_shuffle(2))
    fc.save("e.npz", fc.to_state_dict(net.init(fc.random.key(0), (1, 3, 8, 8))))
    larger = run("upscale", "in.png", "c.png", "--weights", "e.npz", "--model", "own_networks:enlarger")
    assert larger.exit_code == 0, larger.stderr
    with image.open("c.png") as picture:
        assert picture.size == (24, 20)
    unfit = run("denoise", "in.png", "d.png", "--weights", "e.npz", "--model", "own_networks:cleaner")
    assert unfit.exit_code == 1
    assert "the state dict does not fit" in unfit.stderr
    missing = run("denoise", "in.png", "d.png", "--weights", "w.npz", "--rename", "genertor.=")
    assert missing.exit_code != 0
    assert "genertor." in missing.stderr


def test_predict_renames(run, image):
    random_picture(image, "in.png", (32, 32))
    net = fc.models.lenet(num_classes=3)
    params = net.init(fc.random.key(0), (1, 1, 32, 32))
    fc.save("w.npz", {f"net.{name}": x for name, x in fc.to_state_dict(params).items()})
    shown = run("predict", "lenet", "in.png", "--weights", "w.npz", "--rename", "net.=")
    assert shown.exit_code == 0, shown.stderr
