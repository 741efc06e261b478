"""The loss of a batch and its gradient: by a network's parameters, by its input, or by both."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from fconv import random, trees
from fconv.arguments.patterns import as_patterns, matched, names_of
from fconv.arguments.signatures import explained
from fconv.arguments.unpacking import note_gradient, unpacked
from fconv.arrays import Array, is_array, widened
from fconv.derivatives.freezing import partly_trained
from fconv.layer import Layer, Params, as_layer
from fconv.losses.base import Loss, as_loss, loss_forward
from fconv.networks.wiring import placed


def value_and_grad(
    net: Layer,
    loss: Loss,
    *,
    trainable: str | Sequence[str] | None = None,
    outputs: bool = False,
    wrt: str | Sequence[str] = "params",
) -> Callable[..., tuple[Any, ...]]:
    """Make the function that computes the loss of a batch and the gradient of the parameters.

    Parameters
    ----------
    net : Layer
        A layer or network.
    loss : Loss
        From `fconv.losses`, or anything with its `apply` and `vjp`.
    trainable : str or sequence of str, optional
        Patterns over the dotted names of a state dict, such as ``"head.*"`` or ``"*.bias"``; the name of
        a layer stands for all that it holds. Parameters that match none are frozen: their gradients are None
        and are not computed, and a layer without any other, such as a frozen batch norm, stays in inference
        mode. By default everything is trained.
    outputs : bool
        Return the network's output of the same forward pass too, as the last value.
    wrt : {"params", "x"} or both in a tuple
        What the gradient is taken of: with ``"x"`` it is that of the input alone, with
        ``("params", "x")`` the pair. Gradients that are not asked for are not computed.

    Returns
    -------
    callable
        ``(params, x, target, *, key=None, scale=None, train=True) -> (loss, grads, params)``, in training
        mode unless `train` is False. `grads` has the structure of `params`; the returned params hold
        refreshed running statistics and are otherwise the arrays that were given. With a `scale`, an array
        of no axes, the gradients are those of the loss times the scale, and the loss of a float16
        output is taken in float32. It raises a ValueError for a pattern that fits no parameter.

    Raises
    ------
    TypeError
        `net` is no layer, `loss` no loss, or a pattern is not a str.
    ValueError
        `wrt` is something else.

    Examples
    --------
    >>> from fconv.layers import linear
    >>> from fconv.losses import mse_loss
    >>> net = linear(1, bias=False)
    >>> f = value_and_grad(net, mse_loss())
    >>> loss, grads, params = f({"weight": np.array([[2.0]])}, np.array([[3.0]]), np.array([[0.0]]))
    >>> float(loss), grads
    (36.0, {'weight': array([[36.]])})

    The gradient of the input, for a saliency map:

    >>> g = value_and_grad(net, mse_loss(), wrt="x")
    >>> g({"weight": np.array([[2.0]])}, np.array([[3.0]]), np.array([[0.0]]), train=False)[1]
    array([[24.]])
    """
    net = as_layer("value_and_grad", net)
    loss = as_loss("value_and_grad", loss)

    _warn_of_two_normalizations(net, loss)
    patterns = None if trainable is None else as_patterns("value_and_grad: trainable", trainable)
    if not isinstance(outputs, bool):
        raise TypeError(f"value_and_grad: expected outputs to be True or False, got {outputs!r}")
    asked = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    if not asked or not set(asked) <= {"params", "x"}:
        raise ValueError(f'value_and_grad: expected wrt to be "params", "x" or ("params", "x"), got {wrt!r}')

    last: list[tuple[tuple[str, ...], Layer]] = []  # a run has one set of names

    def selected(params: Params) -> Layer:
        if patterns is None and "params" in asked:
            return net
        names = names_of(params)
        if not last or last[0][0] != names:
            live = None if patterns is None else matched("value_and_grad: trainable", patterns, names)
            wanted = (names if live is None else live) if "params" in asked else ()
            last[:] = [(names, partly_trained(net, params, frozenset(wanted), live))]
        return last[0][1]

    def function(
        params: Params,
        x: Any,
        target: Any,
        *,
        key: Array | None = None,
        scale: Array | None = None,
        train: bool = True,
    ) -> tuple[Any, ...]:
        if key is not None:
            random.check_key("value_and_grad", key)
        y, refreshed, pullback = selected(params).forward(params, x, train=train, key=key)
        output = narrow = y
        if scale is not None:
            y, target = trees.map(_wide, y), trees.map(_wide, target)
        try:
            value, loss_pullback = loss_forward(loss, y, target)
        except (ValueError, TypeError) as error:
            error.args = (f"{error}; {_origin(net, x, y)}",)
            raise
        if getattr(value, "shape", ()) != ():
            raise ValueError(
                f"value_and_grad: expected a scalar loss, got one of shape {value.shape}; reduce it, "
                f'for instance with reduction="mean"'
            )
        found: dict[str, Any] = {}
        if scale is None:
            found["params"], found["x"] = pullback(loss_pullback(), input_grad="x" in asked)
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # the optimizer looks for what has overflowed
                g = trees.map(
                    lambda each, like: (each * scale.astype(each.dtype)).astype(like.dtype, copy=False),
                    loss_pullback(), narrow,
                )  # fmt: skip
                found["params"], found["x"] = pullback(g, input_grad="x" in asked)
        note_gradient(params, found["params"])
        grads = found[asked[0]] if isinstance(wrt, str) else tuple(found[each] for each in asked)
        return (value, grads, refreshed, output) if outputs else (value, grads, refreshed)

    return unpacked(explained("value_and_grad(net, loss)", function))


_TAKES_LOGITS = {
    "cross_entropy": ("softmax", "or write log_softmax and nll_loss()"),
    "binary_cross_entropy_with_logits": ("sigmoid", "or write bce_loss()"),
}


def _warn_of_two_normalizations(net: Layer, loss: Any) -> None:
    """Warn of a network that ends in what its loss does too: it trains, but slowly and to a worse end."""
    twice, instead = _TAKES_LOGITS.get(getattr(loss, "name", ""), ("", ""))
    last, place = net, net.name
    while last.name == "compose":  # the last layer of a graph need not be its output
        try:
            last = last[-1]
        except IndexError:
            return
        place = f"the last layer of {net.name}"
    if twice and last.name == twice:
        warnings.warn(
            f"value_and_grad: {place} is {twice}, and {loss.name} takes logits; leave {twice} out, {instead}",
            stacklevel=3,
        )


def _origin(net: Layer, x: Any, y: Any) -> str:
    """Return which layer a network's output came from, for the message of a loss."""
    place, layer = net.name, net
    shape, found = (trees.map(lambda a: getattr(a, "shape", None), each) for each in (x, y))
    with suppress(Exception):  # what goes wrong here is not what went wrong
        while (wiring := layer.wiring(shape)) is not None and wiring.lone_output:
            shapes = {at.step.name: at for at in placed(layer, shape)}
            last = shapes[wiring.outputs[0]]
            place, layer, shape = f"{place}[{last.step.name}]", last.step.layer, last.shape
    forgotten = layer.name == "linear" and len(getattr(y, "shape", ())) == 4
    hint = f"; write flatten() before {place}" if forgotten else ""
    kind = "" if place == layer.name else f" {layer.name}"
    return f"the output of shape {found} comes from {place}{kind}{hint}"


def _wide(x: Any) -> Any:
    return widened(x) if is_array(x) else x
