"""Structure of the package: few modules at its top, none too long to be read, imports that run one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import fconv as fc

PACKAGE = Path(fc.__file__).parent
MOST_MODULES = 16
FOR_TYPES_ALONE = {  # imported under TYPE_CHECKING, which never runs
    ("fconv.contract", "fconv.layer"): "a layer is wired of steps, and a step holds a layer",
    ("fconv.engine.compiled.machine", "fconv.engine.compiled.llvm"): "annotates an argument",
}


def test_the_top_level_holds_few_modules():
    modules = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(modules) <= MOST_MODULES, modules


def test_completion_offers_public_names_alone():
    code = "import fconv; print(*(n for n in dir(fconv) if not hasattr(fconv, n)), *dir(fconv))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    offered = done.stdout.split()
    assert set(offered) == {*fc.__all__, "layers", "losses", "networks", "optimizers"}
    assert len(offered) == len(set(offered))  # one that is not there would stand twice
    assert {"data", "from_onnx", "models", "testing", "to_onnx"} <= set(offered)


def test_no_file_is_too_long_or_too_short():
    alone = {
        "version.py",
        "onnx/library.py",
        "engine/winograd_matrices.py",
    }  # read by several, of no other kin
    lines = {
        str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert not {name: n for name, n in lines.items() if n > 400}
    short = {
        name for name, n in lines.items() if n < 40 and not name.endswith(("__init__.py", "__main__.py"))
    }
    assert short <= alone


def imported(path: Path, package: str, known: set[str]) -> Iterator[str]:
    """Yield the modules of the package that a file imports anywhere, functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from (
                each if (each := f"{node.module}.{alias.name}") in known else node.module
                for alias in node.names
                if node.module.partition(".")[0] == package
            )
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def imports() -> dict[str, set[str]]:
    """Map each module of the package to those that it imports."""
    files = {
        ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    known = set(files)
    return {name: set(imported(path, PACKAGE.name, known)) - {name} for name, path in files.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_imports_run_one_way():
    graph = imports()
    assert len(graph) > 300
    for importing, other in FOR_TYPES_ALONE:
        graph[importing] -= {other}
    assert not circle(graph)

    # Folders too: what a folder stands on does not stand on it. The files at the top are the ground of all.
    folders: dict[str, set[str]] = {}
    for name, others in graph.items():
        into = {".".join(each.split(".")[:2]) for each in others}
        folders.setdefault(".".join(name.split(".")[:2]), set()).update(into)
    assert not circle({name: others - {name} for name, others in folders.items() if name != "fconv"})
