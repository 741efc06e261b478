"""Optimizers that follow an average of the gradients."""

from __future__ import annotations

from fconv.arguments.constructors import constructor
from fconv.arrays import Array, xp_of
from fconv.optimizers.base import Optimizer, leafwise, lerp, zeros
from fconv.optimizers.passes import Own
from fconv.options import decays, shares
from fconv.schedules.decay import Schedule


@constructor
def sgd(
    lr: float | Schedule = 1e-3,
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> Optimizer:
    """Stochastic gradient descent, as torch.optim.SGD.

    ``g = g + weight_decay * p``; ``v = momentum * v + (1 - dampening) * g`` (``v = g`` at the
    first step); ``p = p - lr * v``, or ``p - lr * (g + momentum * v)`` with Nesterov's momentum.

    Parameters
    ----------
    lr : float or callable
        Learning rate, or a schedule: a function of the number of steps taken before.
    momentum : float
        Share of the velocity that is kept.
    dampening : float
        Share of the gradient that does not enter the velocity.
    weight_decay : float
        Factor of the parameters that is added to their gradients.
    nesterov : bool
        Use Nesterov's momentum; needs momentum and no dampening.
    maximize : bool
        Follow the negated gradients.

    Returns
    -------
    Optimizer
        With momentum it keeps ``momentum_buffer`` for each parameter.

    Raises
    ------
    TypeError
        An option is no number.
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
    momentum, dampening = shares("sgd", momentum=momentum, dampening=dampening)
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(
            f"sgd: nesterov needs a momentum and no dampening, got momentum={momentum}, dampening={dampening}"
        )

    def plain(p: Array, g: Array, own: Own, lr: float) -> tuple[Array, Own]:
        return down(p, g, lr), {}

    def with_momentum(p: Array, g: Array, own: Own, lr: float) -> tuple[Array, Own]:
        if dampening and own["step"] == 1:
            v = g
        else:  # the first time, too: the buffer begins with zeros
            v = momentum * own["momentum_buffer"]  # an array of our own, so that adding to it is safe
            v += (1 - dampening) * g if dampening else g
        return down(p, g + momentum * v if nesterov else v, lr), {"momentum_buffer": v}

    def down(p: Array, along: Array, lr: float) -> Array:
        new = -lr * along
        new += p
        return new

    rule, arrays = (with_momentum, zeros("momentum_buffer")) if momentum else (plain, zeros())
    return leafwise("sgd", rule, arrays, lr, weight_decay, maximize=maximize)


@constructor
def lion(
    lr: float | Schedule = 1e-4,
    *,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Optimizer:
    """Lion: steps of one size along the sign of an average.

    ``p = p - lr * (sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * p)``;
    ``m = betas[1] * m + (1 - betas[1]) * g``.
    Errors are those of `adam`.

    Parameters
    ----------
    lr, maximize
        As of `sgd`.
    betas : (float, float)
        Decay rates of the average, for the step and for what is kept.
    weight_decay : float
        Share, times the learning rate, by which parameters shrink in a step.

    Returns
    -------
    Optimizer
        It keeps ``exp_avg`` for each parameter.

    References
    ----------
    Chen et al., "Symbolic discovery of optimization algorithms", 2023.

    Examples
    --------
    >>> import numpy as np
    >>> opt = lion(lr=0.5)
    >>> p = np.array([1.0, 2.0])
    >>> opt.step(p, np.array([0.1, -3.0]), opt.init(p))[0]
    array([0.5, 2.5])
    """
    for_step, kept = decays("lion", betas)

    def rule(p: Array, g: Array, own: Own, lr: float) -> tuple[Array, Own]:
        m = own["exp_avg"]
        along = xp_of(p).sign(lerp(m, g, 1 - for_step))
        return p - lr * along, {"exp_avg": lerp(m, g, 1 - kept)}

    return leafwise("lion", rule, zeros("exp_avg"), lr, weight_decay, decoupled=True, maximize=maximize)
