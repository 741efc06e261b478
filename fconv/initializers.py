"""Initial values of parameters: functions ``(key, shape, dtype) -> array``, named as in torch.nn.init.

The fans follow PyTorch's reading of a weight's shape ``(out, in, *kernel)``: fan_in is
``in * kernel size`` and fan_out is ``out * kernel size``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any, Literal, TypeAlias

import numpy as np

from fconv import random
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape

Initializer: TypeAlias = Callable[[Array, Shape, Any], Array]


def fans(shape: Shape) -> tuple[int, int]:
    """Count the inputs and outputs of one unit of a weight, kernel positions included.

    Parameters
    ----------
    shape : tuple of int
        ``(out, in, *kernel)``.

    Returns
    -------
    tuple of int
        (fan_in, fan_out).

    Raises
    ------
    ValueError
        `shape` has fewer than two axes.

    Examples
    --------
    >>> fans((64, 32, 3, 3))
    (288, 576)
    """
    if len(shape) < 2:
        raise ValueError(f"initializers: fans need a weight of two axes or more, got shape {shape}")
    kernel = prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


@constructor
def constant(value: float) -> Initializer:
    """Fill with one value."""
    return lambda key, shape, dtype: np.full(shape, value, dtype)


@constructor
def zeros() -> Initializer:
    """Fill with 0."""
    return constant(0.0)


@constructor
def ones() -> Initializer:
    """Fill with 1."""
    return constant(1.0)


@constructor
def uniform(low: float = 0.0, high: float = 1.0) -> Initializer:
    """Draw from the uniform distribution on [low, high)."""
    return lambda key, shape, dtype: random.uniform(key, shape, dtype, low, high)


@constructor
def normal(mean: float = 0.0, std: float = 1.0) -> Initializer:
    """Draw from the normal distribution."""
    return lambda key, shape, dtype: random.normal(key, shape, dtype, mean, std)


@constructor
def fan_in_uniform(fan_in: int | None = None) -> Initializer:
    """Draw from U(-1/sqrt(fan_in), 1/sqrt(fan_in)): torch.nn's default for conv and linear layers.

    Parameters
    ----------
    fan_in : int, optional
        Inputs of a unit; from the shape where it is not given. A bias needs its weight's.
    """

    def init(key: Array, shape: Shape, dtype: Any) -> Array:
        count = fans(shape)[0] if fan_in is None else fan_in
        bound = 1.0 / sqrt(count) if count else 0.0
        return random.uniform(key, shape, dtype, -bound, bound)

    return init


def _scaled(variance: Callable[[int, int], float], distribution: str) -> Initializer:
    """Draw with mean 0 and the variance that the fans ask for."""

    def init(key: Array, shape: Shape, dtype: Any) -> Array:
        std = sqrt(variance(*fans(shape)))
        if distribution == "normal":
            return random.normal(key, shape, dtype, 0.0, std)
        return random.uniform(key, shape, dtype, -sqrt(3.0) * std, sqrt(3.0) * std)

    return init


def _kaiming(a: float, mode: str, nonlinearity: str, distribution: str) -> Initializer:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'kaiming_{distribution}: expected mode "fan_in" or "fan_out", got {mode!r}')
    squares = {"leaky_relu": 2.0 / (1.0 + a * a), "relu": 2.0, "linear": 1.0, "tanh": (5.0 / 3.0) ** 2}
    if nonlinearity not in squares:
        raise ValueError(
            f"kaiming_{distribution}: expected a nonlinearity of {', '.join(squares)}, got {nonlinearity!r}"
        )
    gain = squares[nonlinearity]
    return _scaled(
        lambda fan_in, fan_out: gain / max(1, fan_in if mode == "fan_in" else fan_out), distribution
    )


Mode: TypeAlias = Literal["fan_in", "fan_out"]


@constructor
def kaiming_uniform(a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu") -> Initializer:
    """Draw uniformly with variance gain**2 / fan (He et al. 2015, "Delving deep into rectifiers").

    Parameters
    ----------
    a : float
        Negative slope of the leaky_relu that follows.
    mode : {"fan_in", "fan_out"}
        Keep the variance of the forward or of the backward pass.
    nonlinearity : {"leaky_relu", "relu", "linear", "tanh"}
        What follows the layer; it sets the gain.
    """
    return _kaiming(a, mode, nonlinearity, "uniform")


@constructor
def kaiming_normal(a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu") -> Initializer:
    """Draw normally with the variance of `kaiming_uniform`."""
    return _kaiming(a, mode, nonlinearity, "normal")


@constructor
def xavier_uniform(gain: float = 1.0) -> Initializer:
    """Draw uniformly with variance 2 gain**2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""
    return _scaled(lambda fan_in, fan_out: 2.0 * gain * gain / max(1, fan_in + fan_out), "uniform")


@constructor
def xavier_normal(gain: float = 1.0) -> Initializer:
    """Draw normally with the variance of `xavier_uniform`."""
    return _scaled(lambda fan_in, fan_out: 2.0 * gain * gain / max(1, fan_in + fan_out), "normal")


@constructor
def lecun_uniform() -> Initializer:
    """Draw uniformly with variance 1 / fan_in (LeCun et al. 1998, "Efficient BackProp")."""
    return _scaled(lambda fan_in, fan_out: 1.0 / max(1, fan_in), "uniform")


@constructor
def lecun_normal() -> Initializer:
    """Draw normally with variance 1 / fan_in (LeCun et al. 1998, "Efficient BackProp")."""
    return _scaled(lambda fan_in, fan_out: 1.0 / max(1, fan_in), "normal")
