"""One layer several times over."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv import trees
from fconv.arguments.constructors import constructor
from fconv.arrays import Array
from fconv.layer import Layer, LayerPullback, Params, Rebuilding, Step, Wiring, as_layer, located, vjp_of
from fconv.networks.chains import chain
from fconv.networks.members import Members, split_key


@constructor
def repeat(layer: Any, n: int, *, shared: bool = False) -> Layer:
    """Apply a layer `n` times, each time to its previous output.

    Parameters
    ----------
    layer : Layer
        The layer.
    n : int
        How many times, 1 or more.
    shared : bool
        Use the same parameters each time, and add their gradients. Otherwise each time has
        parameters of its own, in a tuple.

    Returns
    -------
    Layer
        The network; with shared parameters it has those of `layer`.

    Raises
    ------
    TypeError, ValueError
        `layer` is no layer, or `n` is no integer of 1 or more.

    Examples
    --------
    >>> from fconv.layers import conv2d
    >>> from fconv import random
    >>> len(repeat(conv2d(4, 3), 3).init(random.key(0), (1, 4, 9, 9)))
    3
    >>> sorted(repeat(conv2d(4, 3), 3, shared=True).init(random.key(0), (1, 4, 9, 9)))
    ['bias', 'weight']
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"repeat: n must be an integer, got {n!r}")
    if n < 1:
        raise ValueError(f"repeat: n must be at least 1, got {n}")
    one = as_layer("repeat", layer)
    if not shared:
        return chain("repeat", Members("repeat", [str(i) for i in range(n)], [one] * n, by_name=False))
    return _shared(one, n)


def _shared(one: Layer, n: int) -> Layer:
    places = [f"repeat[{i}]" for i in range(n)]

    def init(key: Array, shape: Any, dtype: Any = np.float32) -> Params:
        out_shape(shape)
        return one.init(key, shape, dtype)

    def out_shape(shape: Any) -> Any:
        for place in places:
            with located(place, one):
                shape = one.out_shape(shape)
        return shape

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Any:
        for place, k in zip(places, split_key(key if train and one.draws else None, n), strict=True):
            with located(place, one):
                x = one.apply(params, x, train=train, key=k)
        return x

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        pullbacks = []
        for place, k in zip(places, split_key(key if train and one.draws else None, n), strict=True):
            with located(place, one):
                x, params, pullback = one.forward(params, x, train=train, key=k)
            pullbacks.append(pullback)

        def pull(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            total = None
            for i in range(n - 1, -1, -1):
                with located(places[i], one):
                    grads, g = pullbacks[i](g, input_grad or i > 0)
                total = grads if total is None else trees.add(total, grads)
            return total, g

        return x, params, pull

    arrivals = ("input", *map(str, range(n)))
    wired = tuple(Step(str(i), one, (arrivals[i],), ()) for i in range(n))
    wiring = Wiring(wired, ("input",), arrivals[-1:])

    return Layer(
        init=init, apply=apply, vjp=vjp_of(forward), out_shape=out_shape, forward=forward, name="repeat",
        options={"n": n, "shared": True}, children={f"{n} times": one}, wiring=lambda shape: wiring,
        rebuilding=Rebuilding(forward, lambda f: _shared(f((), one), n)), draws=one.draws,
    )  # fmt: skip
