"""Networks that hold for inputs of one size alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fconv.arguments.constructors import constructor
from fconv.layer import Layer, Rebuilding
from fconv.tangents import layer_jvp


@constructor
def for_shape(net: Layer, shape: Any) -> Layer:
    """Return a network that refuses inputs of other sizes than those of `shape`, in which None is any size.

    A forward was exported with the sizes that are no None; for others it might do something else.
    """

    def check(found: Any) -> None:
        pairs = [(shape, found)]
        if isinstance(shape, Mapping):
            pairs = [(shape[name], found[name]) for name in found] if isinstance(found, Mapping) else []
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

    def sizes(x: Any) -> Any:
        return {name: part.shape for name, part in x.items()} if isinstance(x, Mapping) else x.shape

    def checked(function: Any, name: str, at: int, of: Any = lambda found: found) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            check(of(args[at] if at < len(args) else options[name]))
            return function(*args, **options)

        return run

    def jvp(params: Any, x: Any, dparams: Any, dx: Any, *, train: bool = False, key: Any = None) -> Any:
        check(sizes(x))
        return layer_jvp(net, params, x, dparams, dx, train, key)

    forward = checked(net.forward, "x", 1, sizes)
    inner = net.rebuilding
    rebuilding = None if inner is None else Rebuilding(forward, lambda f: for_shape(inner.of(f), shape))
    return replace(
        net, init=checked(net.init, "shape", 1), out_shape=checked(net.out_shape, "shape", 0),
        apply=checked(net.apply, "x", 1, sizes), vjp=checked(net.vjp, "x", 1, sizes), jvp=jvp,
        forward=forward,
        rebuilding=rebuilding,
    )  # fmt: skip
