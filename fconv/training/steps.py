"""The whole state of a training run, and its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fconv import random, trees
from fconv.arguments.signatures import explained
from fconv.arrays import Array, Shape, describe
from fconv.derivatives.gradients import value_and_grad
from fconv.layer import Layer, Params, as_layer
from fconv.losses.base import Loss, as_loss
from fconv.optimizers import Optimizer
from fconv.optimizers.base import as_optimizer

if TYPE_CHECKING:
    from fconv.distributed import Communicator


@trees.register
class TrainState(NamedTuple):
    """All that a training run needs to continue: one pytree, which `fconv.save` can write.

    Attributes
    ----------
    params : pytree
        The network's parameters.
    opt_state : pytree
        The optimizer's state.
    key : array of uint64, shape (2,)
        The key from which each step folds its own.
    step : int
        Steps taken.
    """

    params: Any
    opt_state: Any
    key: Array
    step: int


def train_state(net: Layer, opt: Optimizer, key: Array, shape: Shape, dtype: Any = np.float32) -> TrainState:
    """Begin a training run.

    Parameters
    ----------
    net : Layer
        The network.
    opt : Optimizer
        The optimizer.
    key : array of uint64, shape (2,)
        Everything random in the run follows from it.
    shape : tuple of int
        Input shape, batch axis included.
    dtype : dtype
        Of the parameters.

    Returns
    -------
    TrainState
        With freshly drawn parameters, at step 0.

    Raises
    ------
    ValueError, TypeError
        As `net.init` raises them.

    Examples
    --------
    >>> from fconv.layers import linear
    >>> from fconv.optimizers import sgd
    >>> train_state(linear(2), sgd(0.1), random.key(0), (8, 4)).step
    0
    """
    check_optimizer("train_state", opt)
    random.check_key("train_state", key)
    init_key, run_key = random.split(key)
    params = as_layer("train_state", net).init(init_key, shape, dtype)
    return TrainState(params, opt.init(params), run_key, 0)


def check_optimizer(name: str, opt: Any) -> None:
    """Require an optimizer, `mixed_precision` included."""
    if getattr(opt, "loss_scale", None) is None:  # which stands outermost, and so here
        as_optimizer(name, opt)


def train_step(
    net: Layer,
    loss: Loss,
    opt: Optimizer,
    *,
    trainable: str | Sequence[str] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    comm: Communicator | None = None,
    shards: int | None = None,
) -> Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, Any]]]:
    """Make the pure function that takes one step of training.

    Parameters
    ----------
    net, loss, opt
        The network, loss and optimizer.
    trainable : str or sequence of str, optional
        As for `value_and_grad`.
    metrics : mapping, optional
        Functions ``(y, target) -> number`` by name, such as those of `fconv.metrics`, of the output
        of the step's forward pass.
    comm : Communicator, optional
        The ranks that compute the step together, each called with the whole batch, as
        `fconv.distributed.value_and_grad` has it; metrics are then means over the shards.
    shards : int, optional
        With `comm`: the number of parts that the batch is divided into.

    Returns
    -------
    callable
        ``(state, x, target) -> (state, metrics)``; metrics holds the ``loss`` before the step, the
        learning rate ``lr`` of the step (for `fconv.by_name` a dict by pattern), what `metrics` names, and
        with `fconv.mixed_precision` the ``loss_scale`` and whether the step was ``skipped``.
        The step's randomness is ``fold_in(state.key, state.step)``, so a state that was saved
        and loaded goes on bit for bit.

    Raises
    ------
    TypeError
        As `value_and_grad` raises it.

    Examples
    --------
    >>> from fconv.layers import linear
    >>> from fconv.losses import mse_loss
    >>> from fconv.optimizers import sgd
    >>> net, opt = linear(1), sgd(0.1)
    >>> state = train_state(net, opt, random.key(0), (2, 3))
    >>> x, target = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
    >>> state, metrics = train_step(net, mse_loss(), opt)(state, x, target)
    >>> state.step, sorted(metrics), metrics["lr"]
    (1, ['loss', 'lr'], 0.1)
    """
    loss = as_loss("train_step", loss)
    check_optimizer("train_step", opt)
    measures = dict(metrics or {})
    if comm is None:
        of_one = value_and_grad(net, loss, trainable=trainable, outputs=True)
    else:
        from fconv import distributed

        of_all = distributed.value_and_grad(net, loss, comm, shards, trainable=trainable, metrics=measures)

    def loss_and_grad(params: Params, x: Any, target: Any, **options: Any) -> tuple[Any, ...]:
        if comm is not None:
            return of_all(params, x, target, **options)
        value, grads, params, y = of_one(params, x, target, **options)
        return value, grads, params, {name: measure(y, target) for name, measure in measures.items()}

    scale_of, rate_of = getattr(opt, "loss_scale", None), getattr(opt, "lr", None)

    def step(state: TrainState, x: Any, target: Any) -> tuple[TrainState, dict[str, Any]]:
        if not hasattr(state, "opt_state"):
            raise TypeError(
                f"train_step(net, loss, opt): expected a TrainState, got {describe(state)}; "
                f"write state = train_state(net, opt, key, shape)"
            )
        key = random.fold_in(state.key, state.step)
        scale = scale_of(state.opt_state) if scale_of is not None else None
        value, grads, params, measured = loss_and_grad(state.params, x, target, key=key, scale=scale)
        params, opt_state = opt.step(params, grads, state.opt_state)
        found = {"loss": value}
        if rate_of is not None:
            found["lr"] = rate_of(state.opt_state)
        if scale is not None:
            found |= {"loss_scale": scale, "skipped": opt_state["skipped"]}
        found |= measured
        return TrainState(params, opt_state, state.key, state.step + 1), found

    return explained("train_step(net, loss, opt)", step)
