"""Layers that rearrange entries, and the one that does nothing."""

from __future__ import annotations

from collections.abc import Sequence

from fconv import functional as F
from fconv.arrays import Shape
from fconv.functional.shape import flattened_shape, reshaped_shape, unflattened_shape
from fconv.layer import Layer
from fconv.layers.from_function import from_function

__all__ = ["flatten", "identity", "reshape", "unflatten"]


def identity() -> Layer:
    """Give the input as it is.

    Examples
    --------
    >>> identity().out_shape((2, 3))
    (2, 3)
    """
    return Layer(
        init=lambda key, shape, dtype=None: (),
        apply=lambda params, x, *, train=False, key=None: x,
        vjp=lambda params, x, g, *, train=False, key=None: ((), g),
        out_shape=lambda shape: tuple(shape),
        name="identity",
    )


def flatten(start_dim: int = 1, end_dim: int = -1) -> Layer:
    """Make the axes from `start_dim` to `end_dim` one; by default all but the batch axis.

    Examples
    --------
    >>> flatten().out_shape((8, 64, 7, 7))
    (8, 3136)
    """

    def out_shape(shape: Shape) -> Shape:
        n = len(shape)
        if not (-n <= start_dim < n and -n <= end_dim < n):
            raise ValueError(
                f"flatten: an input of shape {shape} lacks start_dim {start_dim} or end_dim {end_dim}"
            )
        return flattened_shape("flatten", shape, start_dim % n, end_dim % n)

    return from_function(F.flatten, call={"start_dim": start_dim, "end_dim": end_dim}, out_shape=out_shape)


def reshape(*shape: int) -> Layer:
    """Lay the entries of each sample out in another shape; one size may be -1.

    Examples
    --------
    >>> reshape(64, 7, -1).out_shape((8, 3136))
    (8, 64, 7, 7)
    """

    def whole_shape(x_shape: Shape) -> Shape:
        return (*x_shape[:1], *reshaped_shape("reshape", x_shape[1:], shape))

    return Layer(
        init=lambda key, x_shape, dtype=None: whole_shape(tuple(x_shape)) and (),
        apply=lambda params, x, *, train=False, key=None: F.reshape(x, whole_shape(x.shape)),
        vjp=lambda params, x, g, *, train=False, key=None: (
            (),
            F.reshape_vjp(g, x, whole_shape(x.shape)),
        ),
        out_shape=lambda x_shape: whole_shape(tuple(x_shape)),
        name="reshape",
        options={"shape": shape},
    )


def unflatten(dim: int, unflattened_size: Sequence[int]) -> Layer:
    """Divide one axis into several; one size may be -1.

    Examples
    --------
    >>> unflatten(1, (64, 7, -1)).out_shape((8, 3136))
    (8, 64, 7, 7)
    """
    return from_function(
        F.unflatten,
        call={"dim": dim, "sizes": unflattened_size},
        options={"dim": dim, "unflattened_size": unflattened_size},
        out_shape=lambda shape: unflattened_shape(shape, dim, unflattened_size),
    )
