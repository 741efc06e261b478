"""Losses with a margin: of pairs, triplets and orders."""

from __future__ import annotations

from typing import Any

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.functional.loss_reduction import Reduction, check_reduction
from fconv.functional.protocols import Differentiable
from fconv.losses.base import Loss
from fconv.losses.from_function import from_function
from fconv.options import number

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
]


@constructor
def hinge_embedding_loss(*, margin: float = 1.0, reduction: Reduction = "mean") -> Loss:
    """Hinge loss of the distances of pairs; see `fconv.functional.hinge_embedding_loss`."""
    return _with_margin(F.hinge_embedding_loss, margin, reduction)


@constructor
def margin_ranking_loss(*, margin: float = 0.0, reduction: Reduction = "mean") -> Loss:
    """Hinge loss of the order of two scores; see `fconv.functional.margin_ranking_loss`.

    `y` is the tuple (x1, x2) of scores, and so is its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> margin_ranking_loss().vjp((np.array([1.0]), np.array([3.0])), np.array([1]))
    (array([-1.]), array([1.]))
    """
    return _with_margin(F.margin_ranking_loss, margin, reduction, "x1", "x2")


@constructor
def soft_margin_loss(*, reduction: Reduction = "mean") -> Loss:
    """Logistic loss of labels 1 and -1; see `fconv.functional.soft_margin_loss`."""
    check_reduction("soft_margin_loss", reduction)
    return from_function(F.soft_margin_loss, reduction=reduction)


@constructor
def triplet_margin_loss(
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Loss:
    """Hinge loss of distances to similar and dissimilar points; see `fconv.functional.triplet_margin_loss`.

    `y` is the tuple (anchor, positive, negative), and so is its gradient. There is no target: it
    is passed over, and may be None.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.array([0.0]), np.array([3.0]), np.array([2.0])
    >>> float(triplet_margin_loss(eps=0).apply(points, None))
    2.0
    """
    name = "triplet_margin_loss"
    number(name, "margin", margin, 0, above=True)
    number(name, "p", p, 0)
    number(name, "eps", eps)
    inputs = ("anchor", "positive", "negative")
    return _with_margin(F.triplet_margin_loss, margin, reduction, *inputs, p=p, eps=eps, swap=swap)


@constructor
def cosine_embedding_loss(*, margin: float = 0.0, reduction: Reduction = "mean") -> Loss:
    """Cosine distance of similar and dissimilar vectors; see `fconv.functional.cosine_embedding_loss`.

    `y` is the tuple (x1, x2) of vectors, and so is its gradient.
    """
    return _with_margin(F.cosine_embedding_loss, margin, reduction, "x1", "x2")


def _with_margin(
    function: Differentiable[...], margin: float, reduction: Reduction, *inputs: str, **options: Any
) -> Loss:
    check_reduction(function.__name__, reduction)
    number(function.__name__, "margin", margin)
    return from_function(function, *inputs, margin=margin, reduction=reduction, **options)
