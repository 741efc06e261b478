"""Types of what `fconv.functional.core.differentiable` makes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ParamSpec, Protocol, TypeAlias

from fconv.arrays import Array
from fconv.functional.planned import Planned

P = ParamSpec("P")
Wrt: TypeAlias = str | Iterable[str] | None


class Pullback(Protocol):
    """Pullback that `forward` returns: from the gradient of the value to those of the arrays."""

    def __call__(self, g: Any, wrt: Wrt = None, each: tuple[str, ...] = ()) -> Any:
        """Return the gradients, as `Differentiable.vjp` does; with `EACH` or `NORMS` by each sample."""
        ...


class Differentiable(Protocol[P]):
    """A function of arrays together with its gradient."""

    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        """Return the value."""
        ...

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the array arguments, in order."""
        ...

    @property
    def constants(self) -> frozenset[str]:
        """Names of the array arguments that have no gradient."""
        ...

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Array, Pullback]:
        """Return the value and its pullback."""
        ...

    def pullback(self, *args: P.args, **kwargs: P.kwargs) -> Pullback:
        """Return the pullback alone."""
        ...

    def planned(self, *args: P.args, **kwargs: P.kwargs) -> Planned | None:
        """Return what the shapes decide; None where the function has no plans, or none for such arrays."""
        ...

    def vjp(self, g: Any, *args: Any, wrt: Wrt = None, **kwargs: Any) -> Any:
        """Return the gradients of the array arguments."""
        ...

    def jvp(self, tangents: Any, *args: Any, **kwargs: Any) -> Array:
        """Return the derivative of the value along tangents of the array arguments."""
        ...

    def value_and_jvp(self, tangents: Any, *args: Any, **kwargs: Any) -> tuple[Array, Array]:
        """Return the value, and what `jvp` returns."""
        ...
