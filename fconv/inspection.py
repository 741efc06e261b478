"""What files of weights hold, ONNX's among them."""

from __future__ import annotations

import os
from math import prod
from typing import Any

from fconv.arrays import is_array
from fconv.checkpoint import FileDescription, describe_file, load
from fconv.formats import Entry
from fconv.weights import leaves_of

__all__ = ["describe", "other_values", "user_metadata"]

_STRUCTURE = "fconv.structure"


def describe(path: str | os.PathLike[str]) -> FileDescription:
    """List what a file holds: those of `fconv.checkpoint.describe_file`, and ``.onnx``.

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
        return _describe_onnx(path)
    return describe_file(path)


def other_values(path: str | os.PathLike[str], found: FileDescription) -> dict[str, Any]:
    """Give what a file holds besides arrays, such as ``{"epoch": 3}``, by dotted name."""
    if found.format in (".safetensors", ".npz", ".onnx") and _STRUCTURE not in found.texts:
        return {}
    return {name: value for name, value in leaves_of(load(path)) if not is_array(value)}


def user_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Give the texts of a file that are its user's, and not of fconv's own making."""
    return {key: text for key, text in describe(path).texts.items() if not key.startswith("fconv.")}


def _describe_onnx(path: str | os.PathLike[str]) -> FileDescription:
    from fconv.onnx.files import read_model

    model = read_model("describe", path)
    from onnx import TensorProto
    from onnx.helper import tensor_dtype_to_np_dtype

    entries = []
    for tensor in model.graph.initializer:
        shape, kind = tuple(tensor.dims), tensor.data_type
        itemsize = tensor_dtype_to_np_dtype(kind).itemsize if kind in TensorProto.DataType.values() else 0
        entries.append(
            Entry(tensor.name, shape, TensorProto.DataType.Name(kind).lower(), prod(shape) * itemsize)
        )
    return FileDescription(".onnx", entries, {})
