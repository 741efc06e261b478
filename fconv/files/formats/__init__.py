"""Files of arrays: one module a format, found by the extension of the name or by the contents.

Such a module has `read`, `write` and `describe`. It knows arrays and texts by name; the tree that
they make is built by `fconv.files.structure`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from fconv.arrays import Array, Shape
from fconv.files.formats.claims import Budget, refusing
from fconv.files.formats.contents import format_in, head, stranger
from fconv.files.formats.zips import members

FORMATS = {
    ".safetensors": "safetensors", ".npz": "npz", ".npy": "npy",
    ".pt": "pt", ".pth": "pt", ".th": "pt", ".tar": "pt",
}  # fmt: skip


class Entry(NamedTuple):
    """An array in a file: its name, shape, dtype as it is stored, and size in bytes."""

    name: str
    shape: Shape
    dtype: str
    nbytes: int


class Format(Protocol):
    """The functions of a format's module; each raises ValueError with the name of a damaged file."""

    def read(self, path: str | os.PathLike[str], *, mmap: bool, strict: bool) -> tuple[Any, dict[str, str]]:
        """Return the arrays by name, and the texts.

        `mmap` allows to leave the arrays in the file; `strict` refuses what is not an array or a
        plain value, which PyTorch's files alone can hold.
        """

    def write(self, path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]) -> None:
        """Write the arrays one after another, whole or not at all; ValueError before that."""

    def describe(self, path: str | os.PathLike[str]) -> tuple[list[Entry], dict[str, str]]:
        """Return what `read` would find, without reading the arrays where the format allows that."""


def format_of(who: str, path: str | os.PathLike[str]) -> Format:
    """Find the module of a name's extension, or raise a ValueError that names `who`."""
    return _format(FORMATS[extension(who, path)])


def format_read(who: str, path: str | os.PathLike[str]) -> tuple[str, Format]:
    """Find the module that reads a file, and the format's usual extension.

    A folder with one .safetensors model in it, and the index of a model's shards, are the model.
    A name that says nothing, such as ``model.ckpt``, ``pytorch_model.bin`` or one without an
    extension, is followed by what the file holds.

    Raises
    ------
    ValueError
        It is none of the formats that are read.
    OSError
        The file cannot be read.
    """
    found = os.path.splitext(path)[1].lower()
    if found == ".json" or os.path.isdir(path):
        folder = import_module("fconv.files.formats.folder")
        if folder.is_several(path):
            return ".safetensors", cast(Format, folder)
    if found in FORMATS:
        return found, _format(FORMATS[found])
    if os.path.isdir(path):
        raise ValueError(
            f"{who}: {os.fspath(path)}: expected a file, or a folder with one .safetensors model in it"
        )
    start = head(path)
    kind = format_in(start)
    if kind == "zip":
        kind = "pt" if _holds_pickle(path) else "npz"
    if kind is None:
        what = stranger(start) or f"a file that begins with {start[:16]!r}"
        raise ValueError(
            f"{who}: expected .safetensors, .npz, .npy or a file of PyTorch's, got {os.fspath(path)!r}, "
            f"{what}"
        )
    return f".{kind}", _format(kind)


def _holds_pickle(path: str | os.PathLike[str]) -> bool:
    with refusing(path, "zip archive of arrays"), open(path, "rb") as file:
        budget = Budget(os.fstat(file.fileno()).st_size)
        return any(member.name.endswith(".pkl") for member in members(file, budget))


def _format(name: str) -> Format:
    return cast(Format, import_module(f"fconv.files.formats.{name}"))


def extension(who: str, path: str | os.PathLike[str]) -> str:
    """Return the extension of a name in small letters; a ValueError that names `who` for an unknown one."""
    found = os.path.splitext(path)[1].lower()
    if found not in FORMATS:
        *most, last = FORMATS
        raise ValueError(
            f"{who}: expected a file extension of {', '.join(most)} or {last}, got {os.fspath(path)!r}"
        )
    return found
