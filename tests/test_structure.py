"""Structure of the package: few modules at its top, and none that is too long to be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fconv as fc

PACKAGE = Path(fc.__file__).parent
MOST_MODULES = 16


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
