"""Layers made of layers. Nothing here knows any layer in particular."""

from fconv.networks.branches import parallel, residual
from fconv.networks.chains import compose
from fconv.networks.graphs import graph
from fconv.networks.merge import add, concat, concat_padded, multiply, subtract
from fconv.networks.repetition import repeat
from fconv.networks.summaries import Summary, summary

__all__ = [
    "Summary",
    "add",
    "compose",
    "concat",
    "concat_padded",
    "graph",
    "multiply",
    "parallel",
    "repeat",
    "residual",
    "subtract",
    "summary",
]
