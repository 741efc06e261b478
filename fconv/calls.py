"""Layers for what a graph computes of several arrays: a parameter by itself, and a function's call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from fconv import functional, random
from fconv.arrays import Array, Shape, describe, floating_dtype, is_array
from fconv.constructors import constructor
from fconv.functional.core import Differentiable
from fconv.initializers import Initializer, zeros
from fconv.layer import Layer, LayerPullback, Params, check_params
from fconv.layers.from_function import check_shape

__all__ = ["call", "parameter"]


@constructor
def parameter(*shape: int, trained: bool = True, init: Initializer | None = None) -> Layer:
    """Give a parameter itself: a node of a `graph` without sources.

    Its parameters are the array, with no name of its own: in a state dict it is called as the
    node is.

    Parameters
    ----------
    *shape : int
        Shape of the parameter.
    trained : bool
        Otherwise it is a buffer: its gradient is None.
    init : Initializer, optional
        From `fconv.initializers`; zeros by default.

    Returns
    -------
    Layer
        Its input is the empty tuple, which is what a node without sources takes.

    Raises
    ------
    ValueError, TypeError
        Sizes that cannot be, at once; parameters of another shape, when it is used.

    Examples
    --------
    >>> from fconv.networks import graph, multiply
    >>> net = graph({"scale": (parameter(1, 3, 1, 1),), "scaled": (multiply(), "x", "scale")})
    >>> net.out_shape((8, 3, 5, 5))
    (8, 3, 5, 5)
    >>> net.init(random.key(0), (8, 3, 5, 5))["scale"].shape
    (1, 3, 1, 1)
    """
    sizes = check_shape("parameter", shape)

    def none(x: Any) -> Shape:
        if not isinstance(x, (tuple, list)) or x:
            raise TypeError(f"parameter: expected no input, (), got {describe(x)}")
        return sizes

    def value(params: Params, x: Any) -> Array:
        none(x)
        if not is_array(params) or params.shape != sizes:
            got = params.shape if is_array(params) else describe(params)
            raise ValueError(f"parameter: expected an array of shape {sizes}, got {got}")
        return cast("Array", params)

    def start(key: Array, shape: Any, dtype: Any = np.float32) -> Params:
        random.check_key("parameter.init", key)
        none(shape)
        return (init or zeros())(key, sizes, floating_dtype("parameter.init", dtype))

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Array:
        return value(params, x)

    def vjp(
        params: Params, x: Any, g: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Any]:
        value(params, x)
        return g if trained else None, ()

    return Layer(
        init=start, apply=apply, vjp=vjp, out_shape=none, name="parameter",
        options={"shape": sizes, "trained": trained}, buffers=frozenset() if trained else frozenset({""}),
    )  # fmt: skip


@constructor
def call(name: str, arrays: Sequence[str] | None = None, **options: Any) -> Layer:
    """Call a function of `fconv.functional` on several arrays, none of which is the layer's own.

    Parameters
    ----------
    name : str
        Name of the function.
    arrays : sequence of str, optional
        Names of the arguments that the inputs are, in order; all that the function cannot do
        without by default.
    **options
        Of the function.

    Returns
    -------
    Layer
        Without parameters. Its input is the tuple of arrays, or the array where there is one.

    Raises
    ------
    ValueError
        There is no such function, or it has no such argument.

    Examples
    --------
    A convolution whose weight is computed by other layers:

    >>> call("conv2d", padding=1).out_shape(((8, 3, 5, 5), (4, 3, 3, 3)))
    (8, 4, 5, 5)
    """
    function: Differentiable[...] | None = getattr(functional, name, None)
    if function is None or not hasattr(function, "arrays"):
        raise ValueError(f"call: fconv.functional has no differentiable function {name!r}")
    title, signature = f"call {name}", cast(Any, function).__signature__.parameters
    takes = tuple(a for a in function.arrays if signature[a].default is signature[a].empty)
    takes = takes if arrays is None else tuple(arrays)
    unknown = [a for a in takes if a not in function.arrays]
    unknown += [option for option in options if option not in signature]
    if unknown or not takes:
        raise ValueError(f"{title}: expected arguments among {', '.join(signature)}, got {unknown or 'none'}")

    def named(xs: Any) -> dict[str, Any]:
        each = (xs,) if len(takes) == 1 else xs
        if not isinstance(each, (tuple, list)) or len(each) != len(takes):
            raise TypeError(f"{title}: expected a tuple of {', '.join(takes)}, got {describe(xs)}")
        return dict(zip(takes, each, strict=True))

    def out_shape(shapes: Any) -> Shape:
        # The definition tells the shape of its value before it computes anything.
        blank = {a: np.broadcast_to(np.zeros(()), check_shape(title, s)) for a, s in named(shapes).items()}
        shape: Shape = cast(Any, function).__wrapped__(**blank, **options)[0]
        return shape

    def gradients(grads: Any) -> Any:
        if len(function.arrays) == 1:
            return grads
        by_name = dict(zip(function.arrays, grads, strict=True))
        found = tuple(by_name[a] for a in takes)
        return found[0] if len(takes) == 1 else found

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Array:
        check_params(title, params, ())
        return function(**named(x), **options)

    def vjp(
        params: Params, x: Any, g: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Any]:
        check_params(title, params, ())
        return (), gradients(function.vjp(g, **named(x), **options))

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Params, LayerPullback]:
        check_params(title, params, ())
        y, pull = function.forward(**named(x), **options)
        return y, params, lambda g, input_grad=True: ((), gradients(pull(g)) if input_grad else None)

    return Layer(
        init=lambda key, shape, dtype=None: out_shape(shape) and (),
        apply=apply,
        vjp=vjp,
        out_shape=out_shape,
        forward=forward,
        name="call",
        options={"function": name, "arrays": takes, **options},
    )
