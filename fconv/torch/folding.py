"""Operators that depend on no input, computed while the forward is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from fconv.torch.values import Const, Expanded, Operator, Own, Size, Tensor, example

ALWAYS_NEW = {"empty", "new_empty", "empty_like", "empty_permuted", "new_empty_strided", "empty_strided"}
"""Operators whose results hold no numbers yet, where they have elements at all."""

FILLED = {"zero": 0, "zeros_like": 0, "new_zeros": 0, "ones_like": 1, "new_ones": 1}
"""Operators whose results are all one number, whatever their input holds."""


def folded(operator: Operator) -> Any:
    """Compute an operator whose inputs are all constants; None for another."""
    import torch

    unset = operator.name in ALWAYS_NEW and 0 not in operator.out.shape
    if unset or torch.Tag.nondeterministic_seeded in getattr(operator.target, "tags", ()):
        return None
    try:
        out = operator.out
        whole = operator.name in FILLED or operator.name in ("fill", "copy")
        if whole and isinstance(out, Tensor) and not _symbols(out.shape):
            number = operator.args.get("value", operator.args.get("src", FILLED.get(operator.name)))
            number = torch.as_tensor(_plain(number), dtype=out.dtype)
            return const(operator.name, number.expand(out.shape).clone())
        symbols = _symbols([*(t.shape for t in operator.outs if t), *operator.args.values()])
        if not symbols:
            return _made(operator.name, _computed(operator, {}))
        if len(symbols) > 1:
            return None
        # Compute it for two sizes: what does not tell them apart holds for all.
        (symbol,) = symbols
        few, more = (_computed(operator, {symbol: n}) for n in (2, 3))
    except LookupError:
        return None
    if isinstance(out, Tensor):
        return _of_all_sizes(operator.name, out, few, more)
    each = tuple(_of_all_sizes(operator.name, *pieces) for pieces in zip(out, few, more, strict=True))
    return None if None in each else each


def _of_all_sizes(name: str, out: Tensor, few: Any, more: Any) -> Tensor | None:
    """Return what was computed for two sizes as one constant, stretched along the first axis if need be."""
    import torch

    if few.shape == more.shape:
        return const(name, few) if torch.equal(few, more) else None
    if not isinstance(out.shape[0], Size) or any(isinstance(n, Size) for n in out.shape[1:]):
        return None
    row = few[:1]
    same = len(few) == 2 and len(more) == 3 and torch.equal(more, row.expand(more.shape))
    same = same and torch.equal(few[1:], row)
    return Expanded(name, out.shape, out.dtype, const(name, row.clone())) if same else None


def _symbols(value: Any) -> set[Any]:
    """Find the sizes of the input that an argument depends on."""
    if isinstance(value, Size):
        return set(value.expression.free_symbols)
    if isinstance(value, Expanded):
        return _symbols(value.shape)
    return set().union(*map(_symbols, value)) if isinstance(value, (tuple, list)) else set()


def _computed(operator: Operator, sizes: Mapping[Any, int]) -> Any:
    """Run an operator on constants, for sizes that are otherwise open."""
    import torch

    args = {name: _plain(value, sizes) for name, value in operator.args.items()}
    first = next(iter(args.values()), None)
    if operator.target._schema.is_mutable and isinstance(first, torch.Tensor):
        args[next(iter(args))] = first.clone()
    kwargs = {a.name: args.pop(a.name) for a in operator.target._schema.arguments if a.kwarg_only}
    with torch.no_grad():
        return operator.target(*args.values(), **kwargs)


def _made(name: str, made: Any) -> Any:
    if isinstance(made, (tuple, list)):
        return tuple(const(f"{name}_{i}", t) for i, t in enumerate(made))
    return const(name, made)


def constant_of(operator: Operator, twins: Mapping[Any, Any]) -> tuple[Const, ...] | None:
    """Compute what an operator gives for the example's sizes, where `twins` of its inputs are constants."""

    def settled(value: Any) -> Any:
        if isinstance(value, Size):
            return example(value)
        if isinstance(value, (tuple, list)):
            return [settled(v) for v in value]
        return twins.get(value, value) if isinstance(value, Tensor) else value

    def sized(out: Any) -> Any:
        return out and replace(out, shape=tuple(map(example, out.shape)))

    out = tuple(map(sized, operator.out)) if isinstance(operator.out, tuple) else sized(operator.out)
    args = {name: settled(value) for name, value in operator.args.items()}
    found = replace(operator, out=folded(replace(operator, args=args, out=out))).outs
    return found if all(isinstance(each, Const) for each in found) else None


def _plain(argument: Any, sizes: Mapping[Any, int] = MappingProxyType({})) -> Any:
    if isinstance(argument, Const) or counts(argument):
        return argument.tensor
    if isinstance(argument, Size) and argument.expression.free_symbols <= sizes.keys():
        return int(argument.expression.subs(sizes))
    if isinstance(argument, Expanded) and _symbols(argument) <= sizes.keys():
        return argument.source.tensor.expand(_plain(argument.shape, sizes))
    if isinstance(argument, (Tensor, Size)):
        raise LookupError
    return [_plain(a, sizes) for a in argument] if isinstance(argument, (tuple, list)) else argument


def counts(argument: Any) -> bool:
    """Return whether a value is a buffer of integers, which is as good as a constant."""
    return isinstance(argument, Own) and not argument.dtype.is_floating_point


def const(name: str, tensor: Any) -> Const:
    """Return a tensor of PyTorch's as a constant."""
    return Const(name, tuple(tensor.shape), tensor.dtype, tensor)
