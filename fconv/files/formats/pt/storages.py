"""PyTorch's storages and tensors, as arrays.

A tensor is a strided window into a storage. Tensors are read as `Tensor`, which says where the
window lies, and become arrays once their storages are there: the older format holds them behind
the pickle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from reprlib import repr as shortened
from typing import Any, NamedTuple

import numpy as np

from fconv.arrays import Array
from fconv.files.formats.claims import array_bytes
from fconv.files.formats.floats import WIDENED, widen


class Kind(NamedTuple):
    """A dtype of PyTorch's: how its numbers lie in memory, and how they become NumPy's."""

    name: str
    stored: np.dtype[Any]
    widened: str | None = None  # a code of `fconv.files.formats.floats`, or "complex32"


def _kinds() -> dict[str, Kind]:
    plain = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16",
             "uint8", "bool", "complex64", "complex128")  # fmt: skip
    found = {name: Kind(name, np.dtype(name)) for name in plain}
    for code, (name, size) in WIDENED.items():
        found[name] = Kind(name, np.dtype(f"u{size}"), code)
    found["complex32"] = Kind("complex32", np.dtype(("f2", (2,))), "complex32")
    return found


KINDS = _kinds()
"""By the name of the dtype in PyTorch."""

STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "LongStorage": "int64",
    "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "BFloat16Storage": "bfloat16", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "ComplexHalfStorage": "complex32", "UntypedStorage": "uint8",
}  # fmt: skip
"""The dtype that each class of storages has; an untyped one counts bytes."""


@dataclass
class Storage:
    """A run of numbers in a file, or a part of one, `root`: its key, and its bytes once they are read."""

    key: str
    kind: Kind
    count: int
    untyped: bool = False
    raw: Array | None = field(default=None, repr=False)
    root: Storage | None = None
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return array_bytes([self.count], self.kind.stored.itemsize)

    def bytes(self) -> Array:
        """Return its bytes, which must have been read."""
        if self.root is not None:
            size = self.kind.stored.itemsize
            return self.root.bytes()[self.start * size : (self.start + self.count) * size]
        if self.raw is None:
            raise ValueError(f"the storage {shortened(self.key)} is not in the file")
        return self.raw


@dataclass(frozen=True)
class Tensor:
    """A strided window into a storage, all counted in its numbers."""

    storage: Storage
    kind: Kind
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conjugated: bool = False
    negated: bool = False

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.strides)
        if any(type(n) is not int or n < 0 for n in numbers) or len(self.shape) != len(self.strides):
            offset, shape, strides = map(shortened, (self.offset, self.shape, self.strides))
            raise ValueError(f"a tensor has offset {offset}, shape {shape} and strides {strides}")
        if self.negated and self.kind.name == "bool":
            raise ValueError("a tensor of booleans is marked as negative")
        size = self.kind.stored.itemsize
        room = self.storage.nbytes // size
        reach = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) + 1
        nbytes = array_bytes(self.shape, size)
        if nbytes and reach > room:
            raise ValueError(
                f"a tensor of shape {self.shape}, strides {self.strides} and offset {self.offset} "
                f"reaches beyond its storage of {room} numbers"
            )


def memory_of(tensor: Tensor, swap: bool) -> int:
    """Return about how many bytes `array_of` takes besides the storage: 0 for a view of it."""
    stored = tensor.kind.stored
    same = tensor.kind.widened is None and not swap and tensor.kind.name != "bool"
    if same and not (tensor.conjugated or tensor.negated or _overlaps(tensor)):
        return 0
    return 2 * array_bytes(tensor.shape, max(stored.itemsize, 4 if tensor.kind.widened else 1))


def _overlaps(tensor: Tensor) -> bool:
    """Return whether elements may lie upon each other, as those of an expanded tensor do."""
    count = prod(tensor.shape)
    return count > tensor.storage.nbytes // tensor.kind.stored.itemsize or 0 in tensor.strides


def array_of(tensor: Tensor, swap: bool) -> Array:
    """Return a tensor whose storage has been read as an array: a view of it where NumPy has the dtype.

    Where elements lie upon each other, as those of an expanded tensor do, they are copied apart. The tensor's
    window is proved to lie in the storage. With `swap` the file has the other byte order.
    """
    raw, stored = tensor.storage.bytes(), tensor.kind.stored
    if not prod(tensor.shape):
        return _numpys(np.empty((*tensor.shape, *stored.shape), stored.base), tensor)
    strides = (*(s * stored.itemsize for s in tensor.strides), *(stored.base.itemsize for _ in stored.shape))
    # NumPy refuses strides that leave the buffer, should the proof above ever be wrong.
    dtype = stored.base.newbyteorder(">" if swap else "<")
    found: Array = np.ndarray(
        (*tensor.shape, *stored.shape), dtype, raw, tensor.offset * stored.itemsize, strides
    )
    if _overlaps(tensor):
        found = found.copy()
    return _numpys(found.astype(stored.base, copy=False), tensor)


def _numpys(found: Array, tensor: Tensor) -> Array:
    code = tensor.kind.widened
    if code == "complex32":
        found = found.astype(np.float32).view(np.complex64)[..., 0]
    elif code is not None:
        found = widen(np.ascontiguousarray(found), code).reshape(found.shape)
    elif found.dtype == np.bool_ and not found.flags.c_contiguous:
        found = found.copy()
    if found.dtype == np.bool_:
        bits = found.view(np.uint8)
        if bits.size and bits.max() > 1:
            found = bits != 0  # other numbers than 0 and 1 would surprise NumPy
    if tensor.conjugated:
        found = np.asarray(found.conj())
    return np.asarray(-found) if tensor.negated else found
