"""Convolution over one, two and three spatial axes: three faces of one definition."""

from __future__ import annotations

from typing import Any

from fconv.arrays import Array, Shape
from fconv.engine import each as of_each
from fconv.engine import plans
from fconv.functional.affine import bilinear_push
from fconv.functional.channels import sum_by_channel, sum_by_sample, total_of
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.planned import Planned
from fconv.functional.single import for_sample
from fconv.geometry import Padding, Size

__all__ = [
    "conv1d", "conv1d_jvp", "conv1d_vjp",
    "conv2d", "conv2d_jvp", "conv2d_vjp",
    "conv3d", "conv3d_jvp", "conv3d_vjp",
]  # fmt: skip


def _convolution(
    name: str,
    ndim: int,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
    algorithm: str,
) -> Definition:
    options = (name, ndim, weight, bias, stride, padding, dilation, groups, algorithm)
    if x.ndim == ndim + 2:  # as it mostly is
        return _batched(x, *options)
    return for_sample(x, ndim + 2, lambda x: _batched(x, *options))


def _batched(
    x: Array,
    name: str,
    ndim: int,
    weight: Array,
    bias: Array | None,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
    algorithm: str,
) -> Definition:
    bias_shape = None if bias is None else bias.shape
    geometry, plan = plans.convolution(
        name, ndim, x, weight, bias_shape, stride, padding, dilation, groups, algorithm
    )

    def pullback(g: Array) -> Thunks:
        return {
            "x": lambda: plan.input_gradient(g, weight),
            "weight": lambda: plan.weight_gradient(g, x, weight),
            "bias": lambda: sum_by_channel(g),
            "weight of each": lambda: of_each.weight_gradient(plan, geometry, g, x),
            "weight norm of each": lambda: of_each.weight_norm(plan, geometry, g, x),
            "bias of each": lambda: sum_by_sample(g),
        }

    return (
        geometry.out_shape,
        once(lambda: plan.convolve(x, weight, bias)),
        pullback,
        lambda moved: bilinear_push(plan.convolve, x, weight, moved, -1, *(1,) * ndim),
        lambda: _planned(name, geometry.out_shape, plan),
    )


def _planned(name: str, shape: Shape, plan: plans.Plan) -> Planned:
    at_once = getattr(plan, "gradients", None)  # which compiled kernels have
    joint = None
    if at_once is not None:

        def joint(g: Array, of_x: bool, x: Array, weight: Array, bias: Array | None = None) -> Any:
            return at_once(g, x, weight, None if bias is None else total_of, of_x=of_x)

    pulls = {
        "x": lambda g, x, weight, bias=None: plan.input_gradient(g, weight),
        "weight": lambda g, x, weight, bias=None: plan.weight_gradient(g, x, weight),
        "bias": lambda g, x, weight, bias=None: sum_by_channel(g),
    }
    return Planned(name, shape, plan.convolve, pulls, joint=joint)


@differentiable("x", "weight", "bias", widens=False)
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> Definition:
    """Convolve over two spatial axes (cross-correlation, as torch.nn.functional.conv2d).

    ``y[n, o, i, j] = bias[o] + sum over c, k, l of
    x[n, c, i * stride + k * dilation - padding, j * ...] * weight[o, c, k, l]``

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Input: float16, float32 or float64, any strides.
    weight : array, shape (O, C/groups, kH, kW)
        Filters, of the dtype of `x`.
    bias : array, shape (O,), optional
        Added to every position of an output channel.
    stride : int or (int, int)
        Steps between output positions, at least 1.
    padding : int, (int, int), "same" or "valid"
        Zeros added on both sides. "same" keeps the size (stride 1 only), "valid" adds none.
    dilation : int or (int, int)
        Steps between a filter's elements, at least 1.
    groups : int
        Number of channel groups, each convolved separately; it divides C and O.
    algorithm : {"auto", "direct", "winograd", "reference"}
        How it is computed on the CPU: "auto" takes what is fastest for the shape, and
        `fconv.engine.plans.algorithm_for` tells what that is. "winograd", which "auto" takes for many
        3x3 convolutions in float32, spreads infinities and the rounding errors of large elements over
        4x4 outputs: one pixel of 1e6 among numbers of size 1 puts errors of 0.2 to 0.4 on outputs that
        do not see it. "direct" keeps each output apart from what other positions hold and rounds
        least; "reference" is the definition.

    Returns
    -------
    array, shape (N, O, H', W')
        ``H' = floor((H + 2 padding - dilation (kH - 1) - 1) / stride) + 1``. Its memory order
        is the engine's choice.

    Raises
    ------
    ValueError
        Shapes or options that do not fit each other; the message names them.
    TypeError
        Arrays that are not floating-point, of different dtypes or of different libraries.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> conv2d(x, np.ones((1, 1, 2, 2)))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    >>> dx, dweight, dbias = conv2d_vjp(np.ones((1, 1, 2, 2)), x, np.ones((1, 1, 2, 2)))
    >>> dx
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    return _convolution("conv2d", 2, x, weight, bias, stride, padding, dilation, groups, algorithm)


@differentiable("x", "weight", "bias", widens=False)
def conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> Definition:
    """Convolve over one spatial axis: `conv2d` for x (N, C, L), weight (O, C/groups, k)."""
    return _convolution("conv1d", 1, x, weight, bias, stride, padding, dilation, groups, algorithm)


@differentiable("x", "weight", "bias", widens=False)
def conv3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> Definition:
    """Convolve over three spatial axes: `conv2d` for x (N, C, D, H, W), weight (O, C/groups, kD, kH, kW)."""
    return _convolution("conv3d", 3, x, weight, bias, stride, padding, dilation, groups, algorithm)


conv1d_jvp, conv1d_vjp = conv1d.jvp, conv1d.vjp
conv2d_jvp, conv2d_vjp = conv2d.jvp, conv2d.vjp
conv3d_jvp, conv3d_vjp = conv3d.jvp, conv3d.vjp
