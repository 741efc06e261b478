"""Losses made of the functions of `fconv.functional`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from fconv import functional as F
from fconv.arrays import Array, xp_of
from fconv.functional.protocols import Differentiable
from fconv.functional.sums import accurate_sum, quotient
from fconv.losses.base import Loss


def from_function(function: Differentiable[...], *inputs: str, **options: Any) -> Loss:
    """Make a loss of a function.

    `inputs` name the arrays that `y` stands for, ``x`` where there are none; a tuple of them where
    there are several.
    """
    name, wrt = function.__name__, inputs or ("x",)
    places = [function.arrays.index(each) for each in wrt]
    labels = name in ("nll_loss", "cross_entropy")

    def arguments(y: Any, target: Any) -> dict[str, Any]:
        if len(wrt) == 1:
            given = {wrt[0]: y}
        elif isinstance(y, tuple) and len(y) == len(wrt):
            given = dict(zip(wrt, y, strict=True))
        else:
            came = f"a tuple of {len(y)}" if isinstance(y, tuple) else type(y).__name__
            raise TypeError(f"{name}: expected y to be a tuple ({', '.join(wrt)}), got {came}")
        return given | ({"target": target} if "target" in function.arrays else {}) | options

    def wanted(grads: Any) -> Any:
        each = grads if isinstance(grads, tuple) else (grads,)
        return each[places[0]] if len(wrt) == 1 else tuple(each[place] for place in places)

    def forward(y: Any, target: Any) -> tuple[Array, Callable[..., Any]]:
        value, pull = function.forward(**arguments(y, target))
        return value, lambda g=1.0: wanted(pull(g, wrt=wrt))

    def each(y: Any, target: Any) -> Any:
        given = arguments(y, target)
        if given.get("reduction") == "none":
            raise ValueError(f'{name}: expected a scalar loss, got reduction="none"; write reduction="mean"')
        x = given[wrt[0]]
        if not x.ndim:
            raise ValueError(f"{name}: expected an output with a leading axis of examples, got shape ()")
        losses, pull = function.forward(**given | {"reduction": "none"})
        if not losses.ndim or losses.shape[0] != x.shape[0] or (labels and x.ndim == 1):
            raise ValueError(f"{name}: expected an output of shape (N, ...), got {x.shape}")
        xp = xp_of(x)
        g = xp.ones((), x.dtype)
        if given.get("reduction", "mean") == "mean":
            counts: Any = prod(losses.shape[1:])
            if labels and target.dtype.kind != "f":
                of_target = {option: options[option] for option in ("weight", "ignore_index")}
                weights = F.nll_loss(-xp.ones_like(x), target, **of_target, reduction="none")
                counts = accurate_sum(weights, tuple(range(1, losses.ndim)), keepdims=True)
            g = xp.where(xp.asarray(counts == 0), xp.zeros((), x.dtype), quotient(g, counts))
        return wanted(pull(xp.broadcast_to(g, losses.shape), wrt=wrt))

    return Loss(
        apply=lambda y, target: function(**arguments(y, target)),
        vjp=lambda y, target, g=1.0: wanted(function.vjp(g, wrt=wrt, **arguments(y, target))),
        forward=forward,
        name=name,
        each=each,
        count=_counting(name, options),
    )


def _counting(name: str, options: Mapping[str, Any]) -> Callable[[Any], float] | None:
    """Return what counts the targets that a mean is divided by; None where that is the number of examples."""
    if options.get("reduction") == "sum":
        return lambda target: 0.0
    if "ignore_index" not in options:
        return None
    weight, ignored = options["weight"], options["ignore_index"]

    def count(target: Any) -> float:
        if target.dtype.kind == "f":  # probabilities
            return float(len(target) if target.ndim > 1 else 1)
        kept = target[target != ignored]
        return float(kept.size if weight is None else weight[kept].astype(np.float64).sum())

    return count
