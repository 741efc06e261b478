"""A layer, and what follows it element by element, as one layer that writes its output once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from fconv import functional
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, describe
from fconv.functional.one_pass import over_the_first
from fconv.layer import Layer, LayerPullback, Params, Rebuilding, Step, Wiring, as_layer, located, vjp_of
from fconv.tangents import wired_jvp

Curve: TypeAlias = tuple[str, tuple[tuple[str, Any, str], ...]]
"""Name and options of a function of each element; the options' texts tell 0.0 from -0.0 and True from 1."""

AFFINE = (*(f"conv{way}{n}d" for way in ("", "_transpose") for n in (1, 2, 3)), "linear")
FRESH = (*AFFINE, "batch_norm", "add")
"""Layers whose output nobody else holds."""


@constructor
def fused(layer: Any, *after: Any) -> Layer:
    """Apply a layer, then others to its output, in the memory of that output where they are compiled.

    Parameters
    ----------
    layer : Layer
        Such as a convolution.
    *after : Layer
        Layers without parameters: functions of each element such as `relu`, and `add`, which adds another
        input.

    Returns
    -------
    Layer
        With the parameters of `layer`, under its names. Its input is that of `layer`; where `add` stands
        among `after`, the tuple of that and of one array for each `add`.

    Raises
    ------
    TypeError, ValueError
        An argument is no layer, or one of `after` has parameters; inputs that do not fit, when the layer is
        used.

    Examples
    --------
    >>> from fconv.layers import conv2d, relu
    >>> fused(conv2d(8, 3), relu()).out_shape((1, 3, 28, 28))
    (1, 8, 26, 26)
    """
    first = as_layer("fused[0]", layer)
    steps = [as_layer(f"fused[{i}]", each) for i, each in enumerate(after, 1)]
    for i, each in enumerate(steps, 1):
        if each.wiring(None) is not None or not (each.name == "add" or curve_of(each)):
            raise ValueError(f"fused[{i}]: expected a function of each element or add, got {each.name}")
    return _fused(first, steps)


def curve_of(layer: Layer) -> Curve | None:
    """Return the function of each element that a layer calls; None for another layer."""
    name = {"log_sigmoid": "logsigmoid"}.get(layer.name, layer.name)
    if not made_by_fconv(layer) or not hasattr(getattr(functional, name, None), "curve"):
        return None
    return name, tuple((name, v, repr(v)) for name, v in layer.options.items())


def made_by_fconv(layer: Layer) -> bool:
    """Return whether a constructor of fconv made a layer, so that its name and options tell what it does."""
    made = layer._call.function
    return made is not Layer and made.__module__.startswith("fconv.")


@lru_cache(maxsize=256)
def _formula(curves: tuple[Curve | None, ...]) -> Callable[..., Array]:
    """Return the composition of functions of each element; None stands for adding the next of the others."""

    def composition(y: Array, *others: Array) -> Array:
        rest = iter(others)
        for curve in curves:
            if curve is None:
                y = y + next(rest)
            else:
                function: Any = getattr(functional, curve[0])
                y = function.curve(y, **{name: v for name, v, _ in curve[1]})[0]()
        return y

    return composition


def _fused(first: Layer, after: Sequence[Layer]) -> Layer:
    added = sum(each.name == "add" for each in after)
    formula = _formula(tuple(None if each.name == "add" else curve_of(each) for each in after))
    places = [f"fused[{i}]" for i in range(1 + len(after))]
    fresh = made_by_fconv(first) and first.name in FRESH

    def divided(x: Any) -> tuple[Any, list[Any]]:
        """Return the input of the first layer, and what is added."""
        if not added:
            return x, []
        if not isinstance(x, (tuple, list)) or len(x) != 1 + added:
            raise TypeError(f"fused: expected a tuple of {1 + added} inputs, got {describe(x)}")
        return x[0], list(x[1:])

    def init(key: Array, shape: Any, dtype: Any = np.float32) -> Params:
        out_shape(shape)
        return first.init(key, divided(shape)[0], dtype)

    def out_shape(shape: Any) -> Any:
        entering, others = divided(shape)
        with located(places[0], first):
            shape = first.out_shape(entering)
        for place, each in zip(places[1:], after, strict=True):
            with located(place, each):
                shape = each.out_shape((shape, others.pop(0)) if each.name == "add" else shape)
        return shape

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Any:
        entering, others = divided(x)
        # An engine that applies the formula where it writes a convolution's output takes it here.
        with located(places[0], first):
            y = first.apply(params, entering, train=train, key=key)
        given = entering if isinstance(entering, (tuple, list)) else (entering,)
        own = fresh and not any(
            np.may_share_memory(y, each) for each in given if isinstance(each, np.ndarray)
        )
        if own and over_the_first(formula, y, *others):
            return y
        for place, each in zip(places[1:], after, strict=True):
            with located(place, each):
                y = each.apply((), (y, others.pop(0)) if each.name == "add" else y)
        return y

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        entering, others = divided(x)
        pullbacks: list[Any] = []
        with located(places[0], first):
            y, refreshed, pull_first = first.forward(params, entering, train=train, key=key)
        for place, each in zip(places[1:], after, strict=True):
            with located(place, each):
                y, _, pull = each.forward((), (y, others.pop(0)) if each.name == "add" else y)
            pullbacks.append(pull)

        def pullback(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            gs: list[Any] = []
            for place, each, pull in zip(places[:0:-1], after[::-1], pullbacks[::-1], strict=True):
                with located(place, each):
                    _, g = pull(g)
                if each.name == "add":
                    g, other = g
                    gs.insert(0, other)
            with located(places[0], first):
                grads, g = pull_first(g, input_grad)
            return grads, (g, *gs) if added and input_grad else g

        return y, refreshed, pullback

    names = [each.name for each in (first, *after)]
    names = [f"{name}{names[:i].count(name) or ''}" for i, name in enumerate(names)]
    inputs = ("input", *(f"other{i or ''}" for i in range(added)))
    wired, rest = [Step(names[0], first, inputs[:1], ())], iter(inputs[1:])
    for before, name, each in zip(names, names[1:], after, strict=False):
        wired.append(Step(name, each, (before, next(rest)) if each.name == "add" else (before,), None))

    def jvp(
        params: Params, x: Any, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Any]:
        divided(x)
        keys = [key, *[None] * len(after)]
        return wired_jvp("fused", wiring, params, x, dparams, dx, train, keys)

    wiring = Wiring(tuple(wired), inputs, (names[-1],))
    return Layer(
        init=init, apply=apply, vjp=vjp_of(forward), jvp=jvp, out_shape=out_shape, forward=forward,
        name="fused", children=dict(zip(names, (first, *after), strict=True)), wiring=lambda shape: wiring,
        rebuilding=Rebuilding(
            forward, lambda f: _fused(f((), first), [f((), each) for each in after])
        ),
        draws=first.draws,
    )  # fmt: skip
