"""Vectors of numbers in a function that is being written, and masks of their lanes."""

from __future__ import annotations

from typing import Any

from fconv.engine.compiled.llvm import INT, Function, Number, Value, Variable
from fconv.engine.compiled.machine import machine


class Numbers:
    """Numbers of one dtype in vectors, as wide as the processor's registers or of so many `lanes`."""

    def __init__(self, function: Function, dtype: Any, lanes: int | None = None) -> None:
        self.f = function
        self.itemsize = 4 if dtype == "float32" else 8
        self.element = "float" if self.itemsize == 4 else "double"
        self.lanes = lanes or machine().vector_bytes // self.itemsize
        self.vector = f"<{self.lanes} x {self.element}>"
        self._suffix = f"v{self.lanes}f{8 * self.itemsize}"

    @property
    def bytes(self) -> int:
        """Bytes of a vector."""
        return self.lanes * self.itemsize

    def zero(self) -> Variable:
        """Make a variable vector that begins as 0."""
        return self.f.variable(self.vector, 0.0)

    def load(self, address: Value, mask: Value | None = None) -> Value:
        """Load a vector; with a mask, load the lanes that it names and set the others to 0."""
        if mask is None:
            return self.f.value(f"load {self.vector}, ptr {address.name}, align {self.itemsize}", self.vector)
        align = Value(self.f, str(self.itemsize), "i32")
        blank = self.f.constant(0.0, self.vector)
        name = f"llvm.masked.load.{self._suffix}.p0"
        return self.f.call(name, address, align, self.lanes_of(mask), blank, result=self.vector)

    def store(self, value: Value, address: Value, mask: Value | None = None) -> None:
        """Store a vector, or the lanes of it that a mask names."""
        if mask is None:
            self.f.emit(f"store {self.vector} {value.name}, ptr {address.name}, align {self.itemsize}")
            return
        lanes = self.lanes_of(mask)
        if machine().masks:
            self._store_lanes(value, address, lanes)
            return
        every = self.f.call(f"llvm.vector.reduce.and.v{self.lanes}i1", lanes, result="i1")
        with self.f.when(every):  # as a store with a mask takes several times as long
            self.store(value, address)
        with self.f.when(self.f.negation(every)):
            self._store_lanes(value, address, lanes)

    def _store_lanes(self, value: Value, address: Value, lanes: Value) -> None:
        align = Value(self.f, str(self.itemsize), "i32")
        self.f.call(f"llvm.masked.store.{self._suffix}.p0", value, address, align, lanes)

    def number(self, address: Value) -> Value:
        """Load one number."""
        return self.f.value(f"load {self.element}, ptr {address.name}, align {self.itemsize}", self.element)

    def put(self, value: Value, address: Value) -> None:
        """Store one number."""
        self.f.emit(f"store {self.element} {value.name}, ptr {address.name}, align {self.itemsize}")

    def spread(self, number: Value) -> Value:
        """Repeat a number in all lanes."""
        return _spread(self.f, number, self.lanes)

    def mask(self, count: Number) -> Value:
        """Return a mask of the first `count` lanes: bits, or integers that are negative there."""
        f = self.f
        kind = "i64" if machine().masks else f"i{8 * self.itemsize}"
        type = f"<{self.lanes} x {kind}>"
        places = f"<{', '.join(f'{kind} {i}' for i in range(self.lanes))}>"
        given = f.constant(count, INT)
        if machine().masks:
            counts = _spread(f, given, self.lanes)
            return f.value(f"icmp slt {type} {places}, {counts.name}", f"<{self.lanes} x i1>")
        given = f.most(f.least(given, self.lanes), 0)
        if kind != INT:
            given = f.value(f"trunc i64 {given.name} to {kind}", kind)
        return f.value(f"sub {type} {places}, {_spread(f, given, self.lanes).name}", type)

    def lanes_of(self, mask: Value) -> Value:
        """Return a mask in bits: without registers for masks it is kept in the signs of integers."""
        if mask.type == (bits := f"<{self.lanes} x i1>"):
            return mask
        return self.f.value(f"icmp slt {mask.type} {mask.name}, zeroinitializer", bits)

    def between(self, first: Number, last: Number) -> Value:
        """Return a mask of the lanes from `first` to before `last`."""
        below, above = self.mask(first), self.mask(last)
        type = below.type
        ones = ", ".join([f"{type.split()[-1][:-1]} -1"] * self.lanes)
        inside = self.f.value(f"xor {type} {below.name}, <{ones}>", type)
        return self.f.value(f"and {type} {inside.name}, {above.name}", type)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return a * b + c, rounded once."""
        return self.f.call(f"llvm.fma.{self._suffix}", a, b, c, result=self.vector)

    def shuffle(self, a: Value, b: Value, places: list[int]) -> Value:
        """Choose lanes of `a` (0, 1, ...) and `b` (lanes, lanes + 1, ...)."""
        chosen = ", ".join(f"i32 {place}" for place in places)
        text = (
            f"shufflevector {self.vector} {a.name}, {self.vector} {b.name}, <{self.lanes} x i32> <{chosen}>"
        )
        return self.f.value(text, self.vector)

    def transposed(self, rows: list[Value]) -> list[Value]:
        """Transpose as many vectors as a vector has lanes, by exchanging ever smaller blocks of them."""
        n, half = self.lanes, self.lanes // 2
        while half:
            exchanged = list(rows)
            for i in range(n):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    low = [j if not j & half else n + j - half for j in range(n)]
                    high = [j + half if not j & half else n + j for j in range(n)]
                    exchanged[i], exchanged[i + half] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            rows, half = exchanged, half // 2
        return rows

    def interleaved(self, rows: list[Value]) -> list[Value]:
        """Return a number of each vector in turn, then the next of each, as so many vectors."""
        found = []
        for first in range(0, len(rows) * self.lanes, self.lanes):
            places = [divmod(first + k, len(rows)) for k in range(self.lanes)]
            woven = self.shuffle(rows[0], rows[1], [place + min(r, 1) * self.lanes for place, r in places])
            for v, row in enumerate(rows[2:], 2):
                chosen = [self.lanes + place if r == v else k for k, (place, r) in enumerate(places)]
                woven = self.shuffle(woven, row, chosen)
            found.append(woven)
        return found

    def both(self, mask: Value, condition: Value) -> Value:
        """Return a mask where `condition`, and nowhere otherwise."""
        text = f"select i1 {condition.name}, {mask.type} {mask.name}, {mask.type} zeroinitializer"
        return self.f.value(text, mask.type)


def _spread(f: Function, number: Value, lanes: int) -> Value:
    type = f"<{lanes} x {number.type}>"
    one = f.value(f"insertelement {type} poison, {number.type} {number.name}, i32 0", type)
    return f.value(f"shufflevector {type} {one.name}, {type} poison, <{lanes} x i32> zeroinitializer", type)
