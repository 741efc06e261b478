"""What the README shows runs as it stands there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import fconv as fc

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


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


def test_the_table_of_layers_is_whole():
    rows = set(re.findall(r"`([a-z_0-9]+)`", README.split("## Layers")[1].split("## ")[0]))
    assert set(fc.layers.__all__) <= rows
