"""Activations."""

from __future__ import annotations

from fconv import functional as F
from fconv.layer import Layer
from fconv.layers.from_function import from_function

__all__ = ["log_softmax", "relu", "sigmoid", "softmax", "tanh"]


def relu() -> Layer:
    """Rectified linear unit; see `fconv.functional.relu`."""
    return from_function(F.relu)


def sigmoid() -> Layer:
    """Logistic function; see `fconv.functional.sigmoid`."""
    return from_function(F.sigmoid)


def tanh() -> Layer:
    """Hyperbolic tangent; see `fconv.functional.tanh`."""
    return from_function(F.tanh)


def softmax(dim: int = 1) -> Layer:
    """Softmax along `dim`; see `fconv.functional.softmax`."""
    return from_function(F.softmax, call={"dim": dim})


def log_softmax(dim: int = 1) -> Layer:
    """Logarithm of the softmax along `dim`; see `fconv.functional.log_softmax`."""
    return from_function(F.log_softmax, call={"dim": dim})
