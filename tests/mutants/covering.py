"""The lines that each test runs, so that a mutant meets only the tests that can see it."""

from __future__ import annotations

import ast
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.faults import ROOT, Mutant

PACKAGE = str(ROOT / "fconv") + os.sep


class Covering:
    """Lines of the library by test, each found in a process of its own.

    A process of its own has compiled no kernel yet: what writes a kernel is seen in every test that needs it.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "lines.json"
        self.lines: dict[str, dict[str, set[int]]] = {}
        self.seconds: dict[str, float] = {}

    def record(self, items: list[pytest.Item], quietly: Callable[[], None]) -> str:
        """Run the tests that were not run before; return the name of one that fails, or nothing."""
        for item in items:
            if item.nodeid in self.lines:
                continue
            begun = time.monotonic()
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                code = 70
                try:
                    quietly()
                    found: dict[str, set[int]] = {}
                    with Tracing(found):
                        reports = _protocol(item)
                    self.file.write_text(json.dumps({path: sorted(lines) for path, lines in found.items()}))
                    code = int(any(report.failed for report in reports))
                finally:
                    os._exit(code)
            if os.waitpid(child, 0)[1]:
                return item.nodeid
            self.seconds[item.nodeid] = time.monotonic() - begun
            found = json.loads(self.file.read_text())
            self.lines[item.nodeid] = {path: set(lines) for path, lines in found.items()}
        return ""

    def of(self, items: list[pytest.Item], mutant: Mutant, source: bytes) -> list[pytest.Item]:
        """Return the tests that run a mutant's statement; all of them where none does, as at import."""
        wanted = statement(source, mutant.start)
        return [i for i in items if wanted & self.lines.get(i.nodeid, {}).get(mutant.path, set())] or items


class Tracing:
    """Collect the lines of the library that all threads run."""

    def __init__(self, found: dict[str, set[int]]) -> None:
        self.found = found

    def __enter__(self) -> None:
        threading.settrace(self._call)
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def _call(self, frame, event, _):
        path = frame.f_code.co_filename
        if not path.startswith(PACKAGE):
            return None
        add = self.found.setdefault(path[len(str(ROOT)) + 1 :], set()).add
        add(frame.f_lineno)

        def line(frame, event, _):
            add(frame.f_lineno)
            return line

        return line


def _protocol(item: pytest.Item) -> list[pytest.TestReport]:
    """Run one test alone."""
    from _pytest.runner import runtestprotocol

    return runtestprotocol(item, nextitem=None, log=False)


@cache
def _statements(source: bytes) -> list[tuple[int, int]]:
    """List the first and the last line of all statements; of compound ones up to their body."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            found.append((node.lineno, max(node.lineno, body[0].lineno - 1) if body else node.end_lineno))
    return found


def statement(source: bytes, start: int) -> set[int]:
    """Return the lines of the statement that a byte is in."""
    line = source.count(b"\n", 0, start) + 1
    first, last = min(((a, b) for a, b in _statements(source) if a <= line <= b), key=lambda s: s[1] - s[0])
    return set(range(first, last + 1))
