"""Choice of device for what goes through NumPy: the CPU, or the GPU by CuPy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import fconv as fc

_PRODUCT = 8192  # rows and columns of the product that is timed
_chosen = "cpu"


def choose(device: str) -> None:
    """Compute on "cpu" or "cuda" from now on.

    Raises
    ------
    ValueError
        There is no CuPy, or no GPU.
    """
    global _chosen
    fc.to_device((), device)
    _chosen = device


def there(tree: Any) -> Any:
    """Move arrays to where they are computed with."""
    return fc.to_device(tree, _chosen)


def finished(run: Callable[[], Any]) -> Callable[[], Any]:
    """Make a function that returns when all is computed that was begun."""
    if _chosen == "cpu":
        return run
    import cupy

    def whole() -> Any:
        result = run()
        cupy.cuda.get_current_stream().synchronize()
        return result

    return whole


def details() -> str:
    """Name the GPU, and CuPy."""
    if _chosen == "cpu":
        return ""
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    runtime = cupy.cuda.runtime.runtimeGetVersion()
    return (
        f"{name}, cupy {cupy.__version__}, CUDA {runtime // 1000}.{runtime % 1000 // 10}, "
        f"products of float32 at {_product_rate(cupy):.3g} billion operations a second"
    )


def _product_rate(cupy: Any) -> float:
    """Measure what cuBLAS reaches, the limit of every convolution."""
    a = cupy.ones((_PRODUCT, _PRODUCT), cupy.float32)
    multiply = finished(lambda: a @ a)
    multiply()
    before = time.perf_counter()
    multiply()
    return 2e-9 * _PRODUCT**3 / (time.perf_counter() - before)
