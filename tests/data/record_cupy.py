"""Record the names and signatures that CuPy has, for the stand-in of the tests.

    pip install cupy-cuda12x && python tests/data/record_cupy.py

CuPy imports without a GPU. With --check nothing is written; what differs is said, and the exit status is 1.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from pathlib import Path

PATH = Path(__file__).parent / "cupy.json"
MODULES = ["cupy", "cupy.cuda", "cupy.cuda.memory", "cupy.cuda.runtime", "cupy.lib.stride_tricks",
           "cupy.linalg", "cupyx", "cupyx.scipy.special"]  # fmt: skip


def parameters(thing):
    """Return the names of the parameters, stars included; None where they are not told."""
    try:
        found = inspect.signature(thing).parameters.values()
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        return [stars.get(p.kind, "") + p.name for p in found if p.name != "self"]
    except (ValueError, TypeError):
        # Compiled functions have theirs in the first line of the docstring.
        said = re.match(r"[\w.]+\((.*)\)", (thing.__doc__ or "").split("\n")[0])
        if not said:
            return None
        names = [part.strip().split("=")[0].split(" ")[-1].split(":")[0] for part in said[1].split(",")]
        return [name for name in names if name and name != "self"]


def kind(thing):
    """Describe a member of a module."""
    if type(thing).__name__ == "ufunc":
        return "ufunc"
    if inspect.isclass(thing) or not callable(thing):
        return "other"
    return parameters(thing)


def record():
    """Collect everything."""
    import cupy

    modules = {
        name: {
            key: kind(getattr(module, key))
            for key in sorted(dir(module))
            if not key.startswith("_") and not inspect.ismodule(getattr(module, key))
        }
        for name in MODULES
        for module in [importlib.import_module(name)]
    }
    methods = {
        key: parameters(value) if callable(value) else "attribute"
        for key in sorted(dir(cupy.ndarray))
        for value in [getattr(cupy.ndarray, key)]
        if not key.startswith("_") or (key.startswith("__") and key not in dir(object))
    }
    return {"version": cupy.__version__, "modules": modules, "ndarray": methods}


def main():
    """Write the file, or compare with it."""
    found = record()
    if "--check" not in sys.argv:
        PATH.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
        return
    before = json.loads(PATH.read_text())
    gone = [
        f"{module}.{name}: {kept} is now {found['modules'].get(module, {}).get(name, 'not there')}"
        for module, names in before["modules"].items()
        for name, kept in names.items()
        if found["modules"].get(module, {}).get(name, "not there") != kept
    ]
    gone += [
        f"ndarray.{name}: {kept} is now {found['ndarray'].get(name, 'not there')}"
        for name, kept in before["ndarray"].items()
        if found["ndarray"].get(name, "not there") != kept
    ]
    print(f"recorded from CuPy {before['version']}, compared with {found['version']}")
    print("\n".join(gone) or f"all {sum(map(len, before['modules'].values()))} names are as recorded")
    sys.exit(bool(gone))


if __name__ == "__main__":
    main()
