"""Operators and layers, family by family."""

from fconv.onnx.operators import (
    activation,
    arithmetic,
    axes,
    convolution,
    indexing,
    normalization,
    pooling,
    products,
    reductions,
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
    "indexing",
    "normalization",
    "pooling",
    "products",
    "read_table",
    "reductions",
    "resampling",
    "shape",
    "write_table",
]
