"""Kinds of options that several commands have."""

from __future__ import annotations

import ast
from typing import Any

import click


class ShapeType(click.ParamType):
    """A shape, such as ``1,3,224,224``."""

    name = "N,C,H,W"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read the numbers."""
        if isinstance(value, tuple):
            return value
        parts = value.replace("x", ",").split(",")
        if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"expected sizes such as 1,3,224,224, got {value!r}", param, ctx)
        return tuple(int(part) for part in parts)


class NumbersType(click.ParamType):
    """Numbers with commas between, such as ``0.5,0.5,0.5``."""

    name = "X,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Read the numbers."""
        try:
            return value if isinstance(value, tuple) else tuple(float(part) for part in value.split(","))
        except ValueError:
            return self.fail(f"expected numbers such as 0.5,0.5,0.5, got {value!r}", param, ctx)


def settings(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` pairs; a value is a Python number, tuple or truth value, else text."""
    found: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"expected NAME=VALUE, got {value!r}")
        try:
            found[name] = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found[name] = text
    return found
