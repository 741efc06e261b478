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
from fconv.derivatives.curvature import ggn_diagonal, ggn_product
from fconv.derivatives.penalties import gradient_penalty
from fconv.derivatives.per_example import per_example_gradients, per_example_norms
from fconv.devices import to_device
from fconv.engine.threads import get_num_threads, set_num_threads
from fconv.files.checkpoint import load, load_metadata, save
from fconv.files.checkpointer import Checkpointer
from fconv.files.formats.placeholders import Placeholder
from fconv.layer import Layer
from fconv.layers import *
from fconv.layers.calls import call, constant, einsum, parameter, pow, scaled_dot_product_attention, where
from fconv.losses import *
from fconv.networks import *
from fconv.networks.inference import for_inference
from fconv.optimizers import *
from fconv.showing import describe
from fconv.state_dict import find_state_dict, from_state_dict, rename, to_state_dict
from fconv.tangents import jvp
from fconv.torch import from_torch, to_torch, to_torch_module
from fconv.training import TrainState, train_state, train_step, value_and_grad
from fconv.version import __version__

if TYPE_CHECKING:
    from fconv import data, distributed, models, testing
    from fconv.cli.doctor import report as doctor
    from fconv.models.blocks import depthwise_separable_conv2d, squeeze_excitation
    from fconv.onnx import from_onnx, to_onnx
    from fconv.training.fitting import fit, plot_history

_LATER = {
    "depthwise_separable_conv2d": "fconv.models.blocks",
    "squeeze_excitation": "fconv.models.blocks",
    "fit": "fconv.training.fitting",
    "plot_history": "fconv.training.fitting",
    "from_onnx": "fconv.onnx",
    "to_onnx": "fconv.onnx",
}


def __getattr__(name: str) -> Any:
    # What few programs need is imported when it is first asked for.
    if name in ("data", "distributed", "models", "testing"):
        return import_module(f"fconv.{name}")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    if name == "doctor":
        return import_module("fconv.cli.doctor").report
    raise AttributeError(f"module 'fconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "layers", "losses", "networks", "optimizers"})


__all__ = [
    "Checkpointer",
    "Layer",
    "Placeholder",
    "TrainState",
    "__version__",
    "call",
    "constant",
    "data",
    "depthwise_separable_conv2d",
    "describe",
    "distributed",
    "doctor",
    "einsum",
    "find_state_dict",
    "fit",
    "for_inference",
    "from_onnx",
    "from_state_dict",
    "from_torch",
    "functional",
    "get_num_threads",
    "ggn_diagonal",
    "ggn_product",
    "gradient_penalty",
    "initializers",
    "jvp",
    "load",
    "load_metadata",
    "metrics",
    "models",
    "parameter",
    "per_example_gradients",
    "per_example_norms",
    "plot_history",
    "pow",
    "random",
    "rename",
    "save",
    "scaled_dot_product_attention",
    "schedules",
    "set_num_threads",
    "squeeze_excitation",
    "testing",
    "to_device",
    "to_onnx",
    "to_state_dict",
    "to_torch",
    "to_torch_module",
    "train_state",
    "train_step",
    "trees",
    "value_and_grad",
    "where",
]
__all__ += layers.__all__
__all__ += losses.__all__
__all__ += networks.__all__
__all__ += optimizers.__all__
