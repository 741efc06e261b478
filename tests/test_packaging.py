"""What pyproject.toml says of versions is what tox tests."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOX = configparser.ConfigParser(interpolation=None)
TOX.read(ROOT / "tox.ini", encoding="utf-8")


def test_the_oldest_versions_tested_are_the_oldest_allowed():
    extras = PROJECT["optional-dependencies"]
    asked = [
        *PROJECT["dependencies"],
        *extras["test"],
        *extras["examples"],
        *extras["images"],
        *extras["jit"],
    ]
    allowed = {line.replace(">=", "==") for line in asked if not line.startswith("fconv[")}
    assert set(TOX["testenv:oldest"]["deps"].split()) == allowed
    assert TOX["testenv:oldest"]["base_python"] == f"python{PROJECT['requires-python'].removeprefix('>=')}"


def test_every_python_that_is_claimed_has_an_environment():
    claimed = {
        f"py{match[1]}{match[2]}"
        for line in PROJECT["classifiers"]
        if (match := re.fullmatch(r"Programming Language :: Python :: (\d)\.(\d+)", line))
    }
    assert len(claimed) >= 3
    assert claimed <= set(TOX["tox"]["envlist"].split(", "))
