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
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine import threads
from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Number, Value, callable_at
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.scratch import PLACE_OF_DATA, address, addresses, scratch
from fconv.engine.memory import LINE

# The mailbox has one cache line a field: who reads one is not slowed by who writes another.
_FIELDS = ("busy", "job", "kernel", "arguments", "tasks", "next", "inside", "threads", "recalled")
_PLACE = {name: 64 * i for i, name in enumerate(_FIELDS)}
_SPINS = 1 << 16  # rounds, some two milliseconds, before a worker sleeps
_LEAST_COST = 8000  # nanoseconds; a launch on two threads and the wait for both take five
MULTIPLY_ADDS, BYTES = 30, 5
"""Multiplications and copied bytes that a thread does in a nanosecond, about."""
_PATIENCE = 1 << 10  # rounds before a thread that waits lets others run
_ARRAYS, _ARGUMENTS = 8, 128  # most arrays that a launch is given as objects, and arguments on its stack
_HEAD = 4  # numbers before the arguments
OWN_SCRATCH = 8 << 10
"""Bytes of scratch memory that a launch on one thread has on its stack."""


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


def _post(module: Module, share: Function) -> Function:
    """Open a job, do what is left of it and wait for the workers; return 1 where another thread's is open."""
    f = Function(module, "post", [POINTER, *[INT] * 4], INT)
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
    return f


def _launch(module: Module, post: Function) -> None:
    """Complete the arguments of a launch and do its tasks; alone where another thread is at the workers.

    It takes a block of 8-byte numbers (kernel, tasks, scratch bytes, number of arguments, and the arguments),
    the mailbox, the number of threads, scratch memory or 0, how many arrays, and the arrays: Python's
    objects, whose data's addresses are the first arguments. Where there are fewer arrays it is called with
    fewer arguments, which the calling conventions of x86-64 and AArch64 allow, as it reads none that are not
    given. A block of more arguments than fit on the stack is used as it is.
    """
    f = Function(module, "launch", [POINTER, *[INT] * 4, *[POINTER] * _ARRAYS], exported=True)
    block, box, wanted, memory, count, *arrays = f.arguments
    kernel, tasks, scratch_bytes, length = (_number(f, block, i) for i in range(_HEAD))
    long = length > _ARGUMENTS
    kept = Value(f, f.allocate(f"[{_ARGUMENTS} x i64], align {LINE}"), POINTER)
    arguments = f.choose(long, block + 8 * _HEAD, kept)
    own = Value(f, f.allocate(f"[{OWN_SCRATCH} x i8], align {LINE}"), POINTER)
    with f.loop(f.select(long, 0, length), start=count) as i:
        _put(f, _number(f, block, i + _HEAD), arguments + i * 8)
    for number, array in enumerate(arrays):
        with f.when(count > number):
            _put(f, _number(f, array, (PLACE_OF_DATA or 0) // 8), arguments + 8 * number)
    place, given = (f.value(f"ptrtoint ptr {p.name} to i64", INT) for p in (arguments, own))
    with f.when(scratch_bytes > 0):
        _put(f, f.select(memory.equals(0), given, memory), arguments + (length - 1) * 8)
    alone = f.variable(INT, 1)
    with f.when(wanted > 1):
        alone.set(f.call(post, f.as_pointer(box), kernel, place, tasks, wanted))
    with f.when(alone.get() > 0), f.loop(tasks) as task:
        f.call_address(kernel, task, place, f.constant(0, INT))
    f.finish()


def _number(f: Function, block: Value, place: Number) -> Value:
    return f.value(f"load i64, ptr {(block + f.constant(place, INT) * 8).name}", INT)


def _put(f: Function, number: Value, place: Value) -> None:
    f.emit(f"store i64 {number.name}, ptr {place.name}")


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
        About how many nanoseconds one thread takes. For a few microseconds other threads are not asked, and
        the GIL is kept.
    """

    __slots__ = ("block", "brief", "keep", "scratch", "tasks", "threads")

    def __init__(
        self, kernel: int, arguments: Sequence[int], tasks: int, scratch: int = 0, keep: tuple[Any, ...] = (),
        cost: float = math.inf,
    ) -> None:  # fmt: skip
        if len(arguments) > _ARGUMENTS and scratch:
            raise AssertionError(f"a launch with scratch memory has at most {_ARGUMENTS} arguments")
        self.tasks, self.scratch, self.keep, self.brief = tasks, scratch, keep, cost <= _LEAST_COST
        self.threads = 1 if self.brief else tasks
        whole = (kernel, tasks, scratch, len(arguments), *arguments)
        self.block = struct.pack(f"{len(whole)}q", *whole)


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


class Pool:
    """The compiled side of the threads."""

    def __init__(self) -> None:
        module = Module()
        yield_ = ctypes.CDLL(None).sched_yield
        machine().llvm.add_symbol("sched_yield", ctypes.cast(yield_, ctypes.c_void_p).value)
        share = _share(module)
        _serve(module, share)
        _launch(module, _post(module, share))
        _recall(module)
        serve, launch, recall = machine().compile(module)
        self._serve, self._recall = callable_at(serve, "ii"), callable_at(recall, "i")
        kinds = ["piiii" + "o" * count for count in range(_ARRAYS + 1)]
        self._calls = [callable_at(launch, kind) for kind in kinds]
        self._brief = [callable_at(launch, kind, keeps_gil=True) for kind in kinds]
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
        given, block = arrays, launch.block
        if values or len(arrays) > _ARRAYS or PLACE_OF_DATA is None:
            first = [*addresses(arrays), *values]
            begin = 8 * _HEAD
            block = block[:begin] + struct.pack(f"{len(first)}q", *first) + block[begin + 8 * len(first) :]
            given = ()
        wanted = threads.rouse(launch.threads) if launch.threads > 1 else 1
        call = (self._brief if launch.brief else self._calls)[len(given)]
        if launch.scratch <= OWN_SCRATCH and (wanted == 1 or not launch.scratch):
            call(block, self._address, wanted, 0, len(given), *given)
            return
        memory = scratch.take(launch.scratch * wanted)
        base = address(memory)
        call(block, self._address, wanted, base + -base % LINE, len(given), *given)
        scratch.give_back(memory)


@lru_cache(maxsize=1)
def pool() -> Pool:
    """Return the pool of this process."""
    return Pool()
