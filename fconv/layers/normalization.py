"""Normalising layers."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fconv import functional as F
from fconv.arrays import Array, Shape, xp_of
from fconv.initializers import ones, zeros
from fconv.layer import Layer, LayerPullback, Params, check_params
from fconv.layers.from_function import Leaves, check_shape, draw

__all__ = ["batch_norm"]


def batch_norm(
    eps: float = 1e-5,
    momentum: float | None = 0.1,
    affine: bool = True,
    track_running_stats: bool = True,
) -> Layer:
    """Batch normalisation of (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Parameters
    ----------
    eps : float
        Added to the variance.
    momentum : float or None
        Share of a new batch in the running statistics; None for their plain average.
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
    trained = ("weight", "bias") if affine else ()
    tracked = ("running_mean", "running_var", "num_batches_tracked") if track_running_stats else ()
    names = trained + tracked

    def check(shape: Shape) -> Shape:
        shape = check_shape("batch_norm", shape)
        if len(shape) < 2:
            raise ValueError(f"batch_norm: expected an input of shape (N, C, ...), got {shape}")
        return shape

    def init(key: Array, shape: Shape, dtype: Any = np.float32) -> Params:
        channels = (check(shape)[1],)
        leaves: Leaves = {
            "weight": (channels, ones()),
            "bias": (channels, zeros()),
            "running_mean": (channels, zeros()),
            "running_var": (channels, ones()),
        }
        params = draw("batch_norm", {name: leaves[name] for name in names if name in leaves}, key, dtype)
        if tracked:
            params["num_batches_tracked"] = np.zeros((), np.int64)
        return params or ()

    def arguments(params: Params) -> dict[str, Any]:
        check_params("batch_norm", params, names)
        held = params if names else {}
        return {name: held.get(name) for name in ("running_mean", "running_var", "weight", "bias")}

    def gradients(params: Params, dx: Any, dweight: Any, dbias: Any) -> tuple[Params, Any]:
        held = {"weight": dweight, "bias": dbias}
        return {name: held.get(name) for name in params} if names else (), dx

    def apply(params: Params, x: Array, *, train: bool = False, key: Array | None = None) -> Array:
        return F.batch_norm(x, **arguments(params), training=train, eps=eps)

    def vjp(
        params: Params, x: Array, g: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Array]:
        dx, _, _, dweight, dbias = F.batch_norm_vjp(g, x, **arguments(params), training=train, eps=eps)
        return gradients(params, dx, dweight, dbias)

    def forward(
        params: Params, x: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Params, LayerPullback]:
        given = arguments(params)
        batch = F.batch_moments(x) if train else None
        y, pull = F.batch_norm.forward(x, **given, training=train, eps=eps, batch=batch)

        def pullback(g: Array, input_grad: bool = True) -> tuple[Params, Any]:
            wrt = ("x", *trained) if input_grad else trained
            dx, _, _, dweight, dbias = pull(g, wrt=wrt)
            return gradients(params, dx, dweight, dbias)

        return y, params if batch is None else refreshed(params, x, batch), pullback

    def refreshed(params: Params, x: Array, batch: tuple[Array, Array]) -> Params:
        if not tracked or prod(x.shape) == 0:
            return params
        count = params["num_batches_tracked"] + xp_of(x).ones((), np.int64)
        share = 1.0 / float(count) if momentum is None else momentum
        old = (params["running_mean"], params["running_var"])
        mean, var = F.running_statistics(x, batch, old, share)
        new = {"running_mean": mean, "running_var": var, "num_batches_tracked": xp_of(x).asarray(count)}
        return {**params, **new}

    return Layer(
        init=init,
        apply=apply,
        vjp=vjp,
        out_shape=check,
        forward=forward,
        name="batch_norm",
        buffers=frozenset(tracked),
        options={
            "eps": eps,
            "momentum": momentum,
            "affine": affine,
            "track_running_stats": track_running_stats,
        },
    )
