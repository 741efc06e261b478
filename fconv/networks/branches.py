"""Networks whose branches all see the same input."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from fconv import random
from fconv.arguments.constructors import constructor
from fconv.arrays import Array
from fconv.functional.one_pass import in_one_pass
from fconv.layer import Layer, LayerPullback, Params, Rebuilding, Step, Wiring, located, vjp_of
from fconv.networks.chains import compose
from fconv.networks.joins import concat
from fconv.networks.members import Members
from fconv.networks.merge import add


@constructor
def residual(body: Any, shortcut: Any = None) -> Layer:
    """Add the input, or a shortcut of it, to what a body makes of it: ``body(x) + shortcut(x)``.

    Parameters
    ----------
    body : Layer
        Its parameters are named ``body.``.
    shortcut : Layer, optional
        Its parameters are named ``shortcut.``; the input itself by default. It must give the
        shape that `body` gives.

    Returns
    -------
    Layer
        With the parameters ``{"body": ..., "shortcut": ...}``.

    Raises
    ------
    TypeError
        An argument is no layer.
    ValueError
        The two shapes differ, when the network is used.

    References
    ----------
    He et al., "Deep residual learning for image recognition", 2016.

    Examples
    --------
    >>> from fconv.layers import conv2d
    >>> residual(conv2d(4, 3, padding=1)).out_shape((1, 4, 8, 8))
    (1, 4, 8, 8)
    """
    straight = compose() if shortcut is None else shortcut
    return _branches(
        Members("residual", ("body", "shortcut"), (body, straight), by_name=True), add(stretch=False)
    )


@constructor
def parallel(*branches: Any, merge: Any = "concat", **named: Any) -> Layer:
    """Return the input to several branches and merge what they make of it.

    Parameters
    ----------
    *branches : Layer
        The parameters are a tuple.
    merge : {"concat", "sum"} or Layer
        Put the outputs one after another along the channels, or add them; or a layer whose
        input is the tuple of outputs.
    **named : Layer
        Or branches by name: the parameters are a dict.

    Returns
    -------
    Layer
        The network.

    Raises
    ------
    TypeError
        An argument is no layer, or positional and named branches are mixed.
    ValueError
        No branches, an unknown merge, or shapes that cannot be merged.

    References
    ----------
    Szegedy et al., "Going deeper with convolutions", 2015.

    Examples
    --------
    >>> from fconv.layers import conv2d, identity
    >>> parallel(conv2d(4, 1), identity()).out_shape((1, 3, 8, 8))
    (1, 7, 8, 8)
    """
    if branches and named:
        raise TypeError("parallel: give branches either by position or by name, not both")
    given = branches or tuple(named.values())
    if not given:
        raise ValueError("parallel: expected one branch or more, got none")
    if isinstance(merge, str):
        if merge not in ("concat", "sum"):
            raise ValueError(f'parallel: expected merge "concat", "sum" or a layer, got {merge!r}')
        merge = concat() if merge == "concat" else add(stretch=False)
    names = tuple(named) or tuple(str(i) for i in range(len(branches)))
    return _branches(Members("parallel", names, given, by_name=bool(named)), merge)


def _branches(members: Members, merge: Layer) -> Layer:
    title, steps = members.title, members.steps

    def init(key: Array, shape: Any, dtype: Any = np.float32) -> Params:
        random.check_key(f"{title}.init", key)
        parts = []
        for (place, layer), k in zip(steps, random.split(key, len(steps)), strict=True):
            with located(place, layer):
                parts.append(layer.init(k, shape, dtype))
        out_shape(shape)
        return members.pack(parts)

    def out_shape(shape: Any) -> Any:
        shapes = []
        for place, layer in steps:
            with located(place, layer):
                shapes.append(layer.out_shape(shape))
        with located(title, merge):
            return merge.out_shape(tuple(shapes))

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Any:
        ys = []
        for (place, layer), part, k in zip(
            steps, members.unpack(params), members.keys(train, key), strict=True
        ):
            with located(place, layer):
                ys.append(layer.apply(part, x, train=train, key=k))
        with located(title, merge):
            return merge.apply((), tuple(ys))

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        ys, refreshed, pullbacks = [], [], []
        for (place, layer), part, k in zip(
            steps, members.unpack(params), members.keys(train, key), strict=True
        ):
            with located(place, layer):
                y, new, pullback = layer.forward(part, x, train=train, key=k)
            ys.append(y)
            refreshed.append(new)
            pullbacks.append(pullback)
        with located(title, merge):
            merged, _, merge_pullback = merge.forward((), tuple(ys))

        def pull(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            with located(title, merge):
                _, gs = merge_pullback(g)
            dparams, dx = [], None
            for (place, layer), pullback, branch_g in zip(steps, pullbacks, gs, strict=True):
                with located(place, layer):
                    grads, branch_dx = pullback(branch_g, input_grad)
                dparams.append(grads)
                dx = branch_dx if dx is None else in_one_pass(operator.add, dx, branch_dx)
            return members.pack(dparams), dx

        return merged, members.pack(refreshed), pull

    wired = tuple(Step(name, layer, ("input",), (name,)) for name, layer in members.children.items())
    last = Step("merge", merge, members.names, None)  # `parallel` leaves no branch this name
    wiring = Wiring((*wired, last), ("input",), ("merge",))

    return Layer(
        init=init,
        apply=apply,
        vjp=vjp_of(forward),
        out_shape=out_shape,
        forward=forward,
        name=title,
        options={"merge": merge},
        children=members.children,
        draws=members.draws,
        wiring=lambda shape: wiring,
        rebuilding=Rebuilding(forward, lambda f: _branches(members.mapped(f), merge)),
    )
