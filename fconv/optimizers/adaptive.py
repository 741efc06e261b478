"""Optimizers that divide each gradient by the root of a sum or average of its squares."""

from __future__ import annotations

from fconv.arguments.constructors import constructor
from fconv.arrays import Array, xp_of
from fconv.optimizers.base import Optimizer, leafwise, lerp, zeros
from fconv.optimizers.passes import Own
from fconv.options import nonnegative, shares
from fconv.schedules.decay import Schedule


@constructor
def rmsprop(
    lr: float | Schedule = 1e-2,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
) -> Optimizer:
    """RMSprop, as torch.optim.RMSprop.

    ``g = g + weight_decay * p``; ``v = alpha * v + (1 - alpha) * g**2``;
    ``u = g / (sqrt(v) + eps)``; ``p = p - lr * u``, or with momentum ``b = momentum * b + u`` and
    ``p = p - lr * b``.
    Errors are those of `adam`.

    Parameters
    ----------
    lr, weight_decay, maximize
        As of `sgd`.
    alpha : float
        Decay rate of the averages.
    eps : float
        Added to the divisor.
    momentum : float
        Share of the last step that is kept.
    centered : bool
        Divide by the root of the variance, ``v - m**2`` with the average m of the gradients.

    Returns
    -------
    Optimizer
        It keeps ``square_avg`` and, where they are needed, ``momentum_buffer`` and ``grad_avg``.

    References
    ----------
    Hinton, "Neural networks for machine learning", lecture 6, 2012. Graves, "Generating sequences
    with recurrent neural networks", 2013, for the centered form.

    Examples
    --------
    >>> import numpy as np
    >>> opt = rmsprop(lr=0.5, alpha=0.75, eps=0.0)
    >>> p = np.array([1.0, 2.0])
    >>> opt.step(p, np.array([0.1, -3.0]), opt.init(p))[0]
    array([0., 3.])
    """
    alpha, momentum = shares("rmsprop", alpha=alpha, momentum=momentum)
    (eps,) = nonnegative("rmsprop", eps=eps)

    def rule(p: Array, g: Array, own: Own, lr: float) -> tuple[Array, Own]:
        variance = own["square_avg"] * alpha + (1 - alpha) * (g * g)
        kept = {"square_avg": variance}
        if centered:
            m = kept["grad_avg"] = lerp(own["grad_avg"], g, 1 - alpha)
            variance = variance - m * m
        along = g / (xp_of(p).sqrt(variance) + eps)
        if momentum:
            along = kept["momentum_buffer"] = momentum * own["momentum_buffer"] + along
        return p - lr * along, kept

    names = ["square_avg", *(["grad_avg"] if centered else []), *(["momentum_buffer"] if momentum else [])]
    return leafwise("rmsprop", rule, zeros(*names), lr, weight_decay, maximize=maximize)


@constructor
def adagrad(
    lr: float | Schedule = 1e-2,
    *,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> Optimizer:
    """Adagrad, as torch.optim.Adagrad.

    ``g = g + weight_decay * p``; ``s = s + g**2``;
    ``p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)`` at step t = 1, 2, ...
    Errors are those of `adam`.

    Parameters
    ----------
    lr, weight_decay, maximize
        As of `sgd`.
    lr_decay : float
        How fast the learning rate falls.
    initial_accumulator_value : float
        What the sums of squares start with.
    eps : float
        Added to the divisor.

    Returns
    -------
    Optimizer
        It keeps ``sum`` for each parameter.

    References
    ----------
    Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization", 2011.

    Examples
    --------
    >>> import numpy as np
    >>> opt = adagrad(lr=0.5)
    >>> p = np.array([1.0, 2.0])
    >>> opt.step(p, np.array([0.1, -3.0]), opt.init(p))[0]
    array([0.5, 2.5])
    """
    lr_decay, initial, eps = nonnegative(
        "adagrad", lr_decay=lr_decay, initial_accumulator_value=initial_accumulator_value, eps=eps
    )

    def rule(p: Array, g: Array, own: Own, lr: float) -> tuple[Array, Own]:
        total = own["sum"] + g * g
        speed = lr / (1 + (own["step"] - 1) * lr_decay)
        return p - speed * (g / (xp_of(p).sqrt(total) + eps)), {"sum": total}

    return leafwise("adagrad", rule, {"sum": initial}, lr, weight_decay, maximize=maximize)


@constructor
def adadelta(
    lr: float | Schedule = 1.0,
    *,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Optimizer:
    """Adadelta, as torch.optim.Adadelta.

    ``g = g + weight_decay * p``; ``v = rho * v + (1 - rho) * g**2``;
    ``d = sqrt(a + eps) / sqrt(v + eps) * g``; ``a = rho * a + (1 - rho) * d**2``; ``p = p - lr * d``.
    Errors are those of `adam`.

    Parameters
    ----------
    lr, weight_decay, maximize
        As of `sgd`.
    rho : float
        Decay rate of the averages, from 0 to 1.
    eps : float
        Added to the averages under the roots.

    Returns
    -------
    Optimizer
        It keeps ``square_avg`` and ``acc_delta`` for each parameter.

    References
    ----------
    Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """
    (rho,) = shares("adadelta", rho=rho)
    (eps,) = nonnegative("adadelta", eps=eps)

    def rule(p: Array, g: Array, own: Own, lr: float) -> tuple[Array, Own]:
        xp = xp_of(p)
        v = rho * own["square_avg"] + (1 - rho) * (g * g)
        d = xp.sqrt(own["acc_delta"] + eps) / xp.sqrt(v + eps) * g
        kept = {"square_avg": v, "acc_delta": rho * own["acc_delta"] + (1 - rho) * (d * d)}
        return p - lr * d, kept

    return leafwise("adadelta", rule, zeros("square_avg", "acc_delta"), lr, weight_decay, maximize=maximize)
