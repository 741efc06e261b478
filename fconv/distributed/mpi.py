"""The ranks of MPI: one thread of each process talks to the others, and notices who does not answer."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from fconv.arrays import Array
from fconv.devices import import_cupy
from fconv.distributed.tree import Exchange
from fconv.distributed.world import LostRankError

_ASK, _ANSWER = 1, 2
_COMPUTES, _WAITS, _LEFT = 0, 1, 2
_PATIENCE = 2.0  # seconds between two questions
_FAREWELL = 3.0  # for which a rank that has lost another answers on, so that all can say whom they miss
_FAILED, _LOST = 1, 75  # exit statuses of a job: the script's own error; a rank was lost, try again


class MpiWorld:
    """The processes of MPI.COMM_WORLD.

    All calls of MPI come from one thread, which also answers the others' questions: what it does, how many
    communications it has begun, and whom it waits for. A rank that waits asks the one it waits for, then
    whom that one waits for, and so finds who holds all of them up.
    """

    def __init__(self, MPI: Any) -> None:
        self._mpi = MPI
        self._comm, self._talk = MPI.COMM_WORLD.Dup(), MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.rank, self._comm.size
        self.timeout = 300.0
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._begun, self._state, self._peer = 0, _COMPUTES, -1
        self._sent: list[tuple[Any, Array]] = []
        self._answers: dict[int, list[int]] = {}
        self._error: BaseException | None = None
        self._status = _FAILED
        self._ending = False
        self._nccl: Exchange | None = None
        self._thread = threading.Thread(target=self._serve, name="fconv-distributed", daemon=True)
        self._thread.start()
        atexit.register(self._leave)

    # What other modules call

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Call a function on the thread that talks, after all that was asked for before."""
        future: Future[Any] = Future()
        self._queue.put((future, function))
        return future

    def sendrecv(self, out: Array | None, to: int, into: Array | None, source: int) -> None:
        """Send one contiguous array and receive another."""
        byte = self._mpi.BYTE
        requests = []
        if into is not None:
            requests.append(self._comm.Irecv([into.view(np.uint8), byte], source))
        if out is not None:
            requests.append(self._comm.Isend([out.view(np.uint8), byte], to))
        self._wait(requests, to if into is None else source)

    def sum(self, x: Array) -> None:
        """Sum over the ranks in place, in MPI's own order."""
        self._wait([self._comm.Iallreduce(self._mpi.IN_PLACE, x)], (self.rank + 1) % self.size)

    def computing(self) -> AbstractContextManager[None]:
        """Do nothing before and after: host arrays are there when they are computed."""
        return nullcontext()

    def on_device(self, x: Array) -> Exchange | None:
        """Return NCCL's exchange where CuPy has it, which all ranks then have."""
        if self._nccl is None and import_cupy().cuda.nccl.available:
            from fconv.distributed.nccl import NcclExchange

            self._nccl = NcclExchange(self.rank, self.size)
        return self._nccl

    # The thread that talks

    def _serve(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=0.1)
            except Empty:
                self._reply()
                continue
            if item is None:
                return
            future, function = item
            self._begun += 1
            try:
                if self._error is not None:
                    raise self._error
                future.set_result(function())
            except BaseException as error:
                self._error = self._error or error
                future.set_exception(error)
            self._state = _COMPUTES

    def _wait(self, requests: list[Any], peer: int) -> None:
        """Wait for requests, and look out for who holds them up."""
        begun = asked = time.monotonic()
        self._state, self._peer = _WAITS, peer
        trail: list[int] = []
        polls = 0
        while not self._mpi.Request.Testall(requests):
            polls += 1
            # At first only the processor is left to others; later a processor that computes is not disturbed.
            time.sleep(0 if polls < 200 else 2e-5 if polls < 2000 else 1e-3)
            if polls % 50:
                continue
            self._reply()
            now = time.monotonic()
            if self._ending:
                raise LostRankError(f"rank {self.rank} ends during communication {self._begun}")
            if now - asked > _PATIENCE and not trail:
                trail = [peer]
                self._ask(peer)
                asked = now
            elif trail and trail[-1] in self._answers:
                state, count, other = self._answers[trail[-1]]
                if state == _LEFT:
                    self._fail(trail[-1], "has left the job, perhaps by an error of its own", _FAILED)
                if state == _WAITS and other not in trail and other != self.rank:
                    trail.append(other)
                    self._ask(other)
                elif now - begun > self.timeout:
                    self._fail(trail[-1], self._said(state, count, other), _LOST)
                elif now - asked > _PATIENCE:
                    trail, asked = [], now
            elif trail and now - begun > self.timeout and now - asked > _PATIENCE:
                self._fail(trail[-1], "does not answer: it is dead or stopped", _LOST)
        self._state = _COMPUTES

    def _said(self, state: int, count: int, other: int) -> str:
        if state == _WAITS:
            return f"waits for rank {other} in its communication {count}: the ranks do not call the same"
        return f"has not come to its communication {count + 1}: it computes, or hangs elsewhere"

    def _fail(self, culprit: int, why: str, status: int) -> None:
        self._status = status
        limit = f" (the limit is {self.timeout:g} s)" if status == _LOST else ""
        message = f"rank {self.rank} waits in its communication {self._begun} for rank {culprit}, which {why}"
        raise LostRankError(message + limit)

    def _ask(self, rank: int) -> None:
        self._answers.pop(rank, None)
        self._send(rank, _ASK, [0, 0, 0])

    def _send(self, rank: int, tag: int, numbers: list[int]) -> None:
        data = np.array(numbers, np.int64)
        self._sent = [(r, kept) for r, kept in self._sent if not r.Test()]
        self._sent.append((self._talk.Isend(data, rank, tag), data))

    def _reply(self) -> None:
        """Answer whoever asks, and note who has answered."""
        status = self._mpi.Status()
        while self._talk.Iprobe(self._mpi.ANY_SOURCE, self._mpi.ANY_TAG, status):
            data = np.empty(3, np.int64)
            source, tag = status.source, status.tag
            self._talk.Recv(data, source, tag)
            if tag == _ANSWER:
                self._answers[source] = data.tolist()
            else:
                self._send(source, _ANSWER, [self._state, self._begun, self._peer])

    def _leave(self) -> None:
        """At the end of the process: answer until all ranks are at theirs, or end the job."""
        self._queue.put(None)
        self._thread.join(0.01)
        self._ending = True
        self._thread.join(2)
        if self._thread.is_alive():  # inside of MPI, for good
            os._exit(_LOST)
        lost = self._error is not None
        if lost:
            sys.stdout.flush()
            sys.stderr.flush()
        self._state = _LEFT
        ended, begun = self._talk.Ibarrier(), time.monotonic()
        # Of those that are not lost, one may be saving; a rank that only computes on is waited for.
        while not ended.Test() and not (lost and time.monotonic() - begun > _FAREWELL):
            self._reply()
            time.sleep(0.005)
        if lost:
            self._mpi.COMM_WORLD.Abort(self._status)
