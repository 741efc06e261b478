"""Tests of the tests: small faults are put into the code, one at a time, and the tests must catch them.

    python -m tests.mutants --count 500            # over engine, functional, optimizers, networks and torch
    python -m tests.mutants --exact --count 500    # vjps and kernels, under the exact tests alone
    python -m tests.mutants --again mutants.jsonl  # those that survived a run

A mutant exchanges an operator, a comparison, a constant or an instruction, drops a statement or turns a
condition. Tests are collected once; each mutant has a child process, in which the functions of a module get
the code of the mutant, so that the tree itself is never touched. Where a fault is none of a function's code
but of what happens at import, its tests run in a copy of the tree. Both have a limit on processor time. What
survives is printed with its diff. Mutants that no result can show are listed, with the reason, in
tests/data/equivalent_mutants.txt.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import gc
import importlib
import json
import os
import pkgutil
import random
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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType

import pytest

ROOT = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).parent / "data" / "equivalent_mutants.txt"

PARTS = ("engine", "functional", "optimizers", "networks", "torch")
EXACT = (  # vjps of linear functions, and the kernels of convolutions
    *(f"engine/{name}.py" for name in ("plans", "reference", "runs", "winograd_matrices")),
    *(f"engine/cpu/{name}.py" for name in (
        "convolution", "depthwise", "direct", "filters", "planar", "tiles", "winograd")),
    *(f"engine/compiled/{name}.py" for name in (
        "choosing", "convolution", "correlate", "few", "filters", "heavy", "heavy_winograd", "micro",
        "packing", "planes", "positions", "shapes", "transforms", "weights", "winograd")),
    *(f"functional/{name}.py" for name in (
        "affine", "convolution", "convolution_transpose", "padding", "pooling_avg", "rearranging",
        "shape", "slicing", "taps", "unfolding", "unpooling", "products", "resampling")),
)  # fmt: skip
UNSEEN = ("strict", "cost", "optimize")  # options that only guard, or say how long something may take
CURVED = re.compile(r"lp_pool|_lp|pow|max_pool|\(guard\)|check_|_(shape|size|pairs|part)$")
"""Scopes in these files that are neither linear functions nor kernels, such as checks of arguments."""
CONVOLUTIONS = r"test_adjoint.*convolutions"
TESTS = {
    "engine/compiled/pooling": ["test_compiled_pooling", "test_adjoint.*compiled.*pool"],
    "engine/compiled/resample": ["test_resampled", "test_adjoint.*compiled.*interpolate"],
    "engine/compiled/segments": ["test_segments", "test_formulas", "test_losses", "test_norms"],
    "engine/compiled/formulas": ["test_formulas", "test_segments", "test_channels", "test_optimizers"],
    "engine/compiled/transcendental": ["test_formulas", "test_segments"],
    "engine/compiled/channels": ["test_channels", "test_formulas", "test_norms"],
    "engine/compiled/pool": ["test_compiled.py", "test_engine.*compiled"],
    "engine/compiled": [f"{CONVOLUTIONS}.*compiled", "test_engine.*compiled", "test_compiled.py"],
    "engine/cpu": [f"{CONVOLUTIONS}.*numpy", "test_engine.*numpy"],
    "engine/sweeps": ["test_segments", "test_norms", "test_losses"],
    "engine": [CONVOLUTIONS, "test_engine", "test_compiled.py"],
    "functional/convolution": [CONVOLUTIONS, "test_functions.*conv"],
    "functional/affine": ["test_adjoint.*(linear_maps|linear])", "test_functions.*linear", "test_errors"],
    "functional/taps": [
        "test_adjoint.*taps", "test_adjoint.*(pad|interpolate|adaptive)",
        "test_functions.*(pad|interpolate|adaptive)",
    ],
    "functional/core": [
        "test_functions.*(linear|tanh|dropout|conv1d|where|nll_loss)", "test_float16", "test_mistakes",
    ],
    "functional/elementwise": [
        "test_functions.*(tanh|gelu|softplus|exp|sin)", "test_formulas", "test_pieces",
    ],
    "functional": ["test_functions", "test_errors"],
    "optimizers": ["test_optimizers", "test_mixed_precision", "test_training", "test_freezing"],
    "networks": [
        "test_networks", "test_wiring", "test_merges", "test_outputs", "test_showing", "test_freezing",
        "test_inference", "test_blocks", "test_mistakes", "test_layers",
    ],
    "torch": ["parity/test_traced", "parity/test_networks", "parity/test_models", "parity/test_exported"],
}  # fmt: skip
"""Patterns of a module's tests, in order: those of the longest prefix."""

COMPARED = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"),
}  # fmt: skip
COMPUTED = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "//"), ast.Pow: ("**", "*"), ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.MatMult: ("@", "*"),
}  # fmt: skip
CALLED = {
    "min": "max", "max": "min", "all": "any", "any": "all", "least": "most", "most": "least",
    "minimum": "maximum", "maximum": "minimum", "floor": "ceil", "ceil": "floor", "zeros": "ones",
    "zeros_like": "ones_like", "sum": "max", "argmax": "argmin", "sqrt": "abs", "exp": "abs",
}  # fmt: skip
INSTRUCTIONS = {
    "slt": "sle", "sgt": "sge", "eq": "ne", "olt": "ole", "ogt": "oge", "fadd": "fsub", "fsub": "fadd",
    "fmul": "fadd", "fdiv": "fmul", "add": "sub", "sub": "add", "mul": "add", "sdiv": "mul", "srem": "sdiv",
    "shl": "lshr", "ashr": "shl",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One fault: what stands from byte `start` to `stop` of a file is replaced."""

    path: str
    start: int
    stop: int
    text: str
    scope: str  # the function, or the constant of the module, that it is in

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.stop :]

    def diff(self, source: bytes) -> str:
        before, after = (s.decode().splitlines(keepends=True) for s in (source, self.apply(source)))
        return "".join(difflib.unified_diff(before, after, self.path, self.path, n=1))

    def lines(self, source: bytes) -> tuple[str, str]:
        """Return the line that is changed, before and after."""
        return tuple(
            s[s.rfind(b"\n", 0, self.start) + 1 :].split(b"\n", 1)[0].decode().strip()
            for s in (source, self.apply(source))
        )  # type: ignore[return-value]


class _Finder(ast.NodeVisitor):
    """Find the places of a module where it can be mutated; texts of errors and annotations are left alone."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source, self.found, self._scope = path, source, list[Mutant](), ""
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self.visit(ast.parse(source))

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[node.end_lineno - 1] + node.end_col_offset,
        )  # type: ignore[attr-defined]

    def _replace(self, node: ast.AST, text: str) -> None:
        self._add(*self._span(node), text)

    def _add(self, start: int, stop: int, text: str) -> None:
        self.found.append(Mutant(self.path, start, stop, text, self._scope))

    def _text(self, node: ast.AST) -> str:
        start, stop = self._span(node)
        return self.source[start:stop].decode()

    def _between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Exchange an operator that stands between two expressions."""
        start, stop = self._span(left)[1], self._span(right)[0]
        at = self.source.find(old.encode(), start, stop)
        if at >= 0:
            self._add(at, at + len(old), new)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self._within(node)

    def _within(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        outer = self._scope
        self._scope = f"{outer}.{node.name}" if outer else node.name
        self._body(node.body)
        self._scope = outer

    def _body(self, body: list[ast.stmt]) -> None:
        for statement in body:
            documents = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not documents:
                self.visit(statement)

    def visit_Module(self, node: ast.Module) -> None:
        self._body(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._within(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        outer, self._scope = self._scope, self._scope or " ".join(names)
        if "__all__" not in names:
            self.generic_visit(node)
        self._scope = outer

    def visit_If(self, node: ast.If) -> None:
        if self._text(node.test) != "TYPE_CHECKING":
            outer = self._scope
            self._scope += " (guard)" if isinstance(node.body[0], ast.Raise) else ""
            self._turn(node.test)
            self.visit(node.test)
            self._scope = outer
            self._visit_all(node.body)
            self._visit_all(node.orelse)

    def _visit_all(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._turn(node.test)
        self.generic_visit(node)

    def _turn(self, test: ast.expr) -> None:
        """Turn a condition; a comparison or a negation is turned where it is visited."""
        if not isinstance(test, (ast.Compare, ast.UnaryOp)):
            self._replace(test, f"(not ({self._text(test)}))")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._replace(node, "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "pass")
        if type(node.op) in COMPUTED:
            self._between(node.target, node.value, *COMPUTED[type(node.op)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        words = any(
            isinstance(side, ast.JoinedStr)
            or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in (node.left, node.right)
        )
        if type(node.op) in COMPUTED and not words:
            self._between(node.left, node.right, *COMPUTED[type(node.op)])
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, op, right in zip((node.left, *node.comparators), node.ops, node.comparators, strict=False):
            self._between(left, right, *COMPARED[type(op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        self._between(node.values[0], node.values[1], old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.USub, ast.Not)) and not isinstance(node.operand, ast.Constant):
            self._replace(node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in CALLED:
            stop = self._span(node.func)[1]
            self._add(stop - len(name), stop, CALLED[name])
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in UNSEEN:
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Exchange the instruction that begins a line of LLVM's language."""
        first = node.values[0] if node.values else None
        if isinstance(first, ast.Constant) and (word := str(first.value).split(" ", 1)[0]) in INSTRUCTIONS:
            at = self.source.find(word.encode(), *self._span(node))
            self._add(at, at + len(word), INSTRUCTIONS[word])

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int):
            self._replace(node, str(node.value + 1))
        elif isinstance(node.value, float):
            self._replace(node, repr(node.value * 2 if node.value else 1.0))
        elif node.value in INSTRUCTIONS:
            self._replace(node, repr(INSTRUCTIONS[node.value]))


def mutants_of(root: Path, path: str) -> list[Mutant]:
    """List the mutants of a file."""
    return list(dict.fromkeys(_Finder(path, (root / path).read_bytes()).found))


def is_python(source: bytes) -> bool:
    """Return whether a mutant is Python."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def reasons() -> list[tuple[str, str, str, str]]:
    """Read the list of equivalent mutants: file, line or scope, line after or "", reason.

    A block is a reason and then, for each file (``@ file``), functions or constants (``* name``) all of whose
    mutants are equivalent, lines (``- line``), and lines before and after (``- line``, ``+ line``).
    """
    found: list[tuple[str, str, str, str]] = []
    for block in EQUIVALENT.read_text(encoding="utf-8").split("\n\n"):
        reason, path = "", ""
        for line in block.strip().splitlines():
            kind, text = line[:2], line[2:].strip()
            if kind == "@ ":
                path = text
            elif kind in ("* ", "- "):
                found.append((path, text, "", reason))
            elif kind == "+ ":
                found[-1] = (path, found[-1][1], text, reason)
            else:
                reason = f"{reason} {line}".strip()
    return found


def reason_for(mutant: Mutant, source: bytes, known: list[tuple[str, str, str, str]]) -> str | None:
    """Return why a mutant is equivalent; None where it is not listed."""
    before, after = mutant.lines(source)
    for path, what, then, reason in known:
        same = what == before and then in ("", after)
        if path == mutant.path and (same or what in (mutant.scope, mutant.scope.split(".")[0])):
            return reason
    return None


@cache
def public_names(root: Path, path: str) -> tuple[str, ...]:
    """List the functions that a file of `fconv.functional` defines, or those of the files that use it."""
    text = (root / path).read_text(encoding="utf-8")
    names = (
        tuple(ast.literal_eval(text.split("__all__ = ", 1)[1].split("]", 1)[0] + "]"))
        if "__all__ = [" in text
        else ()
    )
    names = tuple(name for name in names if not name.endswith("_vjp"))
    if names:
        return names
    module = path.removesuffix(".py").replace("/", ".")
    users = [p for p in (root / "fconv/functional").glob("*.py") if p.stem != "__init__" and
             module in p.read_text(encoding="utf-8") and str(p.relative_to(root)) != path]  # fmt: skip
    return tuple(dict.fromkeys(n for p in users for n in public_names(root, str(p.relative_to(root)))))


def patterns_of(path: str, exact: bool) -> list[str]:
    """Return patterns of the tests of a file."""
    inner = path.removeprefix("fconv/").removesuffix(".py")
    found = TESTS[max((p for p in TESTS if inner.startswith(p)), key=len)]
    names = public_names(ROOT, path) if found == TESTS["functional"] else ()
    if names and len(names) < 40:
        alone = f"(?<![a-z0-9_])({'|'.join(names)})(?![a-z0-9_])"
        found = [f"test_adjoint.*{alone}", f"test_functions.*{alone}", "test_errors"]
    return [p for p in found if "test_adjoint" in p] if exact else found


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
    functions = [f for f in gc.get_objects() if isinstance(f, FunctionType) and f.__code__ in different]
    for function in functions:
        function.__code__ = different[function.__code__]
    return bool(functions)


def plain(code: CodeType) -> list[object]:
    """List the constants of a function but for code."""
    return [const for const in code.co_consts if not isinstance(const, CodeType)]


def watched(child: int, limit: float) -> tuple[int, float]:
    """Wait for a child process, and end it where it takes too long; return its status and the time."""
    start = time.monotonic()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if not pid and time.monotonic() - start < 6 * limit:  # more: it is blocked
            time.sleep(0.01)
            continue
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if not pid:
            os.waitpid(child, 0)
            status = int(signal.SIGXCPU)
        return status, time.monotonic() - start


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
        """Return the tests of a file: those first that caught most, then in the order of the patterns."""
        places = {}
        for i, pattern in enumerate(patterns_of(path, exact)):
            for item in items:
                if re.search(pattern, item.nodeid):
                    places.setdefault(item.nodeid, (i, item))
        found = sorted(places.values(), key=lambda place: (-self.killers[place[1].nodeid], place[0]))
        return [item for _, item in found]

    def run(self, items: list[pytest.Item], path: str, before: bytes, after: bytes) -> tuple[str, float]:
        """Run tests of one mutant; return what came of them and the time."""
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 70
            try:
                set_apart(self.given.limit, self.folder / "log.txt")
                code = self._inside(items, path, before, after)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        status, spent = watched(child, self.given.limit)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 71:
            return self._imported(items, path, after)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 1:
            self.killers[(self.folder / "killer.txt").read_text()] += 1
        return said(status), spent

    def _inside(self, items: list[pytest.Item], path: str, before: bytes, after: bytes) -> int:
        if before != after and not exchange(str(ROOT / path), before, after):
            return 71
        for item, following in zip(items, [*items[1:], None], strict=False):
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
        try:
            process = subprocess.Popen(
                [sys.executable, *options, f"@{names}"],
                cwd=self.copy,
                env={**os.environ, "PYTHONPATH": str(self.copy)},
                preexec_fn=lambda: set_apart(self.given.limit, self.folder / "log.txt"),
            )
            status, spent = watched(process.pid, self.given.limit)
            process.returncode = 0  # it has been waited for
        finally:
            (self.copy / path).write_bytes(before)
        return said(status), spent


def said(status: int) -> str:
    """Put the status of a child process in words."""
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return "out of time" if name in ("SIGXCPU", "SIGKILL") else f"ended by {name}"
    return {0: "survived", 1: "failed", 4: "not imported"}.get(
        os.WEXITSTATUS(status), f"ended with {os.WEXITSTATUS(status)}"
    )


def drawn(
    given: argparse.Namespace, done: set[tuple[str, int, str]]
) -> Iterator[tuple[Mutant, bytes, str | None]]:
    """Draw mutants that were not run before, with the source and the reason why one is equivalent."""
    again, known = None, reasons()
    if given.again:
        records = [json.loads(line) for line in Path(given.again).read_text().splitlines()]
        again = {(r["path"], r["before"], r["after"]) for r in records if r["result"] == "survived"}
    paths = [f"fconv/{p}" for p in EXACT]
    if not given.exact:
        paths = [
            str(p.relative_to(ROOT)) for part in PARTS for p in sorted((ROOT / "fconv" / part).rglob("*.py"))
        ]
        paths = [p for p in paths if "/cuda/" not in p and "_gpu" not in p]  # which need a GPU
    paths = [p for p in paths if not given.paths or p.startswith(tuple(f"fconv/{g}" for g in given.paths))]
    every = [mutant for path in paths for mutant in mutants_of(ROOT, path)]
    print(f"{len(every)} mutants of {len(paths)} files", flush=True)
    random.Random(given.seed).shuffle(every)
    sources = {path: (ROOT / path).read_bytes() for path in paths}
    for mutant in every:
        source = sources[mutant.path]
        if given.exact and CURVED.search(mutant.scope):
            continue
        if again is not None and (mutant.path, *mutant.lines(source)) not in again:
            continue
        if (mutant.path, mutant.start, mutant.text) not in done and is_python(mutant.apply(source)):
            yield mutant, source, reason_for(mutant, source, known)


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
    for mutant, source, reason in drawn(given, {(r["path"], r["start"], r["text"]) for r in records}):
        run = counts["caught"] + counts["survived"]
        if run >= given.count or time.monotonic() - begun > 60 * given.minutes:
            break
        if reason is not None:
            counts["equivalent"] += 1
            continue
        tests = runner.ordered(items, mutant.path, given.exact)
        key = tuple(sorted(item.nodeid for item in tests))
        if not tests:
            raise pytest.UsageError(f"there are no tests of {mutant.path}")
        if key not in proven:
            result, spent = runner.run(tests, mutant.path, source, source)
            print(
                f"{len(tests)} tests of {mutant.path} without a mutant: {result} in {spent:.0f} s", flush=True
            )
            if result != "survived":
                log = (runner.folder / "log.txt").read_text()
                raise pytest.UsageError(f"they fail without a mutant:\n{log}")
            proven.add(key)
        result, spent = runner.run(tests, mutant.path, source, mutant.apply(source))
        counts["survived" if result == "survived" else "caught"] += 1
        before, after = mutant.lines(source)
        record = {
            "path": mutant.path, "start": mutant.start, "text": mutant.text, "scope": mutant.scope,
            "before": before, "after": after, "result": result, "seconds": round(spent, 1),
        }  # fmt: skip
        with log.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if result == "survived":
            print(f"survived after {spent:.0f} s in {mutant.scope}\n{mutant.diff(source)}", flush=True)
    run = counts["caught"] + counts["survived"]
    share = f"{counts['caught'] / max(1, run):.1%}"
    print(f"{counts['caught']} of {run} mutants caught ({share}); {counts['equivalent']} more are equivalent")


def main() -> int:
    """Read the options and collect the tests."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=500, help="how many to run (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--exact", action="store_true", help="vjps and kernels under tests/test_adjoint.py alone"
    )
    parser.add_argument("--paths", nargs="*", default=[], help="only files that begin so, such as engine/cpu")
    parser.add_argument(
        "--limit", type=float, default=60, help="seconds of processor time for one (default 60)"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no mutant after so many")
    parser.add_argument("--log", default="mutants.jsonl", help="a line each; those in it are not run again")
    parser.add_argument("--again", metavar="LOG", help="run those again that survived in a log")
    given = parser.parse_args()
    os.environ.update(FCONV_TEST_PROFILE="mutants", MPLBACKEND="Agg", PYTHONDONTWRITEBYTECODE="1")
    parts = {p.split("/")[0] for p in given.paths} or set(PARTS)
    patterns = [p for name, each in TESTS.items() if name.split("/")[0] in parts for p in each]
    names = {"test_adjoint"}
    if not given.exact:
        names |= {re.match(r"(?:parity/)?[a-z_]+[a-z]", p)[0] for p in patterns} | {"test_functions"}  # type: ignore[index]
    files = sorted({str(p) for name in names for p in Path("tests").glob(f"{name}*.py")})
    options = ["-q", "-s", "-p", "no:cacheprovider"]
    return int(pytest.main([*options, *files], plugins=[Runner(given)]))


if __name__ == "__main__":
    raise SystemExit(main())
