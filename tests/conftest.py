"""Settings of the tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from fconv.formats import mapping

mapping.SMALL = 0  # so that the small files of the tests are mapped too

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
# The default run draws the same examples every time; the slow one draws new ones, and more.
settings.register_profile("default", max_examples=40, derandomize=True, database=None, **COMMON)
settings.register_profile("slow", max_examples=600, **COMMON)
settings.load_profile(os.environ.get("FCONV_TEST_PROFILE", "default"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command fconv in a folder of its own."""
    from click.testing import CliRunner

    from fconv.cli import main

    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *args: runner.invoke(main, [str(arg) for arg in args], prog_name="fconv")
