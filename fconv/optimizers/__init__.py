"""Optimizers: pairs of pure functions with torch.optim's update rules."""

from fconv.optimizers.adaptive import adadelta, adagrad, rmsprop
from fconv.optimizers.base import Optimizer
from fconv.optimizers.groups import by_name, frozen, masked
from fconv.optimizers.mixed_precision import mixed_precision
from fconv.optimizers.moments import adam, adamw, nadam
from fconv.optimizers.momentum import lion, sgd
from fconv.optimizers.private import private_sgd
from fconv.optimizers.torch_states import from_optimizer_state_dict, to_optimizer_state_dict
from fconv.optimizers.wrappers import (
    accumulate_gradients,
    clip_by_global_norm,
    clip_by_value,
    ema,
    ema_params,
)

__all__ = [
    "Optimizer",
    "accumulate_gradients",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "by_name",
    "clip_by_global_norm",
    "clip_by_value",
    "ema",
    "ema_params",
    "from_optimizer_state_dict",
    "frozen",
    "lion",
    "masked",
    "mixed_precision",
    "nadam",
    "private_sgd",
    "rmsprop",
    "sgd",
    "to_optimizer_state_dict",
]
