"""Functions of PyTorch and JAX, and their gradients, as functions of NumPy arrays."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Protocol

import numpy as np

from fconv import trees
from fconv.arrays import Array, describe, is_array


class _Library(Protocol):
    """Conversions at the border of an array library."""

    def enter(self, x: Array) -> Any:
        """Return the library's array of the same numbers, in memory of its own."""

    def leave(self, y: Any) -> Any:
        """Return the NumPy array of one of the library, and anything else as it is."""

    def gradients(self, function: Callable[..., Any], g: Any, values: Sequence[Any]) -> list[Any]:
        """Return the gradients of the arrays among `values` by the library's own differentiation."""

    def wide(self) -> AbstractContextManager[Any]:
        """Allow float64."""


class _Torch:
    def __init__(self, device: Any = "cpu") -> None:
        self._device = device

    def enter(self, x: Array) -> Any:
        import torch

        like = torch.from_numpy(np.empty(0, x.dtype.newbyteorder("=")))
        strides = [s // x.itemsize for s in x.strides]
        usual = any(s < 0 for s in strides)  # which PyTorch has not
        tensor = like.new_empty(x.shape) if usual else torch.empty_strided(x.shape, strides, dtype=like.dtype)
        tensor.numpy()[...] = x
        return tensor.to(self._device)

    def leave(self, y: Any) -> Any:
        import torch

        if not isinstance(y, torch.Tensor):
            return y
        y = y.detach().cpu().resolve_conj()
        return (y.float() if y.dtype == torch.bfloat16 else y).numpy()

    def gradients(self, function: Callable[..., Any], g: Any, values: Sequence[Any]) -> list[Any]:
        import torch

        arrays = [v for v in values if isinstance(v, torch.Tensor)]
        wanted = [v.requires_grad_() for v in arrays if v.is_floating_point()]
        with torch.enable_grad():
            outputs = trees.leaves(function(*values))
        with (
            torch.no_grad(),
            suppress(Exception),
        ):  # what is kept outside of `ctx` is now that of other numbers
            function(*(v.flatten().flip(0).reshape(v.shape) if torch.is_tensor(v) else v for v in values))
        found = iter(torch.autograd.grad(outputs, wanted, trees.leaves(g), allow_unused=True))
        return [next(found) if v.requires_grad else None for v in arrays]

    def wide(self) -> AbstractContextManager[Any]:
        return nullcontext()


class _Jax:
    def enter(self, x: Array) -> Any:
        import jax.numpy as jnp

        return jnp.array(x, copy=True)

    def leave(self, y: Any) -> Any:
        import jax

        return np.asarray(y) if isinstance(y, jax.Array) else y

    def gradients(self, function: Callable[..., Any], g: Any, values: Sequence[Any]) -> list[Any]:
        import jax
        import jax.numpy as jnp

        arrays = [i for i, v in enumerate(values) if isinstance(v, jax.Array)]
        wanted = [i for i in arrays if jnp.issubdtype(values[i].dtype, jnp.floating)]

        def of_wanted(*given: Any) -> Any:
            placed = dict(zip(wanted, given, strict=True))
            return function(*(placed.get(i, v) for i, v in enumerate(values)))

        found = dict(zip(wanted, jax.vjp(of_wanted, *(values[i] for i in wanted))[1](g), strict=True))
        return [found.get(i) for i in arrays]

    def wide(self) -> AbstractContextManager[Any]:
        import jax

        if hasattr(jax, "enable_x64"):
            return jax.enable_x64(True)
        from jax.experimental import enable_x64

        return enable_x64()


def _library_of(function: Any, args: Sequence[Any]) -> _Library | None:
    """Find the library that a function, or one of its arguments, belongs to; none is imported for it."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None:
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if tensors or (isinstance(function, type) and issubclass(function, torch.autograd.Function)):
            return _Torch(tensors[0].device if tensors else "cpu")
    if jax is not None and (
        isinstance(function, jax.custom_vjp) or any(isinstance(a, jax.Array) for a in args)
    ):
        return _Jax()
    return None


def at_border(
    who: str,
    function: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    args: Any,
    options: Mapping[str, Any] | None,
) -> tuple[Callable[..., Any], Callable[..., Any], Any, dict[str, Any]]:
    """Turn a function and a gradient of another array library into ones of NumPy arrays.

    They stay the same where all is NumPy's or CuPy's. Arguments and errors are those of `check_vjp`; error
    messages begin with `who`.

    Raises
    ------
    TypeError
        `args` is no tuple or list, there is no vjp and no library to derive it, the vjp does not take g and
        the arguments, or a torch.autograd.Function is given options.
    """
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"{who}: expected args to be a list of arguments, got {describe(args)}; write [x]")
    known = dict(options or {})
    library = _library_of(function, args)
    if library is None:
        if not callable(vjp):
            raise TypeError(
                f"{who}: expected a function vjp(g, *args) beside {_name(function)}, got {vjp!r}; only a "
                "torch.autograd.Function and functions of PyTorch tensors or JAX arrays bring their own"
            )
        _check_call(who, function, vjp, args, known)
        return function, vjp, args, known
    if isinstance(function, type) and known:
        raise TypeError(f"{who}: {_name(function)} is a torch.autograd.Function, which takes no options")
    if vjp is not None:
        _check_call(who, function, vjp, args, known)
    applied: Callable[..., Any] = (
        getattr(function, "apply", function) if isinstance(function, type) else function
    )

    def inside(name: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        def enter(value: Any) -> Any:
            return library.enter(value) if is_array(value) else value

        with library.wide():
            entered = [trees.map(enter, value) for value in given]
            results = trees.map(library.leave, call(*entered, **{k: enter(v) for k, v in named.items()}))
            for i, (x, t) in enumerate(zip(given, entered, strict=True)):
                if is_array(x) and not np.array_equal(library.leave(t), x, equal_nan=x.dtype.kind == "f"):
                    raise AssertionError(f"{name}: argument {i} was changed by the call")
        return results

    def value(*values: Any, **named: Any) -> Any:
        return inside(_name(function), applied, *values, **named)

    def own(g: Any, *values: Any, **named: Any) -> Any:
        try:
            return tuple(library.gradients(lambda *each: applied(*each, **named), g, values))
        except (RuntimeError, TypeError) as error:
            raise AssertionError(
                f"{_name(function)}: the gradient: {type(error).__name__}: {error}"
            ) from error

    def gradient(g: Any, *values: Any, **named: Any) -> Any:
        found = inside(f"{_name(function)}_vjp", own if vjp is None else vjp, g, *values, **named)
        return tuple(found) if isinstance(found, list) else found

    value.__name__ = _name(function)
    outside = [library.leave(a) for a in args]
    return value, gradient, outside, {k: library.leave(v) for k, v in known.items()}


def _check_call(who: str, function: Any, vjp: Any, args: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Require that a vjp takes g and the arguments, where it says what it takes."""
    try:
        inspect.signature(vjp).bind(None, *args, **options)
    except TypeError as error:
        call = f"the vjp is called as vjp(g, *args, **options), with {len(args)} args"
        raise TypeError(f"{who}: {_name(function)}: {call}: {error}") from None
    except ValueError:  # of a function in C
        pass


def _name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))
