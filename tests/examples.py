"""Parts that the tests of the examples share."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).parents[1] / "examples"
TRAINING = ["digits", "noise2noise", "super_resolution"]


class Done(NamedTuple):
    """Result of a run."""

    returncode: int
    stdout: str
    stderr: str


def command(name, *flags):
    return [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, flags)]


def runner(monkeypatch, capsys):
    """Make a function that runs an example in this process, as its command line would."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def call(name, *flags):
        code = 0
        try:
            importlib.import_module(name).main([str(flag) for flag in flags])
        except SystemExit as end:  # as Python ends a script: with a number, or by saying why
            code = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        return Done(code, *capsys.readouterr())

    return call


def results(folder):
    return json.loads((folder / "results.json").read_text())


def short(name, *flags, data=None):
    """Flags of a run of a few seconds; `data` is a folder of small pictures."""
    if name in ("digits", "own_layer"):
        return ["--epochs", 2, "--checkpoint-every", 10, *flags]
    few = ["--steps", 12, "--batch-size", 2, "--checkpoint-every", 5, "--data", data]
    return [*few, *(["--crop", 16] if name == "noise2noise" else ["--crop", 8]), *flags]


def final_states(folder):
    """Read the last checkpoint of each of a run's folders of checkpoints."""
    found = sorted(folder.rglob("checkpoints"))
    assert found
    return {path.relative_to(folder): max(path.glob("step-*.safetensors")).read_bytes() for path in found}
