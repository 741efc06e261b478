"""Layers that reduce axes to one entry each."""

from __future__ import annotations

from collections.abc import Sequence

from fconv import functional as F
from fconv.constructors import constructor
from fconv.functional.core import Differentiable
from fconv.functional.reductions import reduced_axes, shape_over
from fconv.layer import Layer
from fconv.layers.from_function import from_function, frozen

__all__ = ["amax", "mean", "sum"]


def _over(function: Differentiable[...], dim: int | Sequence[int] | None, keepdim: bool) -> Layer:
    name, dim = function.__name__, frozen(dim)
    return from_function(
        function,
        call={"dim": dim, "keepdim": bool(keepdim)},
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
def amax(dim: int | Sequence[int] | None = None, *, keepdim: bool = False) -> Layer:
    """Give the largest entry along axes, batch axis included; see `fconv.functional.amax`.

    Examples
    --------
    >>> amax(-1).out_shape((8, 64, 7))
    (8, 64)
    """
    return _over(F.amax, dim, keepdim)
