"""Settings of the tests."""

from __future__ import annotations

import inspect
import os
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from PIL import Image

from fconv.files.formats import mapping

collect_ignore = [] if find_spec("onnx") else ["fuzz/models.py"]  # collected for its docstrings

mapping.SMALL = 0  # so that the small files of the tests are mapped too

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
# The default run draws the same examples every time; the slow one draws new ones, and more;
# tests.mutants runs them hundreds of times.
settings.register_profile("default", max_examples=16, derandomize=True, database=None, **COMMON)
settings.register_profile(
    "mutants",
    max_examples=8,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # that a test fails is enough
    **COMMON,
)
settings.register_profile("slow", max_examples=600, **COMMON)
settings.load_profile(os.environ.get("FCONV_TEST_PROFILE", "default"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command fconv in a folder of its own."""
    from click.testing import CliRunner

    from fconv.cli import main

    monkeypatch.chdir(tmp_path)
    # Until 8.2, click mixed stderr into stdout unless told otherwise.
    old = "mix_stderr" in inspect.signature(CliRunner).parameters
    runner = CliRunner(**({"mix_stderr": False} if old else {}))
    return lambda *args: runner.invoke(main, [str(arg) for arg in args], prog_name="fconv")


@pytest.fixture
def image():
    """The module of Pillow's pictures."""
    return pytest.importorskip("PIL.Image", reason="pictures need Pillow")


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Five small pictures with something in them, a corrupt one and one that is too small."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for i in range(5):
        coarse = draw.integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(folder / f"p{i}.png")
    (folder / "cut.png").write_bytes((folder / "p0.png").read_bytes()[:300])
    Image.new("RGB", (5, 5)).save(folder / "tiny.png")
    return folder
