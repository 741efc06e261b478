"""Networks that hold for inputs of one size alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fconv.constructors import constructor
from fconv.layer import Layer, Rebuilding
from fconv.tangents import layer_jvp


@constructor
def for_shape(net: Layer, shape: Any) -> Layer:
    """Return a network that refuses inputs of other sizes than those of `shape`.

    A forward was exported with the sizes that are no None; for others it might do something else.

    Parameters
    ----------
    net : Layer
        Of one input or, as a dict, several.
    shape : tuple of int or None, or dict of them
        Shape of the input that it was read for, None for an axis of any size.
    """

    read_with = shape

    def check(found: Any) -> None:
        pairs = [(read_with, found)]
        if isinstance(read_with, Mapping):
            pairs = [(read_with[name], found[name]) for name in found] if isinstance(found, Mapping) else []
        for expected, got in pairs:
            fits = len(expected) == len(got) and all(
                n in (None, m) for n, m in zip(expected, got, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"from_torch: expected an input of shape {tuple(expected)}, which the module was read "
                    f"for, got {tuple(got)}; from_torch(module, shape=...) reads it for another, None being "
                    f"a size that stays open"
                )

    def of(x: Any) -> Any:
        return {name: part.shape for name, part in x.items()} if isinstance(x, Mapping) else x.shape

    def init(key: Any, shape: Any, dtype: Any = np.float32) -> Any:
        check(shape)
        return net.init(key, shape, dtype)

    def out_shape(size: Any) -> Any:
        check(size)
        return net.out_shape(size)

    def apply(params: Any, x: Any, **options: Any) -> Any:
        check(of(x))
        return net.apply(params, x, **options)

    def vjp(params: Any, x: Any, g: Any, **options: Any) -> Any:
        check(of(x))
        return net.vjp(params, x, g, **options)

    def forward(params: Any, x: Any, **options: Any) -> Any:
        check(of(x))
        return net.forward(params, x, **options)

    def jvp(params: Any, x: Any, dparams: Any, dx: Any, *, train: bool = False, key: Any = None) -> Any:
        check(of(x))
        return layer_jvp(net, params, x, dparams, dx, train, key)

    inner = net.rebuilding
    rebuilding = None if inner is None else Rebuilding(forward, lambda f: for_shape(inner.of(f), shape))
    return replace(
        net, init=init, out_shape=out_shape, apply=apply, vjp=vjp, jvp=jvp, forward=forward,
        rebuilding=rebuilding,
    )  # fmt: skip
