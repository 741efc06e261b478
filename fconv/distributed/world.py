"""The processes that train together, as a communicator sees them, and that of one process alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from fconv.arrays import Array
from fconv.distributed.tree import Exchange


class LostRankError(RuntimeError):
    """A rank is dead, hangs, or has left: the job cannot go on."""


class World(Exchange, Protocol):
    """The processes, and the thread of this one that talks to the others."""

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Call a function on that thread, after all that was asked for before."""
        ...

    def on_device(self, x: Array) -> Exchange | None:
        """Return what exchanges arrays that lie beside `x` on a GPU, None where they go through the host."""
        ...


class OneProcess:
    """The world of a process without others."""

    rank, size = 0, 1

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Call it at once."""
        done: Future[Any] = Future()
        done.set_result(function())
        return done

    def sendrecv(self, out: Array | None, to: int, into: Array | None, source: int) -> None:
        """Do nothing: there is nobody."""

    def sum(self, x: Array) -> None:
        """Do nothing: the sum of one is itself."""

    def computing(self) -> AbstractContextManager[None]:
        """Do nothing before and after."""
        return nullcontext()

    def on_device(self, x: Array) -> Exchange | None:
        """Return itself."""
        return self
