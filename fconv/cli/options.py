"""Options that several commands have, and how they are read."""

from __future__ import annotations

import ast
from typing import Any

import click


def shape(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Read a shape, such as ``1,3,224,224``."""
    if value is None:
        return None
    parts = value.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"expected sizes such as 1,3,224,224, got {value!r}")
    return tuple(int(part) for part in parts)


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Read numbers with commas between, such as ``0.5,0.5,0.5``."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"expected numbers such as 0.5,0.5,0.5, got {value!r}") from None


def pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read ``OLD=NEW`` pairs."""
    found: dict[str, str] = {}
    for value in values:
        old, equals, new = value.partition("=")
        if not equals:
            raise click.BadParameter(f"expected OLD=NEW, got {value!r}")
        if old in found:
            raise click.BadParameter(f"{old!r} is given twice")
        found[old] = new
    return found


rename_option = click.option(
    "--rename", metavar="OLD=NEW", multiple=True, callback=pairs,
    help="Give names that begin with OLD the beginning NEW, which may be empty. May be repeated; the longest "
    "OLD that fits a name counts, once.",
)  # fmt: skip


def settings(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` pairs; a value is a Python number, tuple or boolean, else text."""
    found: dict[str, Any] = {}
    for name, text in pairs(ctx, parameter, values).items():
        if not name.isidentifier():
            raise click.BadParameter(f"expected NAME=VALUE, got {name}={text}")
        try:
            found[name] = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found[name] = text
    return found
