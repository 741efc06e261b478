"""What importing fconv costs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = [
    "scipy",
    "opt_einsum",
    "torch",
    "cupy",
    "matplotlib",
    "hypothesis",
    "safetensors",
    "sklearn",
    "numba",
]


def test_nothing_heavy_is_imported_before_it_is_used():
    code = f"import sys, fconv; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_names_are_there():
    import fconv
    import fconv.testing

    for module in (fconv, fconv.functional, fconv.layers, fconv.data, fconv.testing):
        for name in module.__all__:
            assert hasattr(module, name), name
