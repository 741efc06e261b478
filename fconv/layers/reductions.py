"""Layers that reduce axes."""

from __future__ import annotations

from collections.abc import Sequence

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Shape
from fconv.functional.activation import check_axis_of
from fconv.functional.protocols import Differentiable
from fconv.functional.reductions import reduced_axes, shape_over
from fconv.layer import Layer
from fconv.layers.from_function import from_function, frozen
from fconv.options import number, whole

__all__ = [
    "amax",
    "amin",
    "cumprod",
    "cumsum",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "std",
    "sum",
    "var",
    "vector_norm",
]


def _over(
    function: Differentiable[...], dim: int | Sequence[int] | None, keepdim: bool, **options: float
) -> Layer:
    name, dim = function.__name__, frozen(dim)
    return from_function(
        function,
        call={**options, "dim": dim, "keepdim": bool(keepdim)},
        out_shape=lambda shape: shape_over(shape, reduced_axes(name, shape, dim), keepdim),
    )


@constructor
def mean(dim: int | Sequence[int] | None = None, *, keepdim: bool = False) -> Layer:
    """Average along axes, batch axis included; see `fconv.functional.mean`.

    Examples
    --------
    >>> mean((2, 3)).out_shape((8, 64, 7, 7))
    (8, 64)
    """
    return _over(F.mean, dim, keepdim)


@constructor
def sum(dim: int | Sequence[int] | None = None, *, keepdim: bool = False) -> Layer:
    """Add along axes, batch axis included; see `fconv.functional.sum`.

    Examples
    --------
    >>> sum(1, keepdim=True).out_shape((8, 64, 7))
    (8, 1, 7)
    """
    return _over(F.sum, dim, keepdim)


@constructor
def prod(dim: int | Sequence[int] | None = None, *, keepdim: bool = False) -> Layer:
    """Multiply along axes, batch axis included; see `fconv.functional.prod`."""
    return _over(F.prod, dim, keepdim)


@constructor
def amax(dim: int | Sequence[int] | None = None, *, keepdim: bool = False) -> Layer:
    """Return the largest element along axes, batch axis included; see `fconv.functional.amax`.

    Examples
    --------
    >>> amax(-1).out_shape((8, 64, 7))
    (8, 64)
    """
    return _over(F.amax, dim, keepdim)


@constructor
def amin(dim: int | Sequence[int] | None = None, *, keepdim: bool = False) -> Layer:
    """Return the smallest element along axes, batch axis included; see `fconv.functional.amin`."""
    return _over(F.amin, dim, keepdim)


@constructor
def max(dim: int, *, keepdim: bool = False) -> Layer:
    """Return the largest element along an axis, with its gradient; see `fconv.functional.max`."""
    return _over(F.max, whole("max", "dim", dim, -64), keepdim)


@constructor
def min(dim: int, *, keepdim: bool = False) -> Layer:
    """Return the smallest element along an axis, with its gradient; see `fconv.functional.min`."""
    return _over(F.min, whole("min", "dim", dim, -64), keepdim)


@constructor
def var(dim: int | Sequence[int] | None = None, *, correction: float = 1, keepdim: bool = False) -> Layer:
    """Return the variance along axes, batch axis included; see `fconv.functional.var`."""
    return _over(F.var, dim, keepdim, correction=number("var", "correction", correction))


@constructor
def std(dim: int | Sequence[int] | None = None, *, correction: float = 1, keepdim: bool = False) -> Layer:
    """Return the standard deviation along axes, batch axis included; see `fconv.functional.std`."""
    return _over(F.std, dim, keepdim, correction=number("std", "correction", correction))


@constructor
def vector_norm(ord: float = 2, dim: int | Sequence[int] | None = None, *, keepdim: bool = False) -> Layer:
    """Return a norm over axes, batch axis included; see `fconv.functional.vector_norm`.

    Examples
    --------
    >>> vector_norm(2, 1).out_shape((8, 64, 7))
    (8, 7)
    """
    return _over(F.vector_norm, dim, keepdim, ord=number("vector_norm", "ord", ord))


@constructor
def logsumexp(dim: int | Sequence[int] | None = None, *, keepdim: bool = False) -> Layer:
    """Return the logarithm of the sum of exponentials along axes; see `fconv.functional.logsumexp`."""
    return _over(F.logsumexp, dim, keepdim)


@constructor
def cumsum(dim: int) -> Layer:
    """Sum the elements up to each one along an axis; see `fconv.functional.cumsum`."""
    return _along(F.cumsum, dim)


@constructor
def cumprod(dim: int) -> Layer:
    """Multiply the elements up to each one along an axis; see `fconv.functional.cumprod`."""
    return _along(F.cumprod, dim)


def _along(function: Differentiable[...], dim: int) -> Layer:
    name = function.__name__

    def out_shape(shape: Shape) -> Shape:
        check_axis_of(name, shape, dim)
        return shape

    return from_function(function, call={"dim": whole(name, "dim", dim, -64)}, out_shape=out_shape)
