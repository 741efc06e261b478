"""What a pickle held, with its tensors turned into arrays."""

from __future__ import annotations

from reprlib import repr as shortened
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.formats.pt.pickles import Name
from fconv.formats.pt.storages import SPARE, Storage, Tensor, array_of
from fconv.formats.pt.vocabulary import StorageClass

_MOST_COPIES = 16  # times the storages: tensors that are widened or expanded, which may share them


def resolved(value: Any, swap: bool) -> Any:
    """Turn tensors into arrays; what stands at two places stays one value.

    Parameters
    ----------
    value : object
        What `fconv.formats.pt.pickles.unpickle` gave, whose depth and size it has proved.
    swap : bool
        Storages are in the other byte order.
    """
    done: dict[int, Any] = {}
    held: dict[str, int] = {}  # bytes of each storage
    copied = 0

    def array(tensor: Tensor) -> Array:
        nonlocal copied
        root = tensor.storage.root or tensor.storage
        held[root.key] = root.nbytes
        found = array_of(tensor, swap)
        if not np.may_share_memory(found, root.bytes()):
            copied += found.nbytes
        if copied > max(SPARE, _MOST_COPIES * sum(held.values())):
            raise ValueError(
                f"its tensors take {copied >> 20} MB beside storages of {sum(held.values())} bytes"
            )
        return found

    def turn(x: Any) -> Any:
        if id(x) in done:
            return done[id(x)]
        if isinstance(x, Tensor):
            found: Any = array(x)
        elif isinstance(x, Storage):  # saved by itself, it is a tensor of one axis
            found = array(Tensor(x, x.kind, 0, (x.count,), (1,)))
        elif isinstance(x, dict):
            found = {key: turn(child) for key, child in x.items()}
        elif isinstance(x, (list, tuple)):
            found = type(x)(turn(child) for child in x)
        elif isinstance(x, (Name, StorageClass)):
            raise ValueError(f"its pickle holds {shortened(x)} where a value should stand")
        else:
            return x
        done[id(x)] = found
        return found

    return turn(value)
