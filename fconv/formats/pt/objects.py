"""What a pickle held, with its tensors turned into arrays."""

from __future__ import annotations

from reprlib import repr as shortened
from typing import Any

from fconv.arrays import Array
from fconv.formats.claims import Budget
from fconv.formats.placeholders import Placeholder
from fconv.formats.pt.machine import Name
from fconv.formats.pt.numpys import read_numpy
from fconv.formats.pt.storages import Storage, Tensor, array_of, memory_of
from fconv.formats.pt.vocabulary import StorageClass


def resolved(value: Any, swap: bool, budget: Budget, *, strict: bool) -> Any:
    """Turn tensors into arrays, in place; what stands at two places stays one value.

    Parameters
    ----------
    value : object
        What `fconv.formats.pt.pickles.unpickle` gave, whose depth and size it has proved.
    swap : bool
        Storages are in the other byte order.
    budget : Budget
        Memory that copies may take.
    strict : bool
        Refuse a name that stands for itself; otherwise it becomes a placeholder.
    """
    made: dict[int, tuple[Any, Any]] = {}  # by the address of what it was made of, which stays alive
    entered: set[int] = set()
    pending: list[Placeholder] = []

    def array(tensor: Tensor) -> Array:
        budget.spend(memory_of(tensor, swap))
        return array_of(tensor, swap)

    def make(x: Any) -> Any:
        if isinstance(x, Tensor):
            return array(x)
        if isinstance(x, Storage):  # saved by itself, it is a tensor of one axis
            return array(Tensor(x, x.kind, 0, (x.count,), (1,)))
        if isinstance(x, Placeholder):
            return read_numpy(x, budget)
        if strict:
            raise ValueError(f"its pickle holds {shortened(x)} where a value should stand")
        return Placeholder(x.full if isinstance(x, Name) else f"torch.{x}")

    def turn(x: Any) -> Any:
        kind = type(x)
        if kind is dict:
            for key, child in x.items():
                x[key] = turn(child)
                if type(key) is Placeholder:
                    turn(key)
        elif kind is list:
            x[:] = map(turn, x)
        elif kind is tuple:
            found = tuple(map(turn, x))
            return x if all(a is b for a, b in zip(x, found, strict=True)) else found
        elif kind in (set, frozenset):
            for child in x:
                turn(child)
        elif kind in _MADE:
            if id(x) not in made:
                made[id(x)] = x, make(x)
            found = made[id(x)][1]
            if type(found) is Placeholder and id(found) not in entered:
                entered.add(id(found))
                pending.append(found)
            return found
        return x

    value = turn(value)
    while pending:
        x = pending.pop()
        x.arguments, x.items, x.state = turn(x.arguments), turn(x.items), turn(x.state)
    return value


_MADE = (Tensor, Storage, Placeholder, Name, StorageClass)
