"""Random masks."""

from __future__ import annotations

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.functional.masking import check_mode, check_probability
from fconv.functional.protocols import Differentiable
from fconv.layer import Layer
from fconv.layers.from_function import from_function

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "stochastic_depth"]


@constructor
def dropout(p: float = 0.5) -> Layer:
    """In training, set elements to 0 with probability `p`; see `fconv.functional.dropout`.

    Raises
    ------
    ValueError
        `p` is outside [0, 1]; when used in training, no key is given.

    Examples
    --------
    >>> import numpy as np
    >>> dropout(0.5).apply((), np.ones(3), train=True)
    Traceback (most recent call last):
    ValueError: dropout: a key is needed in training (train=True); pass key=fconv.random.key(seed)
    """
    return _dropout(F.dropout, p)


@constructor
def dropout1d(p: float = 0.5) -> Layer:
    """In training, drop whole channels of sequences; see `fconv.functional.dropout1d`."""
    return _dropout(F.dropout1d, p, 1)


@constructor
def dropout2d(p: float = 0.5) -> Layer:
    """In training, drop whole channels of images; see `fconv.functional.dropout2d`."""
    return _dropout(F.dropout2d, p, 2)


@constructor
def dropout3d(p: float = 0.5) -> Layer:
    """In training, drop whole channels of volumes; see `fconv.functional.dropout3d`."""
    return _dropout(F.dropout3d, p, 3)


@constructor
def alpha_dropout(p: float = 0.5) -> Layer:
    """In training, drop elements as suits `selu`; see `fconv.functional.alpha_dropout`."""
    return _dropout(F.alpha_dropout, p)


@constructor
def stochastic_depth(p: float, mode: str = "row") -> Layer:
    """In training, drop whole samples, or the whole batch; see `fconv.functional.stochastic_depth`."""
    check_probability("stochastic_depth", p)
    check_mode(mode)
    return from_function(F.stochastic_depth, call={"p": p, "mode": mode}, random_key=True)


def _dropout(function: Differentiable[...], p: float, ndim: int | None = None) -> Layer:
    name = function.__name__
    check_probability(name, p)

    return from_function(function, call={"p": p}, random_key=True, ndim=ndim)
