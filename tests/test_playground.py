"""The Python part of the page that computes in the browser."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "playground"


def test_a_drawn_digit_is_recognised_and_shown(monkeypatch):
    datasets = pytest.importorskip("sklearn.datasets")
    monkeypatch.syspath_prepend(str(FOLDER))
    play = importlib.import_module("play")
    params = play.trained(epochs=8)
    digits = datasets.load_digits()
    shown = [play.look(params, image / 16) for image in digits.images[:20]]
    right = [
        np.argmax(one["probabilities"]) == label for one, label in zip(shown, digits.target, strict=False)
    ]
    assert np.mean(right) >= 0.8
    assert {name: np.shape(value) for name, value in shown[0].items()} == {
        "probabilities": (10,), "kernels": (8, 3, 3), "maps": (8, 8, 8), "gradient": (8, 8),
    }  # fmt: skip


def test_the_page_installs_the_version_that_there_is():
    import fconv as fc

    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert f"fconv_nn-{fc.__version__}-py3-none-any.whl" in page
