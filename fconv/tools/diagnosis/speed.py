"""Measure how fast this machine multiplies matrices.

A program of its own that imports NumPy alone: BLAS reads its settings once, when it is loaded, so
another setting has to be tried in another process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping

import numpy as np

_SIZE = 1536
_SECONDS = 0.5  # for which products are measured


def matmul_speed() -> float:
    """Measure the float32 matrix product of NumPy, in 10**9 additions and multiplications a second.

    The fastest product counts: what slows one is another program.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.random((_SIZE, _SIZE), np.float32) for _ in range(2))
    out = a @ b  # wakes the threads, and maps the memory of the result
    best = float("inf")
    end = time.perf_counter() + _SECONDS
    while (start := time.perf_counter()) < end:
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * _SIZE**3 / best / 1e9


def speed_with(variables: Mapping[str, str]) -> float | None:
    """Measure `matmul_speed` in a new process with environment `variables` set; None where it fails."""
    command = [sys.executable, "-P", os.path.abspath(__file__)]
    try:
        done = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=30, check=True
        )
        return float(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


if __name__ == "__main__":
    print(matmul_speed())
