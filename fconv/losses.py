"""Losses: pairs of pure functions over `fconv.functional`, with torch.nn's names.

The gradient is that of `y` alone, never of the target. A loss of several arrays takes a tuple of
them as `y`, and its gradient is a tuple too; its docstring names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from fconv import functional as F
from fconv.arrays import Array, xp_of
from fconv.constructors import constructor
from fconv.functional.core import Differentiable
from fconv.functional.loss_classification import cross_entropy_curvature
from fconv.functional.reduction import BatchReduction, Reduction, accurate_sum, check_reduction, quotient
from fconv.loss import Loss, each_gradient, loss_forward, losses_by_name
from fconv.options import number, whole

__all__ = [
    "Loss",
    "bce_loss",
    "bce_with_logits_loss",
    "cosine_embedding_loss",
    "cross_entropy_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div_loss",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "losses_by_name",
    "margin_ranking_loss",
    "mse_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "ssim_loss",
    "total_variation_loss",
    "triplet_margin_loss",
]


def as_loss(where: str, value: Any) -> Loss:
    """Require a loss: anything with the functions `apply` and `vjp`.

    Examples
    --------
    >>> as_loss("f", F.mse_loss)
    Traceback (most recent call last):
    TypeError: f: expected a loss with apply and vjp, got the function mse_loss; write fconv.mse_loss()
    """
    functions = callable(getattr(value, "apply", None)) and callable(getattr(value, "vjp", None))
    if functions and not isinstance(value, type) and not callable(getattr(value, "out_shape", None)):
        return value
    name = getattr(value, "__name__", type(value).__name__)
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("binary_cross_entropy", "bce")
    known = {each.replace("_", ""): each for each in __all__}
    made = known.get(snake.replace("_", "")) or known.get(f"{snake.replace('_', '')}loss")
    hint = f"; write fconv.{made}()" if made else "; was it meant to be called?" if callable(value) else ""
    if functions and not isinstance(value, type):
        hint = f"; the network comes first: {where}(net, loss)"
    elif callable(getattr(value, "step", None)):
        hint = "; the loss comes before the optimizer"
    elif isinstance(value, type) and not made:
        hint = f"; write {name}()"
    kind = (
        f"a{'n' * (name[0] in 'AEIO')}"
        if not hasattr(value, "__name__")
        else "the class"
        if isinstance(value, type)
        else "the function"
    )
    raise TypeError(f"{where}: expected a loss with apply and vjp, got {kind} {name}{hint}")


def _from_function(function: Differentiable[...], *inputs: str, **options: Any) -> Loss:
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


@constructor
def mse_loss(*, reduction: Reduction = "mean") -> Loss:
    """Squared difference; see `fconv.functional.mse_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> loss = mse_loss()
    >>> y, target = np.array([1.0, 3.0]), np.zeros(2)
    >>> float(loss.apply(y, target)), loss.vjp(y, target)
    (5.0, array([1., 3.]))
    """
    check_reduction("mse_loss", reduction)

    def curvature(y: Array, target: Any, t: Array) -> Array:
        return F.mse_loss.vjp(1.0, t, xp_of(t).zeros_like(t), reduction, wrt="x")[0]  # linear in y

    made = _from_function(F.mse_loss, reduction=reduction)
    return made if reduction == "none" else replace(made, curvature=curvature)


@constructor
def l1_loss(*, reduction: Reduction = "mean") -> Loss:
    """Absolute difference; see `fconv.functional.l1_loss`."""
    check_reduction("l1_loss", reduction)
    return _from_function(F.l1_loss, reduction=reduction)


@constructor
def l1_penalty() -> Loss:
    """Sum of absolute values of an activation or parameter.

    There is no target: it is passed over, and may be None. With `fconv.with_outputs` and
    `losses_by_name` it penalises what a ready network computes on the way, or its parameters.

    References
    ----------
    tf.keras.regularizers.L1.

    Examples
    --------
    >>> import numpy as np
    >>> l1_penalty().vjp(np.array([2.0, -3.0]), None)
    array([ 1., -1.])
    """
    return _penalty(F.l1_loss)


@constructor
def l2_penalty() -> Loss:
    """Sum of squares of an activation or parameter; see `l1_penalty`.

    References
    ----------
    tf.keras.regularizers.L2.

    Examples
    --------
    >>> import numpy as np
    >>> float(l2_penalty().apply(np.array([2.0, -3.0]), None))
    13.0
    """
    return _penalty(F.mse_loss)


def _penalty(function: Differentiable[...]) -> Loss:
    """Make the loss of a distance from 0, summed."""
    distance = _from_function(function, reduction="sum")

    def zeros(y: Any) -> Array:
        return xp_of(y).zeros_like(y)

    return Loss(
        apply=lambda y, target: distance.apply(y, zeros(y)),
        vjp=lambda y, target, g=1.0: distance.vjp(y, zeros(y), g),
        forward=lambda y, target: loss_forward(distance, y, zeros(y)),
        name="penalty",
        each=lambda y, target: each_gradient(distance, y, zeros(y)),
        count=distance.count,
    )


@constructor
def smooth_l1_loss(*, reduction: Reduction = "mean", beta: float = 1.0) -> Loss:
    """Absolute difference, a parabola below `beta`; see `fconv.functional.smooth_l1_loss`."""
    check_reduction("smooth_l1_loss", reduction)
    number("smooth_l1_loss", "beta", beta, 0)
    return _from_function(F.smooth_l1_loss, reduction=reduction, beta=beta)


@constructor
def huber_loss(*, reduction: Reduction = "mean", delta: float = 1.0) -> Loss:
    """Half the squared difference, a line above `delta`; see `fconv.functional.huber_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> huber_loss(reduction="sum").vjp(np.array([0.5, 3.0]), np.zeros(2))
    array([0.5, 1. ])
    """
    check_reduction("huber_loss", reduction)
    number("huber_loss", "delta", delta, 0, above=True)
    return _from_function(F.huber_loss, reduction=reduction, delta=delta)


@constructor
def poisson_nll_loss(
    *, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: Reduction = "mean"
) -> Loss:
    """Negative log-likelihood of counts; see `fconv.functional.poisson_nll_loss`."""
    check_reduction("poisson_nll_loss", reduction)
    number("poisson_nll_loss", "eps", eps, 0)
    return _from_function(F.poisson_nll_loss, log_input=log_input, full=full, eps=eps, reduction=reduction)


@constructor
def gaussian_nll_loss(*, full: bool = False, eps: float = 1e-6, reduction: Reduction = "mean") -> Loss:
    """Negative log-likelihood of normal distributions; see `fconv.functional.gaussian_nll_loss`.

    `y` is the tuple (x, var) of means and variances, and so is its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> loss = gaussian_nll_loss()
    >>> loss.vjp((np.array([1.0]), np.array([2.0])), np.array([3.0]))
    (array([-1.]), array([-0.25]))
    """
    check_reduction("gaussian_nll_loss", reduction)
    number("gaussian_nll_loss", "eps", eps, 0, above=True)
    return _from_function(F.gaussian_nll_loss, "x", "var", full=full, eps=eps, reduction=reduction)


@constructor
def bce_loss(*, weight: Array | None = None, reduction: Reduction = "mean") -> Loss:
    """Cross-entropy of probabilities; see `fconv.functional.binary_cross_entropy`."""
    check_reduction("bce_loss", reduction)
    return _from_function(F.binary_cross_entropy, weight=weight, reduction=reduction)


@constructor
def bce_with_logits_loss(
    *, weight: Array | None = None, reduction: Reduction = "mean", pos_weight: Array | None = None
) -> Loss:
    """Cross-entropy of logits; see `fconv.functional.binary_cross_entropy_with_logits`.

    Examples
    --------
    >>> import numpy as np
    >>> bce_with_logits_loss().vjp(np.array([1e4, -1e4]), np.array([0.0, 0.0]))
    array([0.5, 0. ])
    """
    check_reduction("bce_with_logits_loss", reduction)
    return _from_function(
        F.binary_cross_entropy_with_logits, weight=weight, reduction=reduction, pos_weight=pos_weight
    )


@constructor
def nll_loss(*, weight: Array | None = None, ignore_index: int = -100, reduction: Reduction = "mean") -> Loss:
    """Negative log-likelihood of log-probabilities; see `fconv.functional.nll_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> nll_loss().vjp(np.zeros((1, 3)), np.array([1]))
    array([[-0., -1., -0.]])
    """
    check_reduction("nll_loss", reduction)
    whole("nll_loss", "ignore_index", ignore_index, -(1 << 62))
    return _from_function(F.nll_loss, weight=weight, ignore_index=ignore_index, reduction=reduction)


@constructor
def cross_entropy_loss(
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Loss:
    """Cross-entropy of logits and class numbers or probabilities; see `fconv.functional.cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy_loss().vjp(np.zeros((1, 2)), np.array([1]))
    array([[ 0.5, -0.5]])
    """
    check_reduction("cross_entropy_loss", reduction)
    whole("cross_entropy_loss", "ignore_index", ignore_index, -(1 << 62))
    number("cross_entropy_loss", "label_smoothing", label_smoothing, 0, most=1)
    options: dict[str, Any] = {
        "weight": weight,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "reduction": reduction,
    }

    def curvature(y: Array, target: Array, t: Array) -> Array:
        return cross_entropy_curvature(t, y, target, **options)

    made = _from_function(F.cross_entropy, **options)
    return made if reduction == "none" else replace(made, curvature=curvature)


@constructor
def kl_div_loss(*, reduction: BatchReduction = "mean", log_target: bool = False) -> Loss:
    """Divergence of log-probabilities from a target; see `fconv.functional.kl_div`."""
    check_reduction("kl_div_loss", reduction, batch=True)
    return _from_function(F.kl_div, reduction=reduction, log_target=log_target)


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
    return _from_function(F.soft_margin_loss, reduction=reduction)


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
    return _from_function(function, *inputs, margin=margin, reduction=reduction, **options)


@constructor
def total_variation_loss(*, reduction: Reduction = "mean") -> Loss:
    """Total variation, from differences of neighbouring pixels; see `fconv.functional.total_variation`.

    There is no target: it is passed over, and may be None.

    Examples
    --------
    >>> import numpy as np
    >>> total_variation_loss().vjp(np.array([[[[0.0, 2.0, 1.0]]]]), None)
    array([[[[-1.,  2., -1.]]]])
    """
    check_reduction("total_variation_loss", reduction)
    return _from_function(F.total_variation, reduction=reduction)


@constructor
def ssim_loss(
    *,
    data_range: float = 1.0,
    kernel_size: int = 11,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Loss:
    """One minus the mean structural similarity, 0 for equal pictures; see `fconv.functional.ssim`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0.0, 1.0, 144).reshape(1, 1, 12, 12)
    >>> round(float(ssim_loss().apply(x, x)), 6)
    0.0
    """
    if whole("ssim_loss", "kernel_size", kernel_size, 1) % 2 == 0:
        raise ValueError(f"ssim_loss: expected an odd kernel_size, got {kernel_size}")
    for what, value, above in (
        ("data_range", data_range, True),
        ("sigma", sigma, True),
        ("k1", k1, False),
        ("k2", k2, False),
    ):
        number("ssim_loss", what, value, 0, above=above)
    likeness = _from_function(
        F.ssim, data_range=data_range, kernel_size=kernel_size, sigma=sigma, k1=k1, k2=k2
    )

    def forward(y: Any, target: Any) -> tuple[Any, Callable[..., Any]]:
        value, pull = loss_forward(likeness, y, target)
        return 1 - value, lambda g=1.0: pull(-g)

    return Loss(
        apply=lambda y, target: 1 - likeness.apply(y, target),
        vjp=lambda y, target, g=1.0: likeness.vjp(y, target, -g),
        forward=forward,
        name="ssim_loss",
        each=lambda y, target: -each_gradient(likeness, y, target),
    )
