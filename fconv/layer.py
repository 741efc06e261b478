"""Layers: four pure functions in a small immutable value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn

import numpy as np

from fconv import trees
from fconv.arguments.constructors import Constructed
from fconv.arguments.patterns import nearest
from fconv.arguments.signatures import explained, plain
from fconv.arrays import Array, describe, is_array
from fconv.contract import Apply, Forward, Init, Jvp, LayerPullback, Params, Rebuilding, Step, Vjp, Wiring
from fconv.showing import layer_html, options_shown

__all__ = [
    "Apply",
    "Forward",
    "Init",
    "Jvp",
    "Layer",
    "LayerPullback",
    "MissingLayerError",
    "Params",
    "Rebuilding",
    "Step",
    "Vjp",
    "Wiring",
    "as_layer",
    "buffers_of",
    "check_params",
    "has_trained",
    "locate",
    "located",
    "no_gradient",
    "params_at",
    "vjp_of",
]


def _no_wiring(shape: Any) -> None:
    return None


def _no_cost(shape: Any) -> int:
    return 0


@dataclass(frozen=True, repr=False, eq=False)
class Layer(Constructed):
    """A layer: pure functions, and what to call them by.

    Layers are equal when the same constructor made them of equal arguments, and they pickle as that
    call. A layer of a user's own pickles where its functions do: those of a class, or at the top of a
    module.

    Attributes
    ----------
    init : callable
        ``init(key, shape, dtype=float32) -> params``; `shape` is the whole input shape.
    apply : callable
        ``apply(params, x, *, train=False, key=None) -> y``.
    vjp : callable
        ``vjp(params, x, g, *, train=False, key=None) -> (dparams, dx)``. A parameter that is
        not trained has the gradient None.
    out_shape : callable
        ``out_shape(shape) -> shape``.
    forward : callable
        ``forward(params, x, *, train=False, key=None) -> (y, params, pullback)``: the output,
        the parameters with refreshed running statistics, and ``pullback(g, input_grad=True) ->
        (dparams, dx)``, which keeps what the backward pass needs. Derived from `apply` and
        `vjp` where it is not given.
    jvp : callable, optional
        ``jvp(params, x, dparams, dx, *, train=False, key=None) -> (y, dy)``: the output, and its tangent
        along tangents of the parameters and of the input, for `fconv.jvp`. None stands for a tangent of
        0: all of `dparams` or a leaf of it, `dx` or one of several, `dy`. A network needs none.
    name : str
        What error messages call the layer.
    options : mapping
        Its hyperparameters, for printing and for export.
    children : mapping
        The layers that it is made of, by name.
    wiring : callable
        ``wiring(shape) -> Wiring``: the layers that a network is made of and what each takes; None
        for a layer made of no others. Most networks are wired the same for any `shape`, and
        take None for it.
    buffers : frozenset of str
        Names of parameters that are not trained, as PyTorch calls them; an empty name is that of
        parameters that are one array.
    multiply_adds : callable
        ``multiply_adds(shape) -> int``, what one call costs.
    rebuilding : Rebuilding, optional
        Makes the network again from other layers.
    trained : bool
        Otherwise all its parameters are frozen: their gradients are None.
    draws : bool
        Training may use a key. Otherwise none is derived for the layer: it is given None.

    Examples
    --------
    A layer that doubles its input:

    >>> double = Layer(
    ...     init=lambda key, shape, dtype=None: (),
    ...     apply=lambda params, x, *, train=False, key=None: 2 * x,
    ...     vjp=lambda params, x, g, *, train=False, key=None: ((), 2 * g),
    ...     out_shape=lambda shape: shape,
    ...     name="double",
    ... )
    >>> y, params, pullback = double.forward((), 3.0)
    >>> y, pullback(1.0)
    (6.0, ((), 2.0))
    """

    init: Init
    apply: Apply
    vjp: Vjp
    out_shape: Callable[[Any], Any]
    forward: Forward = None  # type: ignore[assignment]  # __post_init__ derives it
    name: str = "layer"
    options: Mapping[str, Any] = field(default_factory=dict)
    children: Mapping[str, Layer] = field(default_factory=dict)
    wiring: Callable[[Any], Wiring | None] = _no_wiring
    buffers: frozenset[str] = frozenset()
    multiply_adds: Callable[[Any], int] = _no_cost
    rebuilding: Rebuilding | None = None
    trained: bool = True
    jvp: Jvp | None = None
    draws: bool = True

    _instead: ClassVar[Mapping[str, str]] = {
        "backward": "write loss, grads, params = fconv.value_and_grad(net, loss)(params, x, target)",
        "cuda": 'write params = fconv.to_device(params, "cuda")',
        "eval": "net.apply(params, x) is inference, and net.apply(params, x, train=True) training",
        "fit": "write fconv.value_and_grad(net, loss) and an optimizer's step, as in the guide",
        "load_state_dict": "write params = fconv.from_state_dict(params, state_dict)",
        "parameters": "parameters are a value of their own: params = net.init(key, shape)",
        "predict": "write net.apply(params, x)",
        "state_dict": "write fconv.to_state_dict(params)",
        "summary": "write fconv.summary(net, shape)",
        "to": "write params = fconv.to_device(params, device)",
        "train": "net.apply(params, x, train=True, key=key) is training",
        "weight": 'parameters are a value of their own: params = net.init(key, shape), params["weight"]',
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))
        object.__setattr__(self, "children", MappingProxyType(dict(self.children)))
        if self.forward is None:
            object.__setattr__(self, "forward", self._derived_forward)
        for what in ("init", "apply", "vjp", "out_shape", "forward", "jvp"):
            if getattr(self, what) is not None:
                object.__setattr__(self, what, explained(f"{self.name}.{what}", getattr(self, what)))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to be called, as torch.nn's modules are: a layer holds no parameters."""
        raise TypeError(f"{self.name}: a layer is not called: write net.apply(params, x)")

    def _derived_forward(
        self, params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        y = self.apply(params, x, train=train, key=key)

        def pullback(g: Any, input_grad: bool = True) -> tuple[Params, Any]:
            dparams, dx = self.vjp(params, x, g, train=train, key=key)
            return dparams, dx if input_grad else None

        return y, params, pullback

    def __getitem__(self, index: int | slice | str) -> Layer:
        """Return a layer inside by position or dotted name, or the network of a slice.

        Examples
        --------
        >>> from fconv.layers import linear, relu
        >>> from fconv.networks import compose
        >>> net = compose(body=compose(linear(8), relu()), head=linear(2))
        >>> net["body.1"], net[1] == net["head"]
        (relu(), True)
        >>> net[:1].out_shape((4, 3))
        (4, 8)
        """
        if isinstance(index, str):
            return self._inside(index, index)
        if isinstance(index, slice):
            cut = self.rebuilding and plain(self.forward) is self.rebuilding.forward and self.rebuilding.cut
            if not cut:
                raise TypeError(f"{self.name}: only chains and graphs of layers have slices")
            return cut(index)
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise TypeError(f"{self.name}: expected a position, a slice or a name, got {index!r}")
        inside = list(self.children.values())
        if not -len(inside) <= index < len(inside):
            raise IndexError(f"{self.name}: expected a position below {len(inside)}, got {index}")
        return inside[index]

    def _inside(self, name: str, whole: str) -> Layer:
        """Follow a dotted name; a name of one layer may hold dots itself."""
        for child in sorted(self.children, key=len, reverse=True):
            if name == child:
                return self.children[child]
            if name.startswith(f"{child}."):
                return self.children[child]._inside(name[len(child) + 1 :], whole)
        before = whole[: len(whole) - len(name)]
        known = [before + child for child in self.children]
        found = nearest(whole, known) if known else f"{self.name} holds no layers by name"
        raise MissingLayerError(f"{self.name}: there is no layer {whole!r}; {found}")

    def _arguments(self) -> dict[str, Any]:
        # An option stands there as it is meant: a kernel_size of 3 is one of (3, 3).
        given = super()._arguments()
        options = {} if self._call.function is type(self) else self.options
        return {name: options.get(name, value) for name, value in given.items()}

    def __repr__(self) -> str:
        if self.children:
            lines = [f"  {name}: {child!r}".replace("\n", "\n  ") for name, child in self.children.items()]
            return "\n".join([f"{self.name}(", *lines, ")"])
        return f"{self.name}({options_shown(self.options, self._call.defaults())})"

    def _repr_html_(self) -> str:
        return layer_html(self)


class MissingLayerError(KeyError, ValueError):
    """A network has no layer of this name."""

    __str__ = ValueError.__str__


def as_layer(where: str, value: Any) -> Layer:
    """Return `value` as a Layer: itself where it is one.

    Anything else must have the functions `init`, `apply`, `vjp` and `out_shape`, and may have `forward`,
    `jvp`, `name`, `options` and `buffers`. Otherwise a TypeError names `where` the value was given.

    Examples
    --------
    >>> as_layer("compose[0]", max)
    Traceback (most recent call last):
    TypeError: compose[0]: expected a layer, got builtin_function_or_method max; was it meant to be called?
    """
    if isinstance(value, Layer):
        return value
    if isinstance(value, type):
        raise TypeError(
            f"{where}: expected a layer, got the class {value.__name__}; write {value.__name__}()"
        )
    missing = [f for f in ("init", "apply", "vjp", "out_shape") if not callable(getattr(value, f, None))]
    if missing:
        hint = f" {value.__name__}; was it meant to be called?" if hasattr(value, "__name__") else ""
        if any(each.__module__.partition(".")[0] == "torch" for each in type(value).__mro__):
            hint = "; fconv.from_torch(module) gives a network and its parameters"
        elif callable(getattr(value, "apply", None)) and callable(getattr(value, "vjp", None)):
            hint = "; the network comes first, then the loss" if len(missing) == 2 else ""
        elif isinstance(value, (list, tuple)) and all(isinstance(each, Layer) for each in value):
            hint = "; write compose(*layers)"
        elif value is not None and trees.children(value) is not None:
            hint = f" of {len(value)} entries, such as parameters; the network stands here"
        lacks = "" if hint or len(missing) == 4 else f", which lacks {', '.join(missing)}"
        raise TypeError(f"{where}: expected a layer, got {describe(value)}{hint}{lacks}")
    options = getattr(value, "options", None)
    return Layer(
        init=value.init,
        apply=value.apply,
        vjp=value.vjp,
        out_shape=value.out_shape,
        forward=getattr(value, "forward", None),  # type: ignore[arg-type]
        name=getattr(value, "name", type(value).__name__),
        options=options if isinstance(options, Mapping) else {},
        buffers=frozenset(getattr(value, "buffers", ())),
        jvp=getattr(value, "jvp", None),
    )


class located:  # noqa: N801 - used like a function
    """Put before the message of a ValueError or TypeError where its layer stands in the network."""

    __slots__ = ("_layer", "_where")

    def __init__(self, where: str, layer: Layer) -> None:
        self._where, self._layer = where, layer

    def __enter__(self) -> None:
        """Do nothing: only errors concern it."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Complete the message."""
        if isinstance(error, (ValueError, TypeError)):
            locate(error, self._where, self._layer)


def locate(error: Exception, where: str, layer: Layer) -> None:
    """Put before the message of an error where its layer stands: `located` for loops that are run often."""
    message = str(error)
    named = message.startswith(layer.name)
    error.args = (f"{where} {message}" if named else f"{where} {layer.name}: {message}",)


def buffers_of(layer: Layer) -> frozenset[str]:
    """Name the parameters of a layer, and of the layers inside it, that are not trained."""
    return layer.buffers.union(*(buffers_of(child) for child in layer.children.values()))


def has_trained(layer: Layer, params: Params) -> bool:
    """Return whether a layer has parameters that are not frozen."""
    if type(params) is dict and type(next(iter(params.values()), None)) is np.ndarray:
        return layer.trained  # without a walk
    return layer.trained and next(trees.leaves_with_path(params), None) is not None


def params_at(params: Params, path: tuple[str, ...] | None) -> Params:
    """Return the part of a network's parameters that a step of its wiring uses.

    Examples
    --------
    >>> params_at(({"weight": 1}, ()), ("0",))
    {'weight': 1}
    """
    for name in path or ():
        params = dict(trees.children(params) or ())[name]
    return () if path is None else params


def vjp_of(forward: Forward) -> Vjp:
    """Return the vjp that a forward pass with its pullback gives."""

    def vjp(
        params: Params, x: Any, g: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Any]:
        return forward(params, x, train=train, key=key)[2](g)

    return vjp


def no_gradient(params: Params) -> Params:
    """Return the gradient of parameters that are not trained: their structure with None for leaves."""
    return trees.map(lambda _: None, params)


def check_params(name: str, params: Params, expected: tuple[str, ...]) -> None:
    """Require the parameters of a layer: a dict with just the expected names, or ``()`` for none.

    Examples
    --------
    >>> check_params("conv2d", {"weight": 1}, ("weight", "bias"))
    Traceback (most recent call last):
    ValueError: conv2d: expected parameters weight, bias, got weight
    """
    if not expected:
        if not (isinstance(params, (tuple, list, dict)) and not params):
            raise TypeError(f"{name}: expected no parameters, (), got {describe(params)}")
        return
    if not isinstance(params, dict):
        raise TypeError(
            f"{name}: expected a dict of parameters {', '.join(expected)}, got {describe(params)}"
            + ("; the parameters come before x" if is_array(params) else "")
        )
    if params.keys() != set(expected):
        raise ValueError(
            f"{name}: expected parameters {', '.join(expected)}, got {', '.join(map(str, params)) or 'none'}"
        )
