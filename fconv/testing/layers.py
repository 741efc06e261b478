"""The check for layers: gradients, purity, shapes and dtypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fconv import random, trees
from fconv.arrays import Array, describe, is_array, xp_of
from fconv.layer import Layer, Params, as_layer
from fconv.testing.differences import direction_like
from fconv.testing.gradients import check_gradient
from fconv.testing.layer_calls import LayerCall, check_batches, check_forward, fits, misfit, pair_of, shape_of
from fconv.testing.purity import call_purely, check_close


def check_layer(
    layer: Any,
    x: Any,
    *,
    key: Array | None = None,
    train: Sequence[bool] = (False, True),
    reference: Callable[[Params, Array], Array] | None = None,
    directions: int = 2,
    rtol: float = 1e-6,
) -> None:
    """Check that a layer keeps the contract of `fconv.Layer`.

    Checked: `init` is a function of its key and gives floating-point leaves of the dtype asked
    for; `out_shape` is the shape of the output, for other sizes of the batch too; `apply` and `vjp`
    change none of their arguments and use no global random generator; the output has the dtype of
    `x`; gradients have the structure and dtypes of the parameters. Values and gradients are checked
    as `check_vjp` checks them: against directional differences in float64, and for other memory
    layouts, earlier calls and float32. `forward`, if the layer has one, must agree with `apply` and `vjp`,
    whatever was called before; its pullback may be called again, with another g and without the input's
    gradient. The parameters that it returns differ from the given ones only in untrained statistics, which
    keep their shapes and dtypes. All of this is checked outside training, where a key changes nothing, and in
    training, where a layer that needs a key raises an error without one.

    Parameters
    ----------
    layer : Layer
        Or anything with the functions of one.
    x : array, or tuple or dict of arrays
        An input. Axis 0 is the batch.
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
    TypeError
        `layer` is no layer, or `x` is not made of arrays.
    AssertionError
        A check failed; the message names the layer and what differs, and shows the input, the
        direction and both numbers.

    Examples
    --------
    >>> from fconv.layers import conv2d
    >>> check_layer(conv2d(4, 3, padding=1), random.normal(random.key(1), (2, 3, 5, 5)))
    """
    checked = as_layer("check_layer", layer)
    for leaf in trees.leaves(x):
        if not is_array(leaf):
            raise TypeError(
                f"check_layer: expected x to be an array, or a tuple or dict of arrays, got {describe(leaf)}"
                + (f" in a {type(x).__name__}" if leaf is not x else "")
            )
    init_key, run_key, point_key = random.split(random.key(0) if key is None else key, 3)
    wide = trees.map(lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a, x)
    params = _check_init(checked, wide, init_key)
    half = [a.dtype for a in trees.leaves(x) if a.dtype == np.float16]
    dtypes = [np.dtype(np.float32), *half[:1]]
    for mode in train:
        title = f"{checked.name} (train={mode})"
        typical = _typical(checked, title, params, wide, mode, run_key, point_key)
        call = LayerCall(checked, title, typical, wide, mode, run_key)
        call.check_apply()
        if reference is not None and not mode:
            check_close(title, "the output and the reference", call.y, reference(typical, wide), 1e-9)
        keys = random.split(random.fold_in(run_key, 2), 3)
        here = check_gradient(call.by_vjp, call.point, dtypes, key=keys[0], directions=directions, rtol=rtol)
        check_forward(call, here, dtypes, keys[1])
        check_batches(call, keys[2], rtol)


def _check_init(layer: Layer, x: Any, key: Array) -> Params:
    """Check `init`, and return float64 parameters."""
    name, shape = f"{layer.name}.init", shape_of(x)
    params = call_purely(name, layer.init, key, shape, np.float64)
    narrow = layer.init(key, shape)
    for leaf in (*trees.leaves(params), *trees.leaves(narrow)):
        if not is_array(leaf):
            raise AssertionError(f"{name}: expected arrays for leaves, got {describe(leaf)}")
    if not trees.same_structure(params, narrow):
        raise AssertionError(f"{name}: the structure depends on the dtype")
    for wide_leaf, leaf in zip(trees.leaves(params), trees.leaves(narrow), strict=True):
        if wide_leaf.dtype.kind == "f" and (wide_leaf.dtype != np.float64 or leaf.dtype != np.float32):
            raise AssertionError(
                f"{name}: expected float64 leaves as asked for and float32 by default, "
                f"got {wide_leaf.dtype} and {leaf.dtype}"
            )
    return trees.map(lambda p: xp_of(p).asarray(p), params)


def _typical(
    layer: Layer, title: str, params: Params, x: Any, train: bool, run_key: Array, key: Array
) -> Params:
    """Move parameters off special values such as a scale of 1, which would hide a missing factor.

    Statistics, whose gradient is None, are only ever raised, because a variance is positive.
    """
    y = layer.apply(params, x, train=train, key=run_key)
    ones = trees.map(lambda part: xp_of(part).ones_like(part), y)
    dparams, _ = pair_of(f"{title}.vjp", layer.vjp(params, x, ones, train=train, key=run_key))
    if not fits(params, dparams):
        raise AssertionError(misfit(layer.name, params, dparams))
    keys = iter(random.split(key, len(trees.leaves(params))))

    def shift(p: Array, g: Array | None) -> Array:
        u = direction_like(next(keys), p)
        if p.dtype.kind != "f":
            return p
        return p + 0.2 * abs(u) if g is None else p * (1 + 0.2 * u) + 0.1 * u

    return trees.map(shift, params, dparams)
