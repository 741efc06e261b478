"""What a pickle held, with its tensors turned into arrays."""

from __future__ import annotations

from reprlib import repr as shortened
from typing import Any

from fconv.torch.pickles import Name
from fconv.torch.storages import Storage, Tensor, array_of
from fconv.torch.vocabulary import StorageClass


def resolved(value: Any, swap: bool) -> Any:
    """Turn tensors into arrays; what stands at two places stays one value.

    Parameters
    ----------
    value : object
        What `fconv.torch.pickles.unpickle` gave, whose depth and size it has proved.
    swap : bool
        Storages are in the other byte order.
    """
    done: dict[int, Any] = {}

    def turn(x: Any) -> Any:
        if id(x) in done:
            return done[id(x)]
        if isinstance(x, Tensor):
            found: Any = array_of(x, swap)
        elif isinstance(x, Storage):  # saved by itself, it is a tensor of one axis
            found = array_of(Tensor(x, x.kind, 0, (x.count,), (1,)), swap)
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
