"""The examples run, short, as a user would run them."""

from __future__ import annotations

import gzip
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fconv as fc

ROOT = Path(__file__).parents[1]
DIGITS = [sys.executable, str(ROOT / "examples" / "digits.py")]


def run(*flags):
    return subprocess.run([*DIGITS, *map(str, flags)], capture_output=True, text=True, timeout=300)


def check_png(path):
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size > 5000


def test_digits_learns_and_leaves_its_results(tmp_path):
    done = run("--epochs", 4, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"test accuracy 0\.\d{3}", last)
    assert float(last.split()[-1]) > 0.95
    assert "accuracy=" in done.stderr
    assert "loss=" in done.stderr
    check_png(tmp_path / "curves.png")
    check_png(tmp_path / "digits.png")
    params = fc.load(tmp_path / "digits.safetensors")
    assert params[0]["weight"].shape == (32, 1, 3, 3)
    assert params[10]["bias"].shape == (10,)
    saved = float(fc.load_metadata(tmp_path / "digits.safetensors")["test_accuracy"])
    assert abs(saved - float(last.split()[-1])) < 1e-3
    again = run("--epochs", 4, "--out", tmp_path / "again")
    assert again.stdout.splitlines()[-1] == last
    assert (tmp_path / "again" / "digits.safetensors").read_bytes() == (
        tmp_path / "digits.safetensors"
    ).read_bytes()


def write_folder(folder):
    """A tiny MNIST-format folder: class 0 is dark above, class 1 dark below."""
    folder.mkdir()
    for part, count in (("train", 64), ("t10k", 16)):
        labels = np.arange(count, dtype=np.uint8) % 2
        images = np.zeros((count, 8, 8), np.uint8)
        for i, label in enumerate(labels):
            images[i, 4 * label : 4 * label + 4] = 200 + i % 50
        for kind, x in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape)
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + x.tobytes()))


def test_digits_reads_an_mnist_folder(tmp_path):
    write_folder(tmp_path / "data")
    done = run("--data", tmp_path / "data", "--epochs", 4, "--batch-size", 8, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "64 pictures of 8x8 to train on, 16 to test with" in done.stdout
    assert done.stdout.splitlines()[-1] == "test accuracy 1.000"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--data", "nowhere"], "digits: read_mnist: nowhere is not a folder"),
        (["--epochs", "0"], "expected a whole number from 1 up, got 0"),
        (["--device", "tpu"], 'digits: to_device: expected "cpu", "cuda" or "cuda:N", got \'tpu\''),
        (["--out", "/proc/nowhere"], "digits: "),
        (["--lr", "-1"], "argument --lr: expected a number of 0 or more, got -1"),
        (["--momentum", "much"], "argument --momentum: invalid"),
    ],
)
def test_digits_refuses_bad_flags_in_one_line(tmp_path, flags, text):
    out = [] if "--out" in flags else ["--out", tmp_path]
    done = run(*flags, *out, "--epochs", 1) if "--epochs" not in flags else run(*flags, *out)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_cleanly_and_keeps_the_network(tmp_path):
    flags = ["--epochs", "2000", "--out", str(tmp_path)]
    process = subprocess.Popen([*DIGITS, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in iter(lambda: process.stderr.read(1), ""):
        if line == "=":  # the progress bar shows a loss: training is under way
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "steps; the network is kept as it is" in err
    assert out.splitlines()[-1].startswith("test accuracy ")
    assert (tmp_path / "digits.safetensors").exists()


def test_help_says_what_every_flag_does():
    text = run("--help").stdout
    for flag in ["--data", "--epochs", "--batch-size", "--lr", "--momentum", "--seed", "--out", "--device"]:
        assert flag in text
