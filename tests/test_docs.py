"""The documentation names everything that there is."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import fconv as fc
from fconv import functional as F
from fconv.onnx.operators import read_table, write_table

DOCS = Path(__file__).parents[1] / "docs"


def named_in(*pages):
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    return set(re.findall(r"`([a-z_0-9]+)[`(]", text))


def test_every_function_stands_in_the_tables_with_its_formula():
    functions = {name for name in F.__all__ if f"{name}_vjp" in F.__all__}
    assert functions <= named_in(*(DOCS / "functions").glob("*.md"))


def test_every_optimizer_and_schedule_stands_in_the_tables():
    optimizers = {name for name in fc.optimizers.__all__ if name.islower()}
    assert optimizers <= named_in(DOCS / "functions" / "optimizers.md")


def test_every_page_of_functions_is_linked():
    index = (DOCS / "functions" / "index.md").read_text(encoding="utf-8")
    for page in (DOCS / "functions").glob("*.md"):
        assert page.stem == "index" or re.search(rf"^{page.stem}$", index, re.M), page.stem


def test_the_reference_lists_every_public_name_under_a_subject(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    tables = importlib.import_module("names").tables()
    listed = [name for page in tables.values() for _, names in page for name in names]
    assert len(listed) == len(set(listed))
    derivatives = {name for name in F.__all__ if name.endswith(("_vjp", "_jvp"))}
    assert {f"fconv.functional.{name}" for name in set(F.__all__) - derivatives} <= set(listed)
    modules = {name for name in fc.__all__ if inspect.ismodule(getattr(fc, name))}
    assert {f"fconv.{name}" for name in set(fc.__all__) - modules - {"__version__"}} <= set(listed)


def test_tables_of_onnx_operators_are_those_of_the_code():
    """To refresh the page, put the output of `read_table` and `write_table` between its marks."""
    page = (DOCS / "onnx.md").read_text(encoding="utf-8")
    for what, table in (("read", read_table()), ("write", write_table())):
        assert f"<!-- {what}: begin -->\n\n{table}\n\n<!-- {what}: end -->" in page, what


def test_every_row_of_a_table_is_on_one_line():
    for page in (*DOCS.parent.glob("*.md"), *DOCS.glob("**/*.md")):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        assert not re.search(r"^\|.*[^|\s]\s*$", text, re.M), page
