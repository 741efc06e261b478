"""Damage files and read them: ``python -m tests.fuzz --runs 1000000``.

A reader may raise ValueError. Findings are any other exception, a file that takes longer than five
seconds of the processor or more memory than 20 times its size and 64 MB, and the end of the process;
the file that led to one is kept, and named. Memory is measured where Linux tells it.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.mutations import mutated
from tests.spending import earlier_objects_apart, processor_time

TARGETS = {
    "pt": ("pt", "seeds", "read"),
    "pickle": ("pickles", "seeds", "read"),
    "safetensors": ("files", "safetensors_seeds", "read_safetensors"),
    "npz": ("files", "npz_seeds", "read_npz"),
    "npy": ("files", "npy_seeds", "read_npy"),
    "any": ("files", "any_seeds", "read_any"),
    "idx": ("files", "idx_seeds", "read_idx"),
    "images": ("images", "seeds", "read"),
    "onnx": ("models", "seeds", "read"),
}
"""For each reader the module, and its functions that make whole files and read damaged ones."""

_SLOW = 5.0
_RATIO, _SPARE = 20, 64_000_000
_MEMORY = 4 << 30


def target(name):
    """Import a target; its whole files, and the function that reads."""
    module, make, read = TARGETS[name]
    found = import_module(f"tests.fuzz.{module}")
    return getattr(found, make)(), getattr(found, read)


def available(name):
    """Return whether what a target needs is installed."""
    return name != "onnx" or find_spec("onnx") is not None


class Memory:
    """The memory that the process took at most since it was asked to begin, in bytes."""

    def __init__(self):
        self.known = Path("/proc/self/clear_refs").exists()
        self._before = 0

    def begin(self):
        """Forget the greatest memory until now."""
        if self.known:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            self._before = self._read("VmRSS")

    def taken(self):
        """Return how much more there was at a time since."""
        return max(0, self._read("VmHWM") - self._before) if self.known else 0

    def _read(self, what):
        with open("/proc/self/status", "rb") as file:
            text = file.read()
        at = text.index(what.encode())
        return int(text[at:].split(None, 2)[1]) * 1024


@earlier_objects_apart()
def fuzz(name: str, runs: int, seed: int, folder: Path) -> int:
    """Run one target; print what was found, and return the number of findings."""
    seeds, read = target(name)
    draw = random.Random(f"{name}{seed}")
    for whole in seeds:
        try:
            read(whole)
        except ValueError:
            if name in ("pt", "safetensors", "npz", "npy", "idx"):
                raise
    accepted = findings = most = 0
    slowest, last, memory = 0.0, folder / f"{name}-{seed}-last", Memory()
    start = time.perf_counter()
    for i in range(runs):
        data = mutated(seeds, draw)
        if i % 100 == 0:
            last.write_text(f"{i}\n")  # where the process was, should it end here
        memory.begin()
        found = ""
        with processor_time() as spent:
            try:
                read(data)
                accepted += 1
            except ValueError:
                pass
            except Exception:
                found = f"raised:\n{traceback.format_exc()}"
        taken = memory.taken()
        slowest, most = max(slowest, spent.seconds), max(most, taken)
        if spent.seconds > _SLOW:
            found = found or f"took {spent.seconds:.1f} s"
        if taken > _RATIO * len(data) + _SPARE:
            found = found or f"took {taken / 1e6:.0f} MB for {len(data)} bytes"
        if found:
            findings += 1
            kept = folder / f"{name}-{seed}-{i}"
            kept.write_bytes(data)
            print(f"{name}: run {i} {found}; kept as {kept}", flush=True)
        if findings >= 20:
            break
    last.unlink(missing_ok=True)
    spent = time.perf_counter() - start
    print(
        f"{name}: {runs:,} files from seed {seed} in {spent:.0f} s: {accepted:,} read, the rest refused, "
        f"{findings} findings; slowest {slowest:.3f} s, most memory {most / 1e6:.0f} MB",
        flush=True,
    )
    return findings


def main() -> None:
    """Parse the command line and run."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__, formatter_class=plain)
    known = ", ".join(TARGETS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {known}; all by default")
    parser.add_argument("--runs", type=int, default=100_000, help="files, over all targets (default 100,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default 0)")
    parser.add_argument("--keep", type=Path, help="folder for files that led to a finding (a temporary one)")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"unknown target {', '.join(sorted(unknown))}; there are {known}")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="fconv-fuzz-"))
    os.makedirs(folder, exist_ok=True)
    warnings.simplefilter("ignore")
    with open(folder / "stderr", "w") as log:  # what libraries in C say of every damaged file
        os.dup2(log.fileno(), sys.stderr.fileno())
    if find_spec("resource"):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    names = [name for name in options.targets or TARGETS if available(name)]
    each = -(-options.runs // len(names))
    found = sum(fuzz(name, each, options.seed, folder) for name in names)
    print(f"{each * len(names):,} files, {found} findings")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
