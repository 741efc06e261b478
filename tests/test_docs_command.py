"""The page on the command shows what the command prints."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from fconv.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "command.md").read_text(encoding="utf-8")


def sessions(text):
    """Return commands and what is shown below each."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    checker, count = doctest.OutputChecker(), 0
    for kind, text in re.findall(r"^```(python|console)\n(.*?)^```", PAGE, re.M | re.S):
        if kind == "python":
            exec(compile(text, "command.md", "exec"), names)
            continue
        for command, shown in sessions(text):
            program, *args = shlex.split(command)
            assert program == "fconv"
            printed = CliRunner().invoke(main, args, prog_name="fconv").output
            assert checker.check_output(shown, printed, doctest.ELLIPSIS), f"{command}\n{printed}"
            count += 1
    assert count >= 9


def test_every_command_is_in_the_table():
    assert set(re.findall(r"^\| `fconv (\w+)", PAGE, re.M)) == set(main.commands)
