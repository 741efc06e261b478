"""The state of a pickle that is read, and the ways in which its opcodes may change it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from sys import getsizeof
from typing import Any

from fconv.files.formats.claims import Budget
from fconv.files.formats.placeholders import Placeholder

_LONGEST_NAME = 1000
# Bytes of memory, about. What a pickle takes must be known before it is taken: one byte can make hundreds.
SLOT, NUMBER, TUPLE, DICT, SET, ENTRY, OBJECT = 8, 40, 56, 72, 224, 64, 300


class ForeignError(ValueError):
    """A name or value that the tables lack; it becomes a placeholder unless the reading is strict."""


@dataclass(frozen=True)
class Name:
    """A name that a pickle mentions and the table knows; it is never looked up anywhere."""

    full: str


class Machine:
    """The machine that a pickle's opcodes run on: a stack, a memo, and the tables of names.

    Its parameters are those of `fconv.files.formats.pt.pickles.unpickle`.
    """

    def __init__(
        self,
        data: Any,
        start: int,
        calls: Mapping[str, Callable[..., Any]],
        values: Mapping[str, Any],
        persistent: Callable[[Any], Any],
        budget: Budget,
        strict: bool,
    ) -> None:
        self.data, self.at, self.size = data, start, len(data)
        self.calls, self.values, self.persistent = calls, values, persistent
        self.spend, self.strict = budget.spend, strict
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack at which lists of arguments begin
        self.memo: list[Any] = []
        self.scattered: dict[int, Any] = {}  # the rest of the memo, where places leave gaps
        self.names: dict[str, Any] = {}

    def take(self, count: int) -> bytes:
        """Read the next bytes."""
        if count < 0 or count > self.size - self.at:
            raise ValueError(f"its pickle ends early: {count} bytes wanted at byte {self.at} of {self.size}")
        found = self.data[self.at : self.at + count]
        self.at += count
        return bytes(found)

    def number(self, form: str) -> Any:
        """Read one number of a form of the module struct."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """Read text up to the end of its line."""
        end = self.data.find(b"\n", self.at, min(self.size, self.at + _LONGEST_NAME))
        if end < 0:
            raise ValueError(f"its pickle has a name without an end at byte {self.at}")
        found = self.take(end - self.at)
        self.at += 1
        return found.decode()

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def sized(self, value: Any) -> None:
        """Push what takes as much memory as the file makes it."""
        self.spend(getsizeof(value))
        self.stack.append(value)

    def top(self, count: int = 1) -> Any:
        """Require that so many values stand above the last mark, and return the topmost."""
        if len(self.stack) < (self.marks[-1] if self.marks else 0) + count:
            raise ValueError(f"its pickle takes a value that is not there, at byte {self.at}")
        return self.stack[-1]

    def pop(self) -> Any:
        """Take the topmost value."""
        self.top()
        return self.stack.pop()

    def marked(self) -> list[Any]:
        """Take what stands above the last mark."""
        if not self.marks:
            raise ValueError(f"its pickle lacks a mark at byte {self.at}")
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def named(self, module: Any, name: Any) -> Any:
        """Return what a name stands for."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("its pickle names something by what is no text")
        if len(module) + len(name) > _LONGEST_NAME:
            raise ValueError(f"its pickle has a name of {len(module) + len(name)} letters")
        full = f"{module}.{name}"
        if full not in self.names:
            self.spend(OBJECT + getsizeof(full))
            if full in self.values:
                self.names[full] = self.values[full]
            elif full in self.calls:
                self.names[full] = Name(full)
            else:
                self.foreign(f"it asks for {full[:200]!r}, which is none of the names that are read")
                self.names[full] = Placeholder(full)
        return self.names[full]

    def foreign(self, what: str) -> None:
        """Refuse what is foreign where only plain values are wanted."""
        if self.strict:
            raise ForeignError(f"{what}; nothing was run")

    def call(self, called: Any, arguments: Any) -> Any:
        """Return what a known name stands for with these arguments, and a placeholder for others."""
        self.spend(OBJECT)
        if not isinstance(called, (Name, Placeholder)):
            raise ValueError(f"its pickle calls {shortened(called)}, which is no name")
        name = called.full if isinstance(called, Name) else called.name
        if not isinstance(arguments, tuple):
            raise ValueError(f"its pickle calls {name} with {type(arguments).__name__}, expected a tuple")
        if isinstance(called, Placeholder):
            if called.arguments is None:
                return Placeholder(name, arguments)
            return Placeholder(name.removesuffix("(...)") + "(...)", (called, *arguments))
        try:
            made = self.calls[name](*arguments)
        except TypeError:
            raise ValueError(f"its pickle calls {name} with {len(arguments)} arguments") from None
        except ForeignError as error:
            self.foreign(str(error))
            return Placeholder(name, arguments)
        if isinstance(made, (str, bytes, dict, list, tuple, set)):
            self.spend(getsizeof(made))
        return made

    def add(self, kind: type, items: Any) -> None:
        """Add to a list, a dict or a set, or note that it would be added to a foreign one."""
        into: Any = self.top() if self.stack else None
        if isinstance(into, Placeholder) and into.arguments is not None:
            into.items = (dict if kind is dict else list)() if into.items is None else into.items
            kind, into = (kind if kind is dict else list), into.items
        if type(into) is not kind:
            found = type(into).__name__ if self.stack else "nothing"
            raise ValueError(f"its pickle adds to {found} as if it were a {kind.__name__}")
        self.spend((ENTRY if kind is not list else SLOT) * len(items) + DICT)
        held: Any = into
        held.extend(items) if kind is list else held.update(items)

    def key(self, value: Any) -> Any:
        """Allow as keys only what hashes without surprises: collisions made on purpose take hours."""
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            raise ValueError(f"its pickle has the key {shortened(value)}, which is no 64-bit integer")
        if value is None or isinstance(value, (str, int, bytes)):
            return value
        if self.strict:
            raise ValueError(
                f"its pickle has a key of type {type(value).__name__}, expected text or an integer"
            )
        if isinstance(value, (float, Placeholder)):
            return value
        self.spend(OBJECT)  # a placeholder's hash is its address, whatever it holds
        if isinstance(value, Name):
            return Placeholder(value.full)
        plain = isinstance(value, (tuple, frozenset, complex))
        return Placeholder(f"builtins.{type(value).__name__}" if plain else "torch.Tensor", (value,))
