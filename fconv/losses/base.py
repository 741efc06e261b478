"""Losses, and sums of losses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from typing import Any, ClassVar, NoReturn

from fconv import trees
from fconv.arguments.constructors import Constructed, constructor
from fconv.arguments.patterns import nearest
from fconv.arguments.signatures import explained
from fconv.arrays import describe, xp_of
from fconv.options import number


@dataclass(frozen=True, repr=False, eq=False)
class Loss(Constructed):
    """A loss: its value and its gradient.

    As layers, losses compare and pickle by the call that made them. They add, and are multiplied by
    numbers of 0 or more.

    Attributes
    ----------
    apply : callable
        ``apply(y, target) -> scalar``.
    vjp : callable
        ``vjp(y, target, g=1.0) -> dy``, the gradient of ``g * loss``.
    forward : callable
        ``forward(y, target) -> (scalar, pullback)`` with ``pullback(g=1.0) -> dy``, which
        computes nothing twice. Derived from `apply` and `vjp` where it is not given.
    name : str
        What error messages call it.
    curvature : callable, optional
        ``curvature(y, target, t) -> array``, the second derivatives by `y` times `t`, for
        `fconv.ggn_product`.
    each : callable, optional
        ``each(y, target) -> dy``: for every example, the gradient of the loss that it has as a batch of
        one. Without it `each_gradient` goes over the examples.
    count : callable, optional
        ``count(target) -> number``: what the mean is divided by, in a measure of its own, and 0 for a sum.
        By default it is the number of examples. Distributed training weighs the parts of a batch by it.

    Examples
    --------
    >>> import numpy as np
    >>> from fconv.losses import l1_loss, mse_loss
    >>> loss = mse_loss() + 0.5 * l1_loss()
    >>> y, target = np.array([1.0, 3.0]), np.zeros(2)
    >>> float(loss.apply(y, target)), loss.vjp(y, target)
    (6.0, array([1.25, 3.25]))
    >>> loss
    mse_loss() + 0.5 * l1_loss()
    """

    apply: Callable[[Any, Any], Any]
    vjp: Callable[..., Any]
    forward: Callable[[Any, Any], tuple[Any, Callable[..., Any]]] | None = None
    name: str = "loss"
    terms: tuple[tuple[float, Any], ...] = ()
    curvature: Callable[[Any, Any, Any], Any] | None = None
    each: Callable[[Any, Any], Any] | None = None
    count: Callable[[Any], float] | None = None
    parts: Callable[[Any, Any], list[Any]] | None = None
    gather: Callable[..., Any] | None = None
    _instead: ClassVar[Mapping[str, str]] = {
        "backward": "write loss, grads, params = fconv.value_and_grad(net, loss)(params, x, target)",
        "item": "write float(loss.apply(y, target))",
    }

    def __post_init__(self) -> None:
        for what in ("apply", "vjp", "forward"):
            if getattr(self, what) is not None:
                object.__setattr__(self, what, explained(f"{self.name}.{what}", getattr(self, what)))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to be called, as torch.nn's losses are."""
        raise TypeError(f"{self.name}: a loss is not called: write loss.apply(y, target)")

    def __add__(self, other: Any) -> Loss:
        if isinstance(other, (int, float)) and other == 0:  # where sum() begins
            return self
        if not is_loss(other):
            return NotImplemented
        return weighted_sum(*_terms(self), *_terms(other))

    __radd__ = __add__

    def __mul__(self, weight: Any) -> Loss:
        if not isinstance(weight, (int, float)) and not hasattr(weight, "__float__"):
            return NotImplemented
        scale = _weight("a loss", "its factor", weight)
        return weighted_sum(*((scale * own, term) for own, term in _terms(self)))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        if self._call.function is not weighted_sum:
            return super().__repr__()
        return " + ".join(f"{own:g} * {loss!r}" if own != 1 else repr(loss) for own, loss in self.terms)


def is_loss(value: Any) -> bool:
    """Return whether a value has the functions of a loss."""
    return all(callable(getattr(value, f, None)) for f in ("apply", "vjp")) and not hasattr(value, "init")


def as_loss(where: str, value: Any) -> Loss:
    """Require a loss: anything with the functions `apply` and `vjp`.

    Examples
    --------
    >>> from fconv.functional import mse_loss
    >>> as_loss("f", mse_loss)
    Traceback (most recent call last):
    TypeError: f: expected a loss with apply and vjp, got the function mse_loss; write fconv.mse_loss()
    """
    functions = callable(getattr(value, "apply", None)) and callable(getattr(value, "vjp", None))
    if functions and not isinstance(value, type) and not callable(getattr(value, "out_shape", None)):
        return value
    name = getattr(value, "__name__", type(value).__name__)
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("binary_cross_entropy", "bce")
    known = {each.replace("_", ""): each for each in import_module("fconv.losses").__all__}
    made = known.get(snake.replace("_", "")) or known.get(f"{snake.replace('_', '')}loss")
    hint = f"; write fconv.{made}()" if made else "; was it meant to be called?" if callable(value) else ""
    if functions and not isinstance(value, type) and where.isidentifier():
        hint = f"; the network comes first: {where}(net, loss)"
    elif callable(getattr(value, "step", None)):
        hint = "; the loss comes before the optimizer"
    elif isinstance(value, type) and not made:
        hint = f"; write {name}()"
    kind = (
        f"a{'n' * (name[0] in 'AEIO')}"
        if not hasattr(value, "__name__")
        else "the class"
        if isinstance(value, type)
        else "the function"
    )
    raise TypeError(f"{where}: expected a loss with apply and vjp, got {kind} {name}{hint}")


def loss_forward(loss: Any, y: Any, target: Any) -> tuple[Any, Callable[..., Any]]:
    """Return a loss and its pullback, from `loss.forward` or, where there is none, `apply` and `vjp`."""
    forward = getattr(loss, "forward", None)
    if forward is not None:
        return forward(y, target)
    return loss.apply(y, target), lambda g=1.0: loss.vjp(y, target, g)


def each_gradient(loss: Any, y: Any, target: Any) -> Any:
    """Return for every example the gradient of its own loss, that of a batch of one, in the form of `y`."""
    own = getattr(loss, "each", None)
    if own is not None:
        return own(y, target)
    found = []
    for i in range(len(trees.leaves(y)[0])):
        one = slice(i, i + 1)
        value, pull = loss_forward(loss, *(trees.map(lambda x, one=one: x[one], v) for v in (y, target)))
        if getattr(value, "shape", ()) != ():
            raise ValueError(f"expected a scalar loss, got one of shape {value.shape}")
        found.append(pull())
    if not found:
        return trees.map(lambda x: xp_of(x).zeros_like(x), y)
    return trees.map(lambda *parts: xp_of(parts[0]).concatenate(parts), *found)


def _terms(loss: Any) -> tuple[tuple[float, Any], ...]:
    return getattr(loss, "terms", ()) or ((1.0, loss),)


def _weight(where: str, what: str, value: Any) -> float:
    weight = number(where, what, value, 0)
    if weight == float("inf"):
        raise ValueError(f"{where}: expected {what} to be finite, got {weight}")
    return weight


def _summed(
    name: str, parts: Callable[[Any, Any], list[Any]], gather: Callable[..., Any], **given: Any
) -> Loss:
    """Make the loss that adds parts ``(weight, loss, y, target)``; `gather` puts their gradients together."""

    def forward(y: Any, target: Any) -> tuple[Any, Callable[..., Any]]:
        return _added(parts(y, target), y, gather, loss_forward)

    def apply(y: Any, target: Any) -> Any:
        values = [weight * loss.apply(own, truth) for weight, loss, own, truth in parts(y, target)]
        return sum(values[1:], values[0])

    def vjp(y: Any, target: Any, g: Any = 1.0) -> Any:
        return gather(y, [loss.vjp(own, truth, weight * g) for weight, loss, own, truth in parts(y, target)])

    def each(y: Any, target: Any) -> Any:
        found = [(weight, each_gradient(loss, own, truth)) for weight, loss, own, truth in parts(y, target)]
        return gather(y, [trees.map(lambda d, w=weight: w * d, grads) for weight, grads in found])

    return Loss(apply, vjp, forward, name, each=each, parts=parts, gather=gather, **given)


def _added(
    parts: list[Any], y: Any, gather: Callable[..., Any], forward: Callable[..., Any]
) -> tuple[Any, Callable[..., Any]]:
    """Add the weighted losses of ``(weight, loss, y, target)``, and gather their gradients."""
    total, pulls = None, []
    for weight, loss, own, truth in parts:
        value, pull = forward(loss, own, truth)
        total = weight * value if total is None else total + weight * value
        pulls.append((weight, pull))
    return total, lambda g=1.0: gather(y, [pull(weight * g) for weight, pull in pulls])


def counts_of(loss: Any, target: Any, examples: int) -> list[float]:
    """List what each mean in a loss is divided by; 0 for a sum.

    Examples
    --------
    >>> import numpy as np
    >>> from fconv.losses import l2_penalty, nll_loss
    >>> counts_of(nll_loss(ignore_index=1) + l2_penalty(), np.array([0, 1, 2]), 3)
    [2.0, 0.0]
    """
    parts = getattr(loss, "parts", None)
    if parts is not None:
        each = (counts_of(term, truth, examples) for _, term, _, truth in parts(None, target))
        return [count for found in each for count in found]
    count = getattr(loss, "count", None)
    return [float(examples if count is None else count(target))]


def shared_forward(
    loss: Any, y: Any, target: Any, shares: Iterator[float | None]
) -> tuple[Any, Callable[..., Any]]:
    """Return a loss and its pullback, each mean in it multiplied by its share; None for a part without any.

    With the parts' counts divided by the batch's for shares, the losses of the parts of a batch add up to
    that of the batch, and so do their gradients.
    """
    parts = getattr(loss, "parts", None)
    if parts is not None:
        return _added(
            parts(y, target),
            y,
            loss.gather,
            lambda term, own, truth: shared_forward(term, own, truth, shares),
        )
    share = next(shares)
    if share is None:
        return 0.0, lambda g=1.0: trees.map(lambda each: xp_of(each).zeros_like(each), y)
    value, pull = loss_forward(loss, y, target)
    return share * value, lambda g=1.0: pull(share * g)


def _placed(place: str, loss: Any) -> Loss:
    """Let the errors of a loss begin with its place."""

    def explained(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(y: Any, target: Any, *g: Any) -> Any:
            try:
                return function(y, target, *g)
            except (ValueError, TypeError) as error:
                missing = "the target has no such entry: " if target is None else ""
                error.args = (f"{place}: {missing}{error}",)
                raise

        return call

    return Loss(
        explained(loss.apply),
        explained(loss.vjp),
        explained(lambda y, target: loss_forward(loss, y, target)),
        getattr(loss, "name", "loss"),
        each=explained(lambda y, target: each_gradient(loss, y, target)),
        count=getattr(loss, "count", None),
        parts=getattr(loss, "parts", None),
        gather=getattr(loss, "gather", None),
    )


@constructor
def weighted_sum(*terms: tuple[float, Any]) -> Loss:
    """Add losses of one output, each with a weight of 0 or more: what ``a + 0.5 * b`` makes."""

    def added(y: Any, grads: list[Any]) -> Any:
        return reduce(trees.add, grads)

    def curvature(y: Any, target: Any, t: Any) -> Any:
        return reduce(trees.add, [loss.curvature(y, target, w * t) for w, loss in terms])

    known = all(getattr(loss, "curvature", None) is not None for _, loss in terms)
    return _summed(
        "weighted_sum", lambda y, target: [(w, loss, y, target) for w, loss in terms], added, terms=terms,
        curvature=curvature if known else None,
    )  # fmt: skip


@constructor
def losses_by_name(losses: Mapping[str, tuple[float, Any]]) -> Loss:
    """Add the losses of a network's named outputs, each with its weight.

    Parameters
    ----------
    losses : mapping of str to (float, Loss)
        The weight, 0 or more, and the loss of each output that has one; of other outputs the gradient is 0.

    Returns
    -------
    Loss
        Its `y` is the dict of outputs, as `graph` with several `outputs` and `with_outputs` give it. Its
        target is the dict of targets by the same names; an output without one gets the target None, as
        `l1_penalty` and other losses without a target take it.

    Raises
    ------
    TypeError
        No mapping of pairs; when it is used: `y` is no dict.
    ValueError
        No losses, or a weight that is NaN, infinite or negative; when it is used: an output that the
        network lacks, or a target of no such name (the nearest names are given).

    Examples
    --------
    >>> import numpy as np
    >>> from fconv.losses import l1_penalty, mse_loss
    >>> loss = losses_by_name({"box": (0.5, mse_loss()), "hidden": (0.1, l1_penalty())})
    >>> y = {"box": np.array([2.0]), "hidden": np.array([-3.0])}
    >>> float(loss.apply(y, {"box": np.zeros(1)})), loss.vjp(y, {"box": np.zeros(1)})
    (2.3, {'box': array([2.]), 'hidden': array([-0.1])})
    """
    title = "losses_by_name"
    if not isinstance(losses, Mapping):
        raise TypeError(
            f'{title}: expected (weight, loss) by output, as {{"class": (1.0, cross_entropy_loss())}}, '
            f"got {describe(losses)}"
        )
    if not losses:
        raise ValueError(f"{title}: expected the loss of at least one output, got none")
    known = {}
    for name, pair in losses.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{title}: expected (weight, loss) for the output {name!r}, got {describe(pair)}")
        known[name] = (
            _weight(title, f"the weight of {name!r}", pair[0]),
            _placed(f"{title}[{name}]", as_loss(f"{title}[{name}]", pair[1])),
        )

    def parts(y: Any, target: Any) -> list[tuple[float, Any, Any, Any]]:
        if y is None:  # where only the targets are asked for
            y = dict.fromkeys(known)
        if not isinstance(y, Mapping):
            raise TypeError(f"{title}: expected a dict of the outputs {', '.join(known)}, got {describe(y)}")
        truths = {} if target is None else target
        if not isinstance(truths, Mapping):
            raise TypeError(f"{title}: expected a dict of targets by output, got {describe(target)}")
        for name in known:
            if name not in y:
                raise ValueError(
                    f"{title}: the network has no output {name!r}, which has a loss; {nearest(name, y)}"
                )
        for name in truths:
            if name not in known:
                raise ValueError(f"{title}: the target {name!r} has no loss; {nearest(name, known)}")
        return [(weight, loss, y[name], truths.get(name)) for name, (weight, loss) in known.items()]

    def gather(y: Any, grads: list[Any]) -> Any:
        found = dict(zip(known, grads, strict=True))
        return {
            name: found[name] if name in found else trees.map(lambda x: xp_of(x).zeros_like(x), y[name])
            for name in y
        }

    return _summed(title, parts, gather)
