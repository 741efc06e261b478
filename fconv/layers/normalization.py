"""Normalising layers that keep running statistics: batch and instance norm."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import replace
from math import prod
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape, any_of, namespace, xp_of
from fconv.contract import Forward
from fconv.engine import compiled
from fconv.functional.batch_normal import training_plan
from fconv.functional.moments import Statistics
from fconv.functional.protocols import Differentiable
from fconv.geometry import check_rank
from fconv.initializers import ones, zeros
from fconv.layer import Layer, LayerPullback, Params, check_params, vjp_of
from fconv.layers.from_function import check_shape, draw, remember
from fconv.options import number, whole

if TYPE_CHECKING:
    from fconv.engine.compiled.normal import BatchNormal

__all__ = ["batch_norm", "instance_norm"]


@constructor
def batch_norm(
    *, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, track_running_stats: bool = True
) -> Layer:
    """Batch normalisation of (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Parameters
    ----------
    eps : float
        Added to the variance, from 0 to 1.
    momentum : float or None
        Share of a new batch in the running statistics, from 0 to 1; None for their plain average.
    affine : bool
        Scale and shift each channel.
    track_running_stats : bool
        Keep running statistics, and normalise by them outside training.

    Returns
    -------
    Layer
        With the parameters ``weight``, ``bias``, ``running_mean``, ``running_var`` and
        ``num_batches_tracked`` of torch.nn.BatchNorm2d. The last three are refreshed by
        `forward` in training, and their gradient is None.

    Raises
    ------
    ValueError, TypeError
        Inputs that do not fit, when the layer is used; one value per channel in training.

    Examples
    --------
    >>> from fconv import random
    >>> sorted(batch_norm().init(random.key(0), (8, 3, 4, 4)))
    ['bias', 'num_batches_tracked', 'running_mean', 'running_var', 'weight']
    """

    def advance(count: Array) -> tuple[Array, float]:
        following = count + xp_of(count).ones((), np.int64)
        return following, 1.0 / float(following) if momentum is None else momentum

    options = _options("batch_norm", eps, momentum, affine, track_running_stats)
    layer = _running_norm(F.batch_norm, F.batch_moments, "training", advance, options, 2)
    if momentum is None or not (affine and track_running_stats):
        return layer
    forward = _planned(layer, options["eps"], momentum)

    def apply(params: Params, x: Array, *, train: bool = False, key: Array | None = None) -> Array:
        return forward(params, x, train=True)[0] if train else layer.apply(params, x)

    return replace(layer, apply=apply, forward=forward, vjp=vjp_of(forward))  # all to the same bits


@constructor
def instance_norm(
    *,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = False,
    track_running_stats: bool = False,
    ndim: int | None = None,
) -> Layer:
    """Instance normalisation of (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Parameters
    ----------
    eps : float
        Added to the variance, from 0 to 1.
    momentum : float or None
        Share of a new batch in the running statistics, from 0 to 1; None leaves them as they are.
    affine : bool
        Scale and shift each channel.
    track_running_stats : bool
        Keep running statistics, and normalise by them outside training.
    ndim : int, optional
        Number of spatial axes. If given, inputs with another number of channels are refused.

    Returns
    -------
    Layer
        With the parameters ``weight``, ``bias``, ``running_mean``, ``running_var`` and
        ``num_batches_tracked`` of torch.nn.InstanceNorm2d, which leaves the last at 0.

    Raises
    ------
    ValueError, TypeError
        Inputs that do not fit, when the layer is used; one position alone.

    Examples
    --------
    >>> from fconv import random
    >>> instance_norm().init(random.key(0), (8, 3, 4, 4))
    ()
    """
    if ndim is not None:
        ndim = whole("instance_norm", "ndim", ndim, 1)

    def advance(count: Array) -> tuple[Array, float]:
        return count, 0.0 if momentum is None else momentum

    options = _options("instance_norm", eps, momentum, affine, track_running_stats)
    return _running_norm(
        F.instance_norm, F.instance_moments, "use_input_stats", advance, {**options, "ndim": ndim}, 3
    )


_facts = attrgetter("__class__", "shape", "strides", "dtype", "flags.aligned")
_MOST_PLANS = 32


def _planned(layer: Layer, eps: float, share: float) -> Forward:
    """Return the forward pass that plans what the shapes of a batch in training decide, once for each."""
    plans: list[tuple[Any, BatchNormal | None]] = []  # with the facts of arrays that the layer has taken
    general = layer.forward

    def plan_for(params: Params, x: Array) -> tuple[BatchNormal | None, tuple[Array, ...]]:
        """Return the plan of a batch in training, and the parameters that it takes; None without one."""
        try:
            leaves = _pick(params)
            facts = [compiled.wished(), len(params), *map(_facts, (x, *leaves))]
        except (AttributeError, IndexError, KeyError, TypeError):
            return None, ()
        for known, plan in plans:
            if known == facts:
                return plan, leaves
        general(params, x, train=True)  # which checks them
        plan = _plan(x, leaves, eps, share)
        del plans[_MOST_PLANS - 1 :]
        plans.insert(0, (facts, plan))  # other threads may insert theirs at any moment
        return plan, leaves

    def forward(
        params: Params, x: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Params, LayerPullback]:
        plan, leaves = plan_for(params, x) if train else (None, ())
        if plan is None:
            return general(params, x, train=train, key=key)
        mean, var, weight, bias, count = leaves
        y, fresh, held = plan.forward(x, weight, bias, mean, var)

        def pullback(
            g: Array,
            input_grad: bool = True,
            *,
            wrt: Collection[str] | None = None,
            each: tuple[str, ...] = (),
        ) -> tuple[Params, Any]:
            if each or type(g) is not np.ndarray or g.shape != x.shape or g.dtype != x.dtype:
                # `_running_norm` takes these.
                return general(params, x, train=train)[2](g, input_grad, wrt=wrt, each=each)  # type: ignore[call-arg]
            found, dx = plan.gradients(plan.in_order(g), x, weight, held, input_grad)
            grads = dict.fromkeys(params)
            for i, leaf in enumerate(("weight", "bias")):
                if wrt is None or leaf in wrt:
                    grads[leaf] = found[i]
            return grads, dx

        new = {**params, "running_mean": fresh[0], "running_var": fresh[1]}
        new["num_batches_tracked"] = np.array(count.item() + 1, np.int64)
        return y, new, pullback

    return forward


def _plan(x: Array, leaves: tuple[Array, ...], eps: float, share: float) -> BatchNormal | None:
    """Plan a batch in training, if it and the parameters are what kernels take."""
    *arrays, count = leaves
    plain = all(type(a) is np.ndarray and a.dtype == x.dtype and a.flags.c_contiguous for a in arrays)
    counts = type(count) is np.ndarray and count.shape == () and count.dtype.kind in "iu"
    aligned = all(a.flags.aligned for a in arrays)
    return training_plan(x, eps, share) if plain and counts and aligned else None


def _options(
    name: str, eps: float, momentum: float | None, affine: bool, track_running_stats: bool
) -> dict[str, Any]:
    eps = number(name, "eps", eps, least=0, most=1)
    momentum = None if momentum is None else number(name, "momentum", momentum, least=0, most=1)
    return {"eps": eps, "momentum": momentum, "affine": affine, "track_running_stats": track_running_stats}


_ARRAYS = ("running_mean", "running_var", "weight", "bias")
"""The array arguments of `F.batch_norm` and `F.instance_norm` after x, in order."""
_pick = itemgetter(*_ARRAYS, "num_batches_tracked")
_BEGINNINGS = {"weight": ones(), "bias": zeros(), "running_mean": zeros(), "running_var": ones()}


def _running_norm(
    function: Differentiable[...],
    moments: Callable[[Array], Statistics],
    by_input: str,
    advance: Callable[[Array], tuple[Array, float]],
    options: dict[str, Any],
    least_ndim: int,
) -> Layer:
    """Make a norm with running statistics of the function that normalises a batch.

    `moments` are the statistics of a batch, and `by_input` is the function's option to normalise by them.
    ``advance(count)`` returns the next count of batches, and the share of the new one in the running
    statistics. An input has `least_ndim` axes or more.
    """
    name, eps, ndim = function.__name__, options["eps"], options.get("ndim")
    trained = ("weight", "bias") if options["affine"] else ()
    tracked = ("running_mean", "running_var", "num_batches_tracked") if options["track_running_stats"] else ()
    names = trained + tracked
    fitting: set[Shape] = set()

    def check(shape: Shape) -> Shape:
        shape = check_shape(name, shape)
        if len(shape) < least_ndim:
            form = ", ".join(("N", "C", "L")[:least_ndim])
            raise ValueError(f"{name}: expected an input of shape ({form}, ...), got {shape}")
        if ndim is not None:
            check_rank(name, "input", shape, ndim)
        return shape

    def init(key: Array, shape: Shape, dtype: Any = np.float32) -> Params:
        channels = (check(shape)[1],)
        leaves = {leaf: (channels, _BEGINNINGS[leaf]) for leaf in names if leaf in _BEGINNINGS}
        params = draw(name, leaves, key, dtype)
        if tracked:
            params["num_batches_tracked"] = np.zeros((), np.int64)
        return params or ()

    def arguments(params: Params, x: Array, train: bool) -> dict[str, Any]:
        """Return the options of the call, once the layer's own are checked."""
        check_params(name, params, names)
        if type(x) is not np.ndarray or x.shape not in fitting:
            namespace(name, x=x)
            check(x.shape)
            remember(fitting, x.shape)
        held = params if names else {}
        return {**{leaf: held.get(leaf) for leaf in _ARRAYS}, by_input: train or not tracked, "eps": eps}

    def gradients(params: Params, dx: Any, dweight: Any, dbias: Any) -> tuple[Params, Any]:
        held = {"weight": dweight, "bias": dbias}
        return {leaf: held.get(leaf) for leaf in params} if names else (), dx

    def refreshed(params: Params, x: Array, batch: Statistics) -> Params:
        if prod(x.shape) == 0:
            return params
        count, share = advance(params["num_batches_tracked"])
        mean, var = F.running_statistics(x, batch, (params["running_mean"], params["running_var"]), share)
        new = {"running_mean": mean, "running_var": var, "num_batches_tracked": xp_of(x).asarray(count)}
        return {**params, **new}

    def apply(params: Params, x: Array, *, train: bool = False, key: Array | None = None) -> Array:
        given = arguments(params, x, train)
        if not train and tracked and trained:
            _warn_of_lost_statistics(name, params)
        return function(x, **given)

    def forward(
        params: Params, x: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Params, LayerPullback]:
        given = arguments(params, x, train)
        batch = moments(x) if train and tracked else None  # the function need not take them again
        y, pull = function.forward(x, **given, batch=batch)

        def pullback(
            g: Array,
            input_grad: bool = True,
            *,
            wrt: Collection[str] | None = None,
            each: tuple[str, ...] = (),
        ) -> tuple[Params, Any]:
            wanted = trained if wrt is None else tuple(leaf for leaf in trained if leaf in wrt)
            dx, _, _, dweight, dbias = pull(g, ("x", *wanted) if input_grad else wanted, each)
            return gradients(params, dx, dweight, dbias)

        return y, params if batch is None else refreshed(params, x, batch), pullback

    def vjp(
        params: Params, x: Array, g: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Array]:
        dx, _, _, dweight, dbias = function.vjp(g, x, **arguments(params, x, train))
        return gradients(params, dx, dweight, dbias)

    def jvp(
        params: Params, x: Array, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Array]:
        tangents = (dx, *((dparams or {}).get(leaf) for leaf in _ARRAYS))
        return function.value_and_jvp(tangents, x, **arguments(params, x, train))

    return Layer(
        init=init, apply=apply, vjp=vjp, jvp=jvp, out_shape=check, forward=forward,
        name=name, options=options, buffers=frozenset(tracked), draws=False,
    )  # fmt: skip


def _warn_of_lost_statistics(name: str, params: Params) -> None:
    """Warn of trained scales and shifts beside running statistics that no batch has entered.

    Shifts begin at 0 and statistics at 0 and 1, so such parameters come from a training loop that
    drops the third value of `fconv.value_and_grad`.
    """
    count = params["num_batches_tracked"]
    if not isinstance(count, np.ndarray) or count != 0:
        return
    bias, mean, var = (params[leaf] for leaf in ("bias", "running_mean", "running_var"))
    if any_of(bias != 0, unseen=False) and not any_of((mean != 0) | (var != 1), unseen=True):
        warnings.warn(
            f"{name}: its weight and bias are trained, but its running statistics are those it began with; "
            f"keep the params that value_and_grad returns: loss, grads, params = f(params, x, target)",
            stacklevel=2,
        )
