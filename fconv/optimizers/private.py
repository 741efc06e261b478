"""Differentially private training: no single example moves the parameters by more than noise hides."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv import random, trees
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, is_array, narrowed, native, widened, xp_of
from fconv.derivatives.per_example import joint_norms
from fconv.engine.contraction import contract
from fconv.optimizers.base import Optimizer, State, filled, inner_rate
from fconv.optimizers.momentum import sgd
from fconv.options import nonnegative, positive, whole
from fconv.schedules.decay import Schedule


@constructor
def private_sgd(
    lr: float | Schedule = 1e-3,
    *,
    max_norm: float,
    noise_multiplier: float,
    key: Array,
    batch_size: int | None = None,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Stochastic gradient descent that is differentially private (DP-SGD).

    ``g = (sum over i of g[i] * min(1, max_norm / norm(g[i])) + noise) / batch_size``, the norm being that
    of all parameters together and the noise normal of standard deviation ``noise_multiplier * max_norm``;
    then a step of `sgd`.

    Parameters
    ----------
    lr : float or callable
        Learning rate, or a schedule.
    max_norm : float
        What an example's gradient is shortened to, above 0.
    noise_multiplier : float
        Standard deviation of the noise over `max_norm`.
    key : array of uint64, shape (2,)
        The key from which the noise of all steps is derived. Keep it as secret as the examples.
    batch_size : int, optional
        What the sum is divided by: the mean size of a batch, where each example is drawn into a batch
        with a probability of its own, as the usual accountants assume; the size of each batch by default.
    momentum, weight_decay : float
        Of `sgd`.

    Returns
    -------
    Optimizer
        Its `step` takes gradients with a leading axis of examples, from `fconv.per_example_gradients`. Its
        state is ``{"step": int, "key": key, "optimizer": state of sgd}``, so that a state that was saved
        goes on with the same noise.

    Raises
    ------
    TypeError, ValueError
        Invalid options, at once. When it is used: gradients without an axis of examples, or of
        different numbers of them, or no examples where there is no `batch_size`.

    Notes
    -----
    Other wrappers stand around it where they leave gradients as they are, as `ema` does. The loss in
    privacy follows from the noise multiplier, the share of examples in a batch and the number of steps;
    `dp-accounting` computes it, see the guide. The noise is rounded to the dtype of the parameters, which
    the theory leaves out (Mironov, "On significance of the least significant bits for differential
    privacy", 2012).

    References
    ----------
    Abadi et al., "Deep learning with differential privacy", 2016.

    Examples
    --------
    >>> opt = private_sgd(lr=1.0, max_norm=1.0, noise_multiplier=0.0, key=random.key(0))
    >>> p = np.zeros(2)
    >>> opt.step(p, np.array([[30.0, -40.0], [0.2, 0.0]]), opt.init(p))[0].round(4)
    array([-0.4,  0.4])
    """
    name = "private_sgd"
    (longest,) = positive(name, max_norm=max_norm)
    (multiplier,) = nonnegative(name, noise_multiplier=noise_multiplier)
    random.check_key(name, key)
    size = None if batch_size is None else whole(name, "batch_size", batch_size, 1)
    opt = sgd(lr, momentum=momentum, weight_decay=weight_decay)

    def init(params: Any) -> State:
        return {"step": 0, "key": key, "optimizer": opt.init(params)}

    def step(params: Any, grads: Any, state: State) -> tuple[Any, State]:
        if not isinstance(state, dict) or state.keys() != {"step", "key", "optimizer"}:
            raise ValueError(f"{name}: expected a state that its init gave, with step, key and optimizer")
        each = filled(name, params, grads)
        count = _count_examples(name, params, each)
        if not count and size is None:
            raise ValueError(f"{name}: expected one example or more, or a batch_size, got none")
        leaves = [g for g in trees.leaves(each) if g is not None]
        if not leaves:
            return params, {**state, "step": state["step"] + 1}
        norms = joint_norms(each, count, leaves[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = xp_of(norms).minimum(longest / norms, 1.0)
        keys = iter(random.split(random.fold_in(state["key"], state["step"]), len(leaves)))

        def noisy(p: Array, g: Array | None) -> Array | None:
            if g is None:
                return None
            flat = widened(native(g)).reshape(count, int(np.prod(p.shape)))
            total = contract("n,ni->i", factors.astype(flat.dtype), flat).reshape(p.shape)
            noise = random.normal(next(keys), p.shape, np.float64, std=multiplier * longest)
            return narrowed((total + xp_of(p).asarray(noise, total.dtype)) / (size or count), p.dtype)

        params, inner = opt.step(params, trees.map(noisy, params, each), state["optimizer"])
        return params, {**state, "step": state["step"] + 1, "optimizer": inner}

    return Optimizer(init, step, name, lr=inner_rate(opt))


def _count_examples(name: str, params: Any, grads: Any) -> int:
    """Require gradients with one leading axis of examples, and return its length."""
    count = 0
    for i, (path, p, g) in enumerate(at for at in trees.aligned(params, grads) if at[2] is not None):
        if not is_array(g) or g.ndim != p.ndim + 1 or g.shape[1:] != p.shape or g.dtype != p.dtype:
            got = f"{g.dtype} of shape {g.shape}" if hasattr(g, "shape") else repr(g)
            raise ValueError(
                f"{name}: expected gradients by each example, {p.dtype} of shape (N, "
                f"{', '.join(map(str, p.shape))}) for {'.'.join(path) or 'the parameter'}, got {got}; write "
                f"grads = fconv.per_example_gradients(net, loss)(params, x, target)"
            )
        if i and len(g) != count:
            raise ValueError(f"{name}: expected {count} examples for {'.'.join(path)}, got {len(g)}")
        count = len(g)
    return count
