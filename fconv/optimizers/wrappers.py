"""Optimizers made of optimizers: clipped and accumulated gradients, averaged parameters.

Each is an `Optimizer` again, so they nest: ``clip_by_global_norm(accumulate_gradients(adam(), 4), 1.0)``
clips each gradient, and ``accumulate_gradients(clip_by_global_norm(adam(), 1.0), 4)`` their mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fconv import trees
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, in_c_order, narrowed, native, widened, xp_of
from fconv.optimizers.base import (
    Optimizer,
    State,
    as_optimizer,
    filled,
    inner_rate,
    inner_state,
    map_gradients,
    map_rules,
)
from fconv.options import nonnegative, shares, whole


@constructor
def clip_by_global_norm(opt: Optimizer, max_norm: float) -> Optimizer:
    """Shorten gradients whose norm, over all parameters together, is too large.

    ``g = g * min(1, max_norm / (norm + 1e-6))``, as ``torch.nn.utils.clip_grad_norm_`` has it.

    Parameters
    ----------
    opt : Optimizer
        What takes the steps.
    max_norm : float
        The largest norm. The norm is summed in float64; where it is NaN, so are all gradients.

    Returns
    -------
    Optimizer
        With the state of `opt`.

    Raises
    ------
    TypeError
        `opt` is no optimizer, or `max_norm` no number.
    ValueError
        `max_norm` is negative.

    References
    ----------
    Pascanu et al., "On the difficulty of training recurrent neural networks", 2013.

    Examples
    --------
    >>> from fconv.optimizers import sgd
    >>> opt = clip_by_global_norm(sgd(lr=1.0), 1.0)
    >>> p = np.zeros(2)
    >>> opt.step(p, np.array([30.0, -40.0]), opt.init(p))[0].round(4)
    array([-0.6,  0.8])
    """
    name = "clip_by_global_norm"
    (longest,) = nonnegative(name, max_norm=max_norm)

    def square(g: Array) -> Array:
        g = in_c_order(g)  # a loaded gradient may have another memory order, in which NumPy sums differently
        return xp_of(g).multiply(g, g, dtype=np.float64).sum()

    def clip(params: Any, grads: Any) -> Any:
        squares = trees.leaves(map_gradients(name, square, params, grads))
        if not squares:
            return grads
        xp = xp_of(squares[0])
        factor = xp.minimum(longest / (xp.sqrt(sum(squares)) + 1e-6), 1.0)
        return map_gradients(name, lambda g: g * factor.astype(g.dtype), params, grads)

    return _clipped(name, opt, clip)


@constructor
def clip_by_value(opt: Optimizer, clip_value: float) -> Optimizer:
    """Bring every element of the gradients between ``-clip_value`` and ``clip_value``.

    As ``torch.nn.utils.clip_grad_value_`` has it.

    Parameters
    ----------
    opt : Optimizer
        What takes the steps.
    clip_value : float
        The largest absolute value. NaN stays NaN.

    Returns
    -------
    Optimizer
        With the state of `opt`.

    Raises
    ------
    TypeError
        `opt` is no optimizer, or `clip_value` no number.
    ValueError
        `clip_value` is negative.

    Examples
    --------
    >>> from fconv.optimizers import sgd
    >>> opt = clip_by_value(sgd(lr=1.0), 1.0)
    >>> p = np.zeros(2)
    >>> opt.step(p, np.array([0.5, -40.0]), opt.init(p))[0]
    array([-0.5,  1. ])
    """
    (largest,) = nonnegative("clip_by_value", clip_value=clip_value)

    def nearest(g: Array) -> Array:
        xp = xp_of(g)
        return xp.minimum(xp.maximum(g, -largest), largest)

    def clip(params: Any, grads: Any) -> Any:
        return map_gradients("clip_by_value", nearest, params, grads)

    return _clipped("clip_by_value", opt, clip)


def _clipped(name: str, opt: Optimizer, clip: Callable[[Any, Any], Any]) -> Optimizer:
    opt = as_optimizer(name, opt)

    def step(params: Any, grads: Any, state: State) -> tuple[Any, State]:
        with np.errstate(over="ignore", invalid="ignore"):
            clipped = clip(params, grads)
        return opt.step(params, clipped, state)

    return Optimizer(
        opt.init, step, name, lr=getattr(opt, "lr", None), within=lambda state, f: map_rules(opt, state, f)
    )


@constructor
def accumulate_gradients(opt: Optimizer, every: int) -> Optimizer:
    """Take one step with the mean of `every` gradients.

    Parameters
    ----------
    opt : Optimizer
        What takes the steps.
    every : int
        Number of calls per step. The last of them moves the parameters; the others hand them
        back as they are. A gradient that is None in some of the calls counts as zero there.

    Returns
    -------
    Optimizer
        Its state is ``{"step": calls, "sum": gradients so far, "optimizer": state of opt}``; the sum
        of float16 gradients is float32.
        The schedule of `opt` counts its own steps, not the calls.

    Raises
    ------
    TypeError
        `opt` is no optimizer, or `every` no integer.
    ValueError
        `every` is below 1.

    Examples
    --------
    >>> from fconv.optimizers import sgd
    >>> opt = accumulate_gradients(sgd(lr=1.0), 2)
    >>> p = np.zeros(1)
    >>> state = opt.init(p)
    >>> for g in (1.0, 3.0):
    ...     p, state = opt.step(p, np.array([g]), state)
    ...     print(p)
    [0.]
    [-2.]
    """
    name = "accumulate_gradients"
    opt, every = as_optimizer(name, opt), whole(name, "every", every)

    def nothing(params: Any) -> Any:
        return trees.map(lambda _: None, params)

    def init(params: Any) -> State:
        return {"step": 0, "sum": nothing(params), "optimizer": opt.init(params)}

    def added(_: Array, g: Array | None, total: Array | None) -> Array | None:
        if g is None:
            return total
        g = widened(g)
        return g if total is None else xp_of(g).asarray(total + g)

    def averaged(p: Array, total: Array | None) -> Array | None:
        return None if total is None else narrowed(total / every, p.dtype)

    def step(params: Any, grads: Any, state: State) -> tuple[Any, State]:
        fit = map_gradients(name, lambda g: g, params, grads)
        total, count = trees.map(added, params, fit, state["sum"]), state["step"] + 1
        if count % every:
            return params, {**state, "step": count, "sum": total}
        params, inner = opt.step(params, trees.map(averaged, params, total), state["optimizer"])
        return params, {"step": count, "sum": nothing(params), "optimizer": inner}

    return Optimizer(init, step, name, lr=inner_rate(opt), within=inner_state(opt))


@constructor
def ema(opt: Optimizer, decay: float = 0.999) -> Optimizer:
    """Keep an exponential moving average of the parameters beside the steps of `opt`.

    ``average = decay * average + (1 - decay) * p`` after each step, from the initial parameters on,
    as torch.optim.swa_utils.AveragedModel with get_ema_avg_fn has it. A leaf without a gradient,
    such as a running statistic, is taken over as it is.

    Parameters
    ----------
    opt : Optimizer
        What takes the steps. Where gradients are accumulated, average the steps rather than the
        calls: ``accumulate_gradients(ema(opt), 4)``.
    decay : float
        Share of the average that is kept, from 0 to 1.

    Returns
    -------
    Optimizer
        Its state is ``{"step": int, "average": params, "optimizer": state of opt}``;
        `ema_params` reads the average, which is float32 for float16 parameters.

    Raises
    ------
    TypeError
        `opt` is no optimizer, or `decay` no number.
    ValueError
        `decay` is not from 0 to 1.

    Examples
    --------
    >>> from fconv.optimizers import sgd
    >>> opt = ema(sgd(lr=1.0), decay=0.75)
    >>> p = np.array([1.0])
    >>> p, state = opt.step(p, np.array([4.0]), opt.init(p))
    >>> p, ema_params(state)
    (array([-3.]), array([0.]))
    """
    opt = as_optimizer("ema", opt)
    (decay,) = shares("ema", decay=decay)

    def init(params: Any) -> State:
        average = trees.map(lambda p: widened(native(p)), params)
        return {"step": 0, "average": average, "optimizer": opt.init(params)}

    def averaged(p: Array, g: Array | None, average: Array) -> Array:
        p = widened(native(p))
        return p if g is None else xp_of(p).asarray(decay * average + (1 - decay) * p)

    def step(params: Any, grads: Any, state: State) -> tuple[Any, State]:
        params, inner = opt.step(params, grads, state["optimizer"])
        average = trees.map(averaged, params, filled("ema", params, grads), state["average"])
        return params, {"step": state["step"] + 1, "average": average, "optimizer": inner}

    return Optimizer(init, step, "ema", lr=inner_rate(opt), within=inner_state(opt))


def ema_params(state: State) -> Any:
    """Read the averaged parameters out of the state of `ema`, whatever wraps it.

    Parameters
    ----------
    state : pytree
        State of an optimizer that `ema` made, or of one that wraps such a one.

    Returns
    -------
    pytree
        Parameters, for ``net.apply``.

    Raises
    ------
    ValueError
        No average is kept in the state.
    """
    inner = state
    while isinstance(inner, dict):
        if "average" in inner:
            return inner["average"]
        inner = inner.get("optimizer")
    raise ValueError("ema_params: expected the state of an optimizer that ema made")
