"""Training: gradients of a network, steps of an optimizer, and the loop `fconv.fit`."""

from fconv.derivatives.gradients import value_and_grad
from fconv.training.steps import TrainState, train_state, train_step

__all__ = ["TrainState", "train_state", "train_step", "value_and_grad"]
