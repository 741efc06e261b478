"""ONNX files read as networks, and networks written as ONNX files.

The package `onnx` is imported when a file is read or written, and not before.
"""

from fconv.onnx.reading import from_onnx
from fconv.onnx.writing import to_onnx

__all__ = ["from_onnx", "to_onnx"]
