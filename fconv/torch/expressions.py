"""Layers that PyTorch has no module for, as functions of tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

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


def _clamped(x: Any, low: Any, high: Any) -> Any:
    return _torch().clamp(x, low, high)


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
    return getattr(_torch().nn.functional, o["function"])(**named, **options)


EXPRESSIONS: dict[str, Callable[[Mapping[str, Any]], Expression]] = {
    "add": lambda o: lambda *xs: reduce(operator.add, xs),
    "subtract": lambda o: operator.sub,
    "multiply": lambda o: lambda *xs: reduce(operator.mul, xs),
    "divide": lambda o: operator.truediv,
    "matmul": lambda o: lambda *xs: reduce(operator.matmul, xs),
    "maximum": lambda o: lambda *xs: reduce(_torch().maximum, xs),
    "minimum": lambda o: lambda *xs: reduce(_torch().minimum, xs),
    "concat": lambda o: lambda *xs: _torch().cat(xs, o["dim"]),
    "stack": lambda o: lambda *xs: _torch().stack(xs, o["dim"]),
    "permute": lambda o: lambda x: x.permute(o["dims"]),
    "transpose": lambda o: lambda x: x.transpose(o["dim0"], o["dim1"]),
    "squeeze": lambda o: lambda x: x.squeeze(o["dim"]),
    "unsqueeze": lambda o: lambda x: x.unsqueeze(o["dim"]),
    "narrow": lambda o: lambda x: x.narrow(o["dim"], o["start"], o["length"]),
    "slice_along": lambda o: lambda x: x[_slices(o["dim"], o["start"], o["end"], o["step"])],
    "chunk": lambda o: lambda x: x.chunk(o["chunks"], o["dim"])[o["index"]],
    "split": lambda o: lambda x: x.split(list(o["sizes"]), o["dim"])[o["index"]],
    "mean": lambda o: lambda x: x.mean(o["dim"], o["keepdim"]),
    "sum": lambda o: lambda x: x.sum(o["dim"], o["keepdim"]),
    "amax": lambda o: lambda x: x.amax(o["dim"], o["keepdim"]),
    "view": lambda o: lambda x: x.reshape(o["shape"]),
    "reshape": lambda o: lambda x: x.reshape(x.size(0), *o["shape"]),
    "scale_shift": lambda o: lambda x: _scaled(x, o["scale"], o["shift"]),
    "power": lambda o: lambda x: x ** o["exponent"],
    "exp": lambda o: lambda x: x.exp(),
    "log": lambda o: lambda x: x.log(),
    "sqrt": lambda o: lambda x: x.sqrt(),
    "abs": lambda o: lambda x: x.abs(),
    "clamp": lambda o: lambda x: _clamped(x, o["min"], o["max"]),
    "pad": lambda o: lambda x: _padded(x, o),
    "call": lambda o: lambda *xs: _called(o, xs),
}
"""By the layer's name: the function, from the layer's options."""


def expression_of(layer: Layer, ranks: Sequence[int | None] = ()) -> Expression | None:
    """Give what a layer computes as a function of tensors, None where there is none.

    Parameters
    ----------
    layer : Layer
        A layer that is made of no others.
    ranks : sequence of int
        How many axes its inputs have, where that is known.
    """
    if layer.name == "concat_padded":
        return lambda *xs: _in_the_middle(xs, ranks[0])
    made = EXPRESSIONS.get(layer.name)
    return None if made is None else made(layer.options)
