"""Gradients by each example of a batch, which differential privacy clips and influence is measured by.

The gradient of the loss by a layer's output holds every example's own, as long as no layer mixes them. A
network's pullback therefore stays as it is; its layers' parameters are what get another pullback, one
that does not sum over the examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from fconv import random, trees
from fconv.arguments.signatures import explained, plain
from fconv.arrays import Array, is_array, xp_of
from fconv.engine.contraction import contract
from fconv.functional.core import EACH, NORMS
from fconv.layer import Layer, LayerPullback, Params, Wiring, as_layer, no_gradient
from fconv.losses.base import Loss, as_loss, each_gradient

__all__ = ["per_example_gradients", "per_example_norms"]


def per_example_gradients(net: Layer, loss: Loss) -> Callable[..., Any]:
    """Make the function that computes the gradient of the parameters by each example of a batch.

    One forward and one backward pass serve all examples. The mean of the gradients is that of
    `value_and_grad` for a loss that is a mean over examples.

    Parameters
    ----------
    net : Layer
        A layer or network. A layer of your own with parameters, which fconv knows no formula for, is
        called once an example.
    loss : Loss
        From `fconv.losses`, or anything with its `apply` and `vjp`. The loss of an example is that of a
        batch of one.

    Returns
    -------
    callable
        ``(params, x, target, *, key=None, train=True) -> grads``, in training mode unless `train` is
        False: the tree of `params`, each leaf with a leading axis of examples, None where `value_and_grad`
        has None. A `key` draws the masks that it draws in `value_and_grad`, one an example. The first
        call for a shape also checks that no layer mixes examples, which takes two more backward passes.

    Raises
    ------
    TypeError
        `net` is no layer, or `loss` no loss.
    ValueError
        The network has a `fconv.parameter`, which has no axis of examples. When it is called: a
        layer mixes the examples, as `batch_norm` does in training, or folds their axis into another, as
        a reshape can; the layer is named.

    References
    ----------
    Goodfellow, "Efficient per-example gradient computations", 2015; Rochette, Manoel and Tramel,
    "Efficient per-example gradient computations in convolutional neural networks", 2019.

    Examples
    --------
    >>> from fconv.layers import linear
    >>> from fconv.losses import mse_loss
    >>> grads_of = per_example_gradients(linear(1, bias=False), mse_loss())
    >>> grads_of({"weight": np.array([[2.0]])}, np.array([[3.0], [1.0]]), np.zeros((2, 1)))
    {'weight': array([[[36.]],
    <BLANKLINE>
           [[ 4.]]])}
    """
    return _made("per_example_gradients", net, loss, EACH, lambda grads, count, like: grads)


def per_example_norms(net: Layer, loss: Loss) -> Callable[..., Array]:
    """Make the function that computes the norm of each example's gradient, over all parameters together.

    No more than one layer's gradients are held at a time, and none where the norm follows from the
    layer's input and the gradient of its output for less, as it mostly does in `linear`.

    Parameters
    ----------
    net, loss
        As for `per_example_gradients`.

    Returns
    -------
    callable
        ``(params, x, target, *, key=None, train=True) -> norms``, an array of one number an example, in
        the dtype of the parameters.

    Raises
    ------
    TypeError, ValueError
        As for `per_example_gradients`.

    References
    ----------
    Goodfellow, "Efficient per-example gradient computations", 2015; Li et al., "Large language models
    can be strong differentially private learners", 2022 (ghost clipping).

    Examples
    --------
    >>> from fconv.layers import linear
    >>> from fconv.losses import mse_loss
    >>> norms_of = per_example_norms(linear(1, bias=False), mse_loss())
    >>> norms_of({"weight": np.array([[2.0]])}, np.array([[3.0], [1.0]]), np.zeros((2, 1)))
    array([36.,  4.])
    """
    return _made("per_example_norms", net, loss, NORMS, joint_norms)


def joint_norms(grads: Any, count: int, like: Array) -> Array:
    """Return the norm of each example's gradient over all leaves, which have a leading axis of examples."""
    norms = [_norm(g).reshape(1, count) for g in trees.leaves(grads)]
    if not norms:
        return xp_of(like).zeros(count, like.dtype)
    xp = xp_of(norms[0])
    with np.errstate(over="ignore"):
        return xp.sqrt(xp.square(xp.concatenate(norms), dtype=np.float64).sum(axis=0)).astype(norms[0].dtype)


def _norm(g: Array) -> Array:
    """Return the norm of each element along the first axis, in as many axes."""
    if g.size == g.shape[0]:
        return abs(g)
    flat = g.reshape(g.shape[0], prod(g.shape[1:]))
    with np.errstate(over="ignore"):
        return xp_of(g).sqrt(contract("ni,ni->n", flat, flat)).reshape(-1, *(1,) * (g.ndim - 1))


def _made(
    title: str, net: Layer, loss: Loss, each: tuple[str, ...], finish: Callable[[Any, int, Array], Any]
) -> Callable[..., Any]:
    net, loss = as_layer(title, net), as_loss(title, loss)
    apart = _apart(title, net, each)

    def function(params: Params, x: Any, target: Any, *, key: Array | None = None, train: bool = True) -> Any:
        if key is not None:
            random.check_key(title, key)
        count = _count(f"{title}: expected an input", x)
        y, _, pullback = apart.forward(params, x, train=train, key=key)
        if _count(f"{title}: expected an output", y) != count:
            raise ValueError(f"{title}: expected an output for each of {count} examples, got {_shapes(y)}")
        try:
            g = each_gradient(loss, y, target)
        except (ValueError, TypeError) as error:
            error.args = (f"{title}: {error}",)
            raise
        grads, _ = pullback(g, input_grad=False)
        for path, p, grad in trees.aligned(params, grads):
            if grad is not None and not _fits(p, grad, count):
                raise ValueError(
                    f"{title}: {'.'.join(path)} is used where there is no axis of examples; loop over "
                    f"batches of one with fconv.value_and_grad"
                )
        return finish(grads, count, trees.leaves(x)[0])

    return explained(f"{title}(net, loss)", function)


def _shapes(x: Any) -> Any:
    return trees.map(lambda a: getattr(a, "shape", type(a).__name__), x)


def _count(expected: str, x: Any) -> int:
    """Return the length of the first axis, which all arrays of a tree share."""
    sizes = {a.shape[0] if is_array(a) and a.ndim else None for a in trees.leaves(x)}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(f"{expected} with a leading axis of examples, got {_shapes(x)}")
    return int(next(iter(sizes)))  # type: ignore[arg-type]


def _fits(p: Array, grad: Array, count: int) -> bool:
    return bool(grad.ndim == p.ndim + 1 and grad.shape[0] == count)


def _apart(title: str, layer: Layer, each: tuple[str, ...]) -> Layer:
    """Return a network whose layers keep the gradients of their parameters apart."""
    if layer.rebuilding is None or layer.rebuilding.forward is not plain(layer.forward):
        return _leaf(layer, each)
    try:
        wiring = layer.wiring(None)
    except ValueError:  # what it is made of depends on the input
        wiring = None
    uses = Counter(step.params for step in wiring.steps) if wiring else Counter()
    still = _still(title, layer, wiring) if wiring else frozenset()

    def inside(path: tuple[str, ...], child: Layer) -> Layer:
        if path in still:
            return child
        # Gradients of several uses are added before their norm can be taken.
        alone = wiring is not None and uses[path] < 2
        return _apart(title, child, each if alone else EACH)

    return layer.rebuilding.of(inside)


def _still(title: str, net: Layer, wiring: Wiring) -> frozenset[Any]:
    """Return the paths of layers whose outputs are the same for all examples."""
    values: set[str] = set()
    for step in wiring.steps:
        if not step.sources and step.layer.trained and "" not in step.layer.buffers:
            raise ValueError(
                f"{title}: {net.name}[{step.name}] {step.layer.name}: a parameter that enters as a value has "
                f"no axis of examples; loop over batches of one with fconv.value_and_grad"
            )
        if step.layer.name == "constant" or all(source in values for source in step.sources):
            values.add(step.name)
    moving = {step.params for step in wiring.steps if step.name not in values}
    return frozenset(step.params for step in wiring.steps) - moving


def _leaf(layer: Layer, each: tuple[str, ...]) -> Layer:
    """Return a layer with a pullback to the gradients of its parameters by each example."""
    seen: set[Any] = set()  # kinds of calls that are known to keep examples apart

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        if layer.name == "batch_norm" and (train or not layer.options.get("track_running_stats", True)):
            raise ValueError(
                f"{layer.name}: statistics of the batch mix its examples; write group_norm, layer_norm or "
                f"instance_norm in its place, or pass train=False"
            )
        y, refreshed, pull = layer.forward(params, x, train=train, key=key)
        inner, outer = ([a.shape for a in trees.leaves(v) if is_array(a) and a.ndim] for v in (x, y))
        count = outer[0][0] if outer else -1
        if any(shape[0] != count for shape in outer) or all(shape[0] != count for shape in inner):
            raise ValueError(
                f"{layer.name}: folds the axis of examples into another: its input has the shape "
                f"{_shapes(x)}, its output {_shapes(y)}"
            )
        kind = (train, *(shape[1:] for shape in (*inner, *outer)))
        known = count < 2 or kind in seen
        formula = not trees.leaves(params) or "each" in (getattr(pull, "__kwdefaults__", None) or ())
        held = None if known and formula else x

        def looped(g: Any) -> Params:
            """Return the gradients by calls for one example after another."""
            parts = []
            for i in range(count):
                if train and key is not None:  # a batch of one would draw other random numbers
                    only = trees.map(lambda a, i=i: a * _along(a, np.arange(count) == i), g)
                    parts.append(pull(only, False)[0])
                else:
                    own_x, own_g = (trees.map(lambda a, i=i: a[i : i + 1], tree) for tree in (held, g))
                    alone = layer.forward(params, own_x, train=train, key=key)[2]
                    parts.append(alone(own_g, False)[0])
            parts = [no_gradient(params) if part is None else part for part in parts]
            if not parts:
                return trees.map(lambda p: xp_of(p).zeros((0, *p.shape), p.dtype), params)
            return trees.map(lambda p, *own: None if own[0] is None else xp_of(p).stack(own), params, *parts)

        def pullback(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            if not known and _keeps_apart(layer, held, g, pull):
                seen.add(kind)
            if not trees.leaves(params):
                return pull(g, input_grad)
            if formula:
                grads, dx = pull(g, input_grad, each=each)  # type: ignore[call-arg]
            else:
                grads, dx = looped(g), pull(g, True)[1] if input_grad else None
            if each is NORMS:
                grads = trees.map(lambda p, d: None if d is None else _norm(d), params, grads)
            return grads, dx

        return y, refreshed, pullback

    return replace(layer, forward=forward, rebuilding=None)


def _along(a: Array, numbers: Any) -> Array:
    """Return a number for each example, to broadcast against an array."""
    return xp_of(a).asarray(numbers, dtype=a.dtype).reshape(-1, *(1,) * (a.ndim - 1))


def _keeps_apart(layer: Layer, x: Any, g: Any, pull: LayerPullback) -> bool:
    """Require that a layer's pullback takes examples scaled differently to examples scaled so.

    Return False where that tells nothing: where the gradient of the input is 0, or not finite.
    """
    count, ndim = len(trees.leaves(g)[0]), trees.leaves(g)[0].ndim
    # Powers of two, which scale without rounding, by no rule that a permutation would keep.
    scales = 0.5 ** ((np.arange(count, dtype=np.uint64) * 2654435769 % (1 << 32)) >> 30).astype(np.float64)
    lone, told = is_array(x), True
    plainly = pull(g, True)[1]
    scaled = pull(trees.map(lambda a: a * _along(a, scales), g), True)[1]
    for _, _, first, second in trees.aligned(x, plainly, scaled):
        # Of several inputs those of fewer axes, such as constants, may be broadcast along the examples.
        if not is_array(first) or first.shape[:1] != (count,) or not (lone or first.ndim == ndim):
            continue
        most = float(abs(first).max()) if first.size else 0.0
        if not 0 < most < np.inf:
            told = False
            continue
        apart = float(abs(second - first * _along(first, scales)).max())
        if apart > most * np.finfo(first.dtype).eps ** 0.5:
            raise ValueError(f"{layer.name}: mixes the examples of a batch: none has a gradient of its own")
    return told
