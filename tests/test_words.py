"""Plain technical English: words that are not used, and what to write; first words of docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ["fconv", "examples", "benchmarks", "tests", "docs"]
OURS = Path(__file__)

# A pattern, and what to write instead.
WORDS = {
    r"whole numbers?\b": "integer",
    r"\btruth values?\b": "boolean",
    r"\b(its|the|whose|an|file|unknown) endings?\b(?! (of|in)\b)": "file extension, suffix",
    r"\bthreads? takes? (fewer |more )?turns\b": "GIL",
    r"\binterpreter's lock\b": "GIL",
    r"\b(first|second|third) level of (the )?cache\b": "L1, L2 or L3 cache",
    r"\bin the mean\b": "on average",
    r"\banew\b": "again, or a verb with re-",
    r"\brightly\b": "correctly",
    r"\ball else\b": "everything else, otherwise",
    r"\brestless\b": "total variation",
    r"\b(picture|file|name)s? endings?\b(?! in\b)": "file extension, suffix",
    # An entry stands in a list, a dict or a table.
    r"\b(axes of one|ax[ei]s of no|ax[ei]s of more than one) entr(y|ies)\b": "element of an array",
    r"\b(input|output|padded|array) entr(y|ies)\b": "element of an array",
}
FIRST = {
    "What",
    "Which",
    "How",
    "Where",
    "Who",
    "Why",
    "Whether",
    "Give",
    "Gives",
    "Tell",
    "Tells",
    "Say",
    "Says",
}


def texts():
    """Yield the path and text of everything that is read by people."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            generated = "_build" in path.parts or path.is_relative_to(ROOT / "docs" / "reference" / "api")
            if path.suffix in (".py", ".md") and not generated and path != OURS:
                yield path, path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("*.md")):
        yield path, path.read_text(encoding="utf-8")


def test_words_that_are_not_used():
    wrong = []
    for path, text in texts():
        flat = re.sub(r"\s*\n[\s#]*", " ", text)  # a phrase may stand on two lines
        for pattern, instead in WORDS.items():
            wrong += [
                f"{path.relative_to(ROOT)}: {flat[max(found.start() - 30, 0) :][:70]}: write {instead}"
                for found in re.finditer(pattern, flat, re.I)
            ]
    assert not wrong, "\n".join(wrong)


def test_docstrings_begin_with_what_is_done():
    wrong = []
    for path, text in texts():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                first = (ast.get_docstring(node) or "").split(maxsplit=1)[:1]
                if first and first[0] in FIRST:
                    wrong.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {first[0]}")
    assert not wrong, "\n".join(wrong)


def test_the_patterns_find_what_they_are_for():
    examples = [
        "a whole number",
        "the threads take turns",
        "in the third level of cache",
        "Its ending names it",
        "axes of one entry",
    ]
    for text in examples:
        assert any(re.search(pattern, text, re.I) for pattern in WORDS), text
    assert not any(re.search(pattern, "a name ending in .pt", re.I) for pattern in WORDS)
