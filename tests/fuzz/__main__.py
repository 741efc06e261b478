"""Damage files and read them: ``python -m tests.fuzz --runs 100000``.

A reader may raise ValueError. Any other exception, a file that takes longer than a second, and
the end of the process are findings; the file that led to one is kept, and named.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from tests.fuzz import files, pickles, pt
from tests.fuzz.mutations import mutated

TARGETS = {
    "pt": (pt.seeds, pt.read),
    "pickle": (pickles.seeds, pickles.read),
    "safetensors": (files.safetensors_seeds, files.read_safetensors),
    "npz": (files.npz_seeds, files.read_npz),
}
_SLOW, _MEMORY = 1.0, 4 << 30


def fuzz(name: str, runs: int, seed: int, folder: Path) -> int:
    """Run one target; print what was found, and give the number of findings."""
    make, read = TARGETS[name]
    seeds, draw = make(), random.Random(seed)
    for whole in seeds:
        try:
            read(whole)
        except ValueError:
            if name != "pickle":  # its last seed is every opcode in a row
                raise
    accepted = findings = 0
    slowest, last = 0.0, folder / f"{name}-{seed}-last"
    start = time.perf_counter()
    for i in range(runs):
        data = mutated(seeds, draw)
        if i % 100 == 0:
            last.write_text(f"{i}\n")  # where the process was, should it end here
        began = time.perf_counter()
        try:
            read(data)
            accepted += 1
        except ValueError:
            pass
        except Exception:
            findings += 1
            kept = _keep(folder, name, seed, i, data)
            print(f"{name}: run {i} raised:\n{traceback.format_exc()}kept as {kept}", file=sys.stderr)
        seconds = time.perf_counter() - began
        slowest = max(slowest, seconds)
        if seconds > _SLOW:
            findings += 1
            kept = _keep(folder, name, seed, i, data)
            print(f"{name}: run {i} took {seconds:.1f} s; kept as {kept}", file=sys.stderr)
        if findings >= 20:
            break
    last.unlink(missing_ok=True)
    spent = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name}: {runs:,} files from seed {seed} in {spent:.0f} s: {accepted:,} read, the rest refused, "
        f"{findings} findings; slowest {slowest:.3f} s, peak memory {memory:.0f} MB",
        flush=True,
    )
    return findings


def _keep(folder: Path, name: str, seed: int, i: int, data: bytes) -> Path:
    path = folder / f"{name}-{seed}-{i}"
    path.write_bytes(data)
    return path


def main() -> None:
    """Parse the command line and run."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__, formatter_class=plain)
    known = ", ".join(TARGETS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {known}; all by default")
    parser.add_argument("--runs", type=int, default=100_000, help="files for each target (default 100,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default 0)")
    parser.add_argument("--keep", type=Path, help="folder for files that led to a finding (a temporary one)")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"unknown target {', '.join(sorted(unknown))}; there are {known}")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="fconv-fuzz-"))
    os.makedirs(folder, exist_ok=True)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    found = sum(fuzz(name, options.runs, options.seed, folder) for name in options.targets or TARGETS)
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
