"""One case for each differentiable function: how to draw its arguments, and its naive reference.

The tests of values, gradients, dtypes and memory layouts, and those against PyTorch, all run
over this table, so that a function is tested in every way once it stands in its family's file.
"""

from tests.cases import (
    activation,
    arithmetic,
    attention,
    convolution,
    convolution_transpose,
    indexing,
    loss,
    normalization,
    padding,
    pooling,
    rearranging,
    resampling,
    sampling,
    shape,
)
from tests.cases.common import Case

FAMILIES = (
    activation,
    arithmetic,
    attention,
    convolution,
    convolution_transpose,
    loss,
    normalization,
    padding,
    pooling,
    rearranging,
    resampling,
    sampling,
    shape,
    indexing,
)

CASES: dict[str, Case] = {name: case for family in FAMILIES for name, case in family.CASES.items()}
