"""The table of operators: how each is read as layers, and how each layer is written.

A family's file holds both directions side by side and enters them here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fconv.onnx.nodes import Node
from fconv.onnx.sites import Site
from fconv.onnx.values import Value


class Reading(NamedTuple):
    """Entry of the table for reading: what an operator becomes, and what is refused."""

    read: Callable[[Node], Value | tuple[Value | None, ...]]
    becomes: str
    refused: str


class Writing(NamedTuple):
    """Entry of the table for writing: the operators a layer becomes, and what is refused."""

    write: Callable[[Site], str]
    operators: str
    refused: str


READINGS: dict[str, Reading] = {}
WRITINGS: dict[str, Writing] = {}


def reads(*operators: str, becomes: str, refused: str = "") -> Callable[[Any], Any]:
    """Enter a function that reads some operators."""

    def enter(function: Any) -> Any:
        READINGS.update(dict.fromkeys(operators, Reading(function, becomes, refused)))
        return function

    return enter


def writes(*names: str, operators: str, refused: str = "") -> Callable[[Any], Any]:
    """Enter a function that writes some layers."""

    def enter(function: Any) -> Any:
        WRITINGS.update(dict.fromkeys(names, Writing(function, operators, refused)))
        return function

    return enter


def read_table() -> str:
    """Return the table of operators that are read, in Markdown."""
    rows = [f"| {name} | {entry.becomes} | {entry.refused} |" for name, entry in sorted(READINGS.items())]
    return "\n".join(["| operator | becomes | refused |", "|---|---|---|", *rows])


def write_table() -> str:
    """Return the table of layers that are written, in Markdown."""
    rows = [f"| {name} | {entry.operators} | {entry.refused} |" for name, entry in sorted(WRITINGS.items())]
    return "\n".join(["| layer | written as | refused |", "|---|---|---|", *rows])
