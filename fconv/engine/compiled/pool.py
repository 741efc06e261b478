"""Compiled kernels on several threads, launched in a few microseconds.

The workers are the threads of `fconv.engine.threads`. After a job they spin outside of the GIL, in compiled
code, for some two milliseconds, and a kernel that is launched meanwhile begins at once. A thread that spins
lets others run every few microseconds, as there may be more threads than processors. A launch, its own
share of the work and the wait for the workers are one call of compiled code: Ctrl-C cannot come in
between.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fconv.engine import threads
from fconv.engine.compiled.launches import ARGUMENTS, HEAD, SOURCE, WORK, Launch
from fconv.engine.compiled.llvm import INT, POINTER, Function, Module, Value, callable_at
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.scratch import (
    PLACE_OF_DATA,
    PLACE_OF_ITEMS,
    address,
    addresses,
    scratch,
)
from fconv.engine.memory import LINE

# The mailbox has one cache line a field: who reads one is not slowed by who writes another.
_FIELDS = ("busy", "job", "kernel", "arguments", "tasks", "next", "inside", "threads", "recalled")
_PLACE = {name: 64 * i for i, name in enumerate(_FIELDS)}
_SPINS = 1 << 16  # rounds, some two milliseconds, before a worker sleeps
_PATIENCE = 1 << 8  # rounds before a thread that spins lets others run
OWN_SCRATCH = 8 << 10
"""Bytes of scratch memory that a launch has on its stack."""


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
        with f.when((idle.get() % _PATIENCE).equals(0)):
            f.call("sched_yield", result="i32")
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
    """Complete the arguments of launches and do their tasks; alone where another thread is at the workers.

    It takes a block of 8-byte numbers, how many arrays there are, a tuple of them (Python's objects), the
    mailbox, the number of threads, and memory or 0. The block is the number of launches, bytes of work in
    front of scratch memory, and of each launch: kernel, tasks, scratch bytes, threads, number of arguments,
    number of pairs, the arguments, and the pairs. Each of these says, for one of the first arguments, which
    array's data it is the address of, and how many bytes are added.
    """
    f = Function(module, "complete", [POINTER, INT, POINTER, *[INT] * 3])
    block, count, items, box, wanted, memory = f.arguments
    kept = Value(f, f.allocate(f"[{ARGUMENTS} x i64], align {LINE}"), POINTER)
    own = Value(f, f.allocate(f"[{OWN_SCRATCH} x i8], align {LINE}"), POINTER)
    base = f.choose(memory.equals(0), own, f.as_pointer(memory))
    at, start, alone = f.variable(POINTER, block + 16), f.variable(INT, 0), f.variable(INT, 1)
    with f.loop(f.number(block, 0)):
        head = at.get()
        kernel, tasks, scratch_bytes, threads, length, given = (f.number(head, i) for i in range(HEAD))
        planned = head + 8 * HEAD
        pairs = planned + length * 8
        arguments = f.choose(length > ARGUMENTS, base, kept)
        with f.loop(length) as i:
            f.put(f.number(planned, i), arguments, i)
        with f.loop(f.least(given, count)) as i:
            number, offset = (f.number(pairs, i * 2 + k) for k in range(2))
            start.set(_integer(f, f.choose(number.equals(WORK), base, items + PLACE_OF_ITEMS)))
            with f.when(number > -1):
                array = f.as_pointer(f.number(items + PLACE_OF_ITEMS, number))
                start.set(f.number(array, (PLACE_OF_DATA or 0) // 8))
            f.put(start.get() + offset, arguments, i)
        place = _integer(f, arguments)
        with f.when(scratch_bytes > 0):
            f.put(_integer(f, base + f.number(block, 1)), arguments, length - 1)
        alone.set(1)
        asked = f.least(wanted, threads)
        with f.when(asked > 1):
            alone.set(f.call(post, f.as_pointer(box), kernel, place, tasks, asked))
        with f.when(alone.get() > 0), f.loop(tasks) as task:
            f.call_address(kernel, task, place, f.constant(0, INT))
        at.set(pairs + given * SOURCE.size)
    f.finish()
    whole = Function(module, "launch", [POINTER, INT, POINTER, *[INT] * 3], exported=True)
    whole.call(f, *whole.arguments)
    whole.finish()
    brief = Function(module, "brief", [POINTER, INT, POINTER], exported=True)
    brief.call(f, *brief.arguments, 0, 1, 0)
    brief.finish()


def _integer(f: Function, place: Value) -> Value:
    return f.value(f"ptrtoint ptr {place.name} to i64", INT)


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
        serve, launch, brief, recall = machine().compile(module)
        self._serve, self._recall = callable_at(serve, "ii"), callable_at(recall, "i")
        self._data = PLACE_OF_DATA or 0
        # With a tuple, or with the address of what takes its place; brief ones may need more memory.
        self._calls, self._plain = (
            [callable_at(launch, f"pi{kind}iii", keeps_gil=brief) for brief in (False, True)] for kind in "oi"
        )
        self._brief = callable_at(brief, "pio", keeps_gil=True)
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
        block, known = launch.block, PLACE_OF_DATA is not None
        count = len(arrays) if launch.count is None else launch.count
        if values:
            begin = 8 * (2 + HEAD + len(arrays))
            block = block[:begin] + struct.pack(f"{len(values)}q", *values) + block[begin + 8 * len(values) :]
        if launch.brief and launch.memory <= OWN_SCRATCH and known:
            self._brief(block, count, arrays)
            return
        items, table = arrays, None
        if not known:  # numbers in the place of objects: the address of each, and behind them what lies there
            found = addresses(arrays)
            table = np.array([*found, *found], np.int64)
            table[: len(found)] = address(table) + 8 * np.arange(len(found), 2 * len(found)) - self._data
            items = address(table) - PLACE_OF_ITEMS  # type: ignore[assignment]
        wanted = threads.rouse(launch.threads) if launch.threads > 1 else 1
        call = (self._calls if known else self._plain)[launch.brief]
        size = launch.memory + launch.scratch * (wanted - 1)
        if size <= OWN_SCRATCH:
            call(block, count, items, self._address, wanted, 0)
            return
        memory = scratch.take(size)
        base = address(memory)
        call(block, count, items, self._address, wanted, base + -base % LINE)
        scratch.give_back(memory)


@lru_cache(maxsize=1)
def pool() -> Pool:
    """Return the pool of this process."""
    return Pool()
