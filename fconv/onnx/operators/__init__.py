"""Operators and layers, family by family."""

from fconv.onnx.operators import (
    activation,
    arithmetic,
    axes,
    convolution,
    normalization,
    pooling,
    resampling,
    shape,
)
from fconv.onnx.operators.table import READINGS, WRITINGS, read_table, write_table

__all__ = [
    "READINGS",
    "WRITINGS",
    "activation",
    "arithmetic",
    "axes",
    "convolution",
    "normalization",
    "pooling",
    "read_table",
    "resampling",
    "shape",
    "write_table",
]
