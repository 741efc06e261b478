"""ONNX files as protobuf messages."""

from __future__ import annotations

import os
from typing import Any

from fconv.files.atomic import open_regular
from fconv.files.formats.contents import stranger
from fconv.onnx.library import library

MOST_NODES = 100_000
"""Nodes, and initializers, that a file may have."""


def parsed(path: str | os.PathLike[str]) -> Any:
    """Read a file as onnx's ModelProto, with a graph and its opsets; ValueError where it is none."""
    onnx = library("from_onnx")
    from google.protobuf.message import DecodeError

    with open_regular(path) as file:
        data = file.read()
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, RuntimeError, RecursionError) as error:
        what = stranger(data[:512]) or f"{len(data)} bytes that are none ({error})"
        raise ValueError(f"expected an ONNX model, got {what}") from None
    if not model.HasField("graph") or not model.opset_import:
        what = stranger(data[:512]) or "one without"
        raise ValueError(f"expected an ONNX model with a graph and its opsets, got {what}")
    for name, held in (("nodes", model.graph.node), ("initializers", model.graph.initializer)):
        if len(held) > MOST_NODES:
            raise ValueError(f"expected at most {MOST_NODES:,} {name}, got {len(held):,}")
    return model


def initializers_of(graph: Any) -> dict[str, Any]:
    """List the tensors of a file by name, which must be theirs alone."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    if len(found) < len(graph.initializer):
        seen: set[str] = set()
        name = next(t.name for t in graph.initializer if t.name in seen or seen.add(t.name))  # type: ignore[func-returns-value]
        raise ValueError(f"two initializers are named {name!r}")
    return found
