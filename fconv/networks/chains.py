"""Layers in a chain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from fconv import random
from fconv.arguments.constructors import constructor
from fconv.arguments.signatures import own_function
from fconv.arrays import Array, Shape
from fconv.layer import (
    Layer,
    LayerPullback,
    Params,
    Rebuilding,
    Step,
    Wiring,
    has_trained,
    locate,
    located,
    no_gradient,
    vjp_of,
)
from fconv.networks.members import Members


@constructor
def compose(*layers: Any, **named: Any) -> Layer:
    """Chain layers: the output of each is the input of the next.

    Parameters
    ----------
    *layers : Layer
        The parameters are a tuple, named ``0.weight``, ``3.bias`` as torch.nn.Sequential's.
    **named : Layer
        Or layers by name: the parameters are a dict, named ``conv1.weight``.

    Returns
    -------
    Layer
        `init` and, in training, `apply` split the key among the layers. A ValueError or
        TypeError of a layer says where the layer stands, as in ``compose[3] conv2d: ...``.

    Raises
    ------
    TypeError
        An argument is no layer, or positional and named layers are mixed.

    Examples
    --------
    >>> from fconv.layers import conv2d, flatten, linear, relu
    >>> net = compose(conv2d(8, 3), relu(), flatten(), linear(10))
    >>> net.out_shape((32, 1, 28, 28))
    (32, 10)
    >>> params = net.init(random.key(0), (32, 1, 28, 28))
    >>> params[0]["weight"].shape, params[1]
    ((8, 1, 3, 3), ())
    """
    if layers and named:
        raise TypeError("compose: give layers either by position or by name, not both")
    names = tuple(named) or tuple(str(i) for i in range(len(layers)))
    return chain("compose", Members("compose", names, tuple(named.values()) or layers, by_name=bool(named)))


_PICTURES = ("conv", "max_pool", "avg_pool", "lp_pool", "adaptive_", "global_", "upsample", "pixel_")
_TURNED = ("permute", "transpose", "reshape", "view", "flatten", "unflatten")


def _of_pictures(layers: Sequence[Layer]) -> bool:
    """Return whether a chain ends with pictures (N, C, H, W), whose axes nothing has moved."""
    for layer in reversed(layers):
        if layer.name.startswith(_PICTURES):
            return True
        if layer.name in _TURNED or layer.children:
            return False
    return False


def chain(title: str, members: Members) -> Layer:
    """Make the layer that applies one member after the other."""
    steps, unpack, pack, keys_for = members.steps, members.unpack, members.pack, members.keys
    count = len(steps)
    applied = [own_function(layer.apply) for layer in members.layers]
    forwards = [own_function(layer.forward) for layer in members.layers]

    def init(key: Array, shape: Shape, dtype: Any = np.float32) -> Params:
        random.check_key(f"{title}.init", key)
        parts = []
        for i, ((place, layer), k) in enumerate(zip(steps, random.split(key, count), strict=True)):
            if layer.name == "linear" and len(shape) == 4 and _of_pictures(members.layers[:i]):
                warnings.warn(
                    f"{place} linear: takes the last axis of pictures of shape {shape} for its input "
                    f"features; write flatten() before it",
                    stacklevel=3,
                )
            with located(place, layer):
                parts.append(layer.init(k, shape, dtype))
                shape = layer.out_shape(shape)
        return pack(parts)

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Any:
        parts, keys = unpack(params), keys_for(train, key)
        i = 0
        try:
            for i, of_layer in enumerate(applied):
                x = of_layer(parts[i], x, train=train, key=keys[i])
        except (ValueError, TypeError) as error:
            locate(error, *steps[i])
            raise
        return x

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        parts, keys = unpack(params), keys_for(train, key)
        refreshed, pullbacks = [], []
        i = 0
        try:
            for i, of_layer in enumerate(forwards):
                x, new, pullback = of_layer(parts[i], x, train=train, key=keys[i])
                refreshed.append(new)
                pullbacks.append(pullback)
        except (ValueError, TypeError) as error:
            locate(error, *steps[i])
            raise

        def pull(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            # Nothing before the first trained parameters is needed for their gradients.
            first = 0
            while first < count and not has_trained(members.layers[first], parts[first]):
                first += 1
            last = 0 if input_grad else first
            grads = [no_gradient(part) if i < last else None for i, part in enumerate(parts)]
            i = count - 1
            try:
                for i in range(count - 1, last - 1, -1):
                    grads[i], g = pullbacks[i](g, input_grad or i > first)
            except (ValueError, TypeError) as error:
                locate(error, *steps[i])
                raise
            return pack(grads), g if input_grad else None

        return x, pack(refreshed), pull

    def out_shape(shape: Shape) -> Shape:
        for place, layer in steps:
            with located(place, layer):
                shape = layer.out_shape(shape)
        return shape

    def cut(part: slice) -> Layer:
        kept = list(members.children.items())[part]
        return compose(**dict(kept)) if members.by_name else compose(*(layer for _, layer in kept))

    arrivals = ("input", *members.names)
    wired = tuple(
        Step(name, layer, (source,), (name,))
        for name, layer, source in zip(members.names, members.layers, arrivals, strict=False)
    )
    wiring = Wiring(wired, ("input",), arrivals[-1:])

    return Layer(
        init=init,
        apply=apply,
        vjp=vjp_of(forward),
        out_shape=out_shape,
        forward=forward,
        name=title,
        children=members.children,
        draws=members.draws,
        wiring=lambda shape: wiring,
        rebuilding=Rebuilding(forward, lambda f: chain(title, members.mapped(f)), cut),
    )
