"""A pickle read as data: opcode by opcode, building plain values, executing nothing.

Python's own unpickler calls whatever a pickle names. This one knows a table of names and what
value each stands for; any other name, and any opcode that plain values do not need, is refused
with the name that was found, as ``torch.load(weights_only=True)`` does. The opcodes are those of
Python's pickletools module.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any, NamedTuple

_LONGEST_INTEGER = 255  # bytes
_DEEPEST = 100
_MOST_VALUES = 5_000_000  # in the tree that the pickle unfolds to, shared parts counted each time
_MOST_BYTES = 256 << 20  # that values may take beside what the file itself holds, about
_VALUE, _CONTAINER, _ENTRY = 32, 256, 128  # bytes of memory, about
_PROTOCOLS = range(2, 6)


@dataclass(frozen=True)
class Name:
    """A name that a pickle mentions and the table knows; it is never looked up anywhere."""

    full: str


class Unpickled(NamedTuple):
    """A value, and where in the data its pickle ends."""

    value: Any
    end: int


class _Mark:
    """Where a list of arguments begins on the stack."""


_MARK = _Mark()
_FIXED = {  # opcode: a number that follows, and whether it is the value or a length
    0x4B: "<B", 0x4D: "<H", 0x4A: "<i", 0x47: ">d",
}  # fmt: skip
_TEXT = {0x58: "<I", 0x8C: "<B", 0x8D: "<Q"}  # BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
_BYTES = {0x42: "<I", 0x43: "<B", 0x8E: "<Q", 0x96: "<Q"}  # BINBYTES, SHORT_, BINBYTES8, BYTEARRAY8
_STRING = {0x54: "<i", 0x55: "<B"}  # BINSTRING, SHORT_BINSTRING of Python 2
_LONG = {0x8A: "<B", 0x8B: "<i"}
_CONSTANT = {0x4E: None, 0x88: True, 0x89: False}
_EMPTY: dict[int, Callable[[], Any]] = {0x7D: dict, 0x5D: list, 0x29: tuple, 0x8F: set}
_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}


def unpickle(
    data: Any,
    start: int,
    calls: Mapping[str, Callable[..., Any]],
    values: Mapping[str, Any],
    persistent: Callable[[Any], Any],
) -> Unpickled:
    """Read one pickle.

    Parameters
    ----------
    data : bytes or mmap
        What holds it.
    start : int
        Where it begins.
    calls : mapping
        What a name that is called gives, from its arguments. A function here raises ValueError
        for arguments that it does not expect.
    values : mapping
        What a name that is not called stands for.
    persistent : callable
        What a persistent id stands for.

    Returns
    -------
    Unpickled
        The value, of dicts, lists, tuples, sets, numbers, text, bytes, None, and what `calls`,
        `values` and `persistent` give.

    Raises
    ------
    ValueError
        A name or opcode that is not allowed, or a pickle that is damaged or out of proportion.
    """
    machine = _Machine(data, start, calls, values, persistent)
    try:
        value = machine.run()
    except (IndexError, struct.error, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"its pickle is damaged at byte {machine.at}: {error}") from None
    except TypeError as error:
        raise ValueError(
            f"its pickle puts values where they cannot be, at byte {machine.at}: {error}"
        ) from None
    _check_proportions(value)
    return Unpickled(value, machine.at)


class _Machine:
    def __init__(
        self,
        data: Any,
        start: int,
        calls: Mapping[str, Callable[..., Any]],
        values: Mapping[str, Any],
        persistent: Callable[[Any], Any],
    ) -> None:
        self.data, self.at, self.size = data, start, len(data)
        self.calls, self.values, self.persistent = calls, values, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.room = _MOST_BYTES

    def spend(self, count: int) -> None:
        """Count memory: a byte of a pickle can make hundreds, long before its value is looked at."""
        self.room -= count
        if self.room < 0:
            raise ValueError(f"its pickle makes more than {_MOST_BYTES >> 20} MB of values")

    def run(self) -> Any:
        while True:
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                if len(self.stack) != 1 or self.stack[0] is _MARK:
                    raise ValueError(f"its pickle ends with {len(self.stack)} values, expected one")
                return self.stack[0]
            self.step(code)

    def take(self, count: int) -> bytes:
        if count < 0 or count > self.size - self.at:
            raise ValueError(f"its pickle ends early: {count} bytes wanted at byte {self.at} of {self.size}")
        found = self.data[self.at : self.at + count]
        self.at += count
        return bytes(found)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, min(self.size, self.at + 1000))
        if end < 0:
            raise ValueError(f"its pickle has a name without an end at byte {self.at}")
        found = self.take(end - self.at)
        self.at += 1
        return found.decode()

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError(f"its pickle takes a value that is not there, at byte {self.at}")
        return value

    def marked(self) -> list[Any]:
        """Take what stands above the last mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                found = self.stack[place + 1 :]
                del self.stack[place:]
                return found
        raise ValueError(f"its pickle lacks a mark at byte {self.at}")

    def step(self, code: int) -> None:
        push = self.stack.append
        self.spend(_CONTAINER if code in _EMPTY else _VALUE)
        if code in _FIXED:
            push(self.number(_FIXED[code]))
        elif code in _TEXT:
            push(self.take(self.number(_TEXT[code])).decode("utf-8", "surrogatepass"))
        elif code in _BYTES:
            push(self.take(self.number(_BYTES[code])))
        elif code in _STRING:
            push(self.take(self.number(_STRING[code])).decode("latin-1"))
        elif code in _LONG:
            length = self.number(_LONG[code])
            if length > _LONGEST_INTEGER:
                raise ValueError(f"its pickle has an integer of {length} bytes")
            push(int.from_bytes(self.take(length), "little", signed=True))
        elif code in _CONSTANT:
            push(_CONSTANT[code])
        elif code in _EMPTY:
            push(_EMPTY[code]())
        elif code == 0x28:
            push(_MARK)
        elif code in _TUPLES:
            if len(self.stack) < _TUPLES[code] or _MARK in self.stack[-_TUPLES[code] :]:
                raise ValueError(f"its pickle makes a tuple of what is not there, at byte {self.at}")
            push(tuple(self.pop() for _ in range(_TUPLES[code]))[::-1])
        elif code == 0x74:
            push(tuple(self.marked()))
        elif code in (0x71, 0x72, 0x94):  # BINPUT, LONG_BINPUT, MEMOIZE
            place = len(self.memo) if code == 0x94 else self.number("<B" if code == 0x71 else "<I")
            value = self.pop()
            push(value)
            self.memo[place] = value
        elif code in (0x68, 0x6A):  # BINGET, LONG_BINGET
            place = self.number("<B" if code == 0x68 else "<I")
            if place not in self.memo:
                raise ValueError(f"its pickle asks for value {place}, which it never kept")
            push(self.memo[place])
        elif code in (0x61, 0x65):  # APPEND, APPENDS
            items = [self.pop()] if code == 0x61 else self.marked()
            self.target(list).extend(items)
        elif code in (0x73, 0x75):  # SETITEM, SETITEMS
            items = self.marked() if code == 0x75 else [self.pop(), self.pop()][::-1]
            if len(items) % 2:
                raise ValueError("its pickle has a key without a value")
            into = self.target(dict)
            for key, value in zip(items[::2], items[1::2], strict=True):
                into[_key(key)] = value
        elif code == 0x90:  # ADDITEMS
            items = self.marked()
            self.target(set).update(map(_key, items))
        elif code == 0x91:  # FROZENSET
            push(frozenset(map(_key, self.marked())))
        elif code in (0x63, 0x93):  # GLOBAL, STACK_GLOBAL
            self.name(code)
        elif code in (0x52, 0x81):  # REDUCE, NEWOBJ
            arguments, called = self.pop(), self.pop()
            push(self.call(called, arguments))
        elif code == 0x62:  # BUILD
            self.build()
        elif code == 0x51:  # BINPERSID
            push(self.persistent(self.pop()))
        elif code == 0x80:
            if self.take(1)[0] not in _PROTOCOLS:
                raise ValueError("its pickle is of a protocol other than 2 to 5")
        elif code == 0x95:
            self.take(8)  # FRAME: how much to read at once, which means nothing here
        elif code == 0x30:
            self.pop()
        else:
            raise ValueError(f"its pickle holds the opcode {_opcode(code)}, which plain values do not need")

    def target(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            found = type(self.stack[-1]).__name__ if self.stack else "nothing"
            raise ValueError(f"its pickle adds to {found} as if it were a {kind.__name__}")
        return self.stack[-1]

    def name(self, code: int) -> None:
        if code == 0x63:
            module, name = self.line(), self.line()
        else:
            name, module = self.pop(), self.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("its pickle names something by what is no text")
        full = f"{module}.{name}"
        if full in self.values:
            self.stack.append(self.values[full])
        elif full in self.calls:
            self.stack.append(Name(full))
        else:
            raise ValueError(
                f"it asks for {full[:200]!r}, which is none of the names that are read; nothing was run"
            )

    def call(self, called: Any, arguments: Any) -> Any:
        if not isinstance(called, Name):
            raise ValueError(f"its pickle calls {shortened(called)}, which is no name")
        if not isinstance(arguments, tuple):
            raise ValueError(
                f"its pickle calls {called.full} with {type(arguments).__name__}, expected a tuple"
            )
        try:
            made = self.calls[called.full](*arguments)
        except TypeError:
            raise ValueError(f"its pickle calls {called.full} with {len(arguments)} arguments") from None
        self.spend(_size(made))
        return made

    def build(self) -> None:
        """Pass over the attributes of a dict, such as the _metadata of a state dict."""
        state = self.pop()
        if not self.stack or not isinstance(self.stack[-1], dict) or not isinstance(state, dict):
            found = type(self.stack[-1]).__name__ if self.stack else "nothing"
            raise ValueError(f"its pickle gives attributes to {found}; only an OrderedDict has any")


def _size(made: Any) -> int:
    """Estimate the memory that a call's result takes."""
    if isinstance(made, (str, bytes)):
        return _CONTAINER + len(made)
    return _CONTAINER + _ENTRY * len(made) if isinstance(made, (dict, list, tuple, set)) else _CONTAINER


def _key(value: Any) -> Any:
    """Allow as keys only what hashes without surprises: collisions made on purpose take hours."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"its pickle has the key {shortened(value)}, which is no 64-bit integer")
    if value is not None and not isinstance(value, (str, int, bytes)):
        raise ValueError(f"its pickle has a key of type {type(value).__name__}, expected text or an integer")
    return value


def _check_proportions(value: Any) -> None:
    """Refuse what unfolds to far more than the file holds, what is nested deep, and what holds itself."""
    sizes: dict[int, tuple[int, int]] = {}  # values and levels below each container
    open_: set[int] = set()
    pending = [(value, False)]
    while pending:
        x, done = pending.pop()
        below = children(x)
        if below is None or id(x) in sizes:
            continue
        if not done:
            if id(x) in open_:
                raise ValueError("its pickle holds a value that contains itself")
            open_.add(id(x))
            pending.append((x, True))
            pending += [(child, False) for child in below]
            continue
        open_.discard(id(x))
        found = [sizes.get(id(child), (1, 0)) if children(child) is not None else (1, 0) for child in below]
        count, levels = 1 + sum(n for n, _ in found), 1 + max((level for _, level in found), default=0)
        if count > _MOST_VALUES:
            raise ValueError(f"its pickle unfolds to more than {_MOST_VALUES:,} values")
        if levels > _DEEPEST:
            raise ValueError(f"its pickle nests more than {_DEEPEST} deep")
        sizes[id(x)] = count, levels


def children(x: Any) -> list[Any] | None:
    """List what a container holds; None for what is none."""
    if isinstance(x, dict):
        return list(x.values())
    if isinstance(x, (list, tuple, set, frozenset)) and not hasattr(x, "_fields"):
        return list(x)
    return None


def _opcode(code: int) -> str:
    import pickletools

    names = {ord(each.code): each.name for each in pickletools.opcodes}
    return names.get(code, f"{code:#04x}")
