"""The versions in pyproject.toml are those that tox tests."""

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
    allowed = {line.replace(">=", "==") for line in asked if not line.startswith("fconv-nn[")}
    assert set(TOX["testenv:oldest"]["deps"].split()) == allowed
    assert TOX["testenv:oldest"]["base_python"] == f"python{PROJECT['requires-python'].removeprefix('>=')}"


def test_nothing_tells_to_install_the_package_of_that_name_on_pypi():
    assert PROJECT["name"] == "fconv-nn"
    pages = [ROOT / "README.md", ROOT / "pyproject.toml", ROOT / "tox.ini", *(ROOT / "docs").rglob("*.md")]
    sources = [*(ROOT / "fconv").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    wrong = re.compile(r"pip install (-\S+ )*['\"]?fconv(?!-nn)|\bfconv\[")
    assert wrong.search("pip install -q fconv")
    assert wrong.search("pip install 'fconv[jit]'")
    for path in [*pages, *sources]:
        assert not wrong.search(path.read_text(encoding="utf-8")), path


def test_every_python_that_is_claimed_has_an_environment():
    claimed = {
        f"py{match[1]}{match[2]}"
        for line in PROJECT["classifiers"]
        if (match := re.fullmatch(r"Programming Language :: Python :: (\d)\.(\d+)", line))
    }
    assert len(claimed) >= 3
    assert claimed <= set(TOX["tox"]["envlist"].split(", "))
