"""Versions and environments agree: those of pyproject.toml, tox, the workflow, citation and changelog."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path

import pytest

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


@pytest.mark.skipif(not (ROOT / ".github").exists(), reason="an sdist has no workflow")
def test_the_workflow_calls_the_environments_of_ci_run():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    called = ",".join(re.findall(r"tox -q (?:-p 2 )?-e ([\w,-]+)$", script, re.M)).split(",")
    assert re.search(r"environment: \[(.*)\]", workflow)[1].split(", ") == called
    pythons = re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", workflow)[0])
    assert [f"Programming Language :: Python :: {version}" for version in pythons] == [
        line for line in PROJECT["classifiers"] if re.fullmatch(r".*:: \d\.\d+", line)
    ]
    assert set(called) <= {name.removeprefix("testenv:") for name in TOX.sections()}


def test_the_version_is_the_same_everywhere():
    version = re.search(r'"([\d.]+)"', (ROOT / "fconv" / "version.py").read_text(encoding="utf-8"))[1]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
