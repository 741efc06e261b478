"""Files of arrays: one room a format, found by the ending of the name.

A room has `read`, `write` and `describe`, and knows arrays by name and texts by name; what
tree they make is the business of `fconv.structure`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from fconv.arrays import Array, Shape

ROOMS = {
    ".safetensors": "safetensors", ".npz": "npz", ".pt": "pt", ".pth": "pt", ".th": "pt", ".tar": "pt",
}  # fmt: skip


class Entry(NamedTuple):
    """An array in a file: its name, shape, dtype as it is stored, and size in bytes."""

    name: str
    shape: Shape
    dtype: str
    nbytes: int


class Format(Protocol):
    """What a room offers. Each raises ValueError, naming the file, where the file is not whole."""

    def read(self, path: str | os.PathLike[str], *, mmap: bool) -> tuple[Any, dict[str, str]]:
        """Give the arrays by name, and the texts; `mmap` allows to leave the arrays in the file."""

    def write(self, path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]) -> None:
        """Write the arrays one after another, whole or not at all; ValueError before that."""

    def describe(self, path: str | os.PathLike[str]) -> tuple[list[Entry], dict[str, str]]:
        """Give what `read` would find, without reading the arrays where the format allows that."""


def format_of(who: str, path: str | os.PathLike[str]) -> Format:
    """Find the room for a file's ending, or raise a ValueError that names `who`."""
    return cast(Format, import_module(f"fconv.formats.{ROOMS[ending(who, path)]}"))


def ending(who: str, path: str | os.PathLike[str]) -> str:
    """Give the ending of a name, in small letters; a ValueError that names `who` for an unknown one."""
    found = os.path.splitext(path)[1].lower()
    if found not in ROOMS:
        *most, last = ROOMS
        raise ValueError(
            f"{who}: expected a name ending in {', '.join(most)} or {last}, got {os.fspath(path)!r}"
        )
    return found
