"""Transposed convolution: the input gradient of convolution, as a function of its own."""

from __future__ import annotations

from fconv.arrays import Array
from fconv.engine import each as of_each
from fconv.engine import plans
from fconv.functional.affine import bilinear_push
from fconv.functional.channels import sum_by_channel, sum_by_sample
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.single import for_sample
from fconv.geometry import Size, conv_transpose_geometry

__all__ = [
    "conv_transpose1d", "conv_transpose1d_jvp", "conv_transpose1d_vjp",
    "conv_transpose2d", "conv_transpose2d_jvp", "conv_transpose2d_vjp",
    "conv_transpose3d", "conv_transpose3d_jvp", "conv_transpose3d_vjp",
]  # fmt: skip


def _transposed(
    name: str,
    ndim: int,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
    algorithm: str,
) -> Definition:
    # The engine's three functions change roles: what was the gradient of the output is the
    # input here, and what was the input is the gradient of the output.
    def define(x: Array) -> Definition:
        bias_shape = None if bias is None else bias.shape
        geometry = conv_transpose_geometry(
            name, ndim, x.shape, weight.shape, bias_shape, stride, padding, output_padding, dilation, groups
        )
        plans.check_algorithm(name, algorithm, geometry)
        plan = plans.plan_of(x, geometry, algorithm)

        def transposed(x: Array, weight: Array, bias: Array | None) -> Array:
            y = plan.input_gradient(x, weight)
            if bias is not None:
                y += bias.reshape(-1, *(1,) * ndim)
            return y

        def pullback(g: Array) -> Thunks:
            return {
                "x": lambda: plan.convolve(g, weight, None),
                "weight": lambda: plan.weight_gradient(x, g, weight),
                "bias": lambda: sum_by_channel(g),
                "weight of each": lambda: of_each.weight_gradient(plan, geometry, x, g),
                "weight norm of each": lambda: of_each.weight_norm(plan, geometry, x, g),
                "bias of each": lambda: sum_by_sample(g),
            }

        return (
            geometry.in_shape,
            once(lambda: transposed(x, weight, bias)),
            pullback,
            lambda moved: bilinear_push(transposed, x, weight, moved, -1, *(1,) * ndim),
        )

    return for_sample(x, ndim + 2, define)


@differentiable("x", "weight", "bias", widens=False)
def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    algorithm: str = "auto",
) -> Definition:
    """Transpose a convolution over two spatial axes: its input gradient, plus a bias.

    ``y[n, o, i * stride + k * dilation - padding, j * ...] += x[n, c, i, j] * weight[c, o, k, l]``
    summed over c, i, j, k, l, plus ``bias[o]``.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Input: float16, float32 or float64, any strides.
    weight : array, shape (C, O/groups, kH, kW)
        Filters, of the dtype of `x`.
    bias : array, shape (O,), optional
        Added to every position of an output channel.
    stride : int or (int, int)
        Steps between the places of two input elements in the output, at least 1.
    padding : int or (int, int)
        Elements taken from both ends of the output.
    output_padding : int or (int, int)
        Elements added at its end, fewer than the stride or the dilation.
    groups : int
        Number of channel groups, each convolved separately; it divides C.
    dilation : int or (int, int)
        Steps between a filter's elements, at least 1.

    Returns
    -------
    array, shape (N, O, H', W')
        ``H' = (H - 1) stride - 2 padding + dilation (kH - 1) + output_padding + 1``.

    Raises
    ------
    ValueError
        Shapes or options that do not fit each other; the message names them.
    TypeError
        Arrays that are not floating-point, of different dtypes or of different libraries.

    References
    ----------
    Zeiler et al., "Deconvolutional networks", 2010; Dumoulin and Visin, "A guide to convolution
    arithmetic for deep learning", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose2d(np.array([[[[1.0, 2.0]]]]), np.ones((1, 1, 1, 2)), stride=(1, 2))
    array([[[[1., 1., 2., 2.]]]])
    """
    return _transposed(
        "conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation, algorithm
    )


@differentiable("x", "weight", "bias", widens=False)
def conv_transpose1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    algorithm: str = "auto",
) -> Definition:
    """Transpose a convolution over one spatial axis: `conv_transpose2d` for x (N, C, L)."""
    return _transposed(
        "conv_transpose1d", 1, x, weight, bias, stride, padding, output_padding, groups, dilation, algorithm
    )


@differentiable("x", "weight", "bias", widens=False)
def conv_transpose3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    algorithm: str = "auto",
) -> Definition:
    """Transpose a convolution over three spatial axes: `conv_transpose2d` for x (N, C, D, H, W)."""
    return _transposed(
        "conv_transpose3d", 3, x, weight, bias, stride, padding, output_padding, groups, dilation, algorithm
    )


conv_transpose1d_jvp, conv_transpose1d_vjp = conv_transpose1d.jvp, conv_transpose1d.vjp
conv_transpose2d_jvp, conv_transpose2d_vjp = conv_transpose2d.jvp, conv_transpose2d.vjp
conv_transpose3d_jvp, conv_transpose3d_vjp = conv_transpose3d.jvp, conv_transpose3d.vjp
