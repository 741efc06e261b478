"""Layers for what a graph computes of several arrays: parameters and constants, and calls of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from fconv import functional, random
from fconv import functional as F
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, Shape, asnumpy, check_floating, describe, floating_dtype, is_array, xp_of
from fconv.functional.masking import check_probability
from fconv.functional.protocols import Differentiable
from fconv.initializers import Initializer, zeros
from fconv.layer import Layer, LayerPullback, Params, check_params
from fconv.layers.from_function import check_shape

__all__ = ["call", "constant", "einsum", "parameter", "pow", "scaled_dot_product_attention", "where"]


@constructor
def parameter(*shape: int, trained: bool = True, init: Initializer | None = None) -> Layer:
    """Return a parameter itself: a node of a `graph` without sources.

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
        Invalid sizes, at once; parameters of another shape, when it is used.

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
        init=start, apply=apply, vjp=vjp,
        jvp=lambda params, x, dparams, dx, *, train=False, key=None: (value(params, x), dparams),
        out_shape=none, name="parameter",
        options={"shape": sizes, "trained": trained}, buffers=frozenset() if trained else frozenset({""}),
    )  # fmt: skip


@constructor
def constant(value: Any) -> Layer:
    """Return a constant array, which is no parameter: a node of a `graph`, such as a table of positions.

    Parameters
    ----------
    value : array or nested sequence of numbers
        The constant.

    Returns
    -------
    Layer
        Its input is an array of which only the dtype and the library count: the constant comes in
        these. The gradient of the input is 0.

    Raises
    ------
    TypeError
        `value` is not made of real numbers.

    Examples
    --------
    >>> from fconv.networks import graph, multiply
    >>> net = graph({"scale": (constant([1.0, 2.0]), "x"), "scaled": (multiply(), "x", "scale")})
    >>> net.apply({"scale": (), "scaled": ()}, np.ones((1, 2)))
    array([[1., 2.]])
    """
    held = asnumpy(value) if is_array(value) else np.asarray(value)
    if held.dtype.kind not in "biuf":
        raise TypeError(f"constant: expected real numbers, got {held.dtype}")

    def given(params: Params, x: Any) -> Array:
        check_params("constant", params, ())
        check_floating("constant", x=x)
        return xp_of(x).asarray(held.astype(x.dtype))

    def pull(x: Array) -> Array:
        return xp_of(x).broadcast_to(xp_of(x).zeros((), x.dtype), x.shape)

    return Layer(
        init=lambda key, shape, dtype=None: (),
        apply=lambda params, x, *, train=False, key=None: given(params, x),
        vjp=lambda params, x, g, *, train=False, key=None: ((), pull(x)),
        jvp=lambda params, x, dparams, dx, *, train=False, key=None: (given(params, x), None),
        out_shape=lambda shape: held.shape,
        name="constant",
        options={"value": held},
    )


@constructor
def call(name: str, arrays: Sequence[str] | None = None, **options: Any) -> Layer:
    """Call a function of `fconv.functional` on several arrays, none of which is a parameter of the layer.

    Parameters
    ----------
    name : str
        Name of the function.
    arrays : sequence of str, optional
        Names of the arguments that the inputs are, in order; by default the arrays that the function
        requires.
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
    return _calling(function, f"call {name}", arrays, options)


def _calling(
    function: Differentiable[...],
    title: str,
    arrays: Sequence[str] | None,
    options: Mapping[str, Any],
    optional: bool = False,
    drops: Callable[[bool, Array | None], Mapping[str, Any]] = lambda train, key: {},
) -> Layer:
    """Make a layer that calls a function on a tuple of arrays, of which the last may be `optional`."""
    signature = cast(Any, function).__signature__.parameters
    takes = tuple(a for a in function.arrays if signature[a].default is signature[a].empty)
    needed = len(takes)
    takes = takes if arrays is None else tuple(arrays)
    unknown = [a for a in takes if a not in function.arrays]
    unknown += [option for option in options if option not in signature]
    if unknown or not takes:
        raise ValueError(f"{title}: expected arguments among {', '.join(signature)}, got {unknown or 'none'}")

    def named(xs: Any) -> dict[str, Any]:
        each = (xs,) if len(takes) == 1 else xs
        few = optional and isinstance(each, (tuple, list)) and needed <= len(each) <= len(takes)
        if not few and (not isinstance(each, (tuple, list)) or len(each) != len(takes)):
            raise TypeError(f"{title}: expected a tuple of {', '.join(takes)}, got {describe(xs)}")
        return dict(zip(takes, each, strict=False))

    def out_shape(shapes: Any) -> Shape:
        # The definition tells the shape of its value before it computes anything.
        blank = {a: np.broadcast_to(np.zeros(()), check_shape(title, s)) for a, s in named(shapes).items()}
        shape: Shape = cast(Any, function).__wrapped__(**blank, **options)[0]
        return shape

    def gradients(grads: Any, xs: Any) -> Any:
        if len(function.arrays) == 1:
            return grads
        by_name = dict(zip(function.arrays, grads, strict=True))
        found = tuple(by_name[a] for a in named(xs))
        return found if isinstance(xs, (tuple, list)) else found[0]

    def apply(params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Array:
        check_params(title, params, ())
        return function(**named(x), **options, **drops(train, key))

    def vjp(
        params: Params, x: Any, g: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Any]:
        check_params(title, params, ())
        return (), gradients(function.vjp(g, **named(x), **options, **drops(train, key)), x)

    def forward(
        params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Params, LayerPullback]:
        check_params(title, params, ())
        y, pull = function.forward(**named(x), **options, **drops(train, key))
        return y, params, lambda g, input_grad=True: ((), gradients(pull(g), x) if input_grad else None)

    def jvp(
        params: Params, x: Any, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Array]:
        check_params(title, params, ())
        moved = named(dx)
        tangents = tuple(moved.get(a) for a in function.arrays)
        return function.value_and_jvp(tangents, **named(x), **options, **drops(train, key))

    return Layer(
        init=lambda key, shape, dtype=None: out_shape(shape) and (),
        apply=apply,
        vjp=vjp,
        jvp=jvp,
        out_shape=out_shape,
        forward=forward,
        name=title.partition(" ")[0],
        options={"function": function.__name__, "arrays": takes, **options} if " " in title else options,
    )


@constructor
def einsum(equation: str) -> Layer:
    """Multiply one to three arrays and sum over axes; see `fconv.functional.einsum`.

    Examples
    --------
    >>> einsum("bhid,bhjd->bhij").out_shape(((8, 2, 5, 4), (8, 2, 6, 4)))
    (8, 2, 5, 6)
    """
    if not isinstance(equation, str):
        raise TypeError(f'einsum: expected an equation such as "ij,jk->ik", got {equation!r}')
    count = equation.partition("->")[0].count(",") + 1
    if count > 3:
        raise ValueError(f"einsum: expected at most three arrays, got {equation!r}")
    return _calling(F.einsum, "einsum", ("x", "y", "z")[:count], {"equation": equation})


@constructor
def pow() -> Layer:
    """Raise one array of a pair to the powers in the other; see `fconv.functional.pow`."""
    return _calling(F.pow, "pow", None, {})


@constructor
def where(condition: Any) -> Layer:
    """Return the first of two arrays where a constant condition is true, else the second.

    See `fconv.functional.where`.

    Examples
    --------
    >>> where([True, False]).out_shape(((8, 2), (8, 1)))
    (8, 2)
    """
    return _calling(F.where, "where", None, {"condition": np.asarray(condition)})


@constructor
def scaled_dot_product_attention(
    *, dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False
) -> Layer:
    """Attention of a tuple (query, key, value), or (query, key, value, mask) with a mask that is added.

    See `fconv.functional.scaled_dot_product_attention`; weights are dropped in training alone.

    Examples
    --------
    >>> scaled_dot_product_attention().out_shape(((8, 2, 5, 4), (8, 2, 6, 4), (8, 2, 6, 3)))
    (8, 2, 5, 3)
    """
    name = "scaled_dot_product_attention"
    check_probability(name, dropout_p)
    options = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}

    def drops(train: bool, key: Array | None) -> Mapping[str, Any]:
        if not train or not dropout_p:
            return {}
        if key is None:
            raise ValueError(
                f"{name}: a key is needed in training (train=True); pass key=fconv.random.key(seed)"
            )
        return {"dropout_p": dropout_p, "rng": key}

    takes = ("query", "key", "value", "attn_mask")
    made = _calling(F.scaled_dot_product_attention, name, takes, options, optional=True, drops=drops)
    return replace(made, options={"dropout_p": dropout_p, **options})
