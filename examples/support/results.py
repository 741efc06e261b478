"""Where results go, and how a script ends when something is wrong."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import fconv as fc


@contextmanager
def in_one_line(name: str) -> Iterator[None]:
    """End with one line where the user's input is at fault."""
    try:
        yield
    except (OSError, ValueError, TypeError, ImportError) as error:
        sys.exit(f"{name}: {error}")


def prepare(folder: Path) -> None:
    """Make the folder for results, and make sure that it can be written to, before any work is done."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ValueError(f"cannot write to {folder}")


def write_json(path: Path, name: str, args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write results with the flags and versions that they belong to, whole or not at all."""
    page = {
        "example": name,
        "flags": vars(args),
        "versions": {"fconv": fc.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "threads": fc.get_num_threads(),
        **results,
    }
    text = json.dumps(page, indent=1, default=_plain)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
