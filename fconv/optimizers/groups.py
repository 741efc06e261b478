"""Optimizers of parameters by name: rates of their own, and parameters that stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from fconv import trees
from fconv.arguments.constructors import constructor
from fconv.arguments.patterns import as_patterns, matched, names_of
from fconv.optimizers.base import Optimizer, State, as_optimizer, filled, map_rules

__all__ = ["by_name", "frozen", "masked"]


@constructor
def by_name(optimizers: Mapping[str, Optimizer | None]) -> Optimizer:
    """Apply different optimizers to parameters by their dotted names.

    Parameters
    ----------
    optimizers : mapping of str to Optimizer or None
        Patterns over the dotted names of a state dict, such as ``"features.*"`` or ``"*.bias"``; ``*``
        stands for dots too, and the name of a layer for all that it holds. A parameter follows the
        first pattern that it fits. None leaves parameters as they are.

    Returns
    -------
    Optimizer
        Its state is ``{"step": int, "optimizers": tuple of the states}``, each over its own parameters.
        Wrappers inside, such as `clip_by_global_norm`, see these alone; those around it see all.

    Raises
    ------
    TypeError
        No mapping of patterns to optimizers.
    ValueError
        When it is used: a pattern fits no parameter, or none is left for it (the nearest names are given); a
        parameter that has a gradient fits no pattern.

    Examples
    --------
    >>> import numpy as np
    >>> from fconv.optimizers import sgd
    >>> opt = by_name({"body.*": sgd(lr=0.1), "*": sgd(lr=1.0)})
    >>> params = {"body": {"weight": np.ones(1)}, "head": {"weight": np.ones(1)}}
    >>> opt.step(params, params, opt.init(params))[0]
    {'body': {'weight': array([0.9])}, 'head': {'weight': array([0.])}}
    """
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise TypeError(
            f'by_name: expected optimizers by pattern, as {{"head.*": adam()}}, got {optimizers!r}'
        )
    for pattern in optimizers:
        as_patterns("by_name", pattern)
        if not isinstance(pattern, str):
            raise TypeError(f"by_name: expected a pattern as text, got {pattern!r}")
    return _grouped("by_name", [((pattern,), opt) for pattern, opt in optimizers.items()])


@constructor
def masked(opt: Optimizer, patterns: str | Sequence[str]) -> Optimizer:
    """Let an optimizer move only the parameters whose dotted names fit a pattern; others stay as they are.

    Parameters
    ----------
    opt : Optimizer
        What takes the steps.
    patterns : str or sequence of str
        As for `by_name`.

    Returns
    -------
    Optimizer
        As `by_name` makes it. The gradients of what stays are not used; ``value_and_grad(trainable=...)``
        does not compute them either.

    Raises
    ------
    TypeError, ValueError
        As `by_name`.

    Examples
    --------
    >>> import numpy as np
    >>> from fconv.optimizers import sgd
    >>> opt = masked(sgd(lr=1.0), "head.*")
    >>> params = {"body": {"weight": np.ones(1)}, "head": {"weight": np.ones(1)}}
    >>> opt.step(params, params, opt.init(params))[0]
    {'body': {'weight': array([1.])}, 'head': {'weight': array([0.])}}
    """
    return _grouped("masked", [(as_patterns("masked", patterns), opt)], rest=True)


@constructor
def frozen(opt: Optimizer, patterns: str | Sequence[str]) -> Optimizer:
    """Leave the parameters whose dotted names fit a pattern as they are; an optimizer moves the others.

    Parameters
    ----------
    opt : Optimizer
        What takes the steps.
    patterns : str or sequence of str
        As for `by_name`.

    Returns
    -------
    Optimizer
        As `by_name` makes it.

    Raises
    ------
    TypeError, ValueError
        As `by_name`.

    Examples
    --------
    >>> import numpy as np
    >>> from fconv.optimizers import sgd
    >>> opt = frozen(sgd(lr=1.0), "body")
    >>> params = {"body": {"weight": np.ones(1)}, "head": {"weight": np.ones(1)}}
    >>> opt.step(params, params, opt.init(params))[0]
    {'body': {'weight': array([1.])}, 'head': {'weight': array([0.])}}
    """
    return _grouped("frozen", [(as_patterns("frozen", patterns), None)], opt, rest=True)


_Groups: TypeAlias = list[tuple[tuple[str, ...], Optimizer | None]]


def _grouped(name: str, groups: _Groups, others: Optimizer | None = None, *, rest: bool = False) -> Optimizer:
    """Return the parameters of each group to its optimizer; with `rest`, those of none to `others`."""
    opts = [None if opt is None else as_optimizer(name, opt) for _, opt in groups]
    if rest:
        opts.append(None if others is None else as_optimizer(name, others))

    @lru_cache(maxsize=4)
    def owners(names: tuple[str, ...]) -> dict[str, int]:
        """Return the number of the group of each parameter that has one."""
        found: dict[str, int] = {}
        for i, (patterns, _) in enumerate(groups):
            fitting = matched(name, patterns, names)
            if fitting <= found.keys():
                before = ", ".join(sorted({repr(p) for n in fitting for p in groups[found[n]][0]}))
                raise ValueError(
                    f"{name}: no parameter is left for the pattern {patterns[0]!r} after {before}; "
                    f"the first match counts: put the narrower pattern first"
                )
            found.update((each, i) for each in fitting if each not in found)
        return {each: len(groups) for each in names} | found if rest else found

    def parts(tree: Any, params: Any) -> list[Any]:
        """Return the tree for each optimizer, with None for the parameters of the others."""
        owner = owners(names_of(params))
        return [
            trees.map_with_path(
                lambda path, _, leaf, i=i: leaf if owner.get(".".join(path)) == i else None, params, tree
            )
            for i in range(len(opts))
        ]

    def init(params: Any) -> State:
        each = zip(opts, parts(params, params), strict=True)
        return {"step": 0, "optimizers": tuple(() if opt is None else opt.init(own) for opt, own in each)}

    def step(params: Any, grads: Any, state: State) -> tuple[Any, State]:
        if not isinstance(state, dict) or len(state.get("optimizers", ())) != len(opts):
            raise ValueError(f"{name}: expected a state that its init gave, with step and optimizers")
        grads, owner = filled(name, params, grads), owners(names_of(params))
        for path, _, g in trees.aligned(params, grads):
            if g is not None and ".".join(path) not in owner:
                raise ValueError(
                    f"{name}: the parameter {'.'.join(path)!r} fits none of the patterns "
                    f'{", ".join(repr(p) for patterns, _ in groups for p in patterns)}; add "*" with an '
                    f"optimizer for the others, or with None to leave them as they are"
                )
        moved: dict[trees.Path, Any] = {}
        states = []
        for i, (own, gs) in enumerate(zip(parts(params, params), parts(grads, params), strict=True)):
            opt, inner = opts[i], state["optimizers"][i]
            if opt is not None:
                own, inner = opt.step(own, gs, inner)
                moved.update(trees.leaves_with_path(own))
            states.append(inner)
        new = trees.map_with_path(lambda path, p: moved.get(path, p), params)
        return new, {"step": state["step"] + 1, "optimizers": tuple(states)}

    def lr(state: State) -> Any:
        titles = [", ".join(patterns) for patterns, _ in groups] + ["*"] * rest
        found = zip(titles, [getattr(opt, "lr", None) for opt in opts], state["optimizers"], strict=True)
        rates = {title: rate(inner) for title, rate, inner in found if rate is not None}
        return rates if name == "by_name" else next(iter(rates.values()), None)

    def within(state: State, f: Any) -> State:
        each = zip(opts, state["optimizers"], strict=True)
        inner = tuple(own if opt is None else map_rules(opt, own, f) for opt, own in each)
        return {**state, "step": max((own["step"] for own in inner if own), default=0), "optimizers": inner}

    return Optimizer(init, step, name, lr=lr, within=within)
