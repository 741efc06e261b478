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
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.faults import ROOT, Mutant

try:
    from coverage import Coverage
except ImportError:
    Coverage = None  # type: ignore[assignment, misc]

PACKAGE = str(ROOT / "fconv") + os.sep


class Covering:
    """Lines of the library by test.

    Tests of the engine run in a process of their own each, which has compiled no kernel yet: what writes a
    kernel is then seen in every test that needs it. The others share one.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "lines.json"
        self.lines: dict[str, dict[str, set[int]]] = {}
        self.seconds: dict[str, float] = {}

    def record(self, items: list[pytest.Item], quietly: Callable[[], None], *, alone: bool) -> str:
        """Run the tests that were not run before; return the name of one that fails, or nothing."""
        items = [item for item in items if item.nodeid not in self.lines]
        for some in [[item] for item in items] if alone else [items]:
            self.file.write_text("")
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                code = 70
                try:
                    quietly()
                    code = self._traced(some)
                finally:
                    os._exit(code)
            status = os.waitpid(child, 0)[1]
            for line in self.file.read_text().splitlines():
                name, self.seconds[name], found = json.loads(line)
                self.lines[name] = {path: set(lines) for path, lines in found.items()}
            if status:
                return next(item.nodeid for item in some if item.nodeid not in self.lines)
        return ""

    def _traced(self, items: list[pytest.Item]) -> int:
        """Run tests and write what they reach to the file, up to the first that fails."""
        with self.file.open("a") as file:
            for item in items:
                begun, found = time.process_time(), dict[str, set[int]]()
                with Tracing(found):
                    reports = runtestprotocol(item, nextitem=None, log=False)
                if any(report.failed for report in reports):
                    return 1
                reached = {path: sorted(lines) for path, lines in found.items()}
                file.write(json.dumps([item.nodeid, time.process_time() - begun, reached]) + "\n")
                file.flush()
        return 0

    def of(self, items: list[pytest.Item], mutant: Mutant, source: bytes) -> list[pytest.Item]:
        """Return the tests that run a mutant's statement; all of them where none does, as at import."""
        wanted = statement(source, mutant.start)
        return [i for i in items if wanted & self.lines.get(i.nodeid, {}).get(mutant.path, set())] or items


class Tracing:
    """Collect the lines of the library that all threads run; quickly where coverage is installed."""

    def __init__(self, found: dict[str, set[int]]) -> None:
        self.found = found
        self.quick: Any = None
        if Coverage:
            self.quick = Coverage(data_file=None, config_file=False, include=[f"{PACKAGE}*"], messages=False)
            self.quick._warn_no_data = False

    def __enter__(self) -> None:
        if self.quick:
            self.quick.start()
        else:
            threading.settrace(self._call)
            sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        if self.quick:
            self.quick.stop()
            data = self.quick.get_data()
            for path in data.measured_files():
                self.found[path[len(str(ROOT)) + 1 :]] = set(data.lines(path))
        else:
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
