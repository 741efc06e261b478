"""Optimizers of Adam's kind: an average of the gradients over the root of one of their squares."""

from __future__ import annotations

from fconv.arguments.constructors import constructor
from fconv.arrays import Array, xp_of
from fconv.optimizers.base import Optimizer, leafwise, lerp, zeros
from fconv.optimizers.passes import Own
from fconv.options import decays, nonnegative
from fconv.schedules.decay import Schedule


@constructor
def adam(
    lr: float | Schedule = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
) -> Optimizer:
    """Adam, as torch.optim.Adam.

    ``g = g + weight_decay * p``; ``m = betas[0] * m + (1 - betas[0]) * g``;
    ``v = betas[1] * v + (1 - betas[1]) * g**2``;
    ``p = p - lr * m / (1 - betas[0]**t) / (sqrt(v / (1 - betas[1]**t)) + eps)`` at step t = 1, 2, ...

    Parameters
    ----------
    lr, weight_decay, maximize
        As of `sgd`.
    betas : (float, float)
        Decay rates of the averages of the gradients and of their squares, from 0 to below 1.
    eps : float
        Added to the divisor.
    amsgrad : bool
        Divide by the largest `v` so far.

    Returns
    -------
    Optimizer
        It keeps ``exp_avg``, ``exp_avg_sq`` and, with `amsgrad`, ``max_exp_avg_sq``.

    Raises
    ------
    TypeError
        An option is no number.
    ValueError
        An option is out of its range.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", 2015. Reddi et al., "On the
    convergence of Adam and beyond", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> opt = adam(lr=0.5, eps=0.0)
    >>> p = np.array([1.0, 2.0])
    >>> opt.step(p, np.array([0.1, -3.0]), opt.init(p))[0]
    array([0.5, 2.5])
    """
    return _adam("adam", lr, betas, eps, weight_decay, amsgrad, maximize, decoupled=False)


@constructor
def adamw(
    lr: float | Schedule = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    maximize: bool = False,
) -> Optimizer:
    """Adam with decoupled weight decay, as torch.optim.AdamW.

    ``p = p * (1 - lr * weight_decay)``, then Adam's step without weight decay.
    Errors are those of `adam`.

    Parameters
    ----------
    lr, betas, eps, amsgrad, maximize
        As of `adam`.
    weight_decay : float
        Share, times the learning rate, by which parameters shrink before a step.

    Returns
    -------
    Optimizer
        It keeps what `adam` keeps.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """
    return _adam("adamw", lr, betas, eps, weight_decay, amsgrad, maximize, decoupled=True)


def _adam(
    name: str,
    lr: float | Schedule,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
    decoupled: bool,
) -> Optimizer:
    beta1, beta2 = decays(name, betas)
    (eps,) = nonnegative(name, eps=eps)

    def rule(p: Array, g: Array, own: Own, lr: float) -> tuple[Array, Own]:
        xp, t = xp_of(p), own["step"]
        m, v = moments(g, own, beta1, beta2)
        kept = {"exp_avg": m, "exp_avg_sq": v}
        if amsgrad:
            v = kept["max_exp_avg_sq"] = xp.maximum(own["max_exp_avg_sq"], v)
        root = xp.sqrt(v) / (1 - beta2**t) ** 0.5 + eps
        return p - lr / (1 - beta1**t) * (m / root), kept

    arrays = zeros("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if amsgrad else []))
    return leafwise(name, rule, arrays, lr, weight_decay, decoupled=decoupled, maximize=maximize)


@constructor
def nadam(
    lr: float | Schedule = 2e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> Optimizer:
    """Adam with Nesterov's momentum, as torch.optim.NAdam.

    With Adam's m and v, ``mu(t) = betas[0] * (1 - 0.96**(t * momentum_decay) / 2)`` and the
    product M(t) of mu up to t: ``p = p - lr * n / (sqrt(v / (1 - betas[1]**t)) + eps)``, where
    ``n = mu(t + 1) * m / (1 - M(t + 1)) + (1 - mu(t)) * g / (1 - M(t))``.
    Errors are those of `adam`.

    Parameters
    ----------
    lr, betas, eps, weight_decay, maximize
        As of `adam`.
    momentum_decay : float
        How fast mu approaches ``betas[0]``.
    decoupled_weight_decay : bool
        Decay weights as `adamw` does.

    Returns
    -------
    Optimizer
        It keeps ``exp_avg``, ``exp_avg_sq`` and the number ``mu_product``.

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """
    beta1, beta2 = decays("nadam", betas)
    eps, momentum_decay = nonnegative("nadam", eps=eps, momentum_decay=momentum_decay)

    def mu(t: int) -> float:
        return beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    def rule(p: Array, g: Array, own: Own, lr: float) -> tuple[Array, Own]:
        t = own["step"]
        m, v = moments(g, own, beta1, beta2)
        product = own["mu_product"] * mu(t)
        root = xp_of(p).sqrt(v / (1 - beta2**t)) + eps
        ahead = lr * mu(t + 1) / (1 - product * mu(t + 1)) * m
        here = lr * (1 - mu(t)) / (1 - product) * g
        return p - (ahead + here) / root, {"exp_avg": m, "exp_avg_sq": v, "mu_product": product}

    return leafwise(
        "nadam",
        rule,
        zeros("exp_avg", "exp_avg_sq"),
        lr,
        weight_decay,
        decoupled=decoupled_weight_decay,
        maximize=maximize,
        numbers={"mu_product": 1.0},
    )


def moments(g: Array, own: Own, beta1: float, beta2: float) -> tuple[Array, Array]:
    """Take a gradient into the running averages of gradients and of squares."""
    return lerp(own["exp_avg"], g, 1 - beta1), beta2 * own["exp_avg_sq"] + (1 - beta2) * (g * g)
