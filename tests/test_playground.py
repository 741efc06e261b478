"""The page that computes in the browser: its Python part, the files beside it, and fconv without fcntl."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_a_drawn_digit_is_recognised_and_shown(monkeypatch, tmp_path):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    monkeypatch.syspath_prepend(str(DOCS / "playground"))
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    importlib.import_module("playground").write(DOCS, tmp_path)
    play = importlib.import_module("play")
    *_, (params, accuracy) = play.training(str(tmp_path / "digits.npz"), epochs=8)
    assert accuracy >= 0.8
    shown = play.look(params, digits.images[0] / 16)
    assert np.argmax(shown["probabilities"]) == digits.target[0]
    assert {name: np.shape(value) for name, value in shown.items()} == {
        "probabilities": (10,), "kernels": (8, 3, 3), "maps": (8, 8, 8), "gradient": (8, 8),
    }  # fmt: skip


def test_the_archive_beside_the_page_suffices(monkeypatch, tmp_path):
    """It trains and saves without SciPy, click and fcntl, which the page does not load."""
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    importlib.import_module("playground").write(DOCS, tmp_path)
    zipfile.ZipFile(tmp_path / "python.zip").extractall(tmp_path)
    code = """
import sys, threadpoolctl, numpy as np, os
sys.platform = "emscripten"
for name in ("fcntl", "scipy", "click", "llvmlite"):
    sys.modules[name] = None
import fconv as fc, opt_einsum, play
assert {os.path.dirname(os.path.dirname(module.__file__)) for module in (fc, opt_einsum)} == {os.getcwd()}
params, accuracy = next(play.training())
fc.save("net.pt", fc.to_state_dict(params))
x, t = np.zeros((8, 1, 8, 8), np.float32), np.zeros(8, int)
for _ in range(2):
    fc.fit(play.NET, fc.cross_entropy_loss(), fc.sgd(0.1), (x, t), epochs=2, key=fc.random.key(0),
           progress=False, checkpoint=fc.Checkpointer("run"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
