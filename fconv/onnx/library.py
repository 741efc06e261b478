"""The package `onnx`, where it is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def library(who: str) -> Any:
    """Import `onnx`, or say which extra brings it.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        # Its submodules are not imported along with it.
        for part in ("checker", "helper", "numpy_helper"):
            import_module(f"onnx.{part}")
        return import_module("onnx")
    except ImportError as error:
        raise ImportError(
            f"{who}: the package onnx is needed; install it with: pip install 'fconv-nn[onnx]' ({error})"
        ) from error
