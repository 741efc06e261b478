"""Convolutional networks as pure functions over plain arrays, every layer beside its own gradient."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fconv import functional, initializers, metrics, random, trees
from fconv.arrays import to_device
from fconv.checkpoint import from_state_dict, load, load_metadata, save, to_state_dict
from fconv.layer import Layer
from fconv.layers import *
from fconv.layers import __all__ as _layers
from fconv.losses import *
from fconv.losses import __all__ as _losses
from fconv.networks import compose
from fconv.optimizers import Optimizer, sgd
from fconv.torch import to_torch
from fconv.training import TrainState, train_state, train_step, value_and_grad

if TYPE_CHECKING:
    from fconv import data

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # What few programs need is imported when it is first asked for.
    if name == "data":
        return import_module("fconv.data")
    raise AttributeError(f"module 'fconv' has no attribute {name!r}")


__all__ = [
    "Layer",
    "Optimizer",
    "TrainState",
    "__version__",
    "compose",
    "data",
    "from_state_dict",
    "functional",
    "initializers",
    "load",
    "load_metadata",
    "metrics",
    "random",
    "save",
    "sgd",
    "to_device",
    "to_state_dict",
    "to_torch",
    "train_state",
    "train_step",
    "trees",
    "value_and_grad",
]
__all__ += _layers
__all__ += _losses
