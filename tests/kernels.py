"""The tests in NumPy alone, under each set of OpenBLAS's kernels that this processor can run.

    python -m tests.kernels                       the whole suite under each
    python -m tests.kernels --most 2 -- tests/test_engine.py

OpenBLAS takes the kernels that OPENBLAS_CORETYPE names, and crashes or falls back where the processor lacks
their instructions, so each is tried in a process of its own first.
"""

import argparse
import os
import subprocess
import sys

KERNELS = ("SkylakeX", "Haswell", "Zen", "Nehalem")

TRIAL = """
import numpy as np
from threadpoolctl import threadpool_info
a = np.ones((40, 50), "float32")
assert (a @ a.T == 50).all()
print([info.get("architecture") for info in threadpool_info() if info["user_api"] == "blas"][0])
"""


def environment(kernels):
    """Return this process's environment with OpenBLAS asked for `kernels`, and nothing compiled."""
    return {**os.environ, "OPENBLAS_CORETYPE": kernels, "FCONV_JIT": "0"}


def runnable(kernels):
    """Return whether OpenBLAS takes `kernels` on this processor when asked to."""
    tried = subprocess.run(
        [sys.executable, "-c", TRIAL], env=environment(kernels), capture_output=True, text=True, check=False
    )
    return tried.returncode == 0 and tried.stdout.strip() == kernels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--most", type=int, default=len(KERNELS), help="how many sets of kernels (default: all)"
    )
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    chosen = [kernels for kernels in KERNELS if runnable(kernels)][: options.most]
    if not chosen:
        print(f"none of {', '.join(KERNELS)} runs here: NumPy's BLAS takes no kernels by name")
        return 1
    failed = []
    for kernels in chosen:
        print(f"OPENBLAS_CORETYPE={kernels}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", *options.pytest]
        if subprocess.run(command, env=environment(kernels), check=False).returncode:
            failed.append(kernels)
    print(f"kernels: {', '.join(chosen)}; failed: {', '.join(failed) or 'none'}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
