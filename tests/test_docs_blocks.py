"""The Python blocks of the how-to guides run as they stand, and every `fc.name` in the pages exists."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = [path for path in sorted((DOCS / "howto").glob("*.md")) if path.stem != "index"]


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the page on NaN makes one
def test_the_blocks_of_a_guide_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block, page.name, "exec"), names)


def test_names_in_the_pages_exist():
    bases = {"fc": "fconv", "F": "fconv.functional"}
    later = {"jvp", "per_example_gradients", "distributed"}  # of the contract, where they are there
    wrong = []
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        if "_build" in page.parts:
            continue
        for base, dotted in re.findall(r"\b(fc|F)((?:\.[a-z_]\w*)+)", page.read_text(encoding="utf-8")):
            value, names = importlib.import_module(bases[base]), dotted.split(".")[1:]
            if (
                names[0] in {*later, "weight"}
                or names[0].startswith("name")
                or (base, page.stem) == ("F", "chainer")
            ):
                continue
            for name in names[:2]:
                if not hasattr(value, name):
                    wrong.append(f"{page.name}: {base}{dotted}")
                    break
                value = getattr(value, name)
    assert not wrong
