"""Launches of kernels: what a call of the pool does, planned once for the shapes of its arrays."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from fconv.engine.compiled.scratch import aligned

MULTIPLY_ADDS, BYTES = 30, 5
"""Multiplications and copied bytes that a thread does in a nanosecond, about."""
_LEAST_COST = 8000  # nanoseconds; a launch on two threads and the wait for both take five
ARGUMENTS = 128
"""Most arguments that a launch has on its stack."""
HEAD = 6
"""Numbers of a launch before its arguments, behind the two of the block."""
SOURCE = struct.Struct("2q")
"""The index of an array, and the offset in bytes from its first element: what an argument points to."""
WORK, ITEMS = -1, -2
"""In the place of an array's number: the work memory of a chain, and the list of all arrays."""


class Launch:
    """A kernel with the arguments that its shapes decide.

    Parameters
    ----------
    kernel : int
        Address of a function of a task, the address of the arguments, and the number of the thread.
    arguments : sequence of int
        In the order of the kernel's fields; those that differ from call to call come first, and the address
        of scratch memory last.
    tasks : int
        How many there are; they must not depend on each other's order.
    scratch : int
        Bytes of scratch memory that a thread needs, a multiple of 64.
    keep : tuple
        What the arguments hold addresses of.
    cost : float
        About how many nanoseconds one thread takes. For a few microseconds other threads are not asked, and
        the GIL is kept, also by a chain of such launches.
    """

    __slots__ = ("block", "brief", "count", "keep", "memory", "scratch", "threads")

    def __init__(
        self, kernel: int, arguments: Sequence[int], tasks: int, scratch: int = 0, keep: tuple[Any, ...] = (),
        cost: float = math.inf,
    ) -> None:  # fmt: skip
        length = len(arguments)
        self.scratch, self.keep, self.brief = scratch, keep, cost <= _LEAST_COST
        self.threads = 1 if self.brief else tasks
        work = aligned(8 * length) if length > ARGUMENTS else 0
        self.memory = work + scratch  # bytes on one thread
        self.count: int | None = None  # of arrays that come first among the arguments: as many as are given
        pairs = [number for i in range(length) for number in (i, 0)]
        whole = (1, work, kernel, tasks, scratch, self.threads, length, length, *arguments, *pairs)
        self.block = struct.pack(f"{len(whole)}q", *whole)

    def of(self, *places: int | tuple[int, int]) -> Launch:
        """Return the launch with arrays in other places; a chain needs to know them.

        Parameters
        ----------
        *places : int or (int, int)
            Of each argument that comes first: the number of an array in what the chain is given, WORK, or
            ITEMS; with bytes behind its beginning.
        """
        other: Launch = object.__new__(Launch)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        head = list(struct.unpack_from(f"{2 + HEAD}q", self.block))
        length, head[-1] = head[-2], len(places)
        assert length <= ARGUMENTS, length  # more would lie where a chain's work does
        arguments = self.block[8 * len(head) :][: 8 * length]
        pairs = [SOURCE.pack(*(place if isinstance(place, tuple) else (place, 0))) for place in places]
        other.block = struct.pack(f"{len(head)}q", *head) + arguments + b"".join(pairs)
        other.count = ARGUMENTS
        return other


def chain(launches: Sequence[Launch], work: int = 0) -> Launch:
    """Return launches that `Launch.of` has made as one, which does them one after the other.

    `work` is the bytes of memory, at a cache line, that they have in common beside the arrays.
    """
    joint: Launch = object.__new__(Launch)
    head = struct.pack("2q", len(launches), aligned(work))
    joint.block = head + b"".join(launch.block[16:] for launch in launches)
    joint.brief, joint.count = all(launch.brief for launch in launches), ARGUMENTS
    joint.keep = tuple(launch.keep for launch in launches)
    joint.scratch = max(launch.scratch for launch in launches)
    joint.threads = max(launch.threads for launch in launches)
    joint.memory = aligned(work) + joint.scratch
    return joint


class Launches:
    """Launches by the strides of what is read and what is written, each planned once."""

    def __init__(self, planned: Callable[[tuple[int, ...], tuple[int, ...]], Launch]) -> None:
        self._planned = planned
        self._known: dict[tuple[int, ...], Launch] = {}

    def of(self, x: Any, y: Any) -> Launch:
        """Return the launch that reads arrays like `x` and writes ones like `y`."""
        launch = self.known(x, y)
        if launch is None:
            launch = self._known[x.strides + y.strides] = self._planned(x.strides, y.strides)
        return launch

    def known(self, x: Any, y: Any) -> Launch | None:
        """Return it if it was planned before."""
        return self._known.get(x.strides + y.strides)
