"""Tensors in ONNX files as arrays, with every length checked against what the file says of it."""

from __future__ import annotations

import os
import stat
from math import prod
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.files.formats.claims import Budget
from fconv.files.formats.floats import WIDENED, widen

DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"), 2: np.dtype("u1"), 3: np.dtype("i1"), 4: np.dtype("<u2"), 5: np.dtype("<i2"),
    6: np.dtype("<i4"), 7: np.dtype("<i8"), 9: np.dtype("?"), 10: np.dtype("<f2"), 11: np.dtype("<f8"),
    12: np.dtype("<u4"), 13: np.dtype("<u8"),
}  # fmt: skip
"""Element types that NumPy has, by their number in ONNX."""

BFLOAT16 = np.dtype(np.float32, metadata={"stored": "bfloat16"})
"""bfloat16, which is computed with in float32; the note tells casts to it from those to float32."""

NARROW = {16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3FNUZ", 19: "F8_E5M2", 20: "F8_E5M2FNUZ", 24: "F8_E8M0"}
"""Element types that NumPy lacks, and that tensors of are widened to float32."""

FIELDS = {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data", 13: "uint64_data"}
"""The field that holds the elements where they are not raw; int32_data for the others."""


def dtype_of(number: int) -> np.dtype:
    """Return an element type as a dtype.

    Raises
    ------
    ValueError
        NumPy has no such type.
    """
    if number == 16:
        return BFLOAT16
    if number not in DTYPES:
        raise ValueError(f"expected an element type that NumPy has, got ONNX's type {number}")
    return DTYPES[number].newbyteorder("=")


def array_of(tensor: Any, folder: str, budget: Budget) -> Array:
    """Read a TensorProto into an array of its own, in the machine's byte order.

    External data lie in the model's `folder` or below, and take memory of `budget`, which several tensors may
    share.

    Raises
    ------
    ValueError
        A type that NumPy lacks, negative sizes, data of another length than the sizes say, or
        external data outside the folder.
    """
    code = NARROW.get(tensor.data_type)
    dtype = dtype_of(tensor.data_type) if code is None else np.dtype(f"u{WIDENED[code][1]}")
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape):
        raise ValueError(f"tensor {tensor.name!r}: expected sizes of 0 or more, got {shape}")
    count = prod(shape)
    if tensor.data_location == 1:
        flat = _external(tensor, folder, budget, count, dtype)
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != count * dtype.itemsize:
            raise ValueError(
                f"tensor {tensor.name!r}: expected {count * dtype.itemsize} bytes for {dtype} of shape "
                f"{shape}, got {len(tensor.raw_data)}"
            )
        flat = np.frombuffer(tensor.raw_data, dtype.newbyteorder("<"))
    else:
        flat = _typed(tensor, count, dtype, shape)
    if code is not None:
        budget.spend(4 * count)
        return widen(flat.astype(dtype), code).reshape(shape)
    return flat.astype(dtype).reshape(shape)


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype stands for bfloat16."""
    return bool(dtype.metadata) and dtype.itemsize == 4


def rounded(x: Array) -> Array:
    """Round to the nearest bfloat16, to the even one of two, and return that as float32."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    y = kept.astype(np.uint32).view(np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), y)


def _typed(tensor: Any, count: int, dtype: np.dtype, shape: tuple[int, ...]) -> Array:
    held: Any = getattr(tensor, FIELDS.get(tensor.data_type, "int32_data"))
    if len(held) != count:
        raise ValueError(
            f"tensor {tensor.name!r}: expected {count} elements for shape {shape}, got {len(held)}"
        )
    if tensor.data_type in (10, *NARROW):  # their bits stand in integers
        bits = np.fromiter(held, np.int64, count)
        if ((bits < 0) | (bits >> 8 * dtype.itemsize)).any():
            width = 8 * dtype.itemsize
            raise ValueError(f"tensor {tensor.name!r}: expected its elements as numbers of {width} bits")
        return bits.astype(f"u{dtype.itemsize}").view(dtype)
    return np.fromiter(held, dtype, count)


def _external(tensor: Any, folder: str, budget: Budget, count: int, dtype: np.dtype) -> Array:
    """Read elements that lie in a file beside the model, and nowhere else."""
    who = f"tensor {tensor.name!r}"
    facts = {entry.key: entry.value for entry in tensor.external_data}
    location = facts.get("location", "")
    if not location or "\0" in location:
        raise ValueError(f"{who}: its external data has no location")
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, location))
    if os.path.isabs(location) or os.path.commonpath([root, path]) != root or path == root:
        raise ValueError(f"{who}: external data outside the model's folder is not read, got {location!r}")
    try:
        offset, length = int(facts.get("offset", 0)), int(facts.get("length", count * dtype.itemsize))
    except ValueError:
        raise ValueError(f"{who}: expected offset and length as integers, got {facts}") from None
    if length != count * dtype.itemsize or offset < 0:
        raise ValueError(
            f"{who}: expected {count * dtype.itemsize} bytes for {dtype} of shape {tuple(tensor.dims)}, "
            f"got length {length} at offset {offset}"
        )
    try:
        # Neither a link that was put there meanwhile nor a pipe that never ends.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise ValueError(f"{who}: external data {location!r} cannot be read: {error.strerror}") from None
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or offset + length > about.st_size:
        os.close(handle)
        raise ValueError(
            f"{who}: expected {length} bytes at {offset} of a file, got {location!r} of {about.st_size}"
        )
    with os.fdopen(handle, "rb") as file:
        budget.grow(about.st_size, (about.st_dev, about.st_ino))
        budget.spend(length)
        file.seek(offset)
        return np.frombuffer(file.read(length), dtype.newbyteorder("<"))
