"""LLVM IR as text, built by Python functions that read like the loops they emit.

A kernel is a `Function`; integers, addresses and vectors in it are a `Value` with Python's operators.
What is an `int` or a `float` of Python while a kernel is built is a constant of the kernel.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Number: TypeAlias = "Value | int"

INT, POINTER = "i64", "ptr"


class Value:
    """An SSA value: an integer (i64), an address (ptr), a number or a vector of numbers."""

    __slots__ = ("function", "name", "type")

    def __init__(self, function: Function, name: str, type: str) -> None:
        self.function, self.name, self.type = function, name, type

    def _with(self, integer: str, floating: str, other: Any) -> Value:
        f, operation = self.function, integer if self.type == INT else floating
        return f.value(f"{operation} {self.type} {self.name}, {f.constant(other, self.type).name}", self.type)

    def _compared(self, condition: str, other: Number) -> Value:
        f = self.function
        return f.value(f"icmp {condition} {self.type} {self.name}, {f.constant(other, INT).name}", "i1")

    def __add__(self, other: Any) -> Value:
        """Add; bytes to an address."""
        if self.type != POINTER:
            return self._with("add", "fadd", other)
        offset = self.function.constant(other, INT).name
        return self.function.value(f"getelementptr i8, ptr {self.name}, i64 {offset}", POINTER)

    def __sub__(self, other: Any) -> Value:
        return self._with("sub", "fsub", other)

    def __mul__(self, other: Any) -> Value:
        return self._with("mul", "fmul", other)

    def __floordiv__(self, other: Number) -> Value:
        return self._with("sdiv", "fdiv", other)

    def __mod__(self, other: Number) -> Value:
        return self._with("srem", "frem", other)

    __radd__, __rmul__ = __add__, __mul__

    def __lt__(self, other: Number) -> Value:
        return self._compared("slt", other)

    def __gt__(self, other: Number) -> Value:
        return self._compared("sgt", other)

    def equals(self, other: Number) -> Value:
        """Compare; `==` is left to Python."""
        return self._compared("eq", other)


class Variable:
    """A place on the stack, which LLVM keeps in a register."""

    def __init__(self, function: Function, type: str, initial: Any) -> None:
        self._function, self._type = function, type
        self._place = function.allocate(type)
        self.set(initial)

    def get(self) -> Value:
        """Read it."""
        return self._function.value(f"load {self._type}, ptr {self._place}", self._type)

    def set(self, value: Any) -> None:
        """Write to it."""
        f = self._function
        f.emit(f"store {self._type} {f.constant(value, self._type).name}, ptr {self._place}")


class Function:
    """A function that is being written; its arguments are in `arguments`."""

    def __init__(
        self,
        module: Module,
        name: str,
        arguments: list[str],
        result: str = "void",
        exported: bool = False,
    ) -> None:
        self.module, self.name, self.result, self.exported = module, name, result, exported
        self.arguments = [Value(self, f"%a{i}", type) for i, type in enumerate(arguments)]
        self._lines: list[str] = []
        self._places: list[str] = []
        self._count = 0
        module.functions.append(self)

    def _name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def value(self, text: str, type: str) -> Value:
        """Emit an instruction that has a result."""
        name = self._name("%v")
        self.emit(f"{name} = {text}")
        return Value(self, name, type)

    def emit(self, text: str) -> None:
        """Emit a line."""
        self._lines.append(text)

    def allocate(self, type: str) -> str:
        """Reserve a place on the stack."""
        name = self._name("%m")
        self._places.append(f"{name} = alloca {type}")
        return name

    def variable(self, type: str, initial: Any) -> Variable:
        """Make a variable."""
        return Variable(self, type, initial)

    def constant(self, value: Any, type: str) -> Value:
        """Return a value as it is, and a number of Python as a constant of `type`."""
        if isinstance(value, Value):
            return value
        if type == INT:
            return Value(self, str(int(value)), type)
        if not type.startswith("<"):
            return Value(self, _literal(value, type), type)
        if value == 0:
            return Value(self, "zeroinitializer", type)
        lanes, element = _parts(type)
        return Value(self, f"<{', '.join([f'{element} {_literal(value, element)}'] * lanes)}>", type)

    @contextmanager
    def loop(self, stop: Number, start: Number = 0, step: Number = 1) -> Iterator[Value]:
        """Repeat for `start`, `start` + `step`, ... below `stop`."""
        place = self.variable(INT, start)
        head, body, after = (self._name("b") for _ in range(3))
        self._go(head)
        index = place.get()
        self._branch(index < stop, body, after)
        yield index
        place.set(index + step)
        self._go(head, after)

    @contextmanager
    def repeat(self, condition: Callable[[], Value]) -> Iterator[None]:
        """Repeat while a condition, which is computed again each time, is true."""
        head, body, after = (self._name("b") for _ in range(3))
        self._go(head)
        self._branch(condition(), body, after)
        yield
        self._go(head, after)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Do something if `condition` is true."""
        body, after = self._name("b"), self._name("b")
        self._branch(condition, body, after)
        yield
        self._go(after)

    def _go(self, target: str, continued: str | None = None) -> None:
        """Jump to a block, and go on writing that one or `continued`."""
        self.emit(f"br label %{target}")
        self._lines.append(f"{continued or target}:")

    def _branch(self, condition: Value, then: str, otherwise: str) -> None:
        self.emit(f"br i1 {condition.name}, label %{then}, label %{otherwise}")
        self._lines.append(f"{then}:")

    def select(self, condition: Value, then: Number, otherwise: Number) -> Value:
        """Choose one of two integers."""
        a, b = self.constant(then, INT), self.constant(otherwise, INT)
        return self.value(f"select i1 {condition.name}, i64 {a.name}, i64 {b.name}", INT)

    def choose(self, condition: Value, then: Value, otherwise: Value) -> Value:
        """Choose one of two addresses."""
        return self.value(f"select i1 {condition.name}, ptr {then.name}, ptr {otherwise.name}", POINTER)

    def all_of(self, a: Value, b: Value) -> Value:
        """Return whether both conditions hold."""
        return self.value(f"and i1 {a.name}, {b.name}", "i1")

    def negation(self, a: Value) -> Value:
        """Return whether a condition does not hold."""
        return self.value(f"xor i1 {a.name}, true", "i1")

    def least(self, a: Value, b: Number) -> Value:
        """Return the smaller of two integers."""
        return self.select(a < b, a, b)

    def most(self, a: Value, b: Number) -> Value:
        """Return the larger of two integers."""
        return self.select(a > b, a, b)

    def call(self, function: Function | str, *arguments: Any, result: str = "void") -> Any:
        """Call a function of the module, or one that is declared outside of it, such as an intrinsic."""
        given = [self.constant(argument, INT) for argument in arguments]
        if isinstance(function, Function):
            name, result = function.name, function.result
        else:
            name = function
            types = ", ".join(argument.type for argument in given)
            self.module.declarations[name] = f"declare {result} @{name}({types})"
        text = f"call {result} @{name}({', '.join(f'{a.type} {a.name}' for a in given)})"
        return self.emit(text) if result == "void" else self.value(text, result)

    def prefetch(self, place: Value) -> None:
        """Prefetch the cache line at an address, which need not be of memory that may be read."""
        name = "llvm.prefetch.p0"
        self.module.declarations[name] = f"declare void @{name}(ptr, i32, i32, i32)"
        self.emit(f"call void @{name}(ptr {place.name}, i32 0, i32 2, i32 1)")

    def number(self, place: Value, index: Number) -> Value:
        """Read an integer of those that lie at an address."""
        return self.value(f"load i64, ptr {(place + self.constant(index, INT) * 8).name}", INT)

    def put(self, number: Value, place: Value, index: Number) -> None:
        """Write an integer among those that lie at an address."""
        at = place + self.constant(index, INT) * 8
        self.emit(f"store i64 {number.name}, ptr {at.name}")

    def call_address(self, address: Value, *arguments: Number) -> None:
        """Call a function of integers and addresses that is compiled already."""
        function = self.as_pointer(address)
        given = [self.constant(argument, INT) for argument in arguments]
        self.emit(f"call void {function.name}({', '.join(f'{a.type} {a.name}' for a in given)})")

    def as_pointer(self, address: Value) -> Value:
        """Take an integer for an address."""
        return self.value(f"inttoptr i64 {address.name} to ptr", POINTER)

    def finish(self, result: Value | None = None) -> None:
        """Return from the function."""
        self.emit("ret void" if result is None else f"ret {result.type} {result.name}")

    def text(self) -> str:
        """Return its IR."""
        arguments = ", ".join(f"{a.type} {a.name}" for a in self.arguments)
        lines = "\n".join([*self._places, *self._lines])
        linkage = "" if self.exported else "internal "
        return f"define {linkage}{self.result} @{self.name}({arguments}) #0 {{\n{lines}\n}}\n"


class Module:
    """Functions that are compiled together."""

    def __init__(self) -> None:
        self.functions: list[Function] = []
        self.declarations: dict[str, str] = {}

    def text(self) -> str:
        """Return its IR."""
        functions = [f.text() for f in self.functions]
        attributes = 'attributes #0 = { nounwind "prefer-vector-width"="512" }'
        return "\n".join([*self.declarations.values(), *functions, attributes])


def name_of(dtype: Any) -> str:
    """Return the name of a dtype, which NumPy takes microseconds to say."""
    return "float32" if dtype.char == "f" else "float64"


def itemsize_of(dtype: str) -> int:
    """Return the bytes of a number."""
    return 4 if dtype == "float32" else 8


def callable_at(address: int, arguments: str, *, keeps_gil: bool = False) -> Any:
    """Return compiled code as a function of integers ("i"), bytes ("p") and Python's objects ("o").

    It runs without the GIL, unless it is so short that letting go of it takes longer.
    """
    types: dict[str, Any] = {"i": ctypes.c_int64, "p": ctypes.c_char_p, "o": ctypes.py_object}
    kinds = [types[kind] for kind in arguments]
    return (ctypes.PYFUNCTYPE if keeps_gil else ctypes.CFUNCTYPE)(None, *kinds)(address)


def _parts(type: str) -> tuple[int, str]:
    lanes, element = type[1:-1].split(" x ")
    return int(lanes), element


def _literal(value: float, element: str) -> str:
    if element == "float":
        (value,) = struct.unpack("f", struct.pack("f", value))
    return "0x" + struct.pack(">d", value).hex().upper()
