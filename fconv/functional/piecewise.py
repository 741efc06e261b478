"""Piecewise linear activations. Where two pieces meet, the gradient is the one PyTorch takes.

Masks say where the gradient is 0, never where it is not: every comparison with NaN is false, and so
the gradient passes at a NaN, which a NaN gradient must.
"""

from __future__ import annotations

from fconv.arrays import Array, Shape, xp_of
from fconv.functional.core import Definition, differentiable, once
from fconv.functional.elementwise import Curve, elementwise
from fconv.functional.selecting import positive_part, where
from fconv.functional.sums import accurate_sum

__all__ = [
    "hardshrink", "hardshrink_jvp", "hardshrink_vjp", "hardsigmoid", "hardsigmoid_jvp", "hardsigmoid_vjp",
    "hardswish", "hardswish_jvp", "hardswish_vjp", "hardtanh", "hardtanh_jvp", "hardtanh_vjp", "leaky_relu",
    "leaky_relu_jvp", "leaky_relu_vjp", "prelu", "prelu_jvp", "prelu_vjp", "relu", "relu6", "relu6_jvp",
    "relu6_vjp", "relu_jvp", "relu_vjp", "softshrink", "softshrink_jvp", "softshrink_vjp", "threshold",
    "threshold_jvp", "threshold_vjp",
]  # fmt: skip


@elementwise(straight=True, rounds=False, by_value=True)
def relu(x: Array) -> Curve:
    """Rectified linear unit, ``max(x, 0)``.

    The gradient at 0 is 0.

    References
    ----------
    Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return lambda: positive_part(x), lambda g, y: where(y <= 0, 0.0, g)


@elementwise(straight=True, rounds=False, by_value=True)
def relu6(x: Array) -> Curve:
    """Rectified linear unit up to 6, ``min(max(x, 0), 6)``.

    The gradient at 0 and at 6 is 0.

    References
    ----------
    Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.
    """
    return _clipped(x, 0.0, 6.0)


@elementwise(
    straight=True,
    rounds=False,
    by_value=True,
    min_val="The smallest value.",
    max_val="The largest value, not below `min_val`.",
)
def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0) -> Curve:
    """Clip to an interval, ``min(max(x, min_val), max_val)``.

    The gradient at both ends is 0.

    References
    ----------
    Collobert, "Large scale machine learning", 2004.
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: expected min_val of at most max_val, got {min_val} and {max_val}")
    return _clipped(x, min_val, max_val)


def _clipped(x: Array, low: float, high: float) -> Curve:
    xp = xp_of(x)
    return (
        lambda: xp.minimum(xp.maximum(x, low), high),
        lambda g, y: where((y <= low) | (y >= high), 0.0, g),
    )


@elementwise(straight=True, negative_slope="Slope below 0.")
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Curve:
    """Leaky rectified linear unit, ``x`` where positive and ``negative_slope * x`` elsewhere.

    The gradient at 0 is `negative_slope`.

    References
    ----------
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> leaky_relu(np.array([-1.0, 2.0]), 0.1)
    array([-0.1,  2. ])
    """
    return (
        lambda: where(x > 0, x, negative_slope * x),
        lambda g: where(x > 0, g, negative_slope * g),
    )


@differentiable("x", "weight")
def prelu(x: Array, weight: Array) -> Definition:
    """Leaky rectified linear unit whose slope is learnt, ``x`` where positive, ``weight * x`` elsewhere.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating-point; any shape where `weight` is one number.
    weight : array, shape (C,), (1,) or ()
        Slope below 0 of each channel, or of all.

    Returns
    -------
    array
        In the shape and dtype of `x`. The gradient of `x` at 0 is `weight`.

    Raises
    ------
    ValueError
        `weight` does not fit the channels.
    TypeError
        Arrays that are not floating-point, or that differ in dtype.

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> prelu(np.array([[-1.0, -1.0]]), np.array([0.25, 0.5]))
    array([[-0.25, -0.5 ]])
    """
    if weight.ndim > 1:
        raise ValueError(f"prelu: expected a weight of shape (C,), (1,) or (), got {weight.shape}")
    check_slopes("prelu", x.shape, weight.size)
    shape: Shape = (1,) * x.ndim if weight.size == 1 else (weight.size, *(1,) * (x.ndim - 2))
    slopes = weight.reshape(shape)

    def dweight(g: Array, *samples: int) -> Array:
        parts = where(x > 0, 0.0, x * g)
        axes = tuple(axis for axis in range(len(samples), x.ndim) if axis != 1 or weight.size == 1)
        return accurate_sum(parts, axis=axes).reshape((*samples, *weight.shape))

    return (
        x.shape,
        once(lambda: where(x > 0, x, slopes * x)),
        lambda g: {
            "x": lambda: where(x > 0, g, slopes * g),
            "weight": lambda: dweight(g),
            "weight of each": lambda: dweight(g, x.shape[0]),
        },
        {
            "x": lambda t: where(x > 0, t, slopes * t),
            "weight": lambda t: where(x > 0, 0.0, x * t.reshape(shape)),
        },
    )


def check_slopes(name: str, shape: Shape, count: int) -> None:
    """Require one slope, or as many as there are channels; an input without channels has one."""
    channels = shape[1] if len(shape) > 1 else 1
    if count not in (1, channels):
        raise ValueError(
            f"{name}: expected 1 slope or {channels}, one for each channel, got {count} (input shape {shape})"
        )


@elementwise(
    straight=True,
    rounds=False,
    threshold="Elements up to this one are replaced.",
    value="What replaces them.",
)
def threshold(x: Array, threshold: float, value: float) -> Curve:
    """Replace small elements: ``x`` where above `threshold`, `value` elsewhere.

    The gradient at `threshold` is 0.
    """
    return (
        lambda: where(x <= threshold, x.dtype.type(value), x),
        lambda g: where(x <= threshold, 0.0, g),
    )


@elementwise(straight=True)
def hardsigmoid(x: Array) -> Curve:
    """Straight pieces in place of the sigmoid, ``min(max(x + 3, 0), 6) / 6``.

    The gradient at -3 and at 3 is 0.

    References
    ----------
    Courbariaux, Bengio and David, "BinaryConnect", 2015.
    """
    xp = xp_of(x)
    return (
        lambda: xp.minimum(xp.maximum(x + 3, 0), 6) / 6,
        lambda g: where((x <= -3) | (x >= 3), 0.0, g / 6),
    )


@elementwise()
def hardswish(x: Array) -> Curve:
    """Straight pieces in place of silu's sigmoid, ``x * min(max(x + 3, 0), 6) / 6``.

    The gradient at -3 is 0, at 3 it is 1.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", 2019.
    """
    xp = xp_of(x)
    return (
        lambda: x * (xp.minimum(xp.maximum(x + 3, 0), 6) / 6),
        lambda g: where(x <= -3, 0.0, where(x >= 3, g, g * (x / 3 + 0.5))),
        lambda: (abs(x) < 3) / x.dtype.type(3),
    )


@elementwise(straight=True, lambd="Half the width of the piece at 0; 0 or more.")
def softshrink(x: Array, lambd: float = 0.5) -> Curve:
    """Soft shrinkage: `x` moved towards 0 by `lambd`, and 0 where it is nearer to 0 than that.

    The gradient at both ends of that piece is 0.
    """
    if lambd < 0:
        raise ValueError(f"softshrink: expected lambd of 0 or more, got {lambd}")
    xp = xp_of(x)
    return (
        lambda: x - xp.minimum(xp.maximum(x, -lambd), lambd),
        lambda g: where(abs(x) <= lambd, 0.0, g),
    )


@elementwise(straight=True, rounds=False, lambd="Half the width of the piece at 0.")
def hardshrink(x: Array, lambd: float = 0.5) -> Curve:
    """Hard shrinkage: `x`, and 0 where it is not further from 0 than `lambd`.

    The gradient at both ends of that piece is 0.
    """
    return (
        lambda: where(abs(x) <= lambd, 0.0, x),
        lambda g: where(abs(x) <= lambd, 0.0, g),
    )


hardshrink_jvp, hardshrink_vjp = hardshrink.jvp, hardshrink.vjp
hardsigmoid_jvp, hardsigmoid_vjp = hardsigmoid.jvp, hardsigmoid.vjp
hardswish_jvp, hardswish_vjp = hardswish.jvp, hardswish.vjp
hardtanh_jvp, hardtanh_vjp = hardtanh.jvp, hardtanh.vjp
leaky_relu_jvp, leaky_relu_vjp = leaky_relu.jvp, leaky_relu.vjp
prelu_jvp, prelu_vjp = prelu.jvp, prelu.vjp
relu6_jvp, relu6_vjp = relu6.jvp, relu6.vjp
relu_jvp, relu_vjp = relu.jvp, relu.vjp
softshrink_jvp, softshrink_vjp = softshrink.jvp, softshrink.vjp
threshold_jvp, threshold_vjp = threshold.jvp, threshold.vjp
