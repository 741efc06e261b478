"""Networks named on the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any, NamedTuple, TypeVar

import click

from fconv.cli.options import settings
from fconv.layer import Layer, as_layer

F = TypeVar("F", bound=Callable[..., Any])


class Named(NamedTuple):
    """A network: its layer, its parameters where a file holds them, its usual input shape."""

    net: Layer
    params: Any = None
    shape: tuple[int, ...] | None = None


def model_options(command: F) -> F:
    """Add the option that sets options of a network."""
    return click.option(
        "--option", metavar="NAME=VALUE", multiple=True, callback=settings,
        help="An option of the network, such as num_classes=10. May be repeated.",
    )(command)  # fmt: skip


def complete_model(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of `fconv.models`."""
    from fconv.models import MODELS

    return [name for name in MODELS if name.startswith(incomplete)]


def network(name: str, options: dict[str, Any]) -> Named:
    """Find a network: in `fconv.models`, in an ONNX file, or as ``package.module:function``.

    Raises
    ------
    ValueError, TypeError
        There is none of that name, or it does not take the options.
    ImportError
        The module, or the package onnx, is not there.
    """
    from fconv.models import MODELS

    if name in MODELS:
        model = MODELS[name]
        return Named(_built(name, model.build, options), shape=model.input_shape)
    if name.lower().endswith(".onnx"):
        if options:
            raise ValueError(f"{name}: a network in a file takes no options")
        from fconv.onnx import from_onnx

        return Named(*from_onnx(name))
    if ":" in name:
        return Named(as_layer(name, _built(name, _imported(name), options)))
    raise ValueError(
        f"expected a name that `fconv models` lists, an .onnx file or package.module:function, got {name!r}"
        + _close(name, list(MODELS))
    )


def _built(name: str, build: Callable[..., Any], options: dict[str, Any]) -> Any:
    try:
        signature(build).bind(**options)
    except TypeError as error:
        takes = ", ".join(str(parameter) for parameter in signature(build).parameters.values())
        raise ValueError(f"{name}: {error}; its options are {takes or 'none'}") from None
    return build(**options)


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does; a console script has its own folder there
    found: Any = import_module(module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{name}: {module} has no {attribute}")
        found = getattr(found, part)
    if isinstance(found, Layer):
        return lambda: found
    if not callable(found):
        raise ValueError(f"{name}: expected a function that gives a network, got {type(found).__name__}")
    return found


def _close(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""
