"""Write results, and end a script in one line when something is wrong."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

import fconv as fc
from fconv.distributed import communicator
from fconv.files.atomic import atomic_write
from support import plots


@contextmanager
def in_one_line(name: str) -> Iterator[None]:
    """End with one line where the input is at fault, and after Ctrl-C; of several ranks the first prints."""
    try:
        with (
            open(os.devnull, "w") as nowhere,
            redirect_stdout(nowhere if communicator().rank else sys.stdout),
        ):
            yield
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)  # 128 and the number of the signal, as shells count
    except (OSError, ValueError, TypeError, ImportError) as error:
        sys.exit(f"{name}: {error}")


def prepare(folder: Path, device: str = "cpu") -> None:
    """Find out before any work is done whether results can be written and drawn, and the device be used."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ValueError(f"cannot write to {folder}")
    plots.pyplot()
    there = fc.to_device(np.zeros(1, np.float32), device)
    if ":" in device:
        there.device.use()  # CuPy computes on one GPU at a time


def write_json(path: Path, name: str, args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write results with the flags and versions that they belong to, whole or not at all."""
    page = {
        "example": name,
        "flags": vars(args),
        "versions": {"fconv": fc.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "threads": fc.get_num_threads(),
        **results,
    }
    with atomic_write(path) as file:
        file.write((json.dumps(_plain(page), indent=1, allow_nan=False) + "\n").encode())


def _plain(value: Any) -> Any:
    """Return what JSON can hold: a number that is none, or infinite, as null."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
