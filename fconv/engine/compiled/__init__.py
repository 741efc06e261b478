"""Convolution compiled while running: kernels in LLVM IR, for the processor that is there (extra `jit`).

It offers nothing where llvmlite is missing, too old or broken, or where FCONV_JIT=0.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from fconv.geometry import ConvGeometry

if TYPE_CHECKING:
    from fconv.engine.compiled.convolution import CompiledConvolution

_ENVIRONMENT = "FCONV_JIT"


@lru_cache(maxsize=1)
def wished() -> bool:
    """Return whether kernels may be compiled; FCONV_JIT=0 forbids it, and is read once.

    Raises
    ------
    ValueError
        FCONV_JIT is neither 0 nor 1.
    """
    wish = os.environ.get(_ENVIRONMENT, "1").strip()
    if wish not in ("0", "1"):
        raise ValueError(f"{_ENVIRONMENT}: expected 0 or 1, got {wish!r}")
    return wish == "1"


@lru_cache(maxsize=1)
def problem() -> str | None:
    """Return why nothing can be compiled here; None where it can."""
    try:
        from fconv.engine.compiled.pool import pool

        pool()
    except ImportError as error:
        return f"llvmlite is not there ({error}): pip install llvmlite, or the extra jit"
    except Exception as error:  # too old, or built for another processor: NumPy serves
        return f"llvmlite does not work here: {type(error).__name__}: {error}"
    return None


def offer(geometry: ConvGeometry, dtype: str, device: str, algorithm: str) -> CompiledConvolution | None:
    """Offer compiled kernels for float32 and float64 on the CPU, unless the definition is asked for."""
    serves = device == "cpu" and dtype in ("float32", "float64") and algorithm != "reference"
    if not serves or not wished() or problem() is not None:
        return None
    from fconv.engine.compiled.convolution import CompiledConvolution

    return CompiledConvolution(geometry, dtype, algorithm)
