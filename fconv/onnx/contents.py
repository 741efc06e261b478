"""The tensors that an ONNX file holds, whatever its operators are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from fconv.arrays import Array
from fconv.files.formats import Entry
from fconv.files.formats.claims import Budget
from fconv.onnx.library import library
from fconv.onnx.parsing import initializers_of, parsed
from fconv.onnx.tensors import array_of


def describe(path: str | os.PathLike[str]) -> tuple[list[Entry], dict[str, str]]:
    """List the initializers of an ONNX file, and what it says of itself.

    Returns
    -------
    entries : list of Entry
        Dtypes are ONNX's names in small letters: ``"float"`` is given as ``"float32"``.
    texts : dict
        Inputs, outputs, operators, versions, origin and the file's own metadata.

    Raises
    ------
    ValueError, OSError, ImportError
        As `from_onnx` raises them.
    """
    with _naming("describe", path):
        model = parsed(path)
        entries = [_entry(tensor) for tensor in initializers_of(model.graph).values()]
        held = {entry.name for entry in entries}
        counts: dict[str, int] = {}
        for node in model.graph.node:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        texts = {
            "inputs": ", ".join(_described(value) for value in model.graph.input if value.name not in held),
            "outputs": ", ".join(map(_described, model.graph.output)),
            "operators": ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())),
            "opset": ", ".join(
                f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import
            ),
            "producer": f"{model.producer_name} {model.producer_version}".strip(),
        }
        texts |= {entry.key: entry.value for entry in model.metadata_props}
    return entries, {key: text for key, text in texts.items() if text}


def initializers(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the initializers of an ONNX file by their names there.

    Raises
    ------
    ValueError, OSError, ImportError
        As `from_onnx` raises them.
    """
    with _naming("initializers", path):
        folder = os.path.dirname(os.path.abspath(path))
        budget = Budget(os.path.getsize(path))
        found = initializers_of(parsed(path).graph)
        return {name: array_of(tensor, folder, budget) for name, tensor in found.items()}


@contextmanager
def _naming(who: str, path: str | os.PathLike[str]) -> Iterator[None]:
    library(who)
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, AttributeError, MemoryError) as error:
        raise ValueError(f"{who}: {os.fspath(path)}: {error or type(error).__name__}") from error


def _entry(tensor: Any) -> Entry:
    onnx = library("describe")
    kind, shape = tensor.data_type, tuple(tensor.dims)
    if kind not in onnx.TensorProto.DataType.values() or kind == 0:
        return Entry(tensor.name, shape, f"type {kind}", 0)
    name = onnx.TensorProto.DataType.Name(kind).lower()
    name = {"float": "float32", "double": "float64"}.get(name, name)
    itemsize = 0 if name == "string" else onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
    return Entry(tensor.name, shape, name, itemsize * prod(shape))


def _described(value: Any) -> str:
    sizes = [d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in
             value.type.tensor_type.shape.dim]  # fmt: skip
    return f"{value.name} ({', '.join(sizes)})"
