"""ATen's operators that fill, repeat, index and mask tensors, as layers."""

from __future__ import annotations

from typing import Any

from fconv.networks.reading import UnfitError, make
from fconv.torch.table import Call, aten, fixed, function, is_number, is_tensor, number, plain_number
from fconv.torch.values import Const, Expanded, Own, Value
from fconv.torch.weights import array_of


@aten("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like")
def _full(c: Call) -> Any:
    """Make a tensor of one number, of sizes that are left open."""
    import torch

    name = c.operator.name
    value = c["fill_value"] if "full" in name else float("ones" in name)
    shape, dtype = tuple(c.shape), c.operator.out.dtype
    tensor = torch.full((1,) * len(shape), number(value), dtype=dtype)
    return Expanded(name, shape, dtype, Const(name, tuple(tensor.shape), dtype, tensor))


@aten("fill", "zero", "copy")
def _overwritten(c: Call) -> Any:
    """Make what a tensor is after all of it was written."""
    value = c.args.get("src", c.args.get("value", 0.0))
    shape, dtype = tuple(c.shape), c.operator.out.dtype
    if not is_tensor(value):
        import torch

        value = Const("fill", (), dtype, torch.tensor(number(value), dtype=dtype))
    if value.dtype != dtype and not isinstance(value, Const):
        raise UnfitError(f"{value.dtype} becoming {dtype} has no layer")
    return value if tuple(value.shape) == shape else Expanded("", shape, dtype, value)


@aten("repeat", "tile")
def _repeat(c: Call) -> Any:
    repeats = c.args.get("repeats", c.args.get("dims"))
    before = (1,) * (len(c.shape) - len(c.x.shape)) + tuple(c.x.shape)
    repeats = [1] * (len(before) - len(repeats)) + list(repeats)
    if all(n == 1 or size == 1 for n, size in zip(repeats, before, strict=True)):
        return Expanded("", tuple(c.shape), c.operator.out.dtype, c.x)
    return make("tile", *fixed(repeats)), c.x


@aten("repeat_interleave")
def _repeat_interleave(c: Call) -> Any:
    """Repeat each element of an axis: beside itself, then in line with the others."""
    dim, repeats = c.args.get("dim"), fixed(c["repeats"])
    if dim is None or not isinstance(repeats, int):
        raise UnfitError("only one number of repeats along an axis has a layer")
    rank = len(c.x.shape)
    dim %= rank
    beside = make("unsqueeze", dim + 1), c.x
    sizes = [repeats if axis == dim + 1 else -1 for axis in range(rank + 1)]
    return make("flatten", dim, dim + 1), (make("expand", *sizes), beside)


@aten("roll")
def _roll(c: Call) -> Any:
    return make("roll", tuple(fixed(c["shifts"])), tuple(c["dims"]) or None), c.x


@aten("index_select", "gather")
def _select(c: Call) -> Any:
    return make(c.operator.name, c["dim"], array(c["index"])), c.x


@aten("index")
def _index(c: Call) -> Any:
    """Index by constants; one buffer that picks rows of a table is an embedding."""
    indices = c["indices"]
    lone = indices[0] if len(indices) == 1 else None
    if isinstance(lone, (Own, Value)) and not lone.dtype.is_floating_point and len(c.x.shape) == 2:
        return function("embedding", ("x", "weight")), lone, c.x
    each: list[Any] = []
    for i in indices:
        held = None if i is None else array(i)
        each.extend(held.nonzero() if held is not None and held.dtype == bool else [held])
    return make("index", tuple(each)), c.x


def array(value: Any) -> Any:
    """Return a constant as an array, as small as it is before it is stretched."""
    value = value.source if isinstance(value, Expanded) else value
    if not isinstance(value, Const) and not (isinstance(value, Own) and not value.dtype.is_floating_point):
        raise UnfitError("indices or a mask that are computed have no layer")
    return array_of("a constant", value.tensor)


@aten("masked_fill")
def _masked_fill(c: Call) -> Any:
    if isinstance(c["mask"], Value):
        return make("choose"), c["mask"], plain_number(c["value"], c.x.dtype), c.x
    return make("masked_fill", array(c["mask"]), number(c["value"])), c.x


@aten("where", stretches=True)
def _where(c: Call) -> Any:
    a, b = c["self"], c["other"]
    if isinstance(c["condition"], Value):
        chosen = (v if is_tensor(v) else plain_number(v, c.operator.out.dtype) for v in (a, b))
        return make("choose"), c["condition"], *chosen
    mask = array(c["condition"])
    if is_number(b):
        return make("masked_fill", ~mask, number(b)), a
    if is_number(a):
        return make("masked_fill", mask, number(a)), b
    return make("where", mask), a, b


@aten("tril", "triu")
def _triangle(c: Call) -> Any:
    import torch

    rows, columns = fixed(c.shape[-2:])
    kept = getattr(torch.ones(rows, columns, dtype=torch.bool), c.operator.name)(c["diagonal"])
    return make("masked_fill", ~kept.numpy(), 0.0), c.x


@aten("expand", "expand_as", "broadcast_to")
def _expand(c: Call) -> Any:
    """Leave the stretching to what takes the tensor, where that stretches by itself."""
    return Expanded("", tuple(c.shape), c.operator.out.dtype, c.x)
