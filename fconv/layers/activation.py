"""Activations."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.activation import check_axis_of, halved_shape
from fconv.functional.piecewise import check_slopes
from fconv.functional.protocols import Differentiable
from fconv.initializers import constant
from fconv.layer import Layer
from fconv.layers.from_function import from_function
from fconv.options import number, whole

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]


def of_each(function: Differentiable[...], name: str | None = None, **options: Any) -> Layer:
    """Make the layer of an elementwise function."""
    function(np.zeros(0, np.float32), **options)  # refuses at once the options that cannot be
    return from_function(function, name=name, call=options)


@constructor
def relu() -> Layer:
    """Rectified linear unit; see `fconv.functional.relu`."""
    return of_each(F.relu)


@constructor
def relu6() -> Layer:
    """Rectified linear unit up to 6; see `fconv.functional.relu6`."""
    return of_each(F.relu6)


@constructor
def leaky_relu(negative_slope: float = 0.01) -> Layer:
    """Leaky rectified linear unit; see `fconv.functional.leaky_relu`."""
    return of_each(F.leaky_relu, negative_slope=negative_slope)


@constructor
def prelu(num_parameters: int = 1, *, init: float = 0.25) -> Layer:
    """Leaky rectified linear unit with learnt slopes; see `fconv.functional.prelu`.

    Parameters
    ----------
    num_parameters : int
        1, or the number of channels.
    init : float
        What the slopes begin with.

    Returns
    -------
    Layer
        With the parameter ``weight`` (num_parameters,), as torch.nn.PReLU has it.

    Raises
    ------
    ValueError, TypeError
        Invalid options, at once; inputs of another number of channels, when it is used.

    Examples
    --------
    >>> from fconv import random
    >>> prelu(3).init(random.key(0), (8, 3, 5, 5))
    {'weight': array([0.25, 0.25, 0.25], dtype=float32)}
    """
    count, slope = whole("prelu", "num_parameters", num_parameters, 1), number("prelu", "init", init)

    def out_shape(shape: Shape) -> Shape:
        check_slopes("prelu", shape, count)
        return shape

    return from_function(
        F.prelu,
        options={"num_parameters": count, "init": slope},
        out_shape=out_shape,
        trained=("weight",),
        leaves=lambda shape: {"weight": ((count,), constant(slope))},
    )


@constructor
def elu(alpha: float = 1.0) -> Layer:
    """Exponential linear unit; see `fconv.functional.elu`."""
    return of_each(F.elu, alpha=alpha)


@constructor
def selu() -> Layer:
    """Scaled exponential linear unit; see `fconv.functional.selu`."""
    return of_each(F.selu)


@constructor
def celu(alpha: float = 1.0) -> Layer:
    """Continuously differentiable exponential linear unit; see `fconv.functional.celu`."""
    return of_each(F.celu, alpha=alpha)


@constructor
def gelu(approximate: Literal["none", "tanh"] = "none") -> Layer:
    """Gaussian error linear unit; see `fconv.functional.gelu`."""
    return of_each(F.gelu, approximate=approximate)


@constructor
def silu() -> Layer:
    """Sigmoid linear unit; see `fconv.functional.silu`."""
    return of_each(F.silu)


@constructor
def mish() -> Layer:
    """Mish; see `fconv.functional.mish`."""
    return of_each(F.mish)


@constructor
def softplus(beta: float = 1.0, *, threshold: float = 20.0) -> Layer:
    """Smooth rectified linear unit; see `fconv.functional.softplus`."""
    return of_each(F.softplus, beta=beta, threshold=threshold)


@constructor
def softsign() -> Layer:
    """Sign with a smooth step; see `fconv.functional.softsign`."""
    return of_each(F.softsign)


@constructor
def tanh() -> Layer:
    """Hyperbolic tangent; see `fconv.functional.tanh`."""
    return of_each(F.tanh)


@constructor
def sigmoid() -> Layer:
    """Logistic function; see `fconv.functional.sigmoid`."""
    return of_each(F.sigmoid)


@constructor
def log_sigmoid() -> Layer:
    """Logarithm of the logistic function; see `fconv.functional.logsigmoid`."""
    return of_each(F.logsigmoid, "log_sigmoid")


@constructor
def hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Layer:
    """Clip to an interval; see `fconv.functional.hardtanh`."""
    return of_each(F.hardtanh, min_val=min_val, max_val=max_val)


@constructor
def hardsigmoid() -> Layer:
    """Piecewise linear sigmoid; see `fconv.functional.hardsigmoid`."""
    return of_each(F.hardsigmoid)


@constructor
def hardswish() -> Layer:
    """Piecewise linear silu; see `fconv.functional.hardswish`."""
    return of_each(F.hardswish)


@constructor
def threshold(threshold: float, value: float) -> Layer:
    """Replace elements up to a threshold by a value; see `fconv.functional.threshold`."""
    return of_each(F.threshold, threshold=threshold, value=value)


@constructor
def tanhshrink() -> Layer:
    """Remainder of the hyperbolic tangent; see `fconv.functional.tanhshrink`."""
    return of_each(F.tanhshrink)


@constructor
def softshrink(lambd: float = 0.5) -> Layer:
    """Move elements towards 0; see `fconv.functional.softshrink`."""
    return of_each(F.softshrink, lambd=lambd)


@constructor
def hardshrink(lambd: float = 0.5) -> Layer:
    """Set elements near 0 to 0; see `fconv.functional.hardshrink`."""
    return of_each(F.hardshrink, lambd=lambd)


@constructor
def softmax(dim: int = 1) -> Layer:
    """Softmax along `dim`; see `fconv.functional.softmax`."""
    return _along(F.softmax, dim)


@constructor
def softmin(dim: int = 1) -> Layer:
    """Softmax of ``-x`` along `dim`; see `fconv.functional.softmin`."""
    return _along(F.softmin, dim)


@constructor
def log_softmax(dim: int = 1) -> Layer:
    """Logarithm of the softmax along `dim`; see `fconv.functional.log_softmax`."""
    return _along(F.log_softmax, dim)


def _along(function: Differentiable[...], dim: int) -> Layer:
    dim = whole(function.__name__, "dim", dim, -64)

    def out_shape(shape: Shape) -> Shape:
        check_axis_of(function.__name__, shape or (1,), dim)
        return shape

    return from_function(function, call={"dim": dim}, out_shape=out_shape)


@constructor
def glu(dim: int = -1) -> Layer:
    """Gated linear unit along `dim`; see `fconv.functional.glu`.

    Examples
    --------
    >>> glu(1).out_shape((8, 64, 7, 7))
    (8, 32, 7, 7)
    """
    dim = whole("glu", "dim", dim, -64)

    def out_shape(shape: Shape) -> Shape:
        return halved_shape("glu", shape, check_axis_of("glu", shape, dim))

    return from_function(F.glu, call={"dim": dim}, out_shape=out_shape)
