"""The updates of all parameters of a step, compiled into one pass over their memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from fconv.arrays import Array, from_order, memory_order
from fconv.engine import compiled
from fconv.engine.memory import LEAST, empty, empty_like
from fconv.functional.one_pass import formulas_serve, in_line, traced

if TYPE_CHECKING:
    from fconv.engine.compiled.formulas import Formula

Own: TypeAlias = dict[str, Any]
"""The optimizer state of one parameter, by torch.optim's names, including ``step``."""
Update: TypeAlias = Callable[[Array, Array, Own], tuple[Array, Own]]
Leaf: TypeAlias = tuple[Array, Array | None, Own]
_facts = attrgetter("__class__", "shape", "dtype", "strides", "flags.aligned")


class _Step(NamedTuple):
    """A step that one pass took: the facts of its arrays; for each parameter its size, and what makes one."""

    facts: list[Any]
    sizes: tuple[int, ...]
    makers: list[Callable[[], Array]]


def _maker(p: Array) -> Callable[[], Array]:
    """Return what makes arrays without values like `p`, which has no gaps."""
    if p.nbytes < LEAST and p.flags.c_contiguous:
        return partial(np.empty, p.shape, p.dtype)
    return partial(empty, p.shape, p.dtype, p.strides)


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
    elif kind is dict:
        if type(own) is not dict or own.keys() != p.keys():
            raise UnusualError
        if g is not None and (type(g) is not dict or g.keys() != p.keys()):
            raise UnusualError
        for key, child in p.items():
            beside = None if g is None else g[key]
            if type(child) is np.ndarray:  # without a call
                found.append((child, beside, own[key]))
            else:
                gathered(child, beside, own[key], found)
    elif kind is tuple or kind is list:
        if g is None:
            g = kind((None,) * len(p))
        if type(own) is not kind or type(g) is not kind or not len(p) == len(g) == len(own):
            raise UnusualError
        for each in zip(p, g, own, strict=True):
            gathered(*each, found)
    else:
        raise UnusualError
    return found


def placed(tree: Any, values: Iterator[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Put the next pair of `values` at the place of each array of a tree that `gathered` took: two trees."""
    kind = type(tree)
    if kind is dict:
        first, second = {}, {}
        for key, child in tree.items():
            first[key], second[key] = next(values) if type(child) is np.ndarray else placed(child, values)
        return first, second
    if kind is tuple or kind is list:
        pairs = [placed(child, values) for child in tree]
        return kind([pair[0] for pair in pairs]), kind([pair[1] for pair in pairs])
    return next(values)


class Passes:
    """The rule of an optimizer, traced: one pass over the memory of many parameters.

    What was traced is kept for as long as the learning rate and the numbers that the rule reads stay the
    same. That is for good where it reads no ``step`` and the learning rate is no schedule.

    Parameters
    ----------
    arrays, numbers : tuple of str
        Names of what is kept for each parameter; ``step`` is the first of the numbers.
    """

    _MOST, _MOST_STEPS = 16, 4

    def __init__(self, arrays: tuple[str, ...], numbers: tuple[str, ...]) -> None:
        self._arrays, self._numbers = arrays, numbers
        self._known: dict[tuple[Any, ...], _Traced] = {}
        self._steps: list[_Step] = []

    def advanced(self, leaves: list[Leaf], update: Update, speed: float) -> list[tuple[Any, Any]]:
        """Take a step of each parameter that has a gradient; return the new ones, and what is kept for each.

        A leaf is the parameter, its gradient, and what is kept for it; the rule is ``update(p, g, own) ->
        (p, changed)``, and `speed` the learning rate in it. An UnusualError says that a parameter is no array
        of float32 or float64, or does not fit what stands beside it.
        """
        arrays, numbers = self._arrays, self._numbers
        again = self._again(leaves, update, speed) if self._steps else None
        if again is not None:
            return again
        new: list[tuple[Any, Any]] = []
        kinds: dict[tuple[Any, ...], list[tuple[int, list[Any], Own]]] = {}
        for i, (p, g, own) in enumerate(leaves):
            new.append((p, own))
            if g is None:
                continue
            shape, dtype = p.shape, p.dtype
            if type(own) is not dict or dtype.char not in "fd" or not dtype.isnative:
                raise UnusualError
            given: list[Any] = [p, g]
            kind: tuple[Any, ...] = (dtype.char,)
            try:
                given += [own[name] for name in arrays]
                for name in numbers:
                    kind += (own[name],)
                alike = kinds.setdefault(kind, [])
            except (KeyError, TypeError):  # a number that is an array of no axes cannot be hashed
                raise UnusualError from None
            for x in given:
                if type(x) is not np.ndarray or x.dtype != dtype or x.shape != shape:
                    raise UnusualError
            if len(own) != len(given) + len(numbers) - 2:
                raise UnusualError
            alike.append((i, given, own))
        dense = [self._advance(work, kind, update, speed, new) for kind, work in kinds.items()]
        if dense == [True]:
            (work,) = kinds.values()
            self._remember([given for _, given, _ in work], [new[i][0] for i, _, _ in work])
        return new

    def _remember(self, given: list[list[Array]], new: list[Array]) -> None:
        """Keep the facts of arrays of which one pass took a step without a copy, and how to make others."""
        facts = [_facts(x) for column in zip(*given, strict=True) for x in column]
        step = _Step(facts, tuple(p.size for p in new), list(map(_maker, new)))
        self._steps = [step, *self._steps[: self._MOST_STEPS - 1]]

    def _again(self, leaves: list[Leaf], update: Update, speed: float) -> list[tuple[Any, Any]] | None:
        """Do what `advanced` does for arrays like those of a step before; None where there was none."""
        names, trained = self._numbers, [leaf for leaf in leaves if leaf[1] is not None]
        owns = [own for _, _, own in trained]
        if set(map(type, owns)) != {dict} or set(map(len, owns)) != {len(names) + len(self._arrays)}:
            return None
        try:
            kept = [[own[name] for own in owns] for name in self._arrays]
            numbers = [own[name] for own in owns for name in names]
            arrays: list[Any] = [p for p, _, _ in trained] + [g for _, g, _ in trained]
            arrays += [x for column in kept for x in column]
            facts = list(map(_facts, arrays))
        except (AttributeError, KeyError):  # `advanced` says what is wrong
            return None
        step = next((step for step in self._steps if step.facts == facts), None)
        if step is None or any(kind.__hash__ is None for kind in set(map(type, numbers))):  # such as arrays
            return None
        first = numbers[: len(names)]
        if numbers != first * len(owns):
            return None
        own = owns[0]
        known = self._traced(arrays[0], own, own["step"] + 1, (arrays[0].dtype.char, *first), update, speed)
        formula = known.formula
        if formula is None or not compiled.wished():
            return None
        new, *changed = [[make() for make in step.makers] for _ in range(formula.outputs)]
        arrays += new
        for name, column in zip(known.names, changed, strict=True):
            arrays += column
            kept[self._arrays.index(name)] = column
        formula.run_checked(step.sizes, arrays)
        fixed = {"step": own["step"] + 1, **known.fixed}
        held = [{**before, **fixed} for before in owns]
        for name, column in zip(self._arrays, kept, strict=True):
            for after, x in zip(held, column, strict=True):
                after[name] = x
        pairs = zip(new, held, strict=True)
        return [(p, own) if g is None else next(pairs) for p, g, own in leaves]

    def _advance(
        self, work: list[tuple[int, list[Any], Own]], kind: tuple[Any, ...], update: Update, speed: float,
        new: list[tuple[Any, Any]],
    ) -> bool:  # fmt: skip
        """Take the step of the parameters whose numbers are the same; whether one pass did, of no copies."""
        _, (p, *_), own = work[0]
        step = own["step"] + 1
        known = self._traced(p, own, step, kind, update, speed) if formulas_serve(p) else None
        formula = None if known is None else known.formula
        if known is None or formula is None:
            for i, (p, g, *_), mine in work:
                own = {**mine, "step": step}
                with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                    moved, changed = update(p, g, own)
                changed = {key: np.asarray(v) if key in self._arrays else v for key, v in changed.items()}
                # NumPy gives a scalar where an array of no axes was.
                new[i] = np.asarray(moved), {**own, **changed}
            return False
        dense, rows = True, []
        for i, given, mine in work:
            p = given[0]
            made = found = [empty_like(p) for _ in range(formula.outputs)]
            strides = found[0].strides  # without gaps
            for x in given:
                if x.strides != strides or not x.flags.aligned:
                    order = memory_order(p)
                    lines = [in_line(x, order) for x in given]
                    dense = dense and all(map(np.may_share_memory, lines, given))
                    given, made = lines, [np.empty(p.size, p.dtype) for _ in found]
                    found = [from_order(y.reshape([p.shape[axis] for axis in order]), order) for y in made]
                    break
            rows.append([*given, *made])
            kept = {**mine, "step": step, **known.fixed}
            kept.update(zip(known.names, found[1:], strict=True))
            new[i] = found[0], kept
        formula.run_each([x for column in zip(*rows, strict=True) for x in column])
        return dense

    def _traced(
        self, p: Array, own: Own, step: int, kind: tuple[Any, ...], update: Update, speed: float
    ) -> _Traced:
        """Return the rule for the numbers of `own`, traced now or before."""
        key = (speed, kind[0], *kind[2:])  # without the step
        known = self._known.get(key)
        if known is not None:
            return known
        arrays, noticed = self._arrays, _Noticed(step, own)
        names: list[str] = []
        fixed: Own = {}

        def function(p: Any, g: Any, *given: Any) -> tuple[Any, ...]:
            noticed.update(zip(arrays, given, strict=True))
            moved, changed = update(p, g, noticed)
            fixed.update({key: v for key, v in changed.items() if key not in arrays})
            names.extend(key for key in changed if key in arrays)
            return (moved, *(changed[key] for key in names))

        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # among the numbers
            known = _Traced(traced(function, 2 + len(arrays), p.dtype), tuple(names), fixed)
        if not noticed.read:
            if len(self._known) >= self._MOST:
                self._known.clear()
            self._known[key] = known
        return known


@dataclass(frozen=True)
class _Traced:
    """A rule as a formula of the parameter, its gradient and its arrays; None where kernels cannot serve it.

    `names` are the arrays that it changes, in order, and `fixed` the numbers.
    """

    formula: Formula | None
    names: tuple[str, ...]
    fixed: Own


class _Noticed(dict[str, Any]):
    """The state of a parameter, which notices whether its step is read."""

    def __init__(self, step: int, own: Own) -> None:
        super().__init__(own)
        del self["step"]
        self._step, self.read = step, False

    def __missing__(self, name: str) -> int:
        """Return the step."""
        if name != "step":
            raise KeyError(name)
        self.read = True
        return self._step
