"""States of optimizers as torch.optim has them: what ``optimizer.state_dict()`` holds, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import isclose
from typing import Any, NamedTuple

import numpy as np

from fconv import trees
from fconv.arguments.patterns import names_of, nearest
from fconv.arrays import Array, asnumpy, describe, is_array
from fconv.optimizers.base import Optimizer, State, map_rules
from fconv.options import whole
from fconv.showing import listed
from fconv.state_dict import check_fit, copied_like

__all__ = ["from_optimizer_state_dict", "to_optimizer_state_dict"]

_RULES = ("sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta")
_FROM_THE_START = "adagrad"  # torch.optim's keeps its sums before the first step too
_TRACKED = ("running_mean", "running_var", "num_batches_tracked")

Names = Mapping[str, Any] | Sequence[str] | Sequence[Sequence[str]]


class _Kept(NamedTuple):
    """State of a parameter, the optimizer that keeps it, and the state of that optimizer."""

    opt: Optimizer
    own: dict[str, Any]
    state: State


def from_optimizer_state_dict(
    opt: Optimizer,
    params: Any,
    state_dict: Mapping[str, Any],
    *,
    names: Names | None = None,
    step: int | None = None,
    strict: bool = True,
) -> State:
    """Make the state of an optimizer from that of one of torch.optim.

    Parameters
    ----------
    opt : Optimizer
        `sgd`, `adam`, `adamw`, `nadam`, `rmsprop`, `adagrad` or `adadelta`; for parameter groups
        `by_name` of such; any of them within `clip_by_global_norm`, `masked`, `ema` and the like, whose
        own part of the state begins again.
    params : pytree of arrays
        The parameters, as for ``opt.init``.
    state_dict : mapping
        What ``optimizer.state_dict()`` gives, with tensors or, as `fconv.load` reads it from a file
        without PyTorch, arrays.
    names : sequence of str, or of such sequences, optional
        The dotted names of the parameters in the order in which torch.optim got them, because the state
        dict has numbers for them: ``[name for name, _ in module.named_parameters()]``, or the module's state
        dict, whose running statistics are ignored. Where there are several groups, one such
        sequence for each. Not needed where the optimizer got names itself
        (``torch.optim.SGD(module.named_parameters())``).
    step : int, optional
        Steps taken. By default the largest count of a parameter. torch.optim.SGD keeps no counts, so
        that `sgd` with a schedule needs it.
    strict : bool
        Refuse missing and unexpected entries, and options that differ from those of `opt`, the learning
        rate of the next step among them. Otherwise missing entries are as ``opt.init`` gives them, unexpected
        ones are passed over, and the options of `opt` count.

    Returns
    -------
    state
        As ``opt.init(params)``, of copies in the dtypes and on the devices that it has there.

    Raises
    ------
    TypeError
        `opt` is no optimizer, or `state_dict` no state dict of an optimizer.
    ValueError
        Names are missing or belong to no parameter; entries are missing, unexpected or misshapen; options
        differ. All of a kind are listed.

    References
    ----------
    torch.optim.Optimizer.state_dict of PyTorch's documentation.

    Examples
    --------
    >>> from fconv.optimizers import sgd
    >>> opt, params = sgd(lr=0.1, momentum=0.9), {"weight": np.ones(2)}
    >>> group = {"lr": 0.1, "momentum": 0.9, "params": [0]}
    >>> theirs = {"state": {0: {"momentum_buffer": np.full(2, 5.0)}}, "param_groups": [group]}
    >>> from_optimizer_state_dict(opt, params, theirs, names=["weight"])
    {'step': 1, 'leaves': {'weight': {'step': 1, 'momentum_buffer': array([5., 5.])}}}
    """
    who = "from_optimizer_state_dict"
    _check_optimizer(who, opt)
    states, groups = _checked(who, state_dict)
    given = None if step is None else whole(who, "step", step, 0)
    order = _numbered(who, names, groups, params)
    start = opt.init(params)
    kept = _kept(opt, start)

    theirs: dict[str, dict[str, Any]] = {
        name: {key: value for key, value in states.get(number, {}).items() if value is not None}
        for names, group in zip(order, groups, strict=True)
        for name, number in zip(names, group["params"], strict=True)
    }
    numbers = {number for group in groups for number in group["params"]}
    theirs |= {f"state[{number}]": dict(own) for number, own in states.items() if number not in numbers}
    expected = {
        name: entry.own
        for name, entry in kept.items()
        if theirs.get(name) or (name not in theirs and name.rpartition(".")[2] not in _TRACKED)
    }
    ours = {
        f"{name}.{key}": np.asarray(value) if not is_array(value) else value
        for name, own in expected.items()
        for key, value in own.items()
        if _is_stored(kept[name].opt, key)
    }
    flat = {
        f"{name}.{key}": _array(who, name, key, v) for name, own in theirs.items() for key, v in own.items()
    }
    check_fit(who, ours, flat, strict=strict)

    counts: list[int] = []
    found: dict[str, dict[str, Any]] = {}
    for name, entry in kept.items():
        own = {
            key: copied_like(flat[at], ours[at]) if (at := f"{name}.{key}") in ours and at in flat else value
            for key, value in entry.own.items()
        }
        own = {key: v.item() if not is_array(entry.own[key]) and is_array(v) else v for key, v in own.items()}
        if not _is_stored(entry.opt, "step") and theirs.get(name):
            own["step"] = given or 1
        counts.append(whole(who, f"the step of {name}", own["step"], 0))
        found[name] = own
    total = max(counts, default=0) if given is None else given
    state = map_rules(opt, start, lambda _, inner: {"step": total, "leaves": _placed(inner["leaves"], found)})
    if strict:
        _check_options(who, groups, order, _kept(opt, state), counted=given is not None)
    return state


def to_optimizer_state_dict(opt: Optimizer, params: Any, state: State, *, names: Names) -> dict[str, Any]:
    """Return the state of an optimizer as ``optimizer.load_state_dict`` of torch.optim takes it.

    Parameters
    ----------
    opt : Optimizer
        As for `from_optimizer_state_dict`. Of wrappers such as `ema`, the state of what is inside is given.
    params : pytree of arrays
        The parameters.
    state : state
        Of `opt`.
    names : sequence of str, or of such sequences
        The dotted names of the parameters in the order in which torch.optim got them, as for
        `from_optimizer_state_dict`; for each parameter group a sequence of its own.

    Returns
    -------
    dict
        ``{"state": {number: entries}, "param_groups": [options]}`` of NumPy arrays, numbers and text:
        ``optimizer.load_state_dict(fconv.to_torch(found))``, or ``fconv.save("optimizer.pt", found)``.
        The options are those of `opt`, the learning rate that of the next step.

    Raises
    ------
    TypeError
        `opt` is no optimizer.
    ValueError
        torch.optim has no such optimizer; names belong to no parameter or are missing; the parameters of
        a group follow different optimizers.

    Examples
    --------
    >>> from fconv.optimizers import sgd
    >>> opt, params = sgd(lr=0.1), {"weight": np.ones(2)}
    >>> found = to_optimizer_state_dict(opt, params, opt.init(params), names=["weight"])
    >>> found["state"], found["param_groups"][0]["lr"], found["param_groups"][0]["params"]
    ({}, 0.1, [0])
    """
    who = "to_optimizer_state_dict"
    _check_optimizer(who, opt)
    kept = _kept(opt, state)
    order = _numbered(who, names, None, params)
    listed_ones = {name for group in order for name in group}
    left = [name for name, entry in kept.items() if name not in listed_ones and entry.own["step"]]
    if left:
        raise ValueError(
            f"{who}: expected names for all parameters with a state, got none for {listed(left)}"
        )
    states: dict[int, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    for group in order:
        owners = {id(kept[name].state): kept[name] for name in group if name in kept}
        if len(owners) != 1:
            what = f"{len(owners)} optimizers" if owners else "none"
            raise ValueError(
                f"{who}: expected one optimizer for the parameters of a group, got {what} for "
                f"{listed(group, 4)}; write a sequence of names for each group"
            )
        entry = next(iter(owners.values()))
        first = sum(len(each["params"]) for each in groups)
        groups.append(
            {"param_names": list(group), **_options(entry), "params": list(range(first, first + len(group)))}
        )
        for number, name in enumerate(group, first):
            if name in kept and _has_begun(kept[name]):
                states[number] = {
                    key: np.array(
                        asnumpy(value) if is_array(value) else value, np.float32 if key == "step" else None
                    )
                    for key, value in kept[name].own.items()
                    if _is_stored(entry.opt, key)
                }
    return {"state": {number: own for number, own in states.items() if own}, "param_groups": groups}


def _check_optimizer(who: str, opt: Any) -> None:
    if not isinstance(opt, Optimizer):
        raise TypeError(f"{who}: expected an optimizer, got {describe(opt)}; write {who}(opt, params, ...)")


def _checked(who: str, state_dict: Any) -> tuple[Mapping[int, Any], list[Mapping[str, Any]]]:
    """Return the states and the groups, once they are known to be such."""
    if hasattr(state_dict, "state_dict"):
        got = describe(state_dict)
        raise TypeError(f"{who}: expected a state dict, got {got}; write optimizer.state_dict()")
    held = state_dict if isinstance(state_dict, Mapping) else {}
    states, groups = held.get("state"), held.get("param_groups")
    if not isinstance(states, Mapping) or not isinstance(groups, (list, tuple)):
        got = f"a dict of {listed(held, 8)}" if held else describe(state_dict)
        raise TypeError(
            f"{who}: expected the state dict of an optimizer, with state and param_groups, got {got}"
        )
    for i, group in enumerate(groups):
        numbers = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(numbers, (list, tuple)) or not all(type(n) is int for n in numbers):
            got = describe(numbers)
            raise TypeError(f"{who}: expected params of integers in param_groups[{i}], got {got}")
    for number, own in states.items():
        if not isinstance(own, Mapping):
            raise TypeError(f"{who}: expected entries by name in state[{number}], got {describe(own)}")
    return states, list(groups)


def _numbered(
    who: str, names: Names | None, groups: list[Mapping[str, Any]] | None, params: Any
) -> list[list[str]]:
    """Return the names of the parameters of each group."""
    if names is None and groups is not None:
        if not all(isinstance(group.get("param_names"), (list, tuple)) for group in groups):
            raise ValueError(
                f"{who}: the state dict has numbers for the parameters: write names=[name for name, _ in "
                f"module.named_parameters()], or the module's state dict"
            )
        names = [group["param_names"] for group in groups]
    if isinstance(names, str) or not isinstance(names, (Mapping, list, tuple)):
        raise TypeError(f"{who}: expected names of parameters in a list, got {describe(names)}")
    if isinstance(names, Mapping) or all(isinstance(name, str) for name in names):
        several: list[Any] = [list(names)]
    else:
        several = list(names)
    if not all(
        isinstance(group, (list, tuple)) and all(isinstance(n, str) for n in group) for group in several
    ):
        raise TypeError(f"{who}: expected names as text, in one list or in one for each group")
    if groups is not None and len(several) != len(groups):
        raise ValueError(
            f"{who}: expected names for each of the {len(groups)} parameter groups, got {len(several)} lists"
        )
    found = []
    for i, group in enumerate(several):
        count = None if groups is None else len(groups[i]["params"])
        if len(group) != count:  # a module's state dict names its running statistics too
            group = [name for name in group if name.rpartition(".")[2] not in _TRACKED]
        if count is not None and len(group) != count:
            raise ValueError(
                f"{who}: param_groups[{i}] has {count} parameters, and {len(group)} names are given"
            )
        found.append(list(group))
    _check_names(who, [name for group in found for name in group], names_of(params))
    return found


def _check_names(who: str, given: list[str], known: Iterable[str]) -> None:
    known = dict.fromkeys(known)
    if unknown := [name for name in given if name not in known]:
        what = listed([repr(name) for name in unknown], 4)
        raise ValueError(f"{who}: no parameter is named {what}; {nearest(unknown[0], known)}")
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise ValueError(f"{who}: the parameter {twice!r} is named twice")


def _kept(opt: Optimizer, state: State) -> dict[str, _Kept]:
    """Return what is kept for each parameter by its dotted name."""
    found: dict[str, _Kept] = {}

    def note(inner: Optimizer, own_state: State) -> State:
        if not isinstance(own_state, dict) or not {"step", "leaves"} <= own_state.keys():
            who = getattr(inner, "name", type(inner).__name__)
            raise ValueError(f"{who}: expected a state that its init gave, with step and leaves")
        for name, own in _by_name(own_state["leaves"]).items():
            found[name] = _Kept(inner, own, own_state)
        return own_state

    map_rules(opt, state, note)
    if strangers := sorted({e.opt.name for e in found.values() if e.opt.name not in _RULES}):
        raise ValueError(f"{', '.join(strangers)}: torch.optim has no such optimizer")
    return found


def _is_own(node: Any) -> bool:
    """Return whether a node is the state of one parameter: a dict with a number for ``step``."""
    return isinstance(node, dict) and isinstance(node.get("step"), int)


def _by_name(tree: Any, path: trees.Path = ()) -> dict[str, dict[str, Any]]:
    if tree is None or _is_own(tree):
        return {".".join(path): tree} if tree else {}
    below = trees.children(tree) or ()
    return {name: own for key, child in below for name, own in _by_name(child, (*path, key)).items()}


def _placed(tree: Any, found: Mapping[str, Any], path: trees.Path = ()) -> Any:
    """Put what was found in the place of what is kept for each parameter."""
    if tree is None or _is_own(tree):
        return found[".".join(path)] if tree else None
    below = trees.children(tree) or ()
    return trees.rebuild(tree, [_placed(child, found, (*path, key)) for key, child in below])


def _is_stored(opt: Optimizer, key: str) -> bool:
    """Return whether torch.optim keeps an entry too: SGD counts no steps."""
    return key != "step" or opt.name != "sgd"


def _has_begun(entry: _Kept) -> bool:
    return entry.own["step"] > 0 or entry.opt.name == _FROM_THE_START


def _array(who: str, name: str, key: str, value: Any) -> Array:
    if isinstance(value, (int, float)):
        return np.asarray(value)
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"{who}: expected an array for {name}.{key}, got {describe(value)}")
    return value


def _options(entry: _Kept) -> dict[str, Any]:
    """Return the options of an optimizer as a parameter group of torch.optim has them."""
    found = {**entry.opt._arguments(), "lr": entry.opt.lr(entry.state) if entry.opt.lr else None}
    if entry.opt.name in ("adam", "adamw"):
        found["decoupled_weight_decay"] = entry.opt.name == "adamw"
    return found


def _check_options(
    who: str,
    groups: list[Mapping[str, Any]],
    order: list[list[str]],
    kept: Mapping[str, _Kept],
    *,
    counted: bool,
) -> None:
    """Require that the groups have the options of the optimizers that their parameters follow."""
    wrong: list[str] = []
    for i, (group, names) in enumerate(zip(groups, order, strict=True)):
        for entry in {id(kept[n].state): kept[n] for n in names if n in kept}.values():
            if callable(entry.opt._arguments()["lr"]) and entry.opt.name == "sgd" and not counted:
                raise ValueError(
                    f"{who}: torch.optim.SGD keeps no count of steps, on which the schedule of sgd depends; "
                    f"write step="
                )
            wrong += [
                f"  param_groups[{i}]: {key}: expected {option!r}, as of opt, got {group[key]!r}"
                for key, option in _options(entry).items()
                if key in group and not _equal(option, group[key])
            ]
    if wrong:
        more = "" if len(groups) < 2 else "\n  groups of their own are fconv.by_name({pattern: optimizer})"
        raise ValueError(
            f"{who}: options differ (strict=False keeps those of opt):\n" + "\n".join(wrong) + more
        )


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, (tuple, list)):
        same = isinstance(theirs, (tuple, list)) and len(ours) == len(theirs)
        return same and all(map(_equal, ours, theirs))
    if not isinstance(ours, bool) and ours is not None:
        with suppress(TypeError, ValueError):
            return isclose(float(ours), float(theirs), rel_tol=1e-6)
    return bool(ours == theirs)
