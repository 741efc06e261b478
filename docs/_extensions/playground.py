"""Add the page that computes in the browser: fconv, opt-einsum and scikit-learn's digits go beside it."""

from __future__ import annotations

import shutil
import zipfile
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits


def write(source: Path, out: Path) -> None:
    """Write the page, and the files that it fetches.

    Pyodide, NumPy and threadpoolctl are fetched from Pyodide's server, which has no opt-einsum.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in ("index.html", "play.py"):
        shutil.copy(source / "playground" / name, out / name)
    with zipfile.ZipFile(out / "python.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        package = source.parent / "fconv"
        for path in sorted(package.rglob("*.py")):
            archive.write(path, path.relative_to(package.parent))
        for file in files("opt_einsum") or []:
            if "__pycache__" not in file.parts:
                archive.write(str(file.locate()), str(file))
    digits = load_digits()
    np.savez_compressed(
        out / "digits.npz", x=digits.images.astype(np.uint8), t=digits.target.astype(np.uint8)
    )


def finish(app: Any, error: Exception | None) -> None:
    """Write the page after a build that succeeded."""
    if error is None and app.builder.name == "html":
        write(Path(app.srcdir), Path(app.outdir) / "playground")


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
