"""The check for layers: gradients, purity, shapes and dtypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fconv import random, trees
from fconv.arrays import Array, is_array, xp_of
from fconv.layer import Layer, Params, as_layer, buffers_of
from fconv.testing.differences import Point, compare, direction_like
from fconv.testing.purity import call_purely, check_close, check_like, copied, same_bits


def check_layer(
    layer: Any,
    x: Array,
    *,
    key: Array | None = None,
    train: Sequence[bool] = (False, True),
    reference: Callable[[Params, Array], Array] | None = None,
    directions: int = 2,
    rtol: float = 1e-6,
) -> None:
    """Check that a layer keeps the contract of `fconv.Layer`.

    Checked: `init` is a function of its key and gives floating-point leaves of the dtype asked
    for; `out_shape` is the shape of the output; `apply` and `vjp` change none of their
    arguments and give the same bits twice; the output has the dtype of `x`, and in that dtype
    about the values of float64; gradients have the structure of the parameters, and agree in
    float64 with directional differences; `forward`, where the layer brings one, agrees with
    `apply` and `vjp`. All this outside training and in training.

    Parameters
    ----------
    layer : Layer
        Or anything with the functions of one.
    x : array
        An input.
    key : array of uint64, shape (2,), optional
        For the parameters, the directions, and the layer's own randomness.
    train : sequence of bool
        The modes to check.
    reference : callable, optional
        ``reference(params, x) -> y``, which the output outside training must equal.
    directions : int
        How many random directions to try in each mode.
    rtol : float
        Allowed difference of the gradient; see `check_vjp`.

    Raises
    ------
    AssertionError
        A check failed; the message names the layer and what differs.

    Examples
    --------
    >>> from fconv.layers import conv2d
    >>> check_layer(conv2d(4, 3, padding=1), random.normal(random.key(1), (2, 3, 5, 5)))
    """
    checked = as_layer("check_layer", layer)
    name = checked.name
    init_key, run_key, point_key = random.split(random.key(0) if key is None else key, 3)
    params = _check_init(checked, x, init_key)
    params = trees.map(lambda p: xp_of(x).asarray(p) if is_array(p) else p, params)
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    for mode in train:
        title = f"{name} (train={mode})"
        typical = _typical(checked, params, wide, mode, run_key, point_key)
        y = call_purely(title, checked.apply, typical, wide, train=mode, key=run_key)
        if tuple(checked.out_shape(x.shape)) != y.shape:
            raise AssertionError(
                f"{title}: out_shape says {checked.out_shape(x.shape)}, apply gives {y.shape}"
            )
        if reference is not None and not mode:
            check_close(title, "the output and the reference", y, reference(typical, wide), 1e-9)
        _check_dtype(checked, title, typical, x, y, mode, run_key)
        _check_gradients(checked, title, typical, wide, y, mode, run_key, directions, rtol)


def _check_init(layer: Layer, x: Array, key: Array) -> Params:
    """Check `init`, and give float64 parameters."""
    params = call_purely(f"{layer.name}.init", layer.init, key, x.shape, np.float64)
    narrow = layer.init(key, x.shape)
    if not trees.same_structure(params, narrow):
        raise AssertionError(f"{layer.name}.init: the structure depends on the dtype")
    for wide_leaf, leaf in zip(trees.leaves(params), trees.leaves(narrow), strict=True):
        if wide_leaf.dtype.kind == "f" and (wide_leaf.dtype != np.float64 or leaf.dtype != np.float32):
            raise AssertionError(
                f"{layer.name}.init: expected float64 leaves as asked for and float32 by default, "
                f"got {wide_leaf.dtype} and {leaf.dtype}"
            )
    return params


def _typical(layer: Layer, params: Params, x: Array, train: bool, run_key: Array, key: Array) -> Params:
    """Move parameters off special values such as a scale of 1, which would hide a missing factor.

    Statistics, whose gradient is None, are only ever raised, because a variance is positive.
    """
    y = layer.apply(params, x, train=train, key=run_key)
    dparams, _ = layer.vjp(params, x, xp_of(y).ones_like(y), train=train, key=run_key)
    if not _fits(params, dparams):
        raise AssertionError(f"{layer.name}: the gradient of the parameters differs from them in structure")
    keys = iter(random.split(key, len(trees.leaves(params))))

    def shift(p: Array, g: Array | None) -> Array:
        u = direction_like(next(keys), p)
        if p.dtype.kind != "f":
            return p
        return p + 0.2 * abs(u) if g is None else p * (1 + 0.2 * u) + 0.1 * u

    return trees.map(shift, params, dparams)


def _fits(params: Params, dparams: Params) -> bool:
    """Tell whether `dparams` has an array or None for each leaf of `params`."""
    try:
        return all(g is None or is_array(g) for _, _, g in trees.aligned(params, dparams))
    except ValueError:
        return False


def _check_dtype(
    layer: Layer, title: str, params: Params, x: Array, y: Array, train: bool, key: Array
) -> None:
    """Check that an input's own dtype is kept, and gives about the same values."""
    if x.dtype.kind != "f":
        return
    own = trees.map(lambda p: p.astype(x.dtype) if p.dtype.kind == "f" else p, params)
    result = layer.apply(own, x, train=train, key=key)
    if result.dtype != x.dtype:
        raise AssertionError(f"{title}: an input of {x.dtype} gave an output of {result.dtype}")
    check_close(
        title, f"the output in {x.dtype} and in float64", result, y, 1e5 * float(np.finfo(x.dtype).eps)
    )


def _check_gradients(
    layer: Layer,
    title: str,
    params: Params,
    x: Array,
    y: Array,
    train: bool,
    key: Array,
    directions: int,
    rtol: float,
) -> None:
    g = direction_like(random.fold_in(key, 1), y)
    buffers = buffers_of(layer)
    dparams, dx = call_purely(f"{title}.vjp", layer.vjp, params, x, g, train=train, key=key)
    trained = {}
    for path, p, grad in trees.aligned(params, dparams):
        if grad is None and p.dtype.kind == "f" and path[-1] not in buffers:
            raise AssertionError(
                f"{title}: {'.'.join(path)} has no gradient; if it is not trained, name it in buffers"
            )
        if grad is not None:
            trained["params." + ".".join(path)] = p
            check_like(title, ".".join(path), grad, p)
    if x.dtype.kind == "f":
        check_like(title, "x", dx, x)
    _check_forward(layer, title, params, x, g, (y, dparams, dx), train, key)

    def placed(point: Point) -> tuple[Params, Array]:
        moved = trees.map_with_path(lambda path, p: point.get("params." + ".".join(path), p), params)
        return moved, point.get("x", x)

    def value(point: Point) -> Array:
        return layer.apply(*placed(point), train=train, key=key)

    def gradient(point: Point, g: Array) -> dict[str, Array | None]:
        dparams, dx = layer.vjp(*placed(point), g, train=train, key=key)
        grads = {"params." + ".".join(path): grad for path, _, grad in trees.aligned(params, dparams)}
        return {**grads, "x": dx}

    point = {"x": x, **trained} if x.dtype.kind == "f" else trained
    compare(
        title, value, lambda p, g: {n: v for n, v in gradient(p, g).items() if n in point}, point,
        key=random.fold_in(key, 2), directions=directions, rtol=rtol,
    )  # fmt: skip


def _check_forward(
    layer: Layer,
    title: str,
    params: Params,
    x: Array,
    g: Array,
    expected: tuple[Any, Params, Any],
    train: bool,
    key: Array,
) -> None:
    """Check `forward` against `apply` and `vjp`."""
    y, dparams, dx = expected
    before = copied((params, x, g))
    value, refreshed, pullback = layer.forward(params, x, train=train, key=key)
    if not trees.same_structure(refreshed, params):
        raise AssertionError(f"{title}.forward: the parameters come back in another structure")
    if not train and not same_bits(refreshed, params):
        raise AssertionError(f"{title}.forward: the parameters change outside training")
    check_close(title, "the outputs of forward and apply", value, y, 1e-11)
    again, dx_again = pullback(g)
    for _, _, ours, theirs in trees.aligned(params, again, dparams):
        if (ours is None) != (theirs is None):
            raise AssertionError(f"{title}: forward's pullback and vjp differ in which gradients are None")
        if ours is not None:
            check_close(title, "the gradients of forward's pullback and vjp", ours, theirs, 1e-9, 1.0)
    if dx is not None:
        check_close(title, "the input gradients of forward's pullback and vjp", dx_again, dx, 1e-9, 1.0)
    if not same_bits((params, x, g), before):
        raise AssertionError(f"{title}: forward or its pullback changed its arguments")
    if pullback(g, input_grad=False)[1] is not None:
        raise AssertionError(f"{title}: forward's pullback gave an input gradient with input_grad=False")
