"""Time `import fconv` against `import numpy`, each in processes of its own, in turn."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys

CODE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str) -> float:
    """Import a module in a new process."""
    command = [sys.executable, "-c", CODE.format(module)]
    # Compiled modules are kept, as an installed package's are.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def main() -> None:
    """Print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="imports of each (default: 15)")
    rounds = parser.parse_args().rounds
    pairs = [(seconds("numpy"), seconds("fconv")) for _ in range(rounds + 1)][1:]
    numpy, fconv = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"Python {platform.python_version()}, {platform.machine()}, {rounds} rounds after one to warm up")
    print(f"import numpy {1e3 * numpy:6.1f} ms")
    print(f"import fconv {1e3 * fconv:6.1f} ms, {ratio:.2f} times as long (median of pairs)")


if __name__ == "__main__":
    main()
