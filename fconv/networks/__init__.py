"""Layers made of layers. Nothing here knows any layer in particular."""

from fconv.networks.branches import parallel, residual
from fconv.networks.chains import compose
from fconv.networks.fused import fused
from fconv.networks.graphs import graph
from fconv.networks.joins import concat, concat_padded, stack
from fconv.networks.merge import (
    add,
    choose,
    compare,
    divide,
    expand_like,
    matmul,
    maximum,
    minimum,
    multiply,
    subtract,
)
from fconv.networks.outputs import part, with_outputs
from fconv.networks.repetition import repeat
from fconv.networks.summaries import Summary, summary

__all__ = [
    "Summary",
    "add",
    "choose",
    "compare",
    "compose",
    "concat",
    "concat_padded",
    "divide",
    "expand_like",
    "fused",
    "graph",
    "matmul",
    "maximum",
    "minimum",
    "multiply",
    "parallel",
    "part",
    "repeat",
    "residual",
    "stack",
    "subtract",
    "summary",
    "with_outputs",
]
