"""Measure the rounding errors of convolution, against the same convolution in float64.

For each shape of the benchmark, the relative l2 error of what "auto" chooses and of "direct", for
inputs that are random, smooth, and random about 100.
"""

from __future__ import annotations

import argparse

import numpy as np

import fconv.functional as F
from benchmarks.cases import Conv
from benchmarks.table import SHAPES
from fconv.engine import plans

KINDS = ("random", "smooth", "mean 100")


def pictures(case: Conv, kind: str) -> np.ndarray:
    """Make an input of a kind."""
    x = case.arrays()[0]
    if kind == "mean 100":
        return x + np.float32(100)
    if kind == "smooth":
        for axis in range(2, x.ndim):
            x = np.cumsum(x, axis) / np.float32(np.sqrt(x.shape[axis]))
    return x


def convolved(case: Conv, x: np.ndarray, algorithm: str) -> np.ndarray:
    """Convolve in the dtype of `x`."""
    w = case.arrays()[1].astype(x.dtype)
    options = {name: getattr(case, name) for name in ("stride", "padding", "groups", "dilation")}
    function = getattr(F, f"conv_transpose{case.ndim}d" if case.transposed else f"conv{case.ndim}d")
    return function(x, w, algorithm=algorithm, **options)


def chosen(case: Conv) -> str:
    """Name what "auto" takes."""
    if case.transposed:
        return "input gradient"
    x, w, *_ = case.arrays()
    return plans.algorithm_for(
        x.shape, w.shape, stride=case.stride, padding=case.padding, dilation=case.dilation, groups=case.groups
    )


def error(case: Conv, kind: str, algorithm: str) -> float:
    """Return the relative l2 error."""
    x = pictures(case, kind)
    exact = convolved(case, x.astype(np.float64), "direct")
    difference = convolved(case, x, algorithm) - exact
    return float(np.linalg.norm(difference.ravel()) / np.linalg.norm(exact.ravel()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.errors", description=__doc__)
    parser.add_argument("--only", default="", help="shapes that hold this text")
    only = parser.parse_args().only
    print("| shape | auto | " + " | ".join(KINDS) + " | " + " | ".join(f"direct, {k}" for k in KINDS) + " |")
    print("|:--|:--|" + "--:|" * 6)
    for case in SHAPES:
        if only in case.name:
            cells = [f"{error(case, kind, way):.1e}" for way in ("auto", "direct") for kind in KINDS]
            print(f"| `{case.name}` | {chosen(case)} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
