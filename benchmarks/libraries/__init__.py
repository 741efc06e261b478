"""The libraries: a module each, imported only in the process of that library.

A module has ``LAYOUTS``, the memory orders of the input that it is timed with, ``VERSIONS``, the packages
to name, ``convolution(case, what, layout)``, which gives a function without arguments that computes the
case and returns when it is done, and ``numpy(results)``, which gives its results as NumPy arrays in
channels-first order. Those with other cases than convolutions have ``step``, ``inference`` or ``passing``
too; those that know a GPU, ``set_device``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels-last"


class NotServed(Exception):  # noqa: N818 - not an error: the library has no part in the case
    """A library cannot compute a case, or not in bearable time."""


@dataclass(frozen=True)
class Library:
    """A way to compute: its name on the command line, in tables, its module, and the package it needs."""

    name: str
    label: str
    module: str
    package: str
    layouts: tuple[str, ...] = (CONTIGUOUS,)
    cases: tuple[str, ...] = ("Conv",)  # the classes of cases.py that it computes
    core: bool = True  # runs on the BLAS kernels that --coretype names
    devices: tuple[str, ...] = ("cpu",)


_BOTH = (CONTIGUOUS, CHANNELS_LAST)
_NETWORKS = ("Conv", "Step", "Inference")
_EVERY = (*_NETWORKS, "Pass")
DEVICES = ("cpu", "cuda")
_ALL = [
    Library("fconv", "fconv", "fconv_", "fconv", _BOTH, _EVERY, devices=DEVICES),
    Library("fconv-found", "fconv, kernels as found", "fconv_", "fconv", _BOTH, _EVERY, core=False),
    Library("torch", "PyTorch", "torch_", "torch", _BOTH, _EVERY, devices=DEVICES),
    Library("torch-compile", "torch.compile", "torch_compiled", "torch", _BOTH, ("Inference",)),
    Library("onnxruntime", "ONNX Runtime", "onnxruntime_", "onnxruntime", cases=("Inference",)),
    Library("jax", "JAX", "jax_", "jax", _BOTH, _NETWORKS),
    Library("numba", "Numba loop", "numba_", "numba"),
    Library("im2col", "im2col", "im2col", "numpy", devices=DEVICES),
    Library("shifts", "shift and matmul", "shifts", "numpy"),
    Library("loops", "naive loops", "loops", "numpy"),
]
LIBRARIES = {library.name: library for library in _ALL}


def load(name: str) -> Any:
    """Import a library's module."""
    return import_module(f"benchmarks.libraries.{LIBRARIES[name].module}")
