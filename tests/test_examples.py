"""The examples run, short: most of them here, those that are stopped in processes of their own."""

from __future__ import annotations

import gzip
import importlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import fconv as fc
from tests import SLOW
from tests.examples import TRAINING, command, final_states, results, runner, short


@pytest.fixture
def run(monkeypatch, capsys):
    return runner(monkeypatch, capsys)


def check_png(path):
    with Image.open(path) as image:
        image.load()
        assert min(image.size) > 150
    assert path.stat().st_size > 5000


def test_digits_learns_and_leaves_its_results(run, tmp_path):
    done = run("digits", "--epochs", 4, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"test accuracy 0\.\d{3}", last)
    assert float(last.split()[-1]) > 0.95
    for shown in ("accuracy=", "loss=", "images/s"):
        assert shown in done.stderr
    drawn = Counter(re.findall(r"\[(\d+:\d+)<", done.stderr))  # times that the bar was drawn, by second
    assert 0 < max(drawn.values()) <= 11
    for picture in ("curves", "digits", "confusion", "kernels"):
        check_png(tmp_path / f"{picture}.png")
    params = fc.load(tmp_path / "digits.safetensors")
    assert params[0]["weight"].shape == (32, 1, 3, 3)
    assert params[10]["bias"].shape == (10,)
    said = results(tmp_path)
    assert abs(said["test_accuracy"] - float(last.split()[-1])) < 1e-3
    assert np.sum(said["confusion"]) == 359
    assert np.trace(said["confusion"]) == round(said["test_accuracy"] * 359)
    assert len(said["losses"]) == 4 * 23
    again = run("digits", "--epochs", 1, "--out", tmp_path)  # over a run that came to its end
    assert again.returncode == 0, again.stderr
    assert results(tmp_path)["steps"] == 23


def write_folder(folder):
    """A tiny MNIST-format folder: class 0 is dark above, class 1 dark below."""
    folder.mkdir()
    for part, count in (("train", 64), ("t10k", 16)):
        labels = np.arange(count, dtype=np.uint8) % 2
        images = np.zeros((count, 28, 28), np.uint8)
        for i, label in enumerate(labels):
            images[i, 14 * label : 14 * label + 14] = 200 + i % 50
        for kind, x in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape)
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + x.tobytes()))


@pytest.mark.parametrize(
    ("network", "flags"),
    [
        ("small", []),
        ("lenet", ["--epochs", 12]),
        ("resnet", []),
        ("notebook", ["--optimizer", "adam", "--lr", 0.01]),
    ],
)  # fmt: skip
def test_digits_reads_an_mnist_folder_with_every_network(run, tmp_path, network, flags):
    write_folder(tmp_path / "data")
    done = run(
        "digits", "--data", tmp_path / "data", "--epochs", 6, "--batch-size", 8, "--out", tmp_path / "out",
        "--network", network, *flags,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "64 pictures of 28x28 to train on, 16 to test with" in done.stdout
    assert float(done.stdout.split()[-1]) > 0.9


@pytest.mark.parametrize("noise", ["gaussian", "poisson", "impulse", "text"])
def test_noise2noise_leaves_its_results(run, tmp_path, photos, noise):
    network = {"gaussian": "unet", "poisson": "report1", "impulse": "report2", "text": "shallow"}[noise]
    flags = ["--noise", noise, "--network", network, "--out", tmp_path, "--crop", 16]
    done = run("noise2noise", *short("noise2noise", *flags, data=photos))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"noisy \d+\.\d\d dB, denoised \d+\.\d\d dB", done.stdout.splitlines()[-1])
    assert "3 pictures to train on, 2 held out" in done.stdout
    assert "left out: cut.png: " in done.stderr
    assert "left out: tiny.png: 5x5 pixels; at least 16 are needed" in done.stderr
    for picture in ("before_after", "curves"):
        check_png(tmp_path / f"{picture}.png")
    said = results(tmp_path)
    assert list(said["skipped"]) == ["cut.png", "tiny.png"]
    assert said["steps"] == 12
    assert said["losses"][-1] < said["losses"][0] * 1.5
    assert sorted(said["pictures"]) == ["p3.png", "p4.png"]


def test_noise2noise_denoises(run, tmp_path):
    flags = ["--steps", 60, "--batch-size", 4, "--crop", 32, "--lr", 4e-3, "--out", tmp_path]
    done = run("noise2noise", *flags)
    assert done.returncode == 0, done.stderr
    scores = results(tmp_path)
    assert scores["scores"]["PSNR"][-1] > scores["noisy_psnr"] + 0.3


@pytest.mark.parametrize(("network", "scale"), [("espcn", 2), ("fsrcnn", 3)])
def test_super_resolution_leaves_its_results(run, tmp_path, photos, network, scale):
    flags = ["--network", network, "--scale", scale, "--out", tmp_path]
    done = run("super_resolution", *short("super_resolution", *flags, data=photos))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"cubic \d+\.\d\d dB, {network} -?\d+\.\d\d dB", done.stdout.splitlines()[-1])
    for picture in ("before_after", "curves"):
        check_png(tmp_path / f"{picture}.png")
    assert results(tmp_path)["pictures"].keys() == {"p3.png", "p4.png"}


def test_super_resolution_tests_with_pairs(run, tmp_path, photos):
    for part, size in (("data", (16, 12)), ("labels", (48, 36))):
        (tmp_path / "pairs" / part).mkdir(parents=True)
        with Image.open(photos / "p0.png") as image:
            image.resize(size, Image.Resampling.BICUBIC).save(tmp_path / "pairs" / part / "a.png")
    flags = short("super_resolution", "--test", tmp_path / "pairs", "--out", tmp_path / "out", data=photos)
    done = run("super_resolution", *flags)
    assert done.returncode == 0, done.stderr
    assert "5 pictures to train on, 1 to test with" in done.stdout
    wrong = run("super_resolution", *flags, "--scale", 2, "--out", tmp_path / "other")
    assert wrong.returncode != 0
    assert "a.png of (36, 48) is not 2 times (12, 16)" in wrong.stderr


def test_image_filters_agree(run, tmp_path):
    done = run("image_filters", "--seconds", 0.01, "--crop", 16, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    ways = results(tmp_path)["ways"]
    assert {"loops", "roll and add", "shift and multiply", "im2col", "fconv"} <= set(ways)
    assert all(way["greatest_difference"] < 1e-5 for way in ways.values())
    for picture in ("filters", "timings"):
        check_png(tmp_path / f"{picture}.png")


def published(kind, path):
    """Write a checkpoint with the names of a published one, and weights that are drawn."""
    if kind == "dncnn":
        net = fc.models.dncnn(1, layers=5, width=8)
        params = net.init(fc.random.key(0), (1, 1, 32, 32))
        fc.save(path, fc.to_state_dict(params))
    else:
        params = fc.models.espcn(2, 3).init(fc.random.key(0), (1, 3, 32, 32))
        fc.save(path, {"epoch": 3, "model": fc.to_state_dict(params)})


@pytest.mark.parametrize("kind", ["dncnn", "espcn"])
def test_pretrained_in_tiles_is_the_whole(run, tmp_path, photos, kind):
    if kind == "dncnn":
        pytest.importorskip("PIL")
    published(kind, tmp_path / "net.pth")
    flags = ["--data", photos / "p1.png", "--tile", 20, "--out", tmp_path / "out"]
    done = run("pretrained", tmp_path / "net.pth", *flags)
    assert done.returncode == 0, done.stderr
    said = results(tmp_path / "out")
    assert said["tiled_and_whole_differ_by"] < 1e-5
    assert "tiles" in done.stderr
    check_png(tmp_path / "out" / "before_after.png")
    with Image.open(tmp_path / "out" / "result.png") as image:
        assert image.size == (64, 48)


def test_pretrained_takes_what_the_examples_leave(run, tmp_path, photos):
    flags = short("noise2noise", "--out", tmp_path / "n2n", "--network", "report2", data=photos)
    assert run("noise2noise", *flags).returncode == 0
    net = tmp_path / "n2n" / "network.safetensors"
    done = run("pretrained", net, "--data", photos / "p1.png", "--tile", 16, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "report2" in done.stdout
    done = run("pretrained", photos / "p1.png", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    fc.save(tmp_path / "other.pt", {"w": np.ones(3)})
    done = run("pretrained", tmp_path / "other.pt", "--out", tmp_path / "out")
    assert "is of no network known here; its names begin w" in done.stderr


def test_own_layer_is_proved_and_learns(run, tmp_path):
    done = run("own_layer", "--epochs", 3, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the gradient holds for every input that was drawn" in done.stdout
    assert "of the wrong one the check says:\n    " in done.stdout
    assert results(tmp_path)["swish_accuracy"] > 0.85
    assert results(tmp_path)["runs"]["relu"]["steps"] == 3 * 23
    assert fc.load(tmp_path / "own_layer.pt")[1]["beta"].shape == (16,)
    for picture in ("curves", "steepness"):
        check_png(tmp_path / f"{picture}.png")


@pytest.fixture(scope="module")
def wholes():
    """Keep what uninterrupted runs left, by example."""
    return {}


STOPS = {  # all of them stop by the same code, so that the default run sends each signal to some
    signal.SIGINT: TRAINING if SLOW else TRAINING[:2],
    signal.SIGTERM: [*(TRAINING if SLOW else TRAINING[2:]), "own_layer"],
    signal.SIGKILL: ["super_resolution"],
}


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(("name", "sent"), [(name, sent) for sent, names in STOPS.items() for name in names])
def test_a_stopped_run_goes_on_bit_for_bit(run, tmp_path, photos, wholes, name, sent):
    flags = [*short(name, data=photos), *(["--steps", 60] if name in TRAINING[1:] else [])]
    if name not in wholes:
        wholes[name] = tmp_path / "whole", run(name, *flags, "--out", tmp_path / "whole")
    uninterrupted, whole = wholes[name]
    assert whole.returncode == 0, whole.stderr

    part = tmp_path / "part"
    process = subprocess.Popen(
        command(name, *flags, "--out", part), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(part.rglob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(sent)
    out, err = process.communicate(timeout=120)
    if sent != signal.SIGKILL:
        assert process.returncode == 0, err
        assert "Traceback" not in err
        assert re.search(r"stopped after step \d+ of \d+; --resume goes on from there", err)
        assert results(part)["stopped"] is True
        assert "saved" in out
    refused = run(name, *flags, "--out", part)
    assert refused.returncode == 1
    assert re.search(r"holds a run that stopped after step \d+; add --resume", refused.stderr)

    resumed = run(name, *flags, "--out", part, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert final_states(part) == final_states(uninterrupted)
    same = "losses" if name in TRAINING else "swish_accuracy"
    assert results(part)[same] == results(uninterrupted)[same]
    assert resumed.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["save", "step", "evaluation"])
def test_signals_end_a_run_after_the_step_and_cut_no_save_short(
    run, monkeypatch, tmp_path, photos, sent, where
):
    """They come at any place, and again while the last state is saved."""
    saved = []

    def struck(function, at, signals=1):
        calls = iter(range(1, 1000))

        def strike(*args, **options):
            if next(calls) == at:
                for _ in range(signals):
                    os.kill(os.getpid(), sent)
            return function(*args, **options)

        return strike

    def save(self, step, *args, **options):
        os.kill(os.getpid(), sent)
        saved.append(step)
        return real(self, step, *args, **options)

    real, made = fc.Checkpointer.save, fc.train_step
    monkeypatch.setattr(fc.Checkpointer, "save", save)
    if where == "step":
        monkeypatch.setattr(fc, "train_step", lambda *args, **options: struck(made(*args, **options), 3))
    elif where == "evaluation":
        module = importlib.import_module("noise2noise")
        monkeypatch.setattr(module, "denoised", struck(module.denoised, 7))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    done = run("noise2noise", *short("noise2noise", "--network", "report2", "--out", tmp_path, data=photos))
    assert done.returncode == 0, done.stderr
    last = 5 if where == "save" else 3  # --checkpoint-every 5
    assert f"stopped after step {last} of 12" in done.stderr
    assert set(saved) == {last}
    assert len(results(tmp_path)["losses"]) == last
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_a_second_signal_does_not_wait_for_the_step(run):
    stopping = importlib.import_module("support.stopping")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stopping.Stop() as stop:
            os.kill(os.getpid(), signal.SIGTERM)  # ignored as before
            assert stop.asked == 0
            stop.patience = 1
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.asked == 1
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)  # what cleans up is not cut short
            assert stop.asked == 3
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_digits_enlarges_its_pictures_for_networks_of_larger_ones(run, tmp_path):
    flags = ["--network", "lenet", "--epochs", 1, "--out", tmp_path]
    done = run("digits", *flags)
    assert done.returncode == 0, done.stderr
    assert "pictures of 16x16 to train on" in done.stdout


def test_resume_wants_a_checkpoint(run, tmp_path):
    done = run("digits", "--resume", "--out", tmp_path / "mistyped")
    assert done.returncode == 1
    assert "mistyped holds no checkpoint to go on from; without --resume a run begins there" in done.stderr


def test_ctrl_c_while_data_are_read_is_said_in_one_line(run, monkeypatch, tmp_path):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("digits"), "load_data", interrupted)
    done = run("digits", "--out", tmp_path)
    assert (done.returncode, done.stderr) == (130, "digits: interrupted\n")


@pytest.fixture
def interrupted(monkeypatch):
    """Let the n-th evaluation of noise2noise be struck by Ctrl-C."""

    def arrange(at):
        module = importlib.import_module("noise2noise")
        plain, calls = module.denoised, iter(range(1, 1000))

        def denoised(*args):
            if next(calls) == at:
                raise KeyboardInterrupt
            return plain(*args)

        monkeypatch.setattr(module, "denoised", denoised)

    return arrange


def test_ctrl_c_in_the_first_evaluation_leaves_nothing(run, interrupted, tmp_path, photos):
    interrupted(1)
    flags = short("noise2noise", "--network", "report2", "--out", tmp_path, data=photos)
    done = run("noise2noise", *flags)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "stopped before the first step; nothing is left to show"
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    "at", [4, 7, 26]
)  # within the evaluations after steps 1, 3 and 12: two pictures each
def test_ctrl_c_in_an_evaluation_is_made_up_for(run, interrupted, monkeypatch, tmp_path, photos, at):
    flags = short("noise2noise", "--network", "report2", data=photos)
    assert run("noise2noise", *flags, "--out", tmp_path / "whole").returncode == 0
    with monkeypatch.context():
        interrupted(at)
        done = run("noise2noise", *flags, "--out", tmp_path / "part")
        assert done.returncode == 0, done.stderr
        assert results(tmp_path / "part")["stopped"]
    assert run("noise2noise", *flags, "--out", tmp_path / "part", "--resume").returncode == 0
    assert final_states(tmp_path / "part") == final_states(tmp_path / "whole")
    assert results(tmp_path / "part")["scores"] == results(tmp_path / "whole")["scores"]
    again = run("noise2noise", *flags, "--out", tmp_path / "part")  # it has come to its end
    assert again.returncode == 0, again.stderr
