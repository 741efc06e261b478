"""Layers that PyTorch has no module for, as functions of tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from fconv.arrays import is_array
from fconv.layer import Layer

Expression = Callable[..., Any]


def _torch() -> Any:
    import torch

    return torch


def _slices(dim: int, start: Any, end: Any, step: Any) -> Any:
    part = slice(start, end, step)
    if dim >= 0:
        return (*(slice(None),) * dim, part)
    return (..., part, *(slice(None),) * (-dim - 1))


def _scaled(x: Any, scale: float, shift: float) -> Any:
    y = x if scale == 1 else x * scale
    return y if shift == 0 else y + shift


def _padded(x: Any, o: Mapping[str, Any]) -> Any:
    return _torch().nn.functional.pad(x, o["pad"], o["mode"], o["value"])


def _in_the_middle(xs: tuple[Any, ...], rank: int | None) -> Any:
    """Join pictures along the channels, zeros around the smaller ones."""
    if rank is None:
        raise ValueError("concat_padded: it depends on the number of the input's axes; give shape=")
    axes = range(2, rank)
    largest = [reduce(_torch().sym_max, (x.shape[axis] for x in xs)) for axis in axes]
    padded = []
    for x in xs:
        lacks = [size - x.shape[axis] for axis, size in zip(axes, largest, strict=True)]
        widths = [width for lack in reversed(lacks) for width in (lack // 2, lack - lack // 2)]
        padded.append(_torch().nn.functional.pad(x, widths))
    return _torch().cat(padded, 1)


def _called(o: Mapping[str, Any], xs: tuple[Any, ...]) -> Any:
    options = {name: value for name, value in o.items() if name not in ("function", "arrays")}
    named = dict(zip(o["arrays"], xs, strict=True))
    if "x" in named:
        named["input"] = named.pop("x")
    if o["function"] == "batch_norm":
        named = {"running_mean": None, "running_var": None, **named}
    return getattr(_torch().nn.functional, o["function"])(**named, **options)


def _product(x: Any, dim: Any, keepdim: bool) -> Any:
    for axis in sorted((dim,) if isinstance(dim, int) else dim, reverse=True):
        x = x.prod(axis, keepdim)
    return x


def _sizes(sizes: tuple[int | None, ...], like: Any) -> list[Any]:
    return [like.shape[axis] if n is None else n for axis, n in enumerate(sizes)]


def _attended(o: Mapping[str, Any], xs: tuple[Any, ...]) -> Any:
    if o["dropout_p"]:
        raise ValueError("scaled_dot_product_attention: PyTorch's function drops in inference too")
    options = {name: value for name, value in o.items() if name != "dropout_p"}
    return _torch().nn.functional.scaled_dot_product_attention(*xs, **options)


SAME_NAME = {
    "sin": "", "cos": "", "erf": "", "reciprocal": "", "tan": "", "asin": "", "acos": "", "atan": "",
    "sinh": "", "cosh": "", "asinh": "", "acosh": "", "atanh": "", "floor": "", "ceil": "", "round": "",
    "sign": "", "exp": "", "log": "", "sqrt": "", "abs": "", "clamp": "min max",
    "cumsum": "dim", "cumprod": "dim", "mean": "dim keepdim", "sum": "dim keepdim",
    "amax": "dim keepdim", "amin": "dim keepdim",
    "logsumexp": "dim keepdim", "var": "dim correction keepdim", "std": "dim correction keepdim",
    "transpose": "dim0 dim1", "permute": "dims", "squeeze": "dim", "unsqueeze": "dim", "flip": "dims",
    "roll": "shifts dims", "movedim": "source destination", "narrow": "dim start length", "tile": "dims",
    "select": "dim index", "index_select": "dim index", "gather": "dim index", "masked_fill": "mask value",
}  # fmt: skip
"""Functions of one tensor that PyTorch has under the layer's name, with its options under their names."""

COMPARED = {"equal": "eq"}  # torch.equal is of whole tensors


def _same_name(name: str, options: str) -> Callable[[Mapping[str, Any]], Expression]:
    return lambda o: lambda x: getattr(_torch(), name)(x, **{option: o[option] for option in options.split()})


EXPRESSIONS: dict[str, Callable[[Mapping[str, Any]], Expression | None]] = {
    "add": lambda o: lambda *xs: reduce(operator.add, xs),
    "subtract": lambda o: operator.sub,
    "multiply": lambda o: lambda *xs: reduce(operator.mul, xs),
    "divide": lambda o: operator.truediv,
    "matmul": lambda o: lambda *xs: reduce(operator.matmul, xs),
    "maximum": lambda o: lambda *xs: reduce(_torch().maximum, xs),
    "minimum": lambda o: lambda *xs: reduce(_torch().minimum, xs),
    "concat": lambda o: lambda *xs: _torch().cat(xs, o["dim"]),
    "stack": lambda o: lambda *xs: _torch().stack(xs, o["dim"]),
    "slice_along": lambda o: lambda x: x[_slices(o["dim"], o["start"], o["end"], o["step"])],
    "chunk": lambda o: lambda x: x.chunk(o["chunks"], o["dim"])[o["index"]],
    "split": lambda o: lambda x: x.split(o["sizes"], o["dim"])[o["index"]],
    "view": lambda o: lambda x: x.reshape([n or x.size(i) for i, n in enumerate(o["shape"])]),
    "reshape": lambda o: lambda x: x.reshape(x.size(0), *o["shape"]),
    "scale_shift": lambda o: lambda x: _scaled(x, o["scale"], o["shift"]),
    "power": lambda o: lambda x: x ** o["exponent"],
    **{name: _same_name(name, options) for name, options in SAME_NAME.items()},
    "max": lambda o: lambda x: x.max(o["dim"], o["keepdim"])[0],
    "min": lambda o: lambda x: x.min(o["dim"], o["keepdim"])[0],
    "prod": lambda o: lambda x: _product(x, o["dim"], o["keepdim"]),
    "vector_norm": lambda o: lambda x: _torch().linalg.vector_norm(x, o["ord"], o["dim"], o["keepdim"]),
    "power_of": lambda o: lambda x: o["base"] ** x,
    "pow": lambda o: lambda x, y: x**y,
    "expand": lambda o: lambda x: x.expand(o["sizes"]),
    "expand_like": lambda o: lambda x, like: x.expand(_sizes(o["sizes"], like)),
    "index": lambda o: lambda x: x[tuple(slice(None) if i is None else i for i in o["indices"])],
    "where": lambda o: lambda x, y: _torch().where(o["condition"], x, y),
    "compare": lambda o: (
        lambda x, y: getattr(_torch(), COMPARED.get(o["comparison"], o["comparison"]))(x, y).type_as(x)
    ),
    "choose": lambda o: lambda mask, x, y: _torch().where(mask != 0, x, y),
    "constant": lambda o: lambda x: o["value"],
    "einsum": lambda o: lambda *xs: _torch().einsum(o["equation"], *xs),
    "scaled_dot_product_attention": lambda o: lambda *xs: _attended(o, xs),
    "pad": lambda o: lambda x: _padded(x, o),
    "upsample": lambda o: lambda x: _torch().nn.functional.interpolate(x, **o),
    "call": lambda o: (
        (lambda *xs: _called(o, xs)) if hasattr(_torch().nn.functional, o["function"]) else None
    ),
}
"""By the layer's name: the function, from the layer's options."""


def expression_of(
    layer: Layer, ranks: Sequence[int | None] = (), hold: Callable[[Any], Any] = lambda array: array
) -> Expression | None:
    """Return what an innermost layer computes as a function of tensors, None where there is none.

    `ranks` are its inputs', where they are known. ``hold(array)`` returns what stands as a tensor for an
    array among the layer's options.
    """
    if layer.name == "concat_padded":
        return lambda *xs: _in_the_middle(xs, ranks[0])
    made = EXPRESSIONS.get(layer.name)
    return None if made is None else made({name: _held(value, hold) for name, value in layer.options.items()})


def _held(value: Any, hold: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple) and any(is_array(part) for part in value):
        return tuple(_held(part, hold) for part in value)
    return hold(value) if is_array(value) else value
