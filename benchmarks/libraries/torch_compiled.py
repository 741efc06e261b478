"""PyTorch with torch.compile, which needs a C++ compiler on the CPU; inference alone."""

from __future__ import annotations

import torch

from benchmarks.libraries import torch_
from benchmarks.libraries.torch_ import details, numpy, set_threads

__all__ = ["VERSIONS", "details", "inference", "numpy", "set_threads"]
VERSIONS = ("torch",)


def inference(case, weights, layout):
    """Return a function that applies the network as torch.compile made it."""
    x = torch_.laid(torch_.there(case.pictures()), layout)
    net = torch.compile(torch_._network(case, weights, layout, 0.0).eval())

    def apply():
        with torch.inference_mode():
            return (net(x),)

    return apply
