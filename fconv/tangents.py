"""Forward mode: the derivative of a network along tangents of its parameters and its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fconv import random, trees
from fconv.arrays import Array, describe, is_array, xp_of
from fconv.layer import Layer, Params, Wiring, as_layer, buffers_of, located, params_at


def jvp(
    net: Layer,
    params: Params,
    x: Any,
    dparams: Params,
    dx: Any,
    *,
    train: bool = False,
    key: Array | None = None,
) -> tuple[Any, Any]:
    """Return the output of a network and its derivative along tangents, in one pass forwards.

    No intermediate values are kept: it takes twice the memory of inference.

    Parameters
    ----------
    net : Layer
        A layer or network.
    params : pytree
        Its parameters.
    x : array, or a tuple or dict of arrays
        Its input.
    dparams : pytree or None
        The tangent of `params`, in their structure, shapes and dtype; None stands for a tangent of 0, of one
        array or of all; the tangent of a running statistic is None. Gradients serve as they are.
    dx : array, or a tuple or dict of arrays, or None
        The tangent of `x`.
    train : bool
        Training mode: the derivative goes through the statistics of the batch.
    key : array of uint64, shape (2,), optional
        The random key: the same key drops the same units in `apply`, in `vjp` and here.

    Returns
    -------
    (y, dy)
        ``net.apply(params, x, train=train, key=key)`` and its tangent. With
        ``dparams_g, dx_g = net.vjp(params, x, g)``, the sum of ``g * dy`` is that of ``dparams_g`` times
        `dparams` plus that of ``dx_g * dx``.

    Raises
    ------
    ValueError
        A tangent of another structure or shape, or of an array without a gradient; no tangent given.
    TypeError
        `net` is no layer, a tangent has another dtype or is no array, or a layer of your own has no `jvp`.

    References
    ----------
    Wengert, "A simple automatic derivative evaluation program", 1964; Pearlmutter, "Fast exact
    multiplication by the Hessian", 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from fconv.layers import linear, relu
    >>> from fconv.networks import compose
    >>> net = compose(linear(1, bias=False), relu())
    >>> params = ({"weight": np.array([[2.0, 1.0]])}, ())
    >>> y, dy = jvp(net, params, np.array([[3.0, 4.0]]), None, np.array([[1.0, 0.5]]))
    >>> y, dy
    (array([[10.]]), array([[2.5]]))
    """
    net = as_layer("jvp", net)
    if not trees.leaves((dparams, dx)):
        raise ValueError("jvp: expected a tangent of the parameters, of x or of both, got None for each")
    still = buffers_of(net)
    dparams = _checked("the parameters", params, dparams, still)
    dx = _checked("x", x, dx, frozenset())
    y, dy = layer_jvp(net, params, x, dparams, dx, train, key)
    return y, zeros_like(y) if dy is None else dy


def _checked(what: str, values: Any, tangents: Any, still: frozenset[str]) -> Any:
    """Return tangents that fit what they belong to; those of 0 of what has no gradient are None."""

    def checked(path: trees.Path, value: Any, tangent: Any) -> Any:
        if tangent is None:
            return None
        name = ".".join(path) or what
        if not is_array(tangent):
            raise TypeError(f"jvp: expected an array for the tangent of {name}, got {describe(tangent)}")
        if path[-1:] and path[-1] in still:
            if tangent.any():
                raise ValueError(f"jvp: {name} has no gradient, so its tangent is None or 0")
            return None
        if tangent.shape != value.shape:
            raise ValueError(
                f"jvp: expected a tangent of {name} of its shape {value.shape}, got {tangent.shape}"
            )
        if tangent.dtype.newbyteorder("=") != value.dtype.newbyteorder("="):
            raise TypeError(f"jvp: expected a tangent of {name} of {value.dtype}, got {tangent.dtype}")
        return tangent

    if tangents is None:
        return None
    try:
        return trees.map_with_path(checked, values, tangents)
    except ValueError as error:
        if str(error).startswith("trees differ"):
            error.args = (f"jvp: the tangent of {what} has another structure: {error}",)
        raise


def layer_jvp(
    layer: Layer, params: Params, x: Any, dparams: Params, dx: Any, train: bool, key: Array | None
) -> tuple[Any, Any]:
    """Return the output of a layer, and its tangent along those of its parameters and its input.

    None stands for a tangent of 0, in the place of an array or of all of them; so does a `dy` of None. A
    layer without a `jvp` that a tangent enters is a TypeError.
    """
    if not trees.leaves((dparams, dx)):
        return layer.apply(params, x, train=train, key=key), None
    if layer.jvp is not None:
        return layer.jvp(params, x, dparams, dx, train=train, key=key)
    wiring = layer.wiring(_shape_of(x))
    if wiring is None:
        raise TypeError(
            f"{layer.name}: forward mode needs the layer's derivative; give it a function "
            f"jvp(params, x, dparams, dx, *, train=False, key=None) -> (y, dy)"
        )
    count = len(wiring.steps)
    keys: Sequence[Array | None] = [None] * count
    if key is not None and train and count:
        random.check_key(layer.name, key)
        keys = list(random.split(key, count))  # of fewer members, the same keys come first
    return wired_jvp(layer.name, wiring, params, x, dparams, dx, train, keys)


def wired_jvp(
    title: str,
    wiring: Wiring,
    params: Params,
    x: Any,
    dparams: Params,
    dx: Any,
    train: bool,
    keys: Sequence[Array | None],
) -> tuple[Any, Any]:
    """Return what `layer_jvp` does for a network, of its wiring and a key for each step."""
    values = wiring.entering(x)
    moved = dict.fromkeys(values) if dx is None else wiring.entering(dx)
    last = {source: i for i, step in enumerate(wiring.steps) for source in step.sources}
    for i, (step, k) in enumerate(zip(wiring.steps, keys, strict=True)):
        entering, tangent = (
            each[0] if len(each) == 1 else each
            for each in (tuple(held[source] for source in step.sources) for held in (values, moved))
        )
        with located(f"{title}[{step.name}]", step.layer):
            own = (params_at(params, step.params), _tangent_at(dparams, step.params))
            values[step.name], moved[step.name] = layer_jvp(
                step.layer, own[0], entering, own[1], tangent, train, k
            )
        for source in step.sources:  # whose memory the next layers can have
            if last[source] == i and source not in wiring.outputs:
                values.pop(source, None)
                moved.pop(source, None)
    if wiring.lone_output:
        return values[wiring.outputs[0]], moved[wiring.outputs[0]]
    y = {name: values[name] for name in wiring.outputs}
    dy = {name: zeros_like(values[name]) if moved[name] is None else moved[name] for name in wiring.outputs}
    return y, dy if any(moved[name] is not None for name in wiring.outputs) else None


def zeros_like(y: Any) -> Any:
    """Return a tangent of 0."""
    return trees.map(lambda part: xp_of(part).zeros_like(part), y)


def _tangent_at(dparams: Params, path: tuple[str, ...] | None) -> Params:
    """Return the part of the parameters' tangent that a step uses, None where it has none."""
    for name in path or ():
        dparams = None if dparams is None else dict(trees.children(dparams) or ())[name]
    return None if path is None else dparams


def _shape_of(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {name: _shape_of(part) for name, part in x.items()}
    return tuple(map(_shape_of, x)) if isinstance(x, (tuple, list)) else x.shape
