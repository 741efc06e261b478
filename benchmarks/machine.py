"""Describe the machine: processor, threads, memory, and the BLAS kernels that fit the processor."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

# Kernel sets of OpenBLAS by what they need; it takes an old one where it does not know a processor.
_AVX512 = {"SkylakeX", "Cooperlake", "Sapphirerapids"}
_AVX2 = {"Haswell", "Zen", "Excavator"}


def facts() -> dict[str, Any]:
    """Describe the machine."""
    return {
        "processor": processor(),
        "vector instructions": vectors(flags()),
        "processors": os.cpu_count(),
        "memory": memory(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load before": load(),
    }


def load() -> list[float]:
    """Return how many processes wanted to run in the last 1, 5 and 15 minutes."""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else []


def processor() -> str:
    """Name the processor."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def flags() -> set[str]:
    """List what the processor can do, as Linux names it."""
    return set(_cpuinfo().get("flags", "").split())


def vectors(flags: set[str]) -> str:
    """Name the widest vector instructions that matter here."""
    return next((name for name, flag in (("AVX-512", "avx512dq"), ("AVX2", "avx2")) if flag in flags), "")


def memory() -> str:
    """Return the installed memory."""
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return ""


def cpus(n: int) -> list[int]:
    """Choose n processors that this process may run on, on cores of their own as far as there are any."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    allowed = sorted(os.sched_getaffinity(0))
    first_of_core = [c for c in allowed if c == min(_siblings(c) & set(allowed))]
    order = first_of_core + [c for c in allowed if c not in first_of_core]
    return order[:n]


def better_coretype() -> str:
    """Name the OpenBLAS kernels that fit this processor, where OpenBLAS by itself takes lesser ones."""
    found, can = openblas_kernel(), flags()
    if not found:
        return ""
    if "avx512dq" in can:
        return "" if found in _AVX512 else "SkylakeX"
    if "avx2" in can:
        return "" if found in _AVX2 | _AVX512 else "Haswell"
    return ""


def openblas_kernel() -> str:
    """Ask a new process which kernels NumPy's OpenBLAS takes by itself."""
    code = (
        "import numpy, threadpoolctl as t; print(next((p['architecture'] for p in t.threadpool_info()"
        " if p['internal_api'] == 'openblas'), ''))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return done.stdout.strip()


def _siblings(cpu: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        text = path.read_text().strip()
    except OSError:
        return {cpu}
    found: set[int] = set()
    for piece in text.split(","):
        low, _, high = piece.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
