"""The README's blocks run as they stand, and its figures and links are true."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_blocks_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    assert len(blocks) >= 3
    names: dict[str, object] = {"__name__": "readme"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    assert re.search(r"accuracy 0\.9\d", printed.getvalue())
    for test in [value for name, value in names.items() if name.startswith("test_") and callable(value)]:
        test()


def test_it_stays_short():
    assert len(README.splitlines()) <= 150


def test_its_figures_are_those_of_the_benchmarks():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| PyTorch, better order \| ([\d.]+) \| ([\d.]+) .*?\| ([\d.]+) .*?\| (\d+) of", page, re.M
    )
    shown = re.findall(r"^\| .*? \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|$", README, re.M)
    assert len(shown) == 4
    measured = {tuple(f"{float(value):.2f}" for value in row[:3]) for row in rows}
    assert set(shown) <= measured


def test_its_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
