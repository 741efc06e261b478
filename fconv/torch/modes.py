"""The operators of a forward in training and in inference, compared."""

from __future__ import annotations

from typing import Any

from fconv.networks.reading import UnfitError
from fconv.torch.folding import constant_of
from fconv.torch.program import Program
from fconv.torch.values import Const, Expanded, Operator, Own, Size, Tensor, described, example, tensors

DROPOUTS = {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}

SWITCHES = {"train", "training", "dropout_p", "use_input_stats"}
"""Arguments that the layers of the operators take from ``train=`` themselves."""

RANDOM = {"bernoulli", "rand", "rand_like", "uniform"}

DEPTH = "stochastic_depth"

FIXED = (Own, Const, Expanded)


def _random_factor(tensor: Any, made_by: dict[Any, Operator]) -> tuple[float, float, Any] | None:
    """Recognise a factor that is drawn once for each example, as stochastic depth multiplies with.

    Returns
    -------
    tuple or None
        With which probability it is not 0, by what it is divided, and its shape.
    """
    divisor, operator = 1.0, made_by.get(tensor)
    if operator is not None and operator.name in ("div", "mul") and isinstance(operator.args["other"], float):
        other = operator.args["other"]
        divisor, operator = other if operator.name == "div" else 1 / other, made_by.get(operator.args["self"])
    if operator is None:
        return None
    if operator.name == "bernoulli" and isinstance(operator.args.get("p"), float):
        return operator.args["p"], divisor, operator.out.shape
    if operator.name == "dropout":  # of ones
        ones = made_by.get(operator.args["input"])
        if ones is not None and ones.name in ("new_ones", "ones"):
            keep = 1 - operator.args["p"]
            return keep, divisor * keep, operator.out.shape
    if operator.name == "floor":  # of a probability and a uniform number
        added = made_by.get(operator.args["self"])
        if added is not None and added.name == "add":
            keep, uniform = added.args["other"], made_by.get(added.args["self"])
            drawn = uniform is not None and uniform.name in ("rand", "rand_like", "uniform")
            if drawn and isinstance(keep, float):
                return keep, divisor, operator.out.shape
    return None


def with_stochastic_depth(program: Program) -> None:
    """Put one operator in the place of those that multiply by numbers drawn for each example."""
    made_by = {out: o for o in program.operators for out in o.outs}
    for operator in program.operators:
        if operator.name != "mul":
            continue
        a, b = operator.args["self"], operator.args["other"]
        for x, factor in ((a, b), (b, a)):
            found = _random_factor(factor, made_by)
            if found is None or not isinstance(x, Tensor):
                continue
            keep, divisor, shape = found
            before = made_by.get(x)
            if divisor == 1 and before is not None and before.name == "div" and before.args["other"] == keep:
                x, divisor = before.args["self"], keep
            operator.name = DEPTH
            operator.args = {"input": x, "keep": keep, "divisor": divisor, "shape": shape}


def compare(train: Program, infer: Program) -> tuple[Any, list[Any]]:
    """Require that a forward does in inference what its layers do in training.

    Parameters
    ----------
    train, infer : Program
        The forward in either mode.

    Returns
    -------
    outputs : object
        Those of training that inference returns too, in inference's nest.
    further : list of Tensor
        Those that training returns besides.

    Raises
    ------
    UnfitError
        It does other things in training; says which first.
    """
    from torch.utils import _pytree

    for program in (train, infer):
        with_stochastic_depth(program)
    twins: dict[Any, Any] = dict(zip(train.inputs, infer.inputs, strict=True))
    waiting: dict[Any, list[Operator]] = {}
    for operator in infer.operators:
        waiting.setdefault(_key(operator, {}), []).append(operator)
    first: Operator | None = None
    for operator in train.operators:
        found = _twin(operator, twins, waiting)
        if found is None:
            known = all(t in twins for t in tensors(operator.args) if not isinstance(t, FIXED))
            if first is None and known and not _draws(operator):
                first = operator
            continue
        twins.update(found)
    given = {_frozen(t, twins): t for t in reversed(_pytree.tree_leaves(train.outputs))}
    leaves, nest = _pytree.tree_flatten(infer.outputs)
    if any(_frozen(t, {}) not in given for t in leaves):
        what = f", first {first.title} in {described(first)}" if first is not None else ""
        rest = [o for group in waiting.values() for o in group]
        if first is None and rest:
            what = f"; only in inference it has {rest[0].title} in {described(rest[0])}"
        raise UnfitError(f"its forward does other things in training than in inference{what}")
    kept = [given[_frozen(t, {})] for t in leaves]
    return _pytree.tree_unflatten(kept, nest), [t for t in given.values() if t not in kept]


def _draws(operator: Operator) -> bool:
    return "empty" in operator.name or operator.name in RANDOM


def _twin(
    operator: Operator, twins: dict[Any, Any], waiting: dict[Any, list[Operator]]
) -> dict[Any, Any] | None:
    group = waiting.get(_key(operator, twins))
    if group:
        other = group.pop(0) if len(group) > 1 else group[0]
        _require_switched(operator, other)
        return dict(zip(operator.outs, other.outs, strict=True))
    constant = constant_of(operator, twins)  # of sizes that are open in one of the programs alone
    if constant is not None:
        return dict(zip(operator.outs, constant, strict=True))
    if operator.name in DROPOUTS or operator.name == DEPTH:
        first = next(iter(operator.args.values()))
        return {operator.out: twins.get(first, first)}
    return None


def _require_switched(train: Operator, infer: Operator) -> None:
    """Require that what a layer does in training alone is off in inference."""
    where = f"{train.title} in {described(train)}"
    for switch in SWITCHES & train.args.keys():
        used = bool(infer.args[switch])
        if train.name in DROPOUTS or switch == "dropout_p":
            if used and train.args.get("p", infer.args[switch]):
                raise UnfitError(
                    f"{where}: it drops outside training too: training=True, where self.training is meant"
                )
        elif used and train.args["running_mean"] is not None:
            raise UnfitError(f"{where}: it takes the statistics of the batch in inference too")


def _key(operator: Operator, twins: dict[Any, Any]) -> Any:
    return operator.name, tuple(
        (name, _frozen(value, twins)) for name, value in operator.args.items() if name not in SWITCHES
    )


def _frozen(value: Any, twins: dict[Any, Any]) -> Any:
    if isinstance(value, Own):
        return value.name
    if isinstance(value, (Const, Expanded)):
        import torch

        source = value.source if isinstance(value, Expanded) else value
        tensor = source.tensor.expand(tuple(map(example, value.shape)))
        held = tensor.detach().cpu().contiguous().reshape(-1)
        return str(tensor.dtype), tuple(tensor.shape), held.view(torch.uint8).numpy().tobytes()
    if isinstance(value, Tensor):
        twin = twins.get(value, value)
        return _frozen(twin, {}) if isinstance(twin, FIXED) else twin
    if isinstance(value, Size):
        return value.example
    return tuple(_frozen(v, twins) for v in value) if isinstance(value, (tuple, list)) else value
