"""The gradient of a gradient: the penalty that keeps a critic's slope near 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fconv import functional, trees
from fconv.arrays import Array, describe, is_array, xp_of
from fconv.layer import Layer, Params, as_layer, buffers_of, located, params_at
from fconv.networks.fused import AFFINE, curve_of, made_by_fconv
from fconv.networks.wiring import flat
from fconv.options import number

_LINEAR = ("add", "subtract", "concat", "concat_padded", "stack", "upsample", "identity", "dropout")
"""Layers without parameters that are linear, beside those whose function says so."""

_Pull = Callable[[Any, Any], tuple[Params, Any, Any]]


def gradient_penalty(net: Layer, params: Params, x: Array, *, norm: float = 1.0) -> tuple[Array, Params]:
    """Penalize gradients of a network by its input whose length is not `norm`, as WGAN-GP does.

    The penalty is the mean over the examples of ``(length - norm)**2``, where `length` is that of the
    gradient of an example's output, or of the sum of its outputs. It is scaled by what the caller likes, and
    added to the gradients of the critic's loss by `fconv.trees.add`.

    Parameters
    ----------
    net : Layer
        Of linear layers, convolutions, what is linear in its input (averages, padding, resampling, reshaping,
        sums, concatenation), activations with a second derivative, and `max_pool`. It is in
        inference mode. Layers that mix examples have no gradient of one example.
    params : pytree
        Its parameters.
    x : array, shape (N, ...)
        The examples, such as points between real and generated ones.
    norm : float
        The norm at which the penalty is 0; 0 or more.

    Returns
    -------
    (penalty, grads)
        A number, as an array without axes, and its gradient by the parameters in their structure.

    Raises
    ------
    ValueError
        A layer of another kind, by its name and place, or `norm` below 0.
    TypeError
        `net` is no layer, `x` no floating-point array.

    References
    ----------
    Gulrajani et al., "Improved training of Wasserstein GANs", 2017.

    Examples
    --------
    >>> from fconv.layers import linear
    >>> penalty, grads = gradient_penalty(linear(1), {"weight": np.array([[3.0, 4.0]]), "bias": np.zeros(1)},
    ...                                   np.ones((8, 2)))
    >>> float(penalty), grads["weight"].round(6)
    (16.0, array([[4.8, 6.4]]))
    """
    net = as_layer("gradient_penalty", net)
    norm = number("gradient_penalty", "norm", norm, 0)
    if not is_array(x) or x.dtype.kind != "f" or not x.ndim:
        raise TypeError(f"gradient_penalty: expected a floating-point array (N, ...), got {describe(x)}")
    wiring = flat(net, x.shape)
    for step in wiring.steps:
        with located(f"gradient_penalty[{step.name}]", step.layer):
            _check(step.layer)
    xp = xp_of(x)

    y, _, pull = net.forward(params, x)
    g = pull(xp.ones_like(y))[1].astype(np.float64)
    axes = tuple(range(1, g.ndim))
    lengths = xp.sqrt((g * g).sum(axis=axes, keepdims=True))
    away = lengths - norm
    # Of length 0 no direction is known, and the gradient of the length counts as 0.
    slope = 2 * away / xp.where(lengths == 0, np.inf, lengths) / max(1, len(x))
    direction = (slope * g).astype(x.dtype)

    # The penalty's gradient is that of the sum of the outputs' tangents along this direction, held fixed.
    values, tangents = {wiring.inputs[0]: x}, {wiring.inputs[0]: direction}
    pulls = []
    for step in wiring.steps:
        both = tuple(tuple(held[source] for source in step.sources) for held in (values, tangents))
        entering, moved = (each[0] if len(each) == 1 else each for each in both)
        own = params_at(params, step.params)
        values[step.name], tangents[step.name], back = _twice(step.layer, own, entering, moved)
        pulls.append(back)

    totals: dict[str, tuple[Any, Any]] = {wiring.outputs[0]: (None, xp.ones_like(y))}
    grads: dict[tuple[str, ...], Params] = {}
    for step, back in zip(reversed(wiring.steps), reversed(pulls), strict=True):
        if step.name not in totals:
            continue
        dparams, *parts = back(*totals.pop(step.name))
        if step.params is not None:
            grads[step.params] = trees.add(grads.get(step.params), dparams)
        several = len(step.sources) > 1
        for i, source in enumerate(step.sources):
            before = totals.get(source, (None, None))
            mine = [part[i] if several and part is not None else part for part in parts]
            totals[source] = (trees.add(before[0], mine[0]), trees.add(before[1], mine[1]))
    found = {(*path, *leaf): g for path, part in grads.items() for leaf, g in trees.leaves_with_path(part)}
    still = buffers_of(net)

    def gradient(path: trees.Path, p: Array) -> Array | None:
        if path[-1:] and path[-1] in still:
            return None
        return found[path] if path in found else xp.zeros_like(p)

    penalty = (away * away).mean() if len(x) else xp.zeros(())
    return xp.asarray(penalty, dtype=x.dtype), trees.map_with_path(gradient, params)


def _function_of(layer: Layer) -> Any:
    curve = curve_of(layer)
    return getattr(functional, layer.name if curve is None else curve[0], None)


def _is_linear(layer: Layer) -> bool:
    """Return whether a layer is linear in its input, or affine with a bias among its parameters."""
    if layer.name in AFFINE or layer.name in _LINEAR:
        return True
    # A constant border moves what is padded by a constant.
    return bool(getattr(_function_of(layer), "linear", False)) and not layer.options.get("value")


def _check(layer: Layer) -> None:
    if made_by_fconv(layer):
        if _is_linear(layer) or layer.name.startswith(("max_pool", "adaptive_max_pool", "global_max_pool")):
            return
        if curve_of(layer) is not None and _second(layer, np.zeros(1)) is not None:
            return
    raise ValueError(
        f"{layer.name}: its second derivative is not known; the network may have linear layers, "
        f"convolutions, what is linear in its input, max_pool, and activations such as leaky_relu and tanh"
    )


def _second(layer: Layer, x: Array) -> Any:
    return _function_of(layer).second(x, **layer.options)


def _twice(layer: Layer, params: Params, x: Any, dx: Any) -> tuple[Any, Any, _Pull]:
    """Return the output, its tangent, and the pullback of both: of (gy, gdy) to (dparams, gx, gdx)."""
    y, _, pull = layer.forward(params, x)
    if curve_of(layer) is not None:
        bend = _second(layer, x)
        return y, pull(dx)[1], lambda gy, gdy: ((), *_bent(pull, bend, dx, gy, gdy))
    if not _is_linear(layer):  # straight pieces: which one it is, x tells
        dy = layer.jvp(params, x, None, dx)[1]  # type: ignore[misc]
        return y, dy, lambda gy, gdy: ((), None if gy is None else pull(gy)[1], pull(gdy)[1])
    bare = (
        {**params, "bias": xp_of(params["bias"]).zeros_like(params["bias"])} if "bias" in params else params
    )
    dy, _, pull_tangent = layer.forward(bare, dx)

    def back(gy: Any, gdy: Any) -> tuple[Params, Any, Any]:
        dparams, gx = (None, None) if gy is None else pull(gy)
        more, gdx = pull_tangent(gdy)
        more = {**more, "bias": None} if "bias" in params else more
        return more if dparams is None else trees.add(dparams, more), gx, gdx

    return y, dy, back


def _bent(pull: Any, bend: Any, dx: Array, gy: Any, gdy: Array) -> tuple[Any, Array]:
    gx = None if gy is None else pull(gy)[1]
    if not isinstance(bend, float):
        gx = trees.add(gx, bend * dx * gdy)
    return gx, pull(gdy)[1]
