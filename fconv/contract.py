"""The contract of a layer as types: its functions, and how a network is wired of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from fconv.arrays import Array, Shape

if TYPE_CHECKING:
    from fconv.layer import Layer

Params: TypeAlias = Any
"""A nested dict, tuple or list of arrays; ``()`` where a layer has no parameters."""


class Init(Protocol):
    """``init(key, shape, dtype=float32) -> params``."""

    def __call__(self, key: Array, shape: Shape, dtype: Any = ...) -> Params:
        """Draw parameters for inputs of `shape`, batch axis included."""
        ...


class Apply(Protocol):
    """``apply(params, x, *, train=False, key=None) -> y``."""

    def __call__(self, params: Params, x: Any, *, train: bool = False, key: Array | None = None) -> Any:
        """Return the output."""
        ...


class Vjp(Protocol):
    """``vjp(params, x, g, *, train=False, key=None) -> (dparams, dx)``."""

    def __call__(
        self, params: Params, x: Any, g: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Params, Any]:
        """Take the gradient `g` of the output to those of the parameters and of the input."""
        ...


class LayerPullback(Protocol):
    """``pullback(g, input_grad=True) -> (dparams, dx)``.

    One that can compute the gradients of some parameters alone takes the keyword-only option ``wrt``
    too, a set of their names, or None for all.
    """

    def __call__(self, g: Any, input_grad: bool = True) -> tuple[Params, Any]:
        """Return the gradients; dx is None where `input_grad` is False."""
        ...


class Forward(Protocol):
    """``forward(params, x, *, train=False, key=None) -> (y, params, pullback)``."""

    def __call__(
        self, params: Params, x: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Params, LayerPullback]:
        """Return the output, the refreshed parameters, and the pullback of this very call."""
        ...


class Jvp(Protocol):
    """``jvp(params, x, dparams, dx, *, train=False, key=None) -> (y, dy)``."""

    def __call__(
        self, params: Params, x: Any, dparams: Any, dx: Any, *, train: bool = False, key: Array | None = None
    ) -> tuple[Any, Any]:
        """Return the output and its tangent; None stands for a tangent of 0."""
        ...


class Step(NamedTuple):
    """One use of a layer within a network.

    Its output is called `name`; its input is the value that the one name in `sources` stands
    for, or the tuple of several. `params` is the path to its parameters within the network's,
    None where it has none of its own there.
    """

    name: str
    layer: Layer
    sources: tuple[str, ...]
    params: tuple[str, ...] | None


class Wiring(NamedTuple):
    """Connections between the layers of a network, in the order of its forward pass.

    With `lone_input` the network takes the one value that `inputs` names, or the tuple of several;
    otherwise a dict by those names. The same holds for what it gives, but for the tuple.
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lone_input: bool = True
    lone_output: bool = True

    def entering(self, value: Any) -> dict[str, Any]:
        """Return what enters the network, or its shape, by the names of the inputs."""
        if not self.lone_input:
            return dict(value)
        several = len(self.inputs) > 1
        return dict(zip(self.inputs, value if several else (value,), strict=True))


class Rebuilding(NamedTuple):
    """Recipe that rebuilds a network from other layers.

    ``of(f)`` is the network in which ``f(path, layer)`` stands for each layer, with the path to its
    parameters within the network's. ``cut(slice)`` is the network of some of its layers, None where
    they do not stand one after another. Both hold for a network whose `forward` is this one.
    """

    forward: Forward
    of: Callable[[Callable[[tuple[str, ...], Layer], Layer]], Layer]
    cut: Callable[[slice], Layer] | None = None
