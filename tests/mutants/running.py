"""Runs of tests, one for each fault, in child processes."""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import json
import os
import pkgutil
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from tests.mutants.aims import CURVED, EXACT, PARTS, patterns_of, reason_for, reasons
from tests.mutants.covering import Covering
from tests.mutants.faults import ROOT, Mutant, is_python, mutants_of

BLOCKED = -1


def codes(source: bytes, path: str) -> list[CodeType]:
    """List the code of a module and of its functions."""
    found, queue = [], [compile(source, path, "exec", dont_inherit=True)]
    while queue:
        code = queue.pop()
        found.append(code)
        queue += [const for const in code.co_consts if isinstance(const, CodeType)]
    return found


@cache
def called_at_import() -> frozenset[tuple[str, str]]:
    """Find the functions that importing the library calls, by file and qualified name."""
    program = """
import pkgutil, sys
seen = set()
sys.setprofile(lambda frame, event, _: seen.add((frame.f_code.co_filename, frame.f_code.co_qualname)))
import fconv
for module in pkgutil.walk_packages(fconv.__path__, "fconv."):
    if ".cuda" not in module.name and "__main__" not in module.name:
        __import__(module.name)
sys.setprofile(None)
print(*(f"{file}|{name}" for file, name in seen if "fconv" in file), sep="\\n")
"""
    options = {
        "cwd": ROOT,
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
        "capture_output": True,
        "text": True,
    }
    lines = subprocess.run([sys.executable, "-c", program], check=True, **options).stdout.splitlines()
    return frozenset(tuple(line.split("|")) for line in lines)  # type: ignore[misc]


def exchange(path: str, before: bytes, after: bytes) -> bool:
    """Put the code of other source into an imported module's functions; False where import would differ."""
    old, new = codes(before, path), codes(after, path)
    if [code.co_qualname for code in old] != [code.co_qualname for code in new]:
        return False
    different = {a: b for a, b in zip(old, new, strict=True) if a != b}
    for a, b in different.items():
        changed = (a.co_code, a.co_names, plain(a)) != (b.co_code, b.co_names, plain(b))
        if changed and (a.co_name == "<module>" or (path, a.co_qualname) in called_at_import()):
            return False
    functions = [f for f in gc.get_objects() if type(f) is FunctionType and f.__code__ in different]
    for function in functions:
        function.__code__ = different[function.__code__]
    return bool(functions)


def plain(code: CodeType) -> list[object]:
    """List the constants of a function but for code."""
    return [const for const in code.co_consts if not isinstance(const, CodeType)]


def watched(child: int, limit: float) -> tuple[int, float]:
    """Wait for a child process; return its status, or BLOCKED, and its processor time.

    The system ends one that computes for too long. One is blocked that has not computed anything for as long,
    while neither it nor this process was stopped: other work on the machine makes no mutant count as caught.
    """
    computed, idle, before = 0.0, 0.0, time.monotonic()
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        now = time.monotonic()
        if not pid and idle < max(60, limit):
            latest, stopped = computing(child)
            passed = min(now - before, 0.1)  # no more after a stop of this process
            idle = 0.0 if latest > computed else idle + passed * (not stopped)
            computed, before = latest, now
            time.sleep(0.01)
            continue
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if not pid:
            usage = os.wait4(child, 0)[2]
            status = BLOCKED
        return status, usage.ru_utime + usage.ru_stime


def computing(process: int) -> tuple[float, bool]:
    """Return the processor time of all threads of a process, and whether it may not go on."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:  # the system has no such files
        return 0.0, False
    return float(fields[11]) + float(fields[12]), fields[0] in "TtR"


def allow(limit: float) -> None:
    """Let this process compute for so many seconds more, but not for longer than it may in all."""
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(most, int(time.process_time() + limit) + 1), most))


def set_apart(limit: float, log: Path) -> None:
    """Make a child process one that is quiet, and ends."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)


class Runner:
    """A plugin of pytest: in the place of the tests it runs them once for each mutant."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.failed, self.killers = given, "", Counter[str]()
        self.folder = Path(tempfile.mkdtemp())
        self.covering = Covering(self.folder)
        self.copy = self.folder / "copy"
        for name in ("fconv", "tests"):
            shutil.copytree(ROOT / name, self.copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.copy)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        try:
            campaign(self, session.items)
        finally:
            shutil.rmtree(self.folder)
        return True

    def ordered(self, items: list[pytest.Item], path: str, exact: bool) -> list[pytest.Item]:
        """Return the tests of a file in the order of the patterns."""
        places = {}
        for i, pattern in enumerate(patterns_of(path, exact)):
            for item in items:
                if re.search(pattern, item.nodeid):
                    places.setdefault(item.nodeid, (i, item))
        return [item for _, item in sorted(places.values(), key=lambda place: place[0])]

    def aimed(self, items: list[pytest.Item], mutant: Mutant, source: bytes) -> list[pytest.Item]:
        """Return those of the tests that run a mutant's lines, those first that catch most in a second."""
        found = self.covering.of(items, mutant, source)

        def slowness(item: pytest.Item) -> float:
            return (self.covering.seconds.get(item.nodeid, 1) + 0.05) / (self.killers[item.nodeid] + 0.3)

        return sorted(found, key=slowness)

    def prove(self, items: list[pytest.Item], path: str) -> None:
        """Run tests without a mutant, which must pass, and see which lines they reach."""
        begun, log = time.monotonic(), self.folder / "log.txt"
        failed = ""
        if not self.given.again:  # a few mutants meet all tests sooner
            failed = self.covering.record(items, lambda: set_apart(3600, log), alone=_alone(path))
        if failed:
            raise pytest.UsageError(f"without a mutant, {failed} fails:\n{log.read_text()}")
        print(f"{len(items)} tests of {path} in {time.monotonic() - begun:.0f} s", flush=True)

    def run(
        self, aimed: list[pytest.Item], items: list[pytest.Item], path: str, before: bytes, after: bytes
    ) -> tuple[str, float]:
        """Run the tests aimed at a mutant, or all where import differs; return what came of it, and when."""
        limit = self._limit(aimed)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 70
            try:
                set_apart(limit, self.folder / "log.txt")
                code = self._inside(aimed, path, before, after)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        status, spent = watched(child, limit)
        if status == BLOCKED:
            return said(status), spent
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 71:
            return self._imported(items, path, after)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 70:
            raise RuntimeError((self.folder / "log.txt").read_text())
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 1:
            self.killers[(self.folder / "killer.txt").read_text()] += 1
        return said(status), spent

    def _limit(self, items: list[pytest.Item]) -> float:
        """Return how long tests may compute: a multiple of what they do, and what is given besides."""
        return self.given.limit + 3 * sum(self.covering.seconds.get(item.nodeid, 1) for item in items)

    def _inside(self, items: list[pytest.Item], path: str, before: bytes, after: bytes) -> int:
        if before != after and not exchange(str(ROOT / path), before, after):
            return 71
        for item, following in zip(items, [*items[1:], None], strict=False):
            allow(self._limit([item]))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                (self.folder / "killer.txt").write_text(self.failed)
                return 1
        return 0

    def _imported(self, items: list[pytest.Item], path: str, after: bytes) -> tuple[str, float]:
        """Run tests in a copy of the tree, for what a mutant changes at import."""
        before = (self.copy / path).read_bytes()
        (self.copy / path).write_bytes(after)
        names = self.folder / "names.txt"
        names.write_text("\n".join(item.nodeid for item in items))
        options = ("-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider")
        limit = self._limit(items)
        try:
            process = subprocess.Popen(
                [sys.executable, *options, f"@{names}"],
                cwd=self.copy,
                env={**os.environ, "PYTHONPATH": str(self.copy)},
                preexec_fn=lambda: set_apart(limit, self.folder / "log.txt"),
            )
            status, spent = watched(process.pid, limit)
            process.returncode = 0  # it has been waited for
        finally:
            (self.copy / path).write_bytes(before)
        return said(status), spent


def _alone(path: str) -> bool:
    """Return whether the tests of a file have a process each."""
    return path.startswith("fconv/engine")


def said(status: int) -> str:
    """Put the status of a child process in words."""
    if status == BLOCKED:
        return "blocked"
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return "out of time" if name in ("SIGXCPU", "SIGKILL") else f"ended by {name}"
    return {0: "survived", 1: "failed", 4: "not imported"}.get(
        os.WEXITSTATUS(status), f"ended with {os.WEXITSTATUS(status)}"
    )


def drawn(
    given: argparse.Namespace, done: set[tuple[str, ...]]
) -> Iterator[tuple[Mutant, bytes, str | None]]:
    """Draw mutants that were not run before, with the source and the reason why one is equivalent."""
    again, known = None, reasons()
    if given.again:
        again = recorded(given.again, caught=False)
    paths = [f"fconv/{p}" for p in EXACT]
    if not given.exact:
        paths = [
            str(p.relative_to(ROOT)) for part in PARTS for p in sorted((ROOT / "fconv" / part).rglob("*.py"))
        ]
        paths = [p for p in paths if "/cuda/" not in p and "_gpu" not in p]  # which need a GPU
    paths = [p for p in paths if not given.paths or p.startswith(tuple(f"fconv/{g}" for g in given.paths))]
    sources = {path: (ROOT / path).read_bytes() for path in paths}
    every = {m.identity(sources[path]): m for path in paths for m in mutants_of(ROOT, path)}
    print(f"{len(every)} mutants of {len(paths)} files", flush=True)
    for name in sorted(every, key=lambda name: lot(given.seed, name)):
        mutant, source = every[name], sources[name[0]]
        if given.exact and CURVED.search(mutant.scope):
            continue
        if again is not None and name not in again:
            continue
        if name not in done and is_python(mutant.apply(source)):
            yield mutant, source, reason_for(mutant, source, known)


def lot(seed: int, name: tuple[str, ...]) -> bytes:
    """Draw a mutant's place in the order of all, which does not change with the rest of the code."""
    return hashlib.sha256("\n".join((str(seed), *name)).encode()).digest()


def recorded(log: str, *, caught: bool) -> set[tuple[str, ...]]:
    """Return the mutants of a log that were caught, or those that survived or were blocked."""
    records = [json.loads(line) for line in Path(log).read_text().splitlines()]
    return {named(r) for r in records if (r["result"] not in ("survived", "blocked")) == caught}


def named(record: dict[str, Any]) -> tuple[str, ...]:
    """Return the identity of a recorded mutant."""
    return tuple(record[field] for field in ("path", "scope", "before", "after"))


def campaign(runner: Runner, items: list[pytest.Item]) -> None:
    """Run mutants, and say what survived."""
    given, begun = runner.given, time.monotonic()
    for module in pkgutil.walk_packages(importlib.import_module("fconv").__path__, "fconv."):
        if ".cuda" not in module.name and "__main__" not in module.name:
            importlib.import_module(module.name)
    called_at_import()
    log = Path(given.log).absolute()
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    counts, proven = Counter[str](), set[tuple[str, ...]]()
    counts.update("survived" if r["result"] == "survived" else "caught" for r in records)
    taken_over = recorded(given.caught, caught=True) if given.caught else set()
    for mutant, source, reason in drawn(given, set(map(named, records))):
        run = counts["caught"] + counts["survived"]
        if run >= given.count or time.monotonic() - begun > 60 * given.minutes:
            break
        if reason is not None:
            counts["equivalent"] += 1
            continue
        result, spent = "failed", 0.0
        if mutant.identity(source) not in taken_over:
            tests = runner.ordered(items, mutant.path, given.exact)
            if not tests:
                raise pytest.UsageError(f"there are no tests of {mutant.path}")
            key = tuple(item.nodeid for item in tests)
            if key not in proven:
                runner.prove(tests, mutant.path)
                proven.add(key)
            aimed = runner.aimed(tests, mutant, source)
            result, spent = runner.run(aimed, tests, mutant.path, source, mutant.apply(source))
            if result == "survived" and len(aimed) < len(tests) and not _alone(mutant.path):
                # Tests that share a process may have found there what another had computed, and kept.
                result, spent = runner.run(tests, tests, mutant.path, source, mutant.apply(source))
        counts["survived" if result == "survived" else "caught"] += 1
        before, after = mutant.lines(source)
        record = {
            "path": mutant.path, "line": source.count(b"\n", 0, mutant.start) + 1, "scope": mutant.scope,
            "before": before, "after": after, "result": result, "seconds": round(spent, 1),
        }  # fmt: skip
        with log.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if result in ("survived", "blocked"):
            print(f"{result} after {spent:.0f} s in {mutant.scope}\n{mutant.diff(source)}", flush=True)
    run = counts["caught"] + counts["survived"]
    share = f"{counts['caught'] / max(1, run):.1%}"
    print(f"{counts['caught']} of {run} mutants caught ({share}); {counts['equivalent']} more are equivalent")
