"""The tests of compiled kernels with vectors of other processors, which LLVM makes of this one's.

    python -m tests.vectors                       the tests of the engine with each
    python -m tests.vectors --most 1 -- tests/test_dots.py

What kernels are written, and which way serves a shape, depends on the bytes of a vector, on how many
registers there are, and on whether masks have registers of their own.
"""

import argparse
import os
import subprocess
import sys

VECTORS = {"NEON": (16, 32, False), "AVX2": (32, 16, False), "AVX-512": (64, 32, True)}
"""Bytes, registers, and whether there are registers for masks and numbers that a product repeats."""
TESTS = [
    f"tests/test_{name}.py"
    for name in (
        "adjoint", "adjoint_memory", "adjoint_sweep", "channels", "columns", "compiled", "compiled_pooling",
        "depthwise", "divided", "dots", "formulas", "gathered", "positions", "resampled", "segments",
        "winograd",
    )
]  # fmt: skip
WISHED = "FCONV_TEST_VECTORS"


def pytest_configure():
    """Take part in a run of pytest that has ``-p tests.vectors``."""
    from fconv.engine.compiled.machine import Machine

    if WISHED in os.environ:
        known = Machine.__init__

        def begin(self):
            known(self)
            self.vector_bytes, self.registers, self.masks = VECTORS[os.environ[WISHED]]
            self.embedded = self.masks

        Machine.__init__ = begin


def main():
    from fconv.engine.compiled.machine import machine

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=len(VECTORS), help="how many kinds (default: all others)")
    parser.add_argument(
        "pytest", nargs="*", help="arguments of pytest, after -- (default: tests of the engine)"
    )
    options = parser.parse_args()
    own = machine().vector_bytes
    chosen = [name for name, (size, *_) in reversed(VECTORS.items()) if size != own][: options.most]
    failed = []
    for name in chosen:
        print(f"vectors of {name}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "tests.vectors"]
        environment = {**os.environ, WISHED: name}
        if subprocess.run([*command, *(options.pytest or TESTS)], env=environment, check=False).returncode:
            failed.append(name)
    print(f"vectors: {', '.join(chosen)}; failed: {', '.join(failed) or 'none'}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
