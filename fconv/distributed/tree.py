"""Sums along one fixed binary tree: whoever adds, the order of the additions is the same.

The leaves are the shards of the global batch. Node (level, i) is the sum of the shards from
``i << level`` up to ``(i + 1) << level``; where there are none beside it, it is its own parent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Protocol, TypeAlias, TypeVar

from fconv.arrays import Array, xp_of

T = TypeVar("T")
Node: TypeAlias = tuple[int, int]


class Exchange(Protocol):
    """A sum's view of the processes: their number, and to send and receive at once."""

    rank: int
    size: int

    def sendrecv(self, out: Array | None, to: int, into: Array | None, source: int) -> None:
        """Send one contiguous array and receive another; None where there is none."""
        ...

    def sum(self, x: Array) -> None:
        """Sum over the processes in any order, in place."""
        ...

    def computing(self) -> AbstractContextManager[None]:
        """Return the context in which arrays are added and exchanged."""
        ...


def bounds(count: int, parts: int, i: int) -> tuple[int, int]:
    """Return where part `i` of `count` things begins and ends.

    Examples
    --------
    >>> [bounds(10, 4, i) for i in range(4)]
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    """
    return i * count // parts, (i + 1) * count // parts


def climb(nodes: Mapping[Node, T], shards: int, add: Callable[[T, T], T]) -> dict[Node, T]:
    """Add nodes that stand beside each other, left and right, until no two do.

    Examples
    --------
    >>> climb({(0, 0): 1, (0, 1): 2, (0, 2): 3}, 3, lambda a, b: a + b)
    {(2, 0): 6}
    >>> climb({(0, 1): 2, (0, 2): 3}, 4, lambda a, b: a + b)
    {(0, 1): 2, (0, 2): 3}
    """
    found = dict(nodes)
    for level in range((shards - 1).bit_length()):
        for node in sorted(key for key in found if key[0] == level):
            left, right, above = (level, node[1] & ~1), (level, node[1] | 1), (level + 1, node[1] >> 1)
            if left in found and right[1] << level >= shards:
                found[above] = found.pop(left)
            elif left in found and right in found:
                found[above] = add(found.pop(left), found.pop(right))
    return found


@cache
def held_by(rank: int, size: int, shards: int) -> tuple[Node, ...]:
    """List the nodes that a rank's own shards come to."""
    own = range(*bounds(shards, size, rank))
    return tuple(climb({(0, i): None for i in own}, shards, lambda a, b: None))


def tree_sum(world: Exchange, nodes: Mapping[Node, Array], shards: int, scratch: Array) -> Array:
    """Return the sum of all ranks' nodes, on every rank; the arrays of `nodes` are written over.

    Where each of 2^k ranks holds one node, the ranks halve what they are responsible for, neighbours
    first, so that each ends with the sum of one part, and send the sums back in reverse order: each rank
    sends and receives 2 (1 - 1/size) times the array, the least there is. Otherwise each rank receives
    all nodes of its part directly, and sends the sum to all. The nodes are those that `held_by` lists,
    contiguous arrays of one axis; `scratch` has the length and dtype of each.

    References
    ----------
    Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH", 2005.
    """
    first = next(iter(nodes.values()))
    rank, size, length = world.rank, world.size, len(first)
    if size == 1:
        return next(iter(nodes.values()))
    every = [held_by(r, size, shards) for r in range(size)]
    if size & (size - 1) or any(len(held) > 1 for held in every):
        return _direct_sum(world, nodes, shards, every)
    low, high, trail = 0, length, []
    distance = 1
    while distance < size:
        middle = (low + high) // 2
        is_left = not rank & distance
        given = (middle, high) if is_left else (low, middle)
        low, high = (low, middle) if is_left else (middle, high)
        own, other = first[low:high], scratch[: high - low]
        world.sendrecv(first[slice(*given)], rank ^ distance, other, rank ^ distance)
        xp_of(own).add(*((own, other) if is_left else (other, own)), out=own)
        trail.append((rank ^ distance, given))
        distance *= 2
    for peer, given in reversed(trail):
        world.sendrecv(first[low:high], peer, first[slice(*given)], peer)
        low, high = min(low, given[0]), max(high, given[1])
    return first


def _direct_sum(
    world: Exchange, nodes: Mapping[Node, Array], shards: int, every: list[tuple[Node, ...]]
) -> Array:
    rank, size, xp = world.rank, world.size, xp_of(next(iter(nodes.values())))
    stack = xp.stack([nodes[node] for node in every[rank]])
    length = stack.shape[1]
    low, high = bounds(length, size, rank)
    received: dict[Node, Array] = dict(zip(every[rank], stack[:, low:high], strict=True))
    for k in range(1, size):
        to, source = (rank + k) % size, (rank - k) % size
        part = xp.empty((len(every[source]), high - low), stack.dtype)
        out = xp.ascontiguousarray(stack[:, slice(*bounds(length, size, to))])
        world.sendrecv(out.reshape(-1), to, part.reshape(-1), source)
        received |= zip(every[source], part, strict=True)
    (mine,) = climb(received, shards, lambda a, b: a + b).values()
    total = xp.empty(length, stack.dtype)
    total[low:high] = mine
    for k in range(1, size):
        to, source = (rank + k) % size, (rank - k) % size
        world.sendrecv(total[low:high], to, total[slice(*bounds(length, size, source))], source)
    return total


def add_into_left(a: Any, b: Any) -> Any:
    """Add two arrays in the memory of the first."""
    return xp_of(a).add(a, b, out=a)
