"""Optimizers: pairs of pure functions with torch.optim's update rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from fconv import trees
from fconv.arrays import Array, xp_of

Schedule: TypeAlias = Callable[[int], float]
State: TypeAlias = Any


@dataclass(frozen=True, eq=False)
class Optimizer:
    """An optimizer: how its state begins, and one step.

    Attributes
    ----------
    init : callable
        ``init(params) -> state``, a pytree.
    step : callable
        ``step(params, grads, state) -> (params, state)``. A leaf whose gradient is None is
        left alone. Nothing is mutated.
    name : str
        What error messages call it.
    """

    init: Callable[[Any], State]
    step: Callable[[Any, Any, State], tuple[Any, State]]
    name: str = "optimizer"


def rate(name: str, lr: float | Schedule, count: int) -> float:
    """Give the learning rate of a step: a number, or what the schedule says."""
    value = float(lr(count) if callable(lr) else lr)
    if not value >= 0:
        raise ValueError(f"{name}: expected a learning rate of 0 or more, got {value} at step {count}")
    return value


def check_nonnegative(name: str, **options: float) -> None:
    """Require that options are numbers of 0 or more."""
    for option, value in options.items():
        if isinstance(value, bool) or not value >= 0:
            raise ValueError(f"{name}: expected {option} of 0 or more, got {value}")


def check_gradient(name: str, path: trees.Path, p: Array, g: Array) -> None:
    """Require that a gradient fits its parameter."""
    if getattr(g, "shape", None) != p.shape or g.dtype != p.dtype:
        got = f"{g.dtype} of shape {g.shape}" if hasattr(g, "shape") else repr(g)
        raise ValueError(
            f"{name}: expected a gradient of {p.dtype} and shape {p.shape} for {'.'.join(path)}, got {got}"
        )


def sgd(
    lr: float | Schedule,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent, as torch.optim.SGD.

    ``g = g + weight_decay * p``; ``v = momentum * v + (1 - dampening) * g`` (``v = g`` at the
    first step); ``p = p - lr * v``, or ``p - lr * (g + momentum * v)`` with Nesterov's momentum.

    Parameters
    ----------
    lr : float or callable
        Learning rate, or a function of the number of steps taken before.
    momentum : float
        Share of the velocity that is kept.
    dampening : float
        Share of the gradient that does not enter the velocity.
    weight_decay : float
        Factor of the parameters that is added to their gradients.
    nesterov : bool
        Look ahead along the velocity; needs momentum and no dampening.

    Returns
    -------
    Optimizer
        Its state is ``{"step": int, "velocity": tree or None}``.

    Raises
    ------
    ValueError
        A negative option, or `nesterov` without momentum or with dampening.

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> opt = sgd(lr=0.5, momentum=0.9)
    >>> params = {"w": np.array([1.0])}
    >>> state = opt.init(params)
    >>> for _ in range(2):
    ...     params, state = opt.step(params, {"w": np.array([1.0])}, state)
    >>> params["w"], state["step"]
    (array([-0.45]), 2)
    """
    check_nonnegative(
        "sgd", momentum=momentum, dampening=dampening, weight_decay=weight_decay, **_number("lr", lr)
    )
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(
            f"sgd: nesterov needs a momentum and no dampening, got momentum={momentum}, dampening={dampening}"
        )

    def init(params: Any) -> State:
        velocity = trees.map(lambda p: xp_of(p).zeros_like(p), params) if momentum else None
        return {"step": 0, "velocity": velocity}

    def step(params: Any, grads: Any, state: State) -> tuple[Any, State]:
        count = state["step"]
        speed = rate("sgd", lr, count)

        def slope(path: trees.Path, p: Array, g: Array | None) -> Array | None:
            if g is None:
                return None
            check_gradient("sgd", path, p, g)
            return g + weight_decay * p if weight_decay else g

        def faster(p: Array, g: Array | None, v: Array) -> Array:
            if g is None:
                return v
            return momentum * v + (1 - dampening) * g if count else g

        def moved(p: Array, g: Array | None, v: Array | None) -> Array:
            if g is None:
                return p
            along = g if v is None else g + momentum * v if nesterov else v
            return p - speed * along

        slopes = trees.map_with_path(slope, params, grads)
        if not momentum:
            return trees.map(lambda p, g: moved(p, g, None), params, slopes), {**state, "step": count + 1}
        velocity = trees.map(faster, params, slopes, state["velocity"])
        new = trees.map(moved, params, slopes, velocity)
        return new, {"step": count + 1, "velocity": velocity}

    return Optimizer(init, step, "sgd")


def _number(option: str, value: Any) -> dict[str, float]:
    return {} if callable(value) else {option: value}
