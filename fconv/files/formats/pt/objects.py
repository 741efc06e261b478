"""The values of a pickle, with tensors turned into arrays."""

from __future__ import annotations

from reprlib import repr as shortened
from typing import Any

from fconv.arrays import Array
from fconv.files.formats.claims import Budget
from fconv.files.formats.placeholders import Placeholder
from fconv.files.formats.pt.machine import Name
from fconv.files.formats.pt.numpys import read_numpy
from fconv.files.formats.pt.storages import Storage, Tensor, array_of, memory_of
from fconv.files.formats.pt.vocabulary import StorageClass


def resolved(value: Any, swap: bool, budget: Budget, *, strict: bool) -> Any:
    """Turn tensors into arrays, in place; what stands at two places stays one value.

    `value` is what `fconv.files.formats.pt.pickles.unpickle` gave, whose depth and size it has proved. With
    `swap` storages are in the other byte order; `budget` is the memory that copies may take. A name that
    stands for itself is refused where `strict` is set, and becomes a placeholder otherwise.
    """
    return _Resolver(swap, budget, strict).whole(value)


class _Resolver:
    # A class, and no functions in functions: those would hold each other, and every array, in a cycle.

    def __init__(self, swap: bool, budget: Budget, strict: bool) -> None:
        self.swap, self.budget, self.strict = swap, budget, strict
        self.made: dict[int, tuple[Any, Any]] = {}  # by the address of the original, which stays alive
        self.entered: set[int] = set()
        self.pending: list[Placeholder] = []

    def whole(self, value: Any) -> Any:
        value = self.turn(value)
        while self.pending:
            x = self.pending.pop()
            x.arguments, x.items, x.state = self.turn(x.arguments), self.turn(x.items), self.turn(x.state)
        return value

    def turn(self, x: Any) -> Any:
        kind = type(x)
        if kind is dict:
            for key, child in x.items():
                x[key] = self.turn(child)
                if type(key) is Placeholder:
                    self.turn(key)
        elif kind is list:
            x[:] = map(self.turn, x)
        elif kind is tuple:
            found = tuple(map(self.turn, x))
            return x if all(a is b for a, b in zip(x, found, strict=True)) else found
        elif kind in (set, frozenset):
            for child in x:
                self.turn(child)
        elif kind in _MADE:
            if id(x) not in self.made:
                self.made[id(x)] = x, self.make(x)
            found = self.made[id(x)][1]
            if type(found) is Placeholder and id(found) not in self.entered:
                self.entered.add(id(found))
                self.pending.append(found)
            return found
        return x

    def make(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return self.array(x)
        if isinstance(x, Storage):  # saved by itself, it is a tensor of one axis
            return self.array(Tensor(x, x.kind, 0, (x.count,), (1,)))
        if isinstance(x, Placeholder):
            return read_numpy(x, self.budget)
        if self.strict:
            raise ValueError(f"its pickle holds {shortened(x)} where a value should stand")
        return Placeholder(x.full if isinstance(x, Name) else f"torch.{x}")

    def array(self, tensor: Tensor) -> Array:
        self.budget.spend(memory_of(tensor, self.swap))
        return array_of(tensor, self.swap)


_MADE = (Tensor, Storage, Placeholder, Name, StorageClass)
