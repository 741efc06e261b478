"""Layers made of layers. Nothing here knows any layer in particular."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fconv import random, trees
from fconv.arrays import Array, Shape, describe
from fconv.layer import Layer, LayerPullback, Params, as_layer, located, no_gradient


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
    places = [f"compose[{name}]" for name in names]
    given = tuple(named.values()) or layers
    chain = [as_layer(place, layer) for place, layer in zip(places, given, strict=True)]
    steps = list(zip(places, chain, strict=True))

    def pack(parts: Sequence[Params]) -> Params:
        return dict(zip(names, parts, strict=True)) if named else tuple(parts)

    def unpack(params: Params) -> list[Params]:
        return _unpack("compose", params, names, bool(named))

    def keys_for(train: bool, key: Array | None) -> Sequence[Array | None]:
        return [None] * len(chain) if key is None or not train else list(random.split(key, len(chain)))

    def init(key: Array, shape: Shape, dtype: Any = np.float32) -> Params:
        random.check_key("compose.init", key)
        parts = []
        for (place, layer), k in zip(steps, random.split(key, len(chain)), strict=True):
            with located(place, layer):
                parts.append(layer.init(k, shape, dtype))
                shape = layer.out_shape(shape)
        return pack(parts)

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Any:
        for (place, layer), part, k in zip(steps, unpack(params), keys_for(train, key), strict=True):
            with located(place, layer):
                x = layer.apply(part, x, train=train, key=k)
        return x

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        parts = unpack(params)
        refreshed, pullbacks = [], []
        for (place, layer), part, k in zip(steps, parts, keys_for(train, key), strict=True):
            with located(place, layer):
                x, new, pullback = layer.forward(part, x, train=train, key=k)
            refreshed.append(new)
            pullbacks.append(pullback)
        # Where the input's gradient is not asked for, nothing before the first parameters is needed.
        first = next((i for i, part in enumerate(parts) if trees.leaves(part)), len(chain))

        def pull(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            grads = [no_gradient(part) for part in parts]
            last = 0 if input_grad else first
            for i in range(len(chain) - 1, last - 1, -1):
                with located(places[i], chain[i]):
                    grads[i], g = pullbacks[i](g, input_grad or i > first)
            return pack(grads), g if input_grad else None

        return x, pack(refreshed), pull

    def vjp(
        params: Params, x: Any, g: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Any]:
        return forward(params, x, train=train, key=key)[2](g)

    def out_shape(shape: Shape) -> Shape:
        for place, layer in steps:
            with located(place, layer):
                shape = layer.out_shape(shape)
        return shape

    return Layer(
        init=init,
        apply=apply,
        vjp=vjp,
        out_shape=out_shape,
        forward=forward,
        name="compose",
        children=dict(zip(names, chain, strict=True)),
    )


def _unpack(name: str, params: Params, names: tuple[str, ...], by_name: bool) -> list[Params]:
    """List the parameters of the children in order, or raise an error that names what differs."""
    if by_name:
        if not isinstance(params, Mapping):
            raise TypeError(
                f"{name}: expected a dict of parameters for {', '.join(names)}, got {describe(params)}"
            )
        if params.keys() != set(names):
            raise ValueError(
                f"{name}: expected parameters for {', '.join(names)}, "
                f"got {', '.join(map(str, params)) or 'none'}"
            )
        return [params[child] for child in names]
    if not isinstance(params, (tuple, list)):
        raise TypeError(
            f"{name}: expected a tuple of parameters for {len(names)} layers, got {describe(params)}"
        )
    if len(params) != len(names):
        raise ValueError(f"{name}: expected parameters for {len(names)} layers, got {len(params)}")
    return list(params)
