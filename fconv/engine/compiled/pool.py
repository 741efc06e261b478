"""Compiled kernels on several threads, launched in a few microseconds.

The workers are the threads of `fconv.engine.threads`. After a job they spin outside of the GIL, in compiled
code, for some two milliseconds, and a kernel that is launched meanwhile begins at once. A launch, its own
share of the work and the wait for the workers are one call of compiled code: Ctrl-C cannot come in
between.
"""

from __future__ import annotations

import ctypes
import math
import os
import struct
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine import threads
from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Value, callable_at
from fconv.engine.compiled.machine import machine
from fconv.engine.memory import LINE

# The mailbox has one cache line a field: who reads one is not slowed by who writes another.
_FIELDS = ("busy", "job", "kernel", "arguments", "tasks", "next", "inside", "threads", "recalled")
_PLACE = {name: 64 * i for i, name in enumerate(_FIELDS)}
_SPINS = 1 << 16  # rounds, some two milliseconds, before a worker sleeps
_LEAST_COST = 8000  # nanoseconds; a launch on two threads and the wait for both take five
MULTIPLY_ADDS, BYTES = 30, 5
"""Multiplications and copied bytes that a thread does in a nanosecond, about."""
_PATIENCE = 1 << 10  # rounds before a thread that waits lets others run


class _Mailbox:
    """The fields of the mailbox, in a function that is being written; all access is atomic."""

    def __init__(self, function: Function, address: Value) -> None:
        self._f, self._address = function, address

    def _at(self, field: str) -> str:
        return (self._address + _PLACE[field]).name

    def get(self, field: str) -> Value:
        """Read a field."""
        return self._f.value(f"load atomic i64, ptr {self._at(field)} seq_cst, align 8", INT)

    def set(self, field: str, value: Any) -> None:
        """Write a field."""
        given = self._f.constant(value, INT).name
        self._f.emit(f"store atomic i64 {given}, ptr {self._at(field)} seq_cst, align 8")

    def add(self, field: str, value: int) -> Value:
        """Add to a field; return what it was before."""
        return self._f.value(f"atomicrmw add ptr {self._at(field)}, i64 {value} seq_cst", INT)

    def take(self, field: str) -> Value:
        """Set a field to 1; return what it was before."""
        return self._f.value(f"atomicrmw xchg ptr {self._at(field)}, i64 1 seq_cst", INT)

    def wait_until_empty(self, field: str) -> None:
        """Spin until a field is 0; let other threads run when that takes long."""
        f = self._f
        rounds = f.variable(INT, 0)
        with f.repeat(lambda: self.get(field) > 0):
            pause(f)
            rounds.set(rounds.get() + 1)
            with f.when((rounds.get() % _PATIENCE).equals(0)):
                f.call("sched_yield", result="i32")


def pause(f: Function) -> None:
    """Hint to the processor that a loop spins."""
    if machine().x86:
        f.call("llvm.x86.sse2.pause")


def _share(module: Module) -> Function:
    """Do tasks until none is left: of the mailbox and the number of the thread."""
    f = Function(module, "share", [POINTER, INT])
    box, worker = _Mailbox(f, f.arguments[0]), f.arguments[1]
    kernel, arguments, tasks = (box.get(field) for field in ("kernel", "arguments", "tasks"))
    task = f.variable(INT, box.add("next", 1))
    with f.repeat(lambda: task.get() < tasks):
        f.call_address(kernel, task.get(), arguments, worker)
        task.set(box.add("next", 1))
    f.finish()
    return f


def _serve(module: Module, share: Function) -> None:
    """Help with jobs until none has come for a while, or until the workers are recalled."""
    f = Function(module, "serve", [POINTER, INT], exported=True)
    box, worker = _Mailbox(f, f.arguments[0]), f.arguments[1]
    recalled, idle, last = box.get("recalled"), f.variable(INT, 0), f.variable(INT, -1)
    with f.repeat(lambda: f.all_of(idle.get() < _SPINS, box.get("recalled").equals(recalled))):
        job = box.get("job")
        fresh = f.all_of(f.all_of((job % 2).equals(1), worker < box.get("threads")), job > last.get())
        with f.when(fresh):
            box.add("inside", 1)
            with f.when(
                box.get("job").equals(job)
            ):  # it is still open, and stays so while a worker is inside
                f.call(share, f.arguments[0], worker)
            box.add("inside", -1)
            last.set(job)
            idle.set(0)
        idle.set(idle.get() + 1)
        pause(f)
    f.finish()


def _post(module: Module, share: Function) -> None:
    """Open a job, do what is left of it and wait for the workers; return 1 where another thread's is open."""
    f = Function(module, "post", [POINTER, *[INT] * 4], INT, exported=True)
    box = _Mailbox(f, f.arguments[0])
    busy = box.take("busy")
    with f.when(busy.equals(0)):
        for field, value in zip(("kernel", "arguments", "tasks", "threads"), f.arguments[1:], strict=True):
            box.set(field, value)
        box.set("next", 0)
        box.add("job", 1)  # odd: open
        f.call(share, f.arguments[0], f.constant(0, INT))
        box.add("job", 1)  # even: nobody enters any more
        box.wait_until_empty("inside")
        box.set("busy", 0)
    f.finish(busy)


def _alone(module: Module) -> None:
    """Do all tasks of a kernel on the calling thread."""
    f = Function(module, "alone", [*[INT] * 3], exported=True)
    kernel, arguments, tasks = f.arguments
    with f.loop(tasks) as task:
        f.call_address(kernel, task, arguments, f.constant(0, INT))
    f.finish()


def _recall(module: Module) -> None:
    """Send the workers that spin back to Python."""
    f = Function(module, "recall", [POINTER], exported=True)
    _Mailbox(f, f.arguments[0]).add("recalled", 1)
    f.finish()


class Fields:
    """The arguments of a kernel, by name, in a function that is being written."""

    def __init__(self, function: Function, address: Value, names: Sequence[str]) -> None:
        self._f, self._address, self._names = function, address, names

    def __getattr__(self, name: str) -> Value:
        place = self._address + 8 * self._names.index(name)
        return self._f.value(f"load i64, ptr {place.name}", INT)

    def pointer(self, name: str) -> Value:
        """Return a field that is an address."""
        place = self._address + 8 * self._names.index(name)
        return self._f.value(f"load ptr, ptr {place.name}", POINTER)


def kernel_of(module: Module) -> tuple[Function, Value, Value, Value]:
    """Begin a kernel; return it with its task, its arguments' address and the number of the thread."""
    f = Function(module, "kernel", [INT, POINTER, INT], exported=True)
    task, arguments, thread = f.arguments
    return f, task, arguments, thread


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
        About how many nanoseconds one thread takes; other threads are not asked for a few microseconds.
    """

    __slots__ = ("arguments", "keep", "kernel", "scratch", "tasks", "threads")

    def __init__(
        self, kernel: int, arguments: Sequence[int], tasks: int, scratch: int = 0, keep: tuple[Any, ...] = (),
        cost: float = math.inf,
    ) -> None:  # fmt: skip
        self.kernel, self.tasks, self.scratch, self.keep = kernel, tasks, scratch, keep
        self.threads = tasks if cost > _LEAST_COST else 1
        self.arguments = struct.pack(f"{len(arguments)}q", *arguments)


class Pool:
    """The compiled side of the threads."""

    def __init__(self) -> None:
        module = Module()
        yield_ = ctypes.CDLL(None).sched_yield
        machine().llvm.add_symbol("sched_yield", ctypes.cast(yield_, ctypes.c_void_p).value)
        share = _share(module)
        _serve(module, share)
        _post(module, share)
        _alone(module)
        _recall(module)
        serve, post, alone, recall = machine().compile(module)
        self._serve, self._recall = callable_at(serve, "ii"), callable_at(recall, "i")
        self._post, self._alone = callable_at(post, "iipii", result=True), callable_at(alone, "ipi")
        self.reset()
        threads.join_in(
            lambda worker: self._serve(self._address, worker), lambda: self._recall(self._address)
        )
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Make an empty mailbox: a forked child has none of its parent's worker threads."""
        self._memory = np.zeros(64 * (len(_FIELDS) + 1), np.uint8)
        self._address = self._memory.ctypes.data + -self._memory.ctypes.data % 64

    def run(self, launch: Launch, arrays: tuple[np.ndarray[Any, Any], ...], *values: int) -> None:
        """Call a kernel for each task, on fconv's threads; alone where another thread is at it.

        Parameters
        ----------
        launch : Launch
            The kernel, and what it takes.
        arrays : tuple of array
            Their addresses are the first arguments.
        *values : int
            Those that come after them.
        """
        given: list[int] = []
        # As `addresses` does, without its calls: there are hundreds of launches in a step.
        for x in arrays:
            given += (address(x) if _PLACE_OF_DATA is None else _at(id(x) + _PLACE_OF_DATA).value,)
        given += values
        place = struct.pack(f"{len(given)}q", *given) + launch.arguments[8 * len(given) :]
        wanted = threads.rouse(launch.threads) if launch.threads > 1 else 1
        memory = None
        if launch.scratch:
            memory = scratch.take(launch.scratch * wanted)
            base = address(memory)
            place = place[:-8] + struct.pack("q", base + -base % 64)
        if wanted == 1 or self._post(self._address, launch.kernel, place, launch.tasks, wanted):
            self._alone(launch.kernel, place, launch.tasks)
        if memory is not None:
            scratch.give_back(memory)


@lru_cache(maxsize=1)
def pool() -> Pool:
    """Return the pool of this process."""
    return Pool()


class Scratch(threading.local):
    """Memory to work in, kept by each thread: fresh memory costs a page fault for every 4 kB.

    It comes in powers of two, so that what is given back fits many later calls; pages that nobody
    touches take no memory.
    """

    MOST = 64 << 20
    """Bytes that a thread keeps."""

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray[Any, Any]]] = {}
        self._kept = 0

    def take(self, size: int) -> np.ndarray[Any, Any]:
        """Take at least `size` bytes and 64 more, which nobody else has until they are given back."""
        whole = 1 << (size + 63).bit_length()
        free = self._free.get(whole)
        if not free:
            return np.empty(whole, np.uint8)
        self._kept -= whole
        return free.pop()

    def array(self, count: int, dtype: Any) -> np.ndarray[Any, Any]:
        """Take a one-dimensional array, aligned to cache lines."""
        size = count * np.dtype(dtype).itemsize
        memory = self.take(size)
        start = -address(memory) % 64
        return memory[start : start + size].view(dtype)

    def give_back(self, memory: np.ndarray[Any, Any]) -> None:
        """Keep memory for later calls."""
        whole: Any = memory if memory.base is None else memory.base
        if self._kept + whole.size <= self.MOST:
            self._free.setdefault(whole.size, []).append(whole)
            self._kept += whole.size


scratch = Scratch()


def _data_place() -> int | None:
    """Find where an array object holds its data's address, which `__array_interface__` takes 2 us to say."""
    if sys.implementation.name != "cpython":
        return None
    memory = np.empty(8, np.uint8)
    views = (memory, memory[3:], memory[5:])
    known = [(id(x), x.__array_interface__["data"][0]) for x in views]
    for place in (16, 32):  # behind the head of an object, which is larger without the GIL
        if all(ctypes.c_size_t.from_address(x + place).value == data for x, data in known):
            return place
    return None


_at = ctypes.c_size_t.from_address
_PLACE_OF_DATA = _data_place()


def address(x: np.ndarray[Any, Any]) -> int:
    """Return where the first element of an array lies."""
    if _PLACE_OF_DATA is None:
        return x.__array_interface__["data"][0]
    return _at(id(x) + _PLACE_OF_DATA).value


def addresses(arrays: Sequence[np.ndarray[Any, Any]]) -> list[int]:
    """Return where the first element of each of some arrays lies."""
    if _PLACE_OF_DATA is None:
        return [address(x) for x in arrays]
    return [_at(id(x) + _PLACE_OF_DATA).value for x in arrays]  # without a call for each


def aligned(size: int) -> int:
    """Return `size` bytes rounded up to cache lines."""
    return size + -size % LINE
