"""Optimizers, and the one walk over parameters that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np

from fconv import trees
from fconv.arguments.constructors import Constructed
from fconv.arguments.signatures import explained, shown
from fconv.arguments.unpacking import changed_places
from fconv.arrays import Array, check_floating, is_array, namespace, narrowed, native, widened, xp_of
from fconv.optimizers.passes import Own, Passes, UnusualError, Update, gathered, placed
from fconv.options import nonnegative
from fconv.schedules.decay import Schedule

State: TypeAlias = Any

Rule: TypeAlias = Callable[[Array, Array, Own, float], tuple[Array, Own]]
"""``rule(p, g, own, lr) -> (p, changed)``: one step of one parameter, and what it changes of its own."""


@dataclass(frozen=True, repr=False, eq=False)
class Optimizer(Constructed):
    """An optimizer: how its state begins, and one step.

    Optimizers are equal, and pickle, as layers do: by the call that made them.

    Attributes
    ----------
    init : callable
        ``init(params) -> state``, a pytree: a dict with the number of steps taken, ``step``, and
        ``leaves``, which has at the place of each parameter a dict of what torch.optim keeps for
        it, under torch.optim's names.
    step : callable
        ``step(params, grads, state) -> (params, state)``. A leaf whose gradient is None is
        left alone, and so is all that is kept for it. Nothing is mutated. Gradients in the place of
        the parameters are refused where that is certain: where they are the arrays that
        `value_and_grad` returned, or hold None for a running statistic.
    name : str
        What error messages call it.
    loss_scale : callable, optional
        ``loss_scale(state)`` returns the factor that the loss must be multiplied by, and that `step` divides
        the gradients by; see `mixed_precision`.
    lr : callable, optional
        ``lr(state)`` is the learning rate of the step that follows, or a dict of several by pattern.
    within : callable, optional
        Of an optimizer made of others: ``within(state, f)`` is its state with ``f(opt, own)`` in the place
        of the state of each optimizer inside that is made of no other; see `map_rules`.
    """

    init: Callable[[Any], State]
    step: Callable[[Any, Any, State], tuple[Any, State]]
    name: str = "optimizer"
    loss_scale: Callable[[State], Array] | None = None
    lr: Callable[[State], Any] | None = None
    within: Callable[[State, Callable[[Any, State], State]], State] | None = None
    _instead: ClassVar[Mapping[str, str]] = {
        "zero_grad": "gradients are values, and nothing adds up",
        "state_dict": "the state is a value: state = opt.init(params); fconv.save(path, state); for "
        "torch.optim fconv.to_optimizer_state_dict(opt, params, state, names=...)",
        "load_state_dict": "the state is a value: state = fconv.load(path); from torch.optim "
        "fconv.from_optimizer_state_dict(opt, params, state_dict)",
        "param_groups": "the learning rate is a number or a schedule, a function of the step count",
        "update": "write params, state = opt.step(params, grads, state)",
        "apply_gradients": "write params, state = opt.step(params, grads, state)",
    }

    def __post_init__(self) -> None:
        for what in ("init", "step"):
            object.__setattr__(self, what, explained(f"{self.name}.{what}", getattr(self, what)))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to be called."""
        raise TypeError(
            f"{self.name}: an optimizer is not called: write params, state = opt.step(params, grads, state)"
        )


def as_optimizer(where: str, value: Any) -> Optimizer:
    """Require an optimizer: anything with the functions `init` and `step`.

    Examples
    --------
    >>> as_optimizer("ema", max)
    Traceback (most recent call last):
    TypeError: ema: expected an optimizer, got builtin_function_or_method max; was it meant to be called?
    """
    functions = callable(getattr(value, "init", None)) and callable(getattr(value, "step", None))
    if functions and not isinstance(value, type):
        if getattr(value, "loss_scale", None) is not None:  # whose gradients are not those of the loss
            raise ValueError(
                f"{where}: mixed_precision stands outermost: mixed_precision({where}(...)), not the other way"
            )
        return value
    what = " ".join(filter(None, [type(value).__name__, getattr(value, "__name__", "")]))
    hint = "; was it meant to be called?" if callable(value) else ""
    if callable(getattr(value, "apply", None)):
        hint = "; the network and the loss come before the optimizer"
    raise TypeError(f"{where}: expected an optimizer, got {what}{hint}")


def leafwise(
    name: str,
    rule: Rule,
    arrays: Mapping[str, float],
    lr: float | Schedule,
    weight_decay: float = 0.0,
    *,
    decoupled: bool = False,
    maximize: bool = False,
    numbers: Mapping[str, float] | None = None,
) -> Optimizer:
    """Make an optimizer of the rule for one parameter.

    Parameters
    ----------
    name : str
        What error messages call it.
    rule : callable
        ``rule(p, g, own, lr) -> (p, changed)``; ``own["step"]`` counts the steps of this
        parameter, this one included, and `changed` holds the entries of `own` that change.
    arrays, numbers : mapping of str to float
        What `own` holds, and what fills it at first: arrays like the parameter, and numbers beside ``step``.
    lr : float or callable
        Learning rate, or a schedule.
    weight_decay : float
        Factor of the parameters that is added to their gradients; or, where `decoupled`, the
        share, times the learning rate, by which they shrink before the step.
    maximize : bool
        Ascend instead.
    """
    lr = _number_or_schedule(name, lr)
    (weight_decay,) = nonnegative(name, weight_decay=weight_decay)
    numbers = {"step": 0, **(numbers or {})}
    passes = Passes(tuple(arrays), tuple(numbers))

    def init(params: Any) -> State:
        def begin(path: trees.Path, p: Any) -> Own:
            namespace(name, **{_named(path): p})
            xp, p = xp_of(p), widened(native(p))
            return {**numbers, **{key: xp.full_like(p, value) for key, value in arrays.items()}}

        return {"step": 0, "leaves": trees.map_with_path(begin, params)}

    def step(params: Any, grads: Any, state: State) -> tuple[Any, State]:
        if not isinstance(state, dict) or not {"step", "leaves"} <= state.keys():
            raise ValueError(f"{name}: expected a state that its init gave, with step and leaves")
        speed = rate(name, lr, state["step"])

        def update(p: Array, g: Array, own: Own) -> tuple[Array, Own]:
            g = -g if maximize else g
            if weight_decay and decoupled:
                p = p * (1 - speed * weight_decay)
            elif weight_decay:
                g = g + weight_decay * p
            return rule(p, g, own, speed)

        _refuse_changed_places(name, params, grads)
        try:  # what mostly comes: NumPy's arrays of float32 or float64, many of them in one pass
            leaves = gathered(params, grads, state["leaves"], [])
            new, held = placed(params, iter(passes.advanced(leaves, update, speed)))
        except UnusualError:  # one after the other, of any kind, or an error that says where it is wrong
            keys = numbers.keys() | arrays.keys()
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                new, held = _stepped(name, update, keys, params, grads, state["leaves"])
        return new, {"step": state["step"] + 1, "leaves": held}

    return Optimizer(init, step, name, lr=lambda state: rate(name, lr, state["step"]))


def _number_or_schedule(name: str, lr: float | Schedule) -> float | Schedule:
    if callable(lr) and not hasattr(lr, "init"):
        return lr
    if trees.children(lr) or callable(lr):  # parameters or a network, as torch.optim takes the former
        raise TypeError(
            f"{name}: expected lr to be a number or a schedule, got {shown(lr)}; write "
            f"opt = {name}(lr=0.01) and opt.init(params)"
        )
    return nonnegative(name, lr=lr)[0]


def _stepped(
    name: str, update: Update, keys: Collection[str], params: Any, grads: Any, leaves: Any
) -> tuple[Any, Any]:
    """Step each parameter that has a gradient by itself, float16 in float32; return what is kept for it."""
    owns: list[Own] = []

    def moved(path: trees.Path, p: Array, g: Array | None, own: Own) -> Array:
        if g is None:
            owns.append(own)
            return p
        check_gradient(name, path, p, g)
        if not isinstance(own, dict) or own.keys() != keys:
            raise ValueError(f"{name}: expected a state that its init gave, at {_named(path)}")
        kept = {key: v for key, v in own.items() if not isinstance(v, (int, float))}
        namespace(name, **{f"{key} of {_named(path)}": v for key, v in kept.items()})
        own = {key: widened(native(v)) if is_array(v) else v for key, v in own.items()}
        own["step"] = own["step"] + 1  # which may be an array of the caller
        new, changed = update(widened(native(p)), widened(native(g)), own)
        # NumPy gives a scalar where an array of no axes was.
        owns.append({k: xp_of(v).asarray(v) if is_array(v) else v for k, v in {**own, **changed}.items()})
        return narrowed(new, p.dtype.newbyteorder("="))

    new = _mapped(name, moved, params, _filled(params, grads), leaves)
    following = iter(owns)  # in the order of the parameters
    return new, trees.map(lambda _: next(following), params)


def filled(name: str, params: Any, grads: Any) -> Any:
    """Put None for each parameter of a layer whose whole gradient is None.

    Raises
    ------
    ValueError
        The two have changed places.
    """
    _refuse_changed_places(name, params, grads)
    return _filled(params, grads)


def _refuse_changed_places(name: str, params: Any, grads: Any) -> None:
    if changed_places(params, grads):
        raise ValueError(
            f"{name}.step: the first argument is the gradient of the second; "
            f"write opt.step(params, grads, state)"
        )


def _filled(params: Any, grads: Any) -> Any:
    if type(params) is dict and type(grads) is dict and grads.keys() == params.keys() and params:
        return {key: _filled(params[key], g) for key, g in grads.items()}
    if is_array(grads):
        return grads
    if grads is None:
        return trees.map(lambda _: None, params)
    ours, theirs = dict(trees.children(params) or ()), dict(trees.children(grads) or ())
    if not ours or ours.keys() != theirs.keys():
        return grads  # a leaf; or the walk over both says what differs
    return trees.rebuild(grads, [_filled(ours[name], g) for name, g in theirs.items()])


def rate(name: str, lr: float | Schedule, count: int) -> float:
    """Return the learning rate of a step: a number, or what the schedule says."""
    value = float(lr(count) if callable(lr) else lr)
    if not value >= 0:
        raise ValueError(f"{name}: expected a learning rate of 0 or more, got {value} at step {count}")
    return value


def map_rules(opt: Any, state: State, f: Callable[[Any, State], State]) -> State:
    """Put ``f(inner, own)`` in the place of the state of each optimizer inside that is made of no other."""
    within = getattr(opt, "within", None)
    return f(opt, state) if within is None else within(state, f)


def inner_state(opt: Any) -> Callable[[State, Callable[[Any, State], State]], State]:
    """Return the `within` of an optimizer that keeps the state of `opt` under ``optimizer``."""
    return lambda state, f: {**state, "optimizer": map_rules(opt, state["optimizer"], f)}


def inner_rate(opt: Optimizer) -> Callable[[State], Any] | None:
    """Return the `lr` of an optimizer that keeps the state of `opt` under ``optimizer``."""
    lr = getattr(opt, "lr", None)
    return None if lr is None else lambda state: lr(state["optimizer"])


def zeros(*names: str) -> dict[str, float]:
    """Name arrays that start with zeros."""
    return dict.fromkeys(names, 0.0)


def lerp(a: Array, b: Array, weight: float) -> Array:
    """Go from `a` towards `b` by `weight`, from the nearer of the two, as torch.lerp does."""
    return a + weight * (b - a) if weight < 0.5 else b - (1 - weight) * (b - a)


def map_gradients(name: str, f: Callable[..., Any], params: Any, grads: Any, *rest: Any) -> Any:
    """Apply ``f(g, *others)`` to each gradient, once it is known to fit its parameter; None stays."""

    def apply(path: trees.Path, p: Array, g: Array | None, *others: Any) -> Any:
        if g is not None:
            check_gradient(name, path, p, g)
        return f(native(g), *others) if g is not None else None

    return _mapped(name, apply, params, filled(name, params, grads), *rest)


def _mapped(name: str, f: Callable[..., Any], params: Any, grads: Any, *rest: Any) -> Any:
    """Apply `f` beside the parameters, or say that they and the gradients have changed places."""
    try:
        return trees.map_with_path(f, params, grads, *rest)
    except ValueError as error:
        if str(error).startswith("trees differ") and _holds_none(params) and not _holds_none(grads):
            raise ValueError(
                f"{name}.step: the first argument holds None, as gradients do; "
                f"write opt.step(params, grads, state)"
            ) from None
        raise


def _holds_none(tree: Any) -> bool:
    return tree is None or any(_holds_none(child) for _, child in trees.children(tree) or ())


def check_gradient(name: str, path: trees.Path, p: Any, g: Any) -> None:
    """Require that a gradient fits its parameter."""
    namespace(name, **{_named(path): p})
    same = is_array(g) and g.shape == p.shape and g.dtype.newbyteorder("=") == p.dtype.newbyteorder("=")
    if not same:
        got = f"{g.dtype} of shape {g.shape}" if hasattr(g, "shape") else repr(g)
        raise ValueError(
            f"{name}: expected a gradient of {p.dtype} and shape {p.shape} for {'.'.join(path)}, got {got}"
        )
    namespace(name, **{_named(path): p, "its gradient": g})
    check_floating(name, **{_named(path): p})


def _named(path: trees.Path) -> str:
    return ".".join(path) or "the parameter"
