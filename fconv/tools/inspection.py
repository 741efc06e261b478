"""The contents of files of weights, ONNX's among them."""

from __future__ import annotations

import os
from typing import Any

from fconv.arrays import is_array
from fconv.files.checkpoint import FileDescription, describe_file, load
from fconv.files.structure import leaves_of

__all__ = ["describe", "other_values", "user_metadata"]

_STRUCTURE = "fconv.structure"


def describe(path: str | os.PathLike[str]) -> FileDescription:
    """List the contents of a file that `fconv.files.checkpoint.describe_file` reads, or of an ``.onnx`` file.

    Returns
    -------
    FileDescription
        For ``.onnx`` the initializers, and as texts its inputs, outputs, operators and origin.

    Raises
    ------
    ValueError, OSError
        As `fconv.load` raises them.
    ImportError
        An ONNX file, and the package onnx is not installed.
    """
    if os.path.splitext(path)[1].lower() == ".onnx":
        from fconv.onnx.contents import describe as describe_onnx

        return FileDescription(".onnx", *describe_onnx(path))
    return describe_file(path)


def other_values(path: str | os.PathLike[str], found: FileDescription) -> dict[str, Any]:
    """List what a file holds besides arrays, such as ``{"epoch": 3}``, by dotted name."""
    if found.format in (".safetensors", ".npz", ".onnx") and _STRUCTURE not in found.texts:
        return {}
    return {
        name: value
        for name, value in leaves_of(load(path), f"load: {os.fspath(path)}: ")
        if not is_array(value)
    }


def user_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the texts of a file that are its user's, and not of fconv's own making."""
    return {key: text for key, text in describe(path).texts.items() if not key.startswith("fconv.")}
