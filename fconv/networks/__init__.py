"""Layers made of layers. Nothing here knows any layer in particular."""

from fconv.networks.branches import parallel, residual
from fconv.networks.compose import compose
from fconv.networks.graph import graph
from fconv.networks.merge import add, concat, multiply
from fconv.networks.repeat import repeat
from fconv.networks.summary import Summary, summary

__all__ = [
    "Summary",
    "add",
    "compose",
    "concat",
    "graph",
    "multiply",
    "parallel",
    "repeat",
    "residual",
    "summary",
]
