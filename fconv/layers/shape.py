"""Layers that reshape, and the identity."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape
from fconv.functional.core import Definition, differentiable
from fconv.functional.shape import flattened_shape, reshaped_shape, unflattened_shape
from fconv.layer import Layer
from fconv.layers.from_function import from_function, frozen
from fconv.options import whole

__all__ = ["flatten", "identity", "reshape", "unflatten", "view"]


@constructor
def identity() -> Layer:
    """Return the input as it is.

    Examples
    --------
    >>> identity().out_shape((2, 3))
    (2, 3)
    """

    @differentiable("x", linear=True)
    def identity(x: Array) -> Definition:
        return x.shape, lambda: x, lambda g: g

    return from_function(identity)


@constructor
def flatten(start_dim: int = 1, end_dim: int = -1) -> Layer:
    """Flatten the axes from `start_dim` to `end_dim` into one; by default all but the batch axis.

    Examples
    --------
    >>> flatten().out_shape((8, 64, 7, 7))
    (8, 3136)
    """
    start_dim, end_dim = (
        whole("flatten", what, dim, -64) for what, dim in (("start_dim", start_dim), ("end_dim", end_dim))
    )

    def out_shape(shape: Shape) -> Shape:
        n = len(shape)
        if not (-n <= start_dim < n and -n <= end_dim < n):
            raise ValueError(
                f"flatten: an input of shape {shape} lacks start_dim {start_dim} or end_dim {end_dim}"
            )
        return flattened_shape("flatten", shape, start_dim % n, end_dim % n)

    return from_function(F.flatten, call={"start_dim": start_dim, "end_dim": end_dim}, out_shape=out_shape)


@constructor
def reshape(*shape: int | Sequence[int]) -> Layer:
    """Reshape each sample; one size may be -1.

    Examples
    --------
    >>> reshape(64, 7, -1).out_shape((8, 3136))
    (8, 64, 7, 7)
    """

    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    wanted = tuple(whole("reshape", "a size", size, -1) for size in sizes)
    reshaped_shape("reshape", (prod(size for size in wanted if size != -1),), wanted)

    def out_shape(x_shape: Shape) -> Shape:
        return (*x_shape[:1], *reshaped_shape("reshape", x_shape[1:], wanted))

    return from_function(
        F.reshape,
        call=lambda x_shape: {"shape": out_shape(x_shape)},
        options={"shape": wanted},
        out_shape=out_shape,
    )


@constructor
def view(*shape: int | Sequence[int]) -> Layer:
    """Reshape the input, batch axis included, as torch.Tensor.view writes it.

    Parameters
    ----------
    *shape : int
        The whole new shape. One size may be -1, which is what remains; 0 keeps the size of that axis.

    Returns
    -------
    Layer
        A `fconv.functional.reshape`.

    Raises
    ------
    ValueError, TypeError
        Invalid sizes, when the layer is used where that needs the input.

    Examples
    --------
    >>> view(-1, 400).out_shape((8, 16, 5, 5))
    (8, 400)
    >>> view(0, -1).out_shape((8, 16, 5, 5))
    (8, 400)
    """
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    wanted = tuple(whole("view", "a size", size, -1) for size in sizes)

    def out_shape(x_shape: Shape) -> Shape:
        if any(size == 0 and axis >= len(x_shape) for axis, size in enumerate(wanted)):
            raise ValueError(f"view: an input of shape {x_shape} lacks an axis that a 0 in {wanted} keeps")
        rest = tuple(size for axis, size in enumerate(x_shape) if wanted[axis : axis + 1] != (0,))
        sizes = iter(reshaped_shape("view", rest, tuple(size for size in wanted if size)))
        return tuple(x_shape[axis] if size == 0 else next(sizes) for axis, size in enumerate(wanted))

    return from_function(
        F.reshape,
        name="view",
        call=lambda x_shape: {"shape": out_shape(x_shape)},
        options={"shape": wanted},
        out_shape=out_shape,
    )


@constructor
def unflatten(dim: int, unflattened_size: Sequence[int]) -> Layer:
    """Divide one axis into several; one size may be -1.

    Examples
    --------
    >>> unflatten(1, (64, 7, -1)).out_shape((8, 3136))
    (8, 64, 7, 7)
    """
    dim, unflattened_size = whole("unflatten", "dim", dim, -64), frozen(unflattened_size)
    return from_function(
        F.unflatten,
        call={"dim": dim, "sizes": unflattened_size},
        options={"dim": dim, "unflattened_size": unflattened_size},
        out_shape=lambda shape: unflattened_shape(shape, dim, unflattened_size),
    )
