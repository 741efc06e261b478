"""Proving what a file says about itself before memory or time is spent on it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from reprlib import repr as shortened
from typing import Any

import numpy as np

from fconv.files.formats.contents import head, stranger

MOST_TEXT = 100_000_000
"""Bytes of names and texts in a file; the bound of the safetensors library."""

_SPARE, _EXPANSION = 48 << 20, 16
_SHORT = 1 << 20  # bytes of text beyond those of the file
_MOST_AXES = 64  # NumPy's own bound
_PIECE = 1 << 20
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]], _STEPS[[ord("]"), ord("}")]] = 1, -1


class Budget:
    """Memory that the contents of a file may take: 16 times its size, and 48 MB.

    With what reading itself needs, a file takes no more than 20 times its size and 64 MB.
    """

    def __init__(self, size: int) -> None:
        self._size, self._left = 0, _SPARE
        self._known: set[Any] = set()
        self.grow(size, None)

    def grow(self, size: int, key: Any) -> None:
        """Allow what another file of `size` bytes, which belongs to this one, may take; once for a `key`."""
        if key not in self._known:
            self._known.add(key)
            self._size += size
            self._left += _EXPANSION * size

    def spend(self, nbytes: int) -> None:
        """Count memory before it is allocated; ValueError where the file may not take so much."""
        self._left -= nbytes
        if self._left < 0:
            raise ValueError(
                f"its {self._size:,} bytes would come to more than {_SPARE >> 20} MB and {_EXPANSION} times "
                f"its size in memory (what is your own can be stored uncompressed)"
            )


def check_text(what: str, length: int, size: int) -> None:
    """Refuse text out of proportion to its file: parsed, it takes many times its length."""
    if length > min(size + _SHORT, MOST_TEXT):
        raise ValueError(f"its {size:,} bytes hold {what} of {length:,}, which is out of proportion")


@contextmanager
def refusing(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Turn a ValueError about the contents of a file into one that names the file, and what it is."""
    try:
        yield
    except ValueError as error:
        if what := stranger(head(path)):
            raise ValueError(f"load: {os.fspath(path)} is no {kind} but {what}") from None
        raise ValueError(f"load: {os.fspath(path)} is not a whole {kind}: {error}") from error


def array_bytes(shape: Sequence[Any], itemsize: int) -> int:
    """Return the size in bytes of an array, once its shape is proved to be one that an array can have.

    Examples
    --------
    >>> array_bytes([2, 3], 4)
    24
    >>> array_bytes([2**32, 2**32], 4)
    Traceback (most recent call last):
    ValueError: no array can have shape [4294967296, 4294967296]
    """
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"expected a shape of integers, got {shortened(shape)}")
    # Zero times a huge number is no bytes, but NumPy refuses it all the same.
    if len(shape) > _MOST_AXES or prod(max(n, 1) for n in shape) * itemsize >= 2**63:
        raise ValueError(f"no array can have shape {shortened(shape)}")
    return prod(shape) * itemsize


def parse_json(data: bytes, depth: int, digits: int = 20) -> Any:
    """Parse JSON of which nothing is known, refusing deep nesting, double keys and endless numbers.

    The depth is counted first: a parser that recurses would be bounded by the recursion limit
    alone, which a program may have raised beyond what its stack holds.

    Examples
    --------
    >>> parse_json(b'{"a": [1, 2]}', depth=2)
    {'a': [1, 2]}
    >>> parse_json(b'{"a": 1, "a": 2}', depth=2)
    Traceback (most recent call last):
    ValueError: the key 'a' occurs twice
    """
    if _nesting(data) > depth:
        raise ValueError(f"expected JSON nested at most {depth} deep")

    def whole(text: str) -> int:
        if len(text) > digits + 1:
            raise ValueError(f"expected a number of at most {digits} digits, got one of {len(text)}")
        return int(text)

    return json.loads(data.decode(), object_pairs_hook=_unique, parse_int=whole)


def texts_of(found: Any) -> dict[str, str]:
    """Prove that what was parsed is a mapping of text to text."""
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"expected metadata that maps text to text, got {shortened(found)}")
    return found


def _nesting(data: bytes) -> int:
    """Count how deep brackets outside of strings nest, a piece at a time."""
    plain = np.frombuffer(data.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    deepest = level = quotes = 0
    for start in range(0, len(plain), _PIECE):
        piece = plain[start : start + _PIECE]
        quoted = quotes + np.cumsum(piece == ord('"'))
        levels = level + np.cumsum(np.where(quoted % 2, 0, _STEPS[piece]))
        deepest, level, quotes = max(deepest, int(levels.max())), int(levels[-1]), int(quoted[-1])
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shortened(double)} occurs twice")
    return found
