"""Losses of numbers against numbers, and of distributions against what was drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi

import numpy as np

from fconv.arrays import Array, Shape, any_of, xp_of
from fconv.functional.core import Definition, Thunks, differentiable, once
from fconv.functional.loss_reduction import Reduction, check_reduction, check_same_shape, per_element, reduced
from fconv.functional.sums import accurate_sum
from fconv.options import number

__all__ = [
    "gaussian_nll_loss", "gaussian_nll_loss_jvp", "gaussian_nll_loss_vjp",
    "huber_loss", "huber_loss_jvp", "huber_loss_vjp",
    "l1_loss", "l1_loss_jvp", "l1_loss_vjp",
    "mse_loss", "mse_loss_jvp", "mse_loss_vjp",
    "poisson_nll_loss", "poisson_nll_loss_jvp", "poisson_nll_loss_vjp",
    "smooth_l1_loss", "smooth_l1_loss_jvp", "smooth_l1_loss_vjp",
]  # fmt: skip


@differentiable("x", "target")
def mse_loss(x: Array, target: Array, reduction: Reduction = "mean") -> Definition:
    """Squared difference, ``(x - target)**2``, over all elements.

    Parameters
    ----------
    x, target : array
        Floating-point, of one shape and dtype.
    reduction : {"mean", "sum", "none"}
        Mean over all elements, their sum, or each element's own.

    Returns
    -------
    array
        0-dimensional, or in the shape of `x` for "none". The mean over no elements is NaN.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes differ, or the reduction is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> float(mse_loss(np.array([1.0, 3.0]), np.array([0.0, 0.0])))
    5.0
    """
    return _of_difference("mse_loss", x, target, reduction, lambda d: d**2, lambda d: 2 * d)


@differentiable("x", "target")
def l1_loss(x: Array, target: Array, reduction: Reduction = "mean") -> Definition:
    """Absolute difference, ``|x - target|``; arguments and result as of `mse_loss`.

    The gradient where the two are equal is 0.

    Examples
    --------
    >>> import numpy as np
    >>> float(l1_loss(np.array([1.0, -3.0]), np.array([0.0, 0.0])))
    2.0
    """
    return _absolute("l1_loss", x, target, reduction)


@differentiable("x", "target")
def smooth_l1_loss(x: Array, target: Array, reduction: Reduction = "mean", beta: float = 1.0) -> Definition:
    """Absolute difference, rounded off to a parabola where it is below `beta`.

    ``d**2 / (2 beta)`` where ``|d| = |x - target| < beta``, and ``|d| - beta / 2`` elsewhere:
    `huber_loss` over its delta. Arguments and result are as of `mse_loss`.

    Parameters
    ----------
    beta : float
        Where the parabola ends, 0 or more; 0 gives `l1_loss`.

    References
    ----------
    Girshick, "Fast R-CNN", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> smooth_l1_loss(np.array([0.5, -3.0]), np.zeros(2), "none")
    array([0.125, 2.5  ])
    """
    beta = number("smooth_l1_loss", "beta", beta, 0)
    if beta == 0:
        return _absolute("smooth_l1_loss", x, target, reduction)
    return _rounded("smooth_l1_loss", x, target, reduction, beta, beta)


@differentiable("x", "target")
def huber_loss(x: Array, target: Array, reduction: Reduction = "mean", delta: float = 1.0) -> Definition:
    """Half the squared difference, continued linearly beyond `delta`.

    ``d**2 / 2`` where ``|d| = |x - target| <= delta``, and ``delta (|d| - delta / 2)`` elsewhere.
    Arguments and result are as of `mse_loss`.

    Parameters
    ----------
    delta : float
        Difference at which the loss becomes linear, above 0.

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964.

    Examples
    --------
    >>> import numpy as np
    >>> huber_loss(np.array([1.0, -3.0]), np.zeros(2), "none", delta=2.0)
    array([0.5, 4. ])
    """
    delta = number("huber_loss", "delta", delta, 0, above=True)
    return _rounded("huber_loss", x, target, reduction, delta, 1.0)


def _of_difference(
    name: str,
    x: Array,
    target: Array,
    reduction: Reduction,
    loss: Callable[[Array], Array],
    slope: Callable[[Array], Array],
) -> Definition:
    """Define a loss by what it makes of ``x - target``, and by the derivative of that."""
    check_same_shape(name, x, target=target)
    check_reduction(name, reduction)
    difference = once(lambda: x - target)
    of_x = once(lambda: slope(difference()))
    return per_element(lambda: loss(difference()), x.shape, reduction, x=of_x, target=lambda: -of_x())


def _absolute(name: str, x: Array, target: Array, reduction: Reduction) -> Definition:
    xp = xp_of(x)
    return _of_difference(name, x, target, reduction, xp.abs, xp.sign)


def _rounded(
    name: str, x: Array, target: Array, reduction: Reduction, limit: float, divisor: float
) -> Definition:
    def clipped(d: Array) -> Array:
        return xp_of(x).clip(d, -limit, limit)

    def loss(d: Array) -> Array:
        c = clipped(d)
        # The parabola inside of the limit and the line beyond, neither of which can overflow.
        return c / divisor * (d - 0.5 * c)

    return _of_difference(name, x, target, reduction, loss, lambda d: clipped(d) / divisor)


@differentiable("x", "target")
def poisson_nll_loss(
    x: Array,
    target: Array,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Definition:
    """Negative log-likelihood of counts of a Poisson distribution.

    ``exp(x) - target x``, or ``x - target log(x + eps)`` where `x` is the rate itself.

    Parameters
    ----------
    x, target : array
        Logarithms of the rates (or the rates) and the counts, of one shape and dtype.
    log_input : bool
        `x` holds logarithms.
    full : bool
        Add Stirling's approximation of ``log(target!)``, ``target log(target) - target +
        log(2 pi target) / 2``, for targets above 1.
    eps : float
        Added to rates before their logarithm is taken.
    reduction : {"mean", "sum", "none"}
        As for `mse_loss`.

    Returns
    -------
    array
        As `mse_loss`.

    Raises
    ------
    ValueError, TypeError
        Shapes or dtypes differ, or an option is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> float(poisson_nll_loss(np.zeros(2), np.array([1.0, 4.0])))
    1.0
    """
    name = "poisson_nll_loss"
    check_same_shape(name, x, target=target)
    check_reduction(name, reduction)
    eps = number(name, "eps", eps, 0)
    xp = xp_of(x)
    rate = once(lambda: xp.exp(x) if log_input else x)
    log_rate = once(lambda: x if log_input else xp.log(x + eps))

    def losses() -> Array:
        plain = rate() - target * log_rate()
        if not full:
            return plain
        stirling = target * xp.log(target) - target + 0.5 * xp.log(2 * pi * target)
        return plain + xp.where(target <= 1, xp.zeros((), x.dtype), stirling)

    def of_target() -> Array:
        if not full:
            return -log_rate()
        stirling = xp.log(target) + 0.5 / target
        return xp.where(target <= 1, xp.zeros((), x.dtype), stirling) - log_rate()

    return per_element(
        losses,
        x.shape,
        reduction,
        x=lambda: rate() - target if log_input else 1 - target / (x + eps),
        target=of_target,
    )


@differentiable("x", "target", "var")
def gaussian_nll_loss(
    x: Array, target: Array, var: Array, full: bool = False, eps: float = 1e-6, reduction: Reduction = "mean"
) -> Definition:
    """Negative log-likelihood of a normal distribution, without its constant.

    ``(log(v) + (x - target)**2 / v) / 2`` with ``v = max(var, eps)``.

    Parameters
    ----------
    x, target : array
        Means and numbers; unlike those of other losses, they broadcast.
    var : array
        Variances, 0 or more: in the shape of `x`, without its last axis, or with one axis of 1.
        Where `eps` replaces them the gradient still goes to them, as in PyTorch.
    full : bool
        Add the constant, ``log(2 pi) / 2``.
    eps : float
        Least variance, above 0.
    reduction : {"mean", "sum", "none"}
        As for `mse_loss`.

    Returns
    -------
    array
        0-dimensional, or in the broadcast shape for "none".

    Raises
    ------
    ValueError, TypeError
        Shapes that do not fit, differing dtypes, a negative variance, an option out of range.

    References
    ----------
    Nix and Weigend, "Estimating the mean and variance of the target probability
    distribution", 1994.

    Examples
    --------
    >>> import numpy as np
    >>> float(gaussian_nll_loss(np.zeros(2), np.array([1.0, 3.0]), np.ones(2)))
    2.5
    """
    name = "gaussian_nll_loss"
    check_reduction(name, reduction)
    eps = number(name, "eps", eps, 0, above=True)
    apart = _variance_shape(name, x, var)
    shape = _broadcast_shape(name, x, target, apart)
    if any_of(var < 0, unseen=False):
        raise ValueError(f"{name}: expected variances of 0 or more, got {float(var.min())}")
    xp = xp_of(x)

    @once
    def v() -> Array:
        given = var.reshape(apart)
        floored = xp.maximum(given, eps)
        # On a GPU negative ones are not looked for beforehand: they give NaN.
        return floored if xp is np else xp.where(given < 0, xp.full((), xp.nan, var.dtype), floored)

    difference = once(lambda: x - target)
    scaled = once(lambda: difference() / v())

    def losses() -> Array:
        half = 0.5 * (xp.log(v()) + difference() * scaled())
        return half + 0.5 * log(2 * pi) if full else half

    def pullback(each: Array) -> Thunks:
        of_x = once(lambda: xp.broadcast_to(each * scaled(), shape))
        return {
            "x": lambda: _summed_to(of_x(), x.shape),
            "target": lambda: -_summed_to(of_x(), target.shape),
            "var": lambda: _summed_to(
                xp.broadcast_to(each * (0.5 * (1 / v() - scaled() ** 2)), shape), apart
            ).reshape(var.shape),
        }

    push: dict[str, Callable[[Array], Array]] = {
        "x": lambda t: t * scaled(),
        "target": lambda t: -t * scaled(),
        "var": lambda t: t.reshape(apart) * (0.5 * (1 / v() - scaled() ** 2)),
    }
    return reduced(losses, shape, reduction, pullback, push)


def _variance_shape(name: str, x: Array, var: Array) -> Shape:
    """Return the shape, of as many axes as `x`, in which the variances broadcast."""
    if var.shape == x.shape:
        return x.shape
    if var.shape == x.shape[:-1]:
        return (*var.shape, 1)
    differing = [v for n, v in zip(x.shape, var.shape, strict=False) if n != v]
    if var.ndim == x.ndim and differing == [1]:
        return var.shape
    raise ValueError(
        f"{name}: expected variances of the input's shape {x.shape}, without its last axis, "
        f"or with one axis of 1, got {var.shape}"
    )


def _broadcast_shape(name: str, x: Array, target: Array, apart: Shape) -> Shape:
    axes = max(x.ndim, target.ndim)
    sizes = [
        {n for n in column if n != 1} or {1}
        for column in zip(
            *((1,) * (axes - len(shape)) + shape for shape in (x.shape, target.shape, apart)), strict=True
        )
    ]
    if any(len(found) > 1 for found in sizes):
        raise ValueError(
            f"{name}: expected a target that broadcasts with the input's shape {x.shape}, got {target.shape}"
        )
    return tuple(found.pop() for found in sizes)


def _summed_to(x: Array, shape: Shape) -> Array:
    """Add up the axes along which an array of `shape` was broadcast to `x`."""
    extra = x.ndim - len(shape)
    axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1))
    return (accurate_sum(x, axes, keepdims=True) if axes else x).reshape(shape)


mse_loss_jvp, mse_loss_vjp = mse_loss.jvp, mse_loss.vjp
l1_loss_jvp, l1_loss_vjp = l1_loss.jvp, l1_loss.vjp
smooth_l1_loss_jvp, smooth_l1_loss_vjp = smooth_l1_loss.jvp, smooth_l1_loss.vjp
huber_loss_jvp, huber_loss_vjp = huber_loss.jvp, huber_loss.vjp
poisson_nll_loss_jvp, poisson_nll_loss_vjp = poisson_nll_loss.jvp, poisson_nll_loss.vjp
gaussian_nll_loss_jvp, gaussian_nll_loss_vjp = gaussian_nll_loss.jvp, gaussian_nll_loss.vjp
