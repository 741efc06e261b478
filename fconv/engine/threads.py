"""Work on several threads: how many, and what BLAS does meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from itertools import count
from queue import Empty, SimpleQueue
from weakref import WeakSet

from fconv.engine.blas import Blas, find_blas
from fconv.options import whole

_ENVIRONMENT = "FCONV_NUM_THREADS"


def get_num_threads() -> int:
    """Return the number of threads that fconv computes on.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    return _state.threads


def set_num_threads(n: int) -> None:
    """Set the number of threads that fconv computes on.

    Results are the same bits with any number. It starts as FCONV_NUM_THREADS says, otherwise as
    the number of processors that this process may run on. More threads than processors are
    allowed; they share the processors, and cost a little. NumPy's own use of BLAS outside of fconv's
    convolutions is not touched.

    Parameters
    ----------
    n : int
        1 or more.

    Raises
    ------
    TypeError, ValueError
        `n` is no integer of 1 or more.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> set_num_threads(before)
    """
    _state.threads = whole("set_num_threads", "n", n, 1)


def run(work: Callable[[int], None], tasks: int) -> None:
    """Call ``work(0)`` to ``work(tasks - 1)``, each once, on fconv's threads.

    BLAS is held at one thread meanwhile, because its threads and ours would fight over the
    processors, and because a product's rounding may depend on their number. The calling thread
    works too. Tasks must not depend on each other's order. The first exception of a task is raised once no
    task is running any more.
    """
    depth = _local.depth
    threads = 1 if depth else min(_state.threads, tasks)
    token = _Token()
    try:
        _hold(token)
        if threads > 1:
            _spread(work, tasks, threads)
        else:
            _local.depth = depth + 1
            for task in range(tasks):
                work(task)
    finally:
        _local.depth = depth
        try:
            _release(token)
        except BaseException:  # Ctrl-C, just here; releasing twice does no harm
            _release(token)
            raise


def depth() -> int:
    """Count the tasks that the calling thread is in: several where one, or a signal handler, calls `run`."""
    return _local.depth


def join_in(spin: Callable[[int], object], recall: Callable[[], object]) -> None:
    """Let the workers do something else before they sleep.

    ``spin(number)`` is called whenever a worker, 1 or more, has nothing to do; ``recall()`` ends that.
    """
    _state.spin, _state.recall = spin, recall


def rouse(tasks: int) -> int:
    """Wake the workers that sleep if there are tasks for them; return how many threads may share those."""
    state = _state
    wanted = min(state.threads, tasks)
    if wanted > 1:
        if state.workers < wanted - 1:
            state.hire(wanted - 1)
        for _ in range(len(state.asleep)):
            state.jobs.put(None)
    return wanted


class _Local(threading.local):
    depth = 0


class _Token:
    """Stands for a call of `run`."""

    __slots__ = ("__weakref__",)


class _State:
    """State shared by the whole process, and recreated in a forked child."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.lock = threading.RLock()  # a signal's handler may compute too
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.workers = 0
        self.asleep: set[int] = set()
        self.spin: Callable[[int], object] = lambda worker: None
        self.recall: Callable[[], object] = lambda: None
        self.blas: list[Blas] | None = None
        # Weakly, so that a call whose end was lost to Ctrl-C is not waited for.
        self.holders: WeakSet[_Token] = WeakSet()
        self.held: list[int] | None = None  # BLAS's own numbers of threads, while it is held at one

    def hire(self, n: int) -> int:
        """Start workers until there are `n`, or no more can be started; return how many of them there are."""
        if self.workers < n:
            with self.lock, suppress(RuntimeError):  # in a browser, or a process that is ending
                while self.workers < n:
                    number = self.workers + 1  # 0 is whoever calls
                    threading.Thread(target=_serve, args=(self, number), name="fconv", daemon=True).start()
                    self.workers = number
        return min(n, self.workers)


class _Job:
    """Tasks that several threads share.

    A thread that comes when all tasks are taken is turned away, so that nobody waits for a worker
    that has not even woken up; on small jobs that would take longer than the work.
    """

    def __init__(self, work: Callable[[int], None], tasks: int) -> None:
        self._work, self._tasks = work, tasks
        self._numbers = count()  # next() of it is one step that no other thread can divide
        self._failed = False
        self._error: BaseException | None = None
        self._context = copy_context()  # NumPy's errstate among others
        self._lock = threading.Lock()
        self._here, self._closed = 0, False
        self._idle = threading.Lock()
        self._idle.acquire()

    def share(self) -> None:
        """Do tasks until none is left or one has failed."""
        depth = _local.depth
        try:
            _local.depth = depth + 1
            for blas in _state.blas or ():
                if blas.of_one_thread and blas.get_threads() != 1:
                    blas.set_threads(1)  # of a thread of our own, or one that `run` gives back its number
            while not self._failed and (task := next(self._numbers)) < self._tasks:
                self._work(task)
        except BaseException:
            self._failed = True
            raise
        finally:
            _local.depth = depth

    def help(self) -> None:
        """Share, as a worker: errors are kept for the caller."""
        with self._lock:
            if self._closed:
                return
            self._here += 1
        try:
            self._context.copy().run(self.share)
        except BaseException as error:
            self._error = error
        with self._lock:
            self._here -= 1
            if self._closed and not self._here:
                self._idle.release()

    def close(self) -> BaseException | None:
        """Turn away who comes now, wait for the workers that are here, and give what one of them raised."""
        with self._lock:
            self._closed = True
        try:
            self._wait()
        except BaseException:  # Ctrl-C: what is being written to must not be given back yet
            self._failed = True
            self._wait()
            raise
        del self._work  # with the arrays in it; a worker still asleep holds this job
        return self._error

    def _wait(self) -> None:
        """Wait until no worker is in the job.

        Whether to wait follows from the number of workers alone: after an interrupt nobody can
        tell whether `acquire` has taken the lock.
        """
        while self._here:
            self._idle.acquire()


def _serve(state: _State, number: int) -> None:
    while True:
        state.spin(number)
        try:
            job = state.jobs.get_nowait()
        except Empty:
            state.asleep.add(number)
            job = state.jobs.get()
            state.asleep.discard(number)
        if job is not None:
            job.help()


def _initial_threads() -> int:
    text = os.environ.get(_ENVIRONMENT, "").strip()
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{_ENVIRONMENT}: expected a number of threads of 1 or more, got {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _spread(work: Callable[[int], None], tasks: int, threads: int) -> None:
    job = _Job(work, tasks)
    try:
        helpers = _state.hire(threads - 1)
        for _ in range(helpers):
            _state.jobs.put(job)
        if helpers > len(_state.asleep):
            _state.recall()
        job.share()
    finally:
        error = job.close()
    if error is not None:
        raise error


def _hold(token: _Token) -> None:
    """Hold NumPy's BLAS at one thread, until the last of those who ask for it is done."""
    state = _state
    with state.lock:
        if state.blas is None:
            state.blas = find_blas()
        state.holders.add(token)
        # An interrupt may come at any point: what to go back to is kept before anything is set, and
        # setting a number twice does no harm.
        if state.held is None:
            state.held = [blas.get_threads() for blas in state.blas]
        for blas in state.blas:
            if blas.get_threads() != 1:
                blas.set_threads(1)


def _release(token: _Token) -> None:
    state = _state
    with state.lock:
        state.holders.discard(token)
        held = state.held  # a signal's handler that computes may restore it meanwhile: twice does no harm
        if held is not None and not state.holders:
            for blas, threads in zip(state.blas or (), held, strict=True):
                if threads != 1:
                    blas.set_threads(threads)
            state.held = None


def _after_fork() -> None:
    """Forget the parent's threads and locks, which a forked child does not have."""
    global _state, _local
    old, _local = _state, _Local()
    _state = _State(old.threads)
    _state.blas, _state.spin, _state.recall = old.blas, old.spin, old.recall
    if old.held is not None and old.blas is not None:  # forked in the middle of another thread's call
        for library, number in zip(old.blas, old.held, strict=True):
            library.set_threads(number)


_local = _Local()
_state = _State(_initial_threads())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
