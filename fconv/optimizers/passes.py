"""The updates of all parameters of a step, compiled into one pass over their memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from fconv.arrays import Array, from_order, memory_order
from fconv.functional.one_pass import formulas_serve, in_line, traced

Own: TypeAlias = dict[str, Any]
"""The optimizer state of one parameter, by torch.optim's names, including ``step``."""
Update: TypeAlias = Callable[[Array, Array, Own], tuple[Array, Own]]
Leaf: TypeAlias = tuple[Array, Array | None, Own]


class UnusualError(Exception):
    """Trees of other kinds, or parameters that are no plain arrays, or that do not fit their gradients."""


def gathered(p: Any, g: Any, own: Any, found: list[Leaf]) -> list[Leaf]:
    """List each parameter with its gradient and what is kept for it.

    Raises
    ------
    UnusualError
        The trees differ, or hold something else than dicts, tuples, lists and NumPy's arrays.
    """
    kind = type(p)
    if kind is np.ndarray:
        found.append((p, g, own))
        return found
    if kind is dict:
        if type(own) is not dict or own.keys() != p.keys():
            raise UnusualError
        if g is None:
            for key, child in p.items():
                gathered(child, None, own[key], found)
            return found
        if type(g) is not dict or g.keys() != p.keys():
            raise UnusualError
        for key, child in p.items():
            gathered(child, g[key], own[key], found)
        return found
    if kind is not tuple and kind is not list:
        raise UnusualError
    if g is None:
        g = (None,) * len(p) if kind is tuple else [None] * len(p)
    if type(own) is not kind or type(g) is not kind or not len(p) == len(g) == len(own):
        raise UnusualError
    for each in zip(p, g, own, strict=True):
        gathered(*each, found)
    return found


def placed(tree: Any, values: Iterator[Any]) -> Any:
    """Put the next of `values` at the place of each array of a tree that `gathered` took."""
    kind = type(tree)
    if kind is dict:
        return {key: placed(child, values) for key, child in tree.items()}
    if kind is tuple:
        return tuple([placed(child, values) for child in tree])
    return [placed(child, values) for child in tree] if kind is list else next(values)


def advanced(leaves: list[Leaf], update: Update, arrays: tuple[str, ...], numbers: tuple[str, ...]) -> Any:
    """Take a step of each parameter that has a gradient; return the new ones, and what is kept for each.

    A leaf is the parameter, its gradient, and what is kept for it under the names `arrays` and `numbers`; the
    rule is ``update(p, g, own) -> (p, changed)``. An UnusualError says that a parameter is no array of
    float32 or float64, or does not fit what stands beside it.
    """
    new, kept = [p for p, _, _ in leaves], [own for _, _, own in leaves]
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for i, (p, g, own) in enumerate(leaves):
        if g is None:
            continue
        if type(own) is not dict or len(own) != len(arrays) + len(numbers):
            raise UnusualError
        try:
            beside, kind = [g, *[own[name] for name in arrays]], (p.dtype, *[own[name] for name in numbers])
        except KeyError:
            raise UnusualError from None
        shape, dtype = p.shape, p.dtype
        if dtype.char not in "fd" or not dtype.isnative:
            raise UnusualError
        for x in beside:
            if type(x) is not np.ndarray or x.dtype != dtype or x.shape != shape:
                raise UnusualError
        try:
            kinds.setdefault(kind, []).append(i)
        except TypeError:  # a number that is an array of no axes
            raise UnusualError from None
    for places in kinds.values():
        _advance(leaves, places, update, arrays, new, kept)
    return new, kept


def _advance(
    leaves: list[Leaf], places: list[int], update: Update, arrays: tuple[str, ...], new: Any, kept: Any
) -> None:
    """Take the step of the parameters at some places, whose numbers are the same."""
    p, g, own = leaves[places[0]]
    own = {**own, "step": own["step"] + 1}
    names: list[str] = []
    fixed: Own = {}

    def function(p: Any, g: Any, *given: Any) -> tuple[Any, ...]:
        moved, changed = update(p, g, {**own, **dict(zip(arrays, given, strict=True))})
        fixed.update({key: v for key, v in changed.items() if key not in arrays})
        names.extend(key for key in changed if key in arrays)
        return (moved, *(changed[key] for key in names))

    formula = traced(function, 2 + len(arrays), p.dtype) if formulas_serve(p) else None
    if formula is None:
        for i in places:
            p, g, mine = leaves[i]
            mine = {**mine, "step": own["step"]}
            moved, changed = update(p, g, mine)  # type: ignore[arg-type]
            new[i] = np.asarray(moved)  # NumPy gives a scalar where an array of no axes was
            changed = {key: np.asarray(v) if key in arrays else v for key, v in changed.items()}
            kept[i] = {**mine, **changed}
        return
    work = []
    for i in places:
        p, g, mine = leaves[i]
        given: list[Any] = [p, g, *[mine[name] for name in arrays]]
        made = found = [np.empty_like(p) for _ in range(formula.outputs)]
        strides = found[0].strides  # without gaps
        if any(x.strides != strides or not x.flags.aligned for x in given):
            order = memory_order(p)
            given = [in_line(x, order) for x in given]
            made = [np.empty(p.size, p.dtype) for _ in range(formula.outputs)]
            found = [from_order(y.reshape([p.shape[axis] for axis in order]), order) for y in made]
        work.append((given, made))
        new[i] = found[0]
        kept[i] = {**mine, "step": own["step"], **fixed, **dict(zip(names, found[1:], strict=True))}
    formula.run_each(work)
