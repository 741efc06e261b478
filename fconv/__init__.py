"""Convolutional networks as pure functions over plain arrays, every layer beside its own gradient."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fconv import functional, initializers, metrics, random, trees
from fconv.arrays import to_device
from fconv.blocks import depthwise_separable_conv2d, squeeze_excitation
from fconv.checkpoint import from_state_dict, load, load_metadata, save, to_state_dict
from fconv.layer import Layer
from fconv.layers import *
from fconv.layers import __all__ as _layers
from fconv.losses import Loss, cross_entropy_loss, mse_loss, nll_loss
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
    "Loss",
    "Optimizer",
    "TrainState",
    "__version__",
    "compose",
    "cross_entropy_loss",
    "data",
    "depthwise_separable_conv2d",
    "from_state_dict",
    "functional",
    "initializers",
    "load",
    "load_metadata",
    "metrics",
    "mse_loss",
    "nll_loss",
    "random",
    "save",
    "sgd",
    "squeeze_excitation",
    "to_device",
    "to_state_dict",
    "to_torch",
    "train_state",
    "train_step",
    "trees",
    "value_and_grad",
]
__all__ += _layers
