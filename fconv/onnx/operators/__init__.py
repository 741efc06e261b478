"""Readers and writers of operators, a module for each family."""

from fconv.onnx.operators import (  # noqa: F401  (fill the tables)
    activation,
    arithmetic,
    axes,
    bins,
    calls,
    comparisons,
    convolution,
    indexing,
    normalization,
    pooling,
    products,
    reductions,
    resampling,
    scattering,
    shape,
)
from fconv.onnx.operators.table import READINGS, WRITINGS, read_table, write_table

__all__ = ["READINGS", "WRITINGS", "read_table", "write_table"]
