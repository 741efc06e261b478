"""Affine maps."""

from __future__ import annotations

from math import prod

from fconv.arrays import Array
from fconv.conv.contraction import contract
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.reduction import accurate_sum

__all__ = [
    "linear",
    "linear_vjp",
]


@differentiable("x", "weight", "bias")
def linear(x: Array, weight: Array, bias: Array | None = None) -> Definition:
    """Affine map of the last axis, ``y = x @ weight.T + bias``.

    Parameters
    ----------
    x : array, shape (..., in_features)
        Floating-point.
    weight : array, shape (out_features, in_features)
        Of the dtype of `x`.
    bias : array, shape (out_features,), optional
        Of the dtype of `x`.

    Returns
    -------
    array, shape (..., out_features)
        In the dtype of `x`.

    Raises
    ------
    ValueError
        The shapes do not fit each other.
    TypeError
        Arrays that are not floating-point, of different dtypes or of different libraries.

    Examples
    --------
    >>> import numpy as np
    >>> linear(np.ones((1, 3)), np.ones((2, 3)), np.array([0.0, 1.0]))
    array([[3., 4.]])
    """
    if weight.ndim != 2:
        raise ValueError(
            f"linear: expected a weight of shape (out_features, in_features), got {weight.shape}"
        )
    out_features, in_features = weight.shape
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ValueError(
            f"linear: expected {in_features} input features on the last axis, got input shape {x.shape} "
            f"(weight shape {weight.shape})"
        )
    if bias is not None and bias.shape != (out_features,):
        raise ValueError(f"linear: expected a bias of shape {(out_features,)}, got {bias.shape}")
    shape = (*x.shape[:-1], out_features)
    rows = prod(x.shape[:-1])

    def value() -> Array:
        y = contract("ni,oi->no", x.reshape(rows, in_features), weight).reshape(shape)
        return y if bias is None else y + bias

    def pullback(g: Array) -> Thunks:
        flat = g.reshape(rows, out_features)
        return {
            "x": lambda: contract("no,oi->ni", flat, weight).reshape(x.shape),
            "weight": lambda: contract("no,ni->oi", flat, x.reshape(rows, in_features)),
            "bias": lambda: accurate_sum(flat, 0),
        }

    return shape, once(value), pullback


linear_vjp = linear.vjp
