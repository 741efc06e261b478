"""Convolutional networks as pure functions over plain arrays, every layer beside its own gradient."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fconv import (
    functional,
    initializers,
    layers,
    losses,
    metrics,
    networks,
    optimizers,
    random,
    schedules,
    trees,
)
from fconv.arrays import to_device
from fconv.blocks import depthwise_separable_conv2d, squeeze_excitation
from fconv.checkpoint import load, load_metadata, save
from fconv.layer import Layer
from fconv.layers import *
from fconv.losses import *
from fconv.networks import *
from fconv.optimizers import *
from fconv.state_dict import from_state_dict, to_state_dict
from fconv.torch import to_torch
from fconv.training import TrainState, train_state, train_step, value_and_grad
from fconv.version import __version__

if TYPE_CHECKING:
    from fconv import data, models


def __getattr__(name: str) -> Any:
    # What few programs need is imported when it is first asked for.
    if name in ("data", "models"):
        return import_module(f"fconv.{name}")
    raise AttributeError(f"module 'fconv' has no attribute {name!r}")


__all__ = [
    "Layer",
    "TrainState",
    "__version__",
    "data",
    "depthwise_separable_conv2d",
    "from_state_dict",
    "functional",
    "initializers",
    "load",
    "load_metadata",
    "metrics",
    "models",
    "random",
    "save",
    "schedules",
    "squeeze_excitation",
    "to_device",
    "to_state_dict",
    "to_torch",
    "train_state",
    "train_step",
    "trees",
    "value_and_grad",
]
__all__ += layers.__all__
__all__ += losses.__all__
__all__ += networks.__all__
__all__ += optimizers.__all__
