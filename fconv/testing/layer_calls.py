"""A layer in one mode as a function of named arrays, and what it promises beside its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from fconv import random, trees
from fconv.arrays import Array, describe, is_array, xp_of
from fconv.layer import Layer, Params, buffers_of
from fconv.testing.differences import Outputs, Point, Subject, compare, directions_like, elsewhere, refilled
from fconv.testing.gradients import check_variants
from fconv.testing.purity import attempt, call_purely, check_close, check_like, copied, same_bits


class LayerCall:
    """A layer with parameters, an input, a mode and a key.

    Attributes
    ----------
    params, x : pytree
        Where it is called, in float64.
    point : dict
        Their floating-point arrays, ``params.weight`` or ``x`` by name.
    y : pytree
        The output there, once `check_apply` has made it.
    """

    def __init__(self, layer: Layer, title: str, params: Params, x: Any, train: bool, key: Array) -> None:
        self.layer, self.title, self.params, self.x, self.train, self.key = (
            layer,
            title,
            params,
            x,
            train,
            key,
        )
        self.y: Any = None
        named = [(_name("params", path), p) for path, p in trees.leaves_with_path(params)]
        named += [(_name("x", path), a) for path, a in trees.leaves_with_path(x)]
        self.point = {name: leaf for name, leaf in named if leaf.dtype.kind == "f"}
        self.untrained = frozenset(_name("params", path) for path in _untrained(layer, params, ()))

    def placed(self, point: Point) -> tuple[Params, Any]:
        """Return the parameters and the input with the arrays of a point."""
        return (
            trees.map_with_path(lambda path, p: point.get(_name("params", path), p), self.params),
            trees.map_with_path(lambda path, a: point.get(_name("x", path), a), self.x),
        )

    def apply(self, point: Point) -> Any:
        """Return the output."""
        params, x = self.placed(point)
        return self.layer.apply(params, x, train=self.train, key=self.key)

    def vjp(self, point: Point, g: Outputs) -> Any:
        """Return the gradients of the parameters and of the input."""
        params, x = self.placed(point)
        weights = refilled(self.y, g)
        return pair_of(
            f"{self.title}.vjp", self.layer.vjp(params, x, weights, train=self.train, key=self.key)
        )

    def forward(self, point: Point) -> tuple[Any, Params, Any]:
        """Return the output, the refreshed parameters, and the pullback of tuples of arrays."""
        params, x = self.placed(point)
        found = self.layer.forward(params, x, train=self.train, key=self.key)
        if not isinstance(found, tuple) or len(found) != 3 or not callable(found[2]):
            raise AssertionError(
                f"{self.title}.forward: expected (y, params, pullback), got {_outline(found)}"
            )
        y, refreshed, pullback = found

        def pull(g: Outputs, *input_grad: bool) -> Any:
            return pair_of(f"{self.title}.forward: its pullback", pullback(refilled(self.y, g), *input_grad))

        return y, refreshed, pull

    def named(self, point: Point, pair: tuple[Params, Any]) -> dict[str, Array | None]:
        """List gradients by the names of their arrays, once they are known to fit."""
        params, x = self.placed(point)
        dparams, dx = pair
        if not fits(params, dparams):
            raise AssertionError(misfit(self.title, params, dparams))
        found = {}
        for path, p, grad in trees.aligned(params, dparams):
            what, name = ".".join(path) or "params", _name("params", path)
            if name in self.untrained and grad is not None:
                raise AssertionError(
                    f"{self.title}: {what} is one of buffers, which are not trained, and has a gradient; "
                    f"give None"
                )
            if grad is None and p.dtype.kind == "f" and name not in self.untrained:
                raise AssertionError(
                    f"{self.title}: {what} has no gradient; if it is not trained, name it in buffers"
                )
            if grad is not None:
                check_like(self.title, what, grad, p)
            if p.dtype.kind == "f":
                found[name] = grad
        several = not is_array(x)
        if not fits(x, dx) and dx is not None:
            raise AssertionError(f"{self.title}: the gradient of the input differs from it in structure")
        for path, a, grad in trees.aligned(x, trees.map(lambda _: None, x) if dx is None else dx):
            if a.dtype.kind == "f":
                if grad is not None or not several:
                    check_like(self.title, _name("x", path), grad, a)
                found[_name("x", path)] = grad
        return found

    @cached_property
    def by_vjp(self) -> Subject:
        """The layer as `apply` and `vjp` compute it."""
        return Subject(
            self.title,
            lambda point: tuple(trees.leaves(self.apply(point))),
            lambda point, g: self.named(point, self.vjp(point, g)),
            self.untrained,
            keeps_dtype=True,
        )

    @cached_property
    def by_forward(self) -> Subject:
        """The layer as `forward` computes it."""
        return Subject(
            f"{self.title}.forward",
            lambda point: tuple(trees.leaves(self.forward(point)[0])),
            lambda point, g: self.named(point, self.forward(point)[2](g)),
            self.untrained,
            keeps_dtype=True,
        )

    def check_apply(self) -> None:
        """Check the output, its shape, and that `apply` and `vjp` are pure."""
        layer, title, params, x = self.layer, self.title, self.params, self.x
        self.y = call_purely(title, layer.apply, params, x, train=self.train, key=self.key)
        if not trees.leaves(self.y) or not all(map(is_array, trees.leaves(self.y))):
            raise AssertionError(f"{title}: expected an array for an output, got {describe(self.y)}")
        self.check_shape(x, self.y)
        self._check_key()
        g = refilled(self.y, directions_like(self.key, tuple(trees.leaves(self.y))))
        call_purely(f"{title}.vjp", layer.vjp, params, x, g, train=self.train, key=self.key)

    def check_shape(self, x: Any, y: Any) -> None:
        """Check `out_shape`."""
        told = attempt(f"{self.title}: out_shape", self.layer.out_shape, shape_of(x))
        if _tuples(told) != _tuples(shape_of(y)):
            raise AssertionError(f"{self.title}: out_shape says {told}, apply gives {shape_of(y)}")

    def _check_key(self) -> None:
        """Check calls without a key, which may raise an error in training alone."""
        if not self.train:
            plain = attempt(f"{self.title}: apply without key", self.layer.apply, self.params, self.x)
            if not same_bits(plain, self.y):
                raise AssertionError(
                    f"{self.title}: apply gives something else where train and key are left out"
                )
            return
        try:
            plain = self.layer.apply(self.params, self.x, train=True)
        except (ValueError, TypeError):
            return
        if not same_bits(plain, self.y):
            raise AssertionError(
                f"{self.title}: apply gives something else without a key; a layer that needs a key raises a "
                f"ValueError where it gets none"
            )


def check_forward(call: LayerCall, here: Point, dtypes: Sequence[Any], key: Array) -> None:
    """Check a layer's own `forward` against `apply` and `vjp`."""
    if getattr(call.layer.forward, "__func__", None) is Layer._derived_forward:
        return
    title, keys = call.title, random.split(key, 4)
    g = directions_like(keys[0], call.by_vjp.value(here))
    other_g, there = directions_like(keys[1], g), elsewhere(here, keys[2])
    given = call.placed(here)
    before = copied((given, g))
    y, refreshed, pull = call.forward(here)
    _check_refreshed(call, given[0], refreshed)
    for part, expected in zip(trees.leaves(y), call.by_vjp.value(here), strict=True):
        check_close(title, "the outputs of forward and apply", part, expected, 1e-11, 1e-30, here)
    # Another call in between: a pullback is that of its own.
    attempt(f"{title}.forward", call.forward, there)
    expected, other = call.vjp(here, g), call.vjp(here, other_g)
    first = pull(g)
    kept = copied(first)
    _check_pulled(call, here, g, first, expected, "")
    _check_pulled(call, here, other_g, attempt(f"{title}: the pullback, called again", pull, other_g), other,
                  ", called again with another g,")  # fmt: skip
    if not same_bits(first, kept):
        raise AssertionError(f"{title}: what forward's pullback gave was changed by its next call")
    _check_pulled(call, here, g, pull(g), expected, ", called again,")
    _check_params_alone(call, here, g, pull, expected)
    again, refreshed_again, pull = call.forward(here)
    if not same_bits((y, refreshed), (again, refreshed_again)):
        raise AssertionError(f"{title}.forward: the same arguments gave different bits the second time")
    _check_params_alone(call, here, g, pull, expected)
    _check_pulled(call, here, g, pull(g), expected, ", called after a call with input_grad=False,")
    if not same_bits((given, g), before):
        raise AssertionError(f"{title}: forward or its pullback changed its arguments")
    check_variants(call.by_forward, here, g, dtypes, key=keys[3])
    for dtype in dtypes:
        narrow = {n: a.astype(dtype) for n, a in here.items()}
        _check_refreshed(call, call.placed(narrow)[0], call.forward(narrow)[1])


def _check_refreshed(call: LayerCall, params: Params, refreshed: Params) -> None:
    """Check the parameters that `forward` returns: in training, statistics alone may differ."""
    if not trees.same_structure(refreshed, params):
        raise AssertionError(f"{call.title}.forward: the parameters come back in another structure")
    if not call.train and not same_bits(refreshed, params):
        raise AssertionError(f"{call.title}.forward: the parameters change outside training")
    for path, p, new in trees.aligned(params, refreshed):
        what = ".".join(path) or "params"
        if not is_array(new) or new.shape != p.shape or new.dtype != p.dtype:
            raise AssertionError(
                f"{call.title}.forward: {what} comes back as {describe(new)}; expected {describe(p)}"
            )
        if _name("params", path) not in call.untrained and not same_bits(new, p):
            raise AssertionError(
                f"{call.title}.forward: {what} is changed, and it is trained; only statistics named in "
                f"buffers are refreshed"
            )


def _check_pulled(call: LayerCall, here: Point, g: Outputs, found: Any, expected: Any, how: str) -> None:
    """Compare what a pullback gave with what `vjp` gives."""
    ours, theirs = call.named(here, found), call.named(here, expected)
    values = {**here, **{f"g[{i}]": x for i, x in enumerate(g)}}
    for name, mine in ours.items():
        other = theirs[name]
        if (mine is None) != (other is None):
            raise AssertionError(
                f"{call.title}: forward's pullback{how} and vjp differ in which gradients are None"
            )
        if mine is not None:
            kind = "input gradients" if name.partition(".")[0] == "x" else "gradients"
            what = f"the {kind} of forward's pullback{how} and vjp: {name}"
            check_close(call.title, what, mine, other, 1e-9, 1.0, values)


def _check_params_alone(call: LayerCall, here: Point, g: Outputs, pull: Any, expected: Any) -> None:
    """Check a pullback that is asked for the gradient of the parameters alone."""
    dparams, dx = attempt(f"{call.title}: forward's pullback with input_grad=False", pull, g, False)
    if dx is not None:
        raise AssertionError(f"{call.title}: forward's pullback gave an input gradient with input_grad=False")
    _check_pulled(call, here, g, (dparams, expected[1]), expected, " with input_grad=False")


def check_batches(call: LayerCall, key: Array, rtol: float) -> None:
    """Check other batches, where the layer takes them: the shapes, and the gradient of a larger one."""
    sizes = [a.shape[0] for a in trees.leaves(call.x) if a.ndim]
    if not sizes or sizes[0] == 0:
        return

    def cut(a: Array, larger: bool) -> Array:
        if not a.ndim or a.shape[0] != sizes[0]:
            return a
        return xp_of(a).concatenate([a, a[:1]]) if larger else a[:1].copy()

    for larger in (False, True):
        x = trees.map(lambda a, larger=larger: cut(a, larger), call.x)
        other = LayerCall(call.layer, f"{call.title}, another batch", call.params, x, call.train, call.key)
        try:
            other.y = other.apply(other.point)
        except Exception:  # axis 0 need not be a batch, nor one sample enough
            continue
        other.check_shape(x, other.y)
        if larger:
            compare(other.by_vjp, other.point, key=key, directions=1, rtol=rtol, required=False)


def pair_of(what: str, found: Any) -> Any:
    """Require the pair of gradients that a vjp or a pullback gives."""
    if not isinstance(found, tuple) or len(found) != 2:
        raise AssertionError(f"{what}: expected (dparams, dx), got {_outline(found)}")
    return found


def misfit(title: str, params: Params, dparams: Any) -> str:
    """Return the message about a gradient that has not the structure of the parameters."""
    message = f"{title}: the gradient of the parameters differs from them in structure"
    if not isinstance(params, dict) or not isinstance(dparams, dict):
        return message
    expected, got = (", ".join(map(str, part)) or "no entries" for part in (params, dparams))
    return f"{message}: expected {expected}, got {got}"


def fits(params: Params, dparams: Params) -> bool:
    """Return whether `dparams` has an array or None for each leaf of `params`."""
    try:
        return all(g is None or is_array(g) for _, _, g in trees.aligned(params, dparams))
    except ValueError:
        return False


def shape_of(x: Any) -> Any:
    """Return the shape of an input: that of an array, or a tree of shapes."""
    return trees.map(lambda a: tuple(a.shape), x)


def _tuples(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {name: _tuples(each) for name, each in shape.items()}
    return tuple(map(_tuples, shape)) if isinstance(shape, (tuple, list)) else shape


def _name(root: str, path: trees.Path) -> str:
    return ".".join((root, *path))


def _outline(found: Any) -> str:
    return f"a tuple of {len(found)}" if isinstance(found, tuple) else describe(found)


def _untrained(layer: Layer, params: Params, path: trees.Path) -> list[trees.Path]:
    """List the paths of the parameters that a layer, or one inside it, names in its buffers."""
    below = dict(trees.children(params) or ())
    if layer.children and layer.children.keys() <= below.keys():
        return [
            found for name, child in layer.children.items()
            for found in _untrained(child, below[name], (*path, name))
        ]  # fmt: skip
    names = buffers_of(layer)
    found = [place for place, _ in trees.leaves_with_path(params)]
    return [(*path, *place) for place in found if (place[-1] if place else "") in names]
