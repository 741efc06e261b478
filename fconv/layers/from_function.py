"""Derive a layer from a function of `fconv.functional`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

import numpy as np

from fconv import random
from fconv.arrays import Array, Shape, describe, floating_dtype, namespace
from fconv.engine import compiled
from fconv.functional.planned import Planned
from fconv.functional.protocols import Differentiable, Pullback
from fconv.geometry import check_rank
from fconv.initializers import Initializer
from fconv.layer import Layer, LayerPullback, Params, check_params, no_gradient
from fconv.options import whole

Leaves: TypeAlias = Mapping[str, tuple[Shape, Initializer]]
"""Shape and initializer of each parameter, in PyTorch's order."""


_MOST_FITTING, _MOST_CALLS = 256, 32
"""Shapes that a layer remembers, and plans that it keeps: these hold tables of their own."""
_TREES = frozenset((tuple, dict, list))
_facts = attrgetter("__class__", "shape", "dtype")


def remember(fitting: set[Any], shapes: Any) -> None:
    """Add shapes to those that were found to fit; a set of many begins again."""
    if len(fitting) >= _MOST_FITTING:
        fitting.clear()
    fitting.add(shapes)


class _Call:
    """A call of a layer whose arrays were checked and whose shapes decide the rest.

    Parameters
    ----------
    planned : Planned
        Of the layer's function.
    trained : tuple of str
        Names of the parameters.
    dtype : dtype
        Of the arrays.
    of_each : callable
        ``of_each(params, x)``, the layer's pullback without a plan.
    """

    def __init__(
        self, planned: Planned, trained: tuple[str, ...], dtype: Any, of_each: Callable[..., Any]
    ) -> None:
        self.value, self._by_value, self._shape = planned.value, planned.by_value, planned.shape
        self._pull = planned.pulls["x"]
        self._pulls = [(leaf, planned.pulls[leaf]) for leaf in trained]
        self._joint, self._trained = planned.joint, trained
        self._planned, self._like, self._dtype, self._of_each = planned, np.empty(0, dtype), dtype, of_each

    def forward(self, params: Params, arrays: tuple[Array, ...]) -> tuple[Array, Params, LayerPullback]:
        """Return what the layer's `forward` does."""
        y = self.value(*arrays)
        held = (y,) if self._by_value else arrays

        def pullback(
            g: Array,
            input_grad: bool = True,
            *,
            wrt: Collection[str] | None = None,
            each: tuple[str, ...] = (),
        ) -> tuple[Params, Any]:
            if type(g) is not np.ndarray or g.shape != self._shape or g.dtype != self._dtype:
                g = self._planned.checked(g, self._like)
            if each and self._pulls:
                return self._of_each(params, held[0])(g, input_grad, wrt=wrt, each=each)
            found = self._joint(g, input_grad, *held) if self._joint is not None and wrt is None else None
            if found is not None:
                return dict(zip(self._trained, found[1:], strict=False)), found[0]
            dx = self._pull(g, *held) if input_grad else None
            if not self._pulls:
                return (), dx
            return {
                leaf: pull(g, *held) if wrt is None or leaf in wrt else None for leaf, pull in self._pulls
            }, dx

        return y, params, pullback


def check_shape(name: str, shape: Any) -> Shape:
    """Return an input shape as a tuple of ints, or raise an error that names the layer."""
    if not isinstance(shape, (tuple, list)):
        raise TypeError(
            f"{name}: expected the input shape, batch axis included, got {describe(shape)}"
            + ("; write x.shape" if hasattr(shape, "shape") else "")
        )
    return tuple(whole(name, "a size in the input shape", size, 0) for size in shape)


def frozen(value: Any) -> Any:
    """Return lists and arrays of sizes as tuples, so that an option is the layer's own for good."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def draw(name: str, leaves: Leaves, key: Array, dtype: Any) -> Params:
    """Draw each parameter from a key of its own."""
    random.check_key(f"{name}.init", key)
    kind = floating_dtype(f"{name}.init", dtype)
    keys = random.split(key, len(leaves))
    return {leaf: init(k, shape, kind) for k, (leaf, (shape, init)) in zip(keys, leaves.items(), strict=True)}


def from_function(
    function: Differentiable[...],
    *,
    name: str | None = None,
    call: Mapping[str, Any] | Callable[[Shape], Mapping[str, Any]] | None = None,
    options: Mapping[str, Any] | None = None,
    out_shape: Callable[[Shape], Shape] = lambda shape: shape,
    trained: tuple[str, ...] = (),
    leaves: Callable[[Shape], Leaves] | None = None,
    random_key: bool = False,
    multiply_adds: Callable[[Shape], int] = lambda shape: 0,
    ndim: int | None = None,
    doubt: Callable[[Shape], str | None] = lambda shape: None,
) -> Layer:
    """Make a layer whose arithmetic is one call, ``function(x, **parameters, **call)``.

    Its `apply`, `vjp` and `forward` are the function's value, vjp and forward.

    Parameters
    ----------
    call : mapping or callable, optional
        Options of the call, or a function that gives them from the input shape.
    options : mapping, optional
        Hyperparameters of the layer, for printing and export; `call` by default.
    out_shape : callable
        Output shape from input shape; raises a ValueError where the input does not fit.
    trained : tuple of str
        Names of the parameters, which are the function's array arguments after x.
    leaves : callable, optional
        Gives the parameters' shapes and initializers from the input shape.
    random_key : bool
        The function takes ``training`` and ``key``.
    ndim : int, optional
        Number of spatial axes. Inputs without a batch, which the function may take, are refused: the
        channels of a network follow from its input, and without a batch they would be another axis.
    doubt : callable
        Says what is doubtful about an input shape, which `init` then warns of.
    """
    title = name or function.__name__

    count, pick = len(trained), itemgetter(*trained) if trained else None
    calls: dict[Any, _Call | None] = {}  # by the facts of arrays that were checked

    def known(params: Params, x: Array) -> tuple[_Call | None, tuple[Array, ...], Any]:
        """Return the plan of a call, its arrays and their facts; None for facts that cannot be had."""
        try:
            if len(params) != count or type(params) not in _TREES:
                return None, (), None
            arrays = (x,) if pick is None else (x, pick(params)) if count == 1 else (x, *pick(params))
            facts = (compiled.wished(), *map(_facts, arrays))
            return calls.get(facts), arrays, facts
        except (AttributeError, KeyError, TypeError):
            return None, (), None

    def arguments(
        params: Params, x: Array, train: bool, key: Array | None, facts: Any = None
    ) -> dict[str, Any]:
        checked = facts is not None and facts in calls
        if not checked:
            check_params(title, params, trained)
            namespace(title, x=x)
            ranked(x.shape)
        named = {leaf: params[leaf] for leaf in trained}
        named.update(call(x.shape) if callable(call) else call or {})
        if random_key:
            named["training"], named["key"] = train, key if train else None
        if not checked:
            check_fit(params, x, named)
            if facts is not None:
                found = None if random_key else function.planned(x, **named)
                if len(calls) >= _MOST_CALLS:
                    calls.clear()
                calls[facts] = None if found is None else _Call(found, trained, x.dtype, of_each)
        return named

    def of_each(params: Params, x: Array) -> LayerPullback:
        """Return the pullback that has gradients by each sample."""
        return pulling(params, function.pullback(x, **arguments(params, x, False, None)))

    def pulling(params: Params, pull: Pullback) -> LayerPullback:
        """Return the layer's pullback from that of the function."""

        def pullback(
            g: Array,
            input_grad: bool = True,
            *,
            wrt: Collection[str] | None = None,
            each: tuple[str, ...] = (),
        ) -> tuple[Params, Any]:
            if input_grad and wrt is None:
                return gradients(pull(g, each=each))
            wanted = trained if wrt is None else tuple(leaf for leaf in trained if leaf in wrt)
            if not wanted and not input_grad:
                return no_gradient(params), None
            return gradients(pull(g, (*function.arrays[:1], *wanted) if input_grad else wanted, each))

        return pullback

    def check_fit(params: Params, x: Array, named: Mapping[str, Any]) -> None:
        """Require parameters of the shapes that `init` gives for such an input."""
        for leaf, size in expected(tuple(x.shape)).items():
            if params[leaf].shape != size:
                function.forward(x, **named)  # which may have more to say about what does not fit
                raise ValueError(
                    f"{title}: expected a {leaf} of shape {size} for an input of shape {tuple(x.shape)}, "
                    f"got {params[leaf].shape}; are these the parameters of another network?"
                )

    @lru_cache(maxsize=64)
    def expected(shape: Shape) -> dict[str, Shape]:
        """Return the shapes of the parameters; nothing for an input that does not fit."""
        try:
            return {leaf: size for leaf, (size, _) in leaves(shape).items()} if leaves else {}
        except (ValueError, TypeError):
            return {}

    def ranked(shape: Shape) -> Shape:
        if ndim is not None:
            check_rank(title, "input", shape, ndim)
        return shape

    def gradients(grads: Any) -> tuple[Params, Any]:
        if not trained:
            return (), grads[0] if isinstance(grads, tuple) else grads
        return dict(zip(trained, grads[1:], strict=False)), grads[0]

    def init(key: Array, shape: Shape, dtype: Any = np.float32) -> Params:
        size = ranked(check_shape(title, shape))
        out_shape(size)
        if (text := doubt(size)) is not None:
            warnings.warn(f"{title}: {text}", stacklevel=3)
        return draw(title, leaves(size), key, dtype) if leaves else ()

    def apply(params: Params, x: Array, *, train: bool = False, key: Array | None = None) -> Array:
        plan, arrays, facts = known(params, x)
        if plan is not None:
            return plan.value(*arrays)
        return function(x, **arguments(params, x, train, key, facts))

    def vjp(
        params: Params, x: Array, g: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Array]:
        named = arguments(params, x, train, key, known(params, x)[2])
        return gradients(function.vjp(g, x, **named))

    def forward(
        params: Params, x: Array, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Params, LayerPullback]:
        plan, arrays, facts = known(params, x)
        if plan is not None:
            return plan.forward(params, arrays)
        y, pull = function.forward(x, **arguments(params, x, train, key, facts))

        return y, params, pulling(params, pull)

    def jvp(
        params: Params, x: Array, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Array, Array]:
        moved = dparams or {}
        tangents = (dx, *(moved.get(leaf) for leaf in trained))
        named = arguments(params, x, train, key, known(params, x)[2])
        return function.value_and_jvp(tangents, x, **named)

    return Layer(
        init=init,
        apply=apply,
        vjp=vjp,
        jvp=jvp,
        out_shape=lambda shape: out_shape(ranked(check_shape(title, shape))),
        forward=forward,
        name=title,
        options=(call if isinstance(call, Mapping) else {}) if options is None else options,
        multiply_adds=multiply_adds,
        draws=random_key,
    )
