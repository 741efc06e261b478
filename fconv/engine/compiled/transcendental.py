"""Comparisons, exponentials, logarithms and normal distributions of vectors, in LLVM IR.

Each function is a range reduction and a polynomial, or a fraction of two, without branches and tables.
The polynomials are Chebyshev interpolations, fitted with 60 digits. exp, tanh and erf are within 2 units in
the last place, in float32 and in float64.

References
----------
Muller, "Elementary functions: algorithms and implementation", 2016, for the reductions. Cody, "Rational
Chebyshev approximations for the error function", 1969, for the tail of the normal distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, log, nan, sqrt
from typing import Any

import numpy as np

from fconv.engine.compiled.coefficients import BELL, ERF, EXP, EXP2, FAR, LIMITS, LOG, LOG2, TAIL, TANH
from fconv.engine.compiled.llvm import Value
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.vectors import Numbers


class Maths(Numbers):
    """Vectors of numbers, with what a formula may do to them beside `+`, `-`, `*` and `//`."""

    def __init__(self, function: Any, dtype: Any, lanes: int | None = None) -> None:
        super().__init__(function, dtype, lanes)
        self.wide = f"<{self.lanes} x double>"
        """Type of as many numbers in float64."""
        self.mask_type = f"<{self.lanes} x i1>"
        self._digits = 23 if self.itemsize == 4 else 52
        self._bits = f"<{self.lanes} x i{8 * self.itemsize}>"
        self._round = 1.5 * 2.0**self._digits  # added, it rounds to an integer, which its last bits hold
        self._one = (127 if self.itemsize == 4 else 1023) << self._digits

    def widened(self, a: Value) -> Value:
        """Convert to float64."""
        if self.vector == self.wide:
            return a
        return self.f.value(f"fpext {self.vector} {a.name} to {self.wide}", self.wide)

    def narrowed(self, a: Value) -> Value:
        """Convert from float64."""
        if self.vector == self.wide:
            return a
        return self.f.value(f"fptrunc {self.wide} {a.name} to {self.vector}", self.vector)

    def across(self, a: Value, combined: Callable[[Value, Value], Value]) -> Value:
        """Combine the lanes of a vector, always in the same order; return the result in all lanes."""
        half = self.lanes // 2
        while half:
            places = ", ".join(f"i32 {lane ^ half}" for lane in range(self.lanes))
            text = f"shufflevector {a.type} {a.name}, {a.type} {a.name}, <{self.lanes} x i32> <{places}>"
            a, half = combined(a, self.f.value(text, a.type)), half // 2
        return a

    def total(self, a: Value) -> Value:
        """Return the sum of a vector's lanes: of its halves, of their halves, and so on."""
        f, lanes = self.f, self.lanes
        while lanes > 2:
            half = lanes // 2
            kind, type = f"<{lanes} x {self.element}>", f"<{half} x {self.element}>"
            low, high = (
                f.value(
                    f"shufflevector {kind} {a.name}, {kind} poison, <{half} x i32> "
                    f"<{', '.join(f'i32 {i}' for i in range(first, first + half))}>", type,
                )
                for first in (0, half)
            )  # fmt: skip
            a, lanes = low + high, half
        kind = f"<{lanes} x {self.element}>"
        each = [f.value(f"extractelement {kind} {a.name}, i32 {i}", self.element) for i in range(lanes)]
        return each[0] + each[1]

    def gather(self, base: Value, places: Value, mask: Value | None = None) -> Value:
        """Load numbers from places behind `base` that a vector of 64-bit integers in memory holds."""
        f, lanes = self.f, self.lanes
        ones = f.value(f"icmp eq <{lanes} x i64> zeroinitializer, zeroinitializer", self.mask_type)
        mask = ones if mask is None else self.lanes_of(mask)
        integers, align = f"<{lanes} x i64>", Value(f, "8", "i32")
        blank = Value(f, "zeroinitializer", integers)
        name = f"llvm.masked.load.v{lanes}i64.p0"
        index = f.call(name, places, align, mask, blank, result=integers)
        pointers = f"<{lanes} x ptr>"
        at = f.value(f"getelementptr {self.element}, ptr {base.name}, {integers} {index.name}", pointers)
        align, blank = Value(f, str(self.itemsize), "i32"), f.constant(0.0, self.vector)
        name = f"llvm.masked.gather.{self._suffix}.v{lanes}p0"
        return f.call(name, at, align, mask, blank, result=self.vector)

    def put_sum(self, a: Value, address: Value) -> None:
        """Store the sum of the numbers of a widened vector."""
        zero = self.f.constant(-0.0, "double")
        name = f"llvm.vector.reduce.fadd.v{self.lanes}f64"
        total = self.f.call(name, zero, a, result="double")
        self.f.emit(f"store double {total.name}, ptr {address.name}, align 8")

    def number_of(self, value: Any) -> Value:
        """Return a constant in all lanes."""
        return self.f.constant(value, self.vector)

    def compare(self, condition: str, a: Value, b: Any) -> Value:
        """Compare, by LLVM's names of conditions; those that begin with "o" are false for NaN."""
        other = self.number_of(b).name
        return self.f.value(f"fcmp {condition} {self.vector} {a.name}, {other}", self.mask_type)

    def masks(self, operation: str, a: Value, b: Value) -> Value:
        """Combine two masks by "and", "or" or "xor"."""
        return self.f.value(f"{operation} {self.mask_type} {a.name}, {b.name}", self.mask_type)

    def choose(self, mask: Value, a: Any, b: Any) -> Value:
        """Return `a` where `mask`, and `b` elsewhere."""
        a, b = self.number_of(a), self.number_of(b)
        mask = self.lanes_of(mask)
        text = f"select {self.mask_type} {mask.name}, {self.vector} {a.name}, {self.vector} {b.name}"
        return self.f.value(text, self.vector)

    def as_number(self, mask: Value) -> Value:
        """Return 1 where `mask`, and 0 elsewhere."""
        return self.choose(mask, 1.0, 0.0)

    def maximum(self, a: Value, b: Value) -> Value:
        """Return the larger; NaN where one is."""
        return self._keeping_nan(self.choose(self.compare("olt", a, b), b, a), b)

    def minimum(self, a: Value, b: Value) -> Value:
        """Return the smaller; NaN where one is."""
        return self._keeping_nan(self.choose(self.compare("ogt", a, b), b, a), b)

    def _keeping_nan(self, chosen: Value, b: Value) -> Value:
        return self.choose(self.compare("uno", b, b), b, chosen)

    def negative(self, a: Value) -> Value:
        """Return -a."""
        return self.f.value(f"fneg {self.vector} {a.name}", self.vector)

    def _intrinsic(self, name: str, *arguments: Value) -> Value:
        return self.f.call(f"llvm.{name}.{self._suffix}", *arguments, result=self.vector)

    def absolute(self, a: Value) -> Value:
        """Return the absolute value."""
        return self._intrinsic("fabs", a)

    def sqrt(self, a: Value) -> Value:
        """Return the square root; NaN below 0."""
        return self._intrinsic("sqrt", a)

    def with_sign(self, a: Value, sign: Value) -> Value:
        """Return `a` with the sign of another."""
        return self._intrinsic("copysign", a, sign)

    def sign(self, a: Value) -> Value:
        """Return -1, 0 or 1; NaN for NaN."""
        down = self.choose(self.compare("oeq", a, 0.0), 0.0, a)
        down = self.choose(self.compare("olt", a, 0.0), -1.0, down)
        return self.choose(self.compare("ogt", a, 0.0), 1.0, down)

    def within(self, a: Value, low: float, high: float) -> Value:
        """Clip to an interval; NaN stays."""
        a = self.choose(self.compare("olt", a, low), low, a)
        return self.choose(self.compare("ogt", a, high), high, a)

    def polynomial(self, x: Value, coefficients: Sequence[float], halved: int = 8) -> Value:
        """Evaluate by Horner's rule, of which each step waits for the last; a long one by two halves."""
        if len(coefficients) >= halved:
            square = x * x
            even, odd = (self.polynomial(square, coefficients[first::2]) for first in (0, 1))
            return self.fma(x, odd, even)
        total, *rest = map(self.number_of, coefficients[::-1])
        for coefficient in rest:
            total = self.fma(total, x, coefficient)
        return total

    def _as_bits(self, a: Value) -> Value:
        return self.f.value(f"bitcast {self.vector} {a.name} to {self._bits}", self._bits)

    def _from_bits(self, a: Value) -> Value:
        return self.f.value(f"bitcast {self._bits} {a.name} to {self.vector}", self.vector)

    def _integers(self, operation: str, a: Value, b: Value | int) -> Value:
        if isinstance(b, int):
            element = self._bits[1:-1].split(" x ")[1]
            b = Value(self.f, f"<{', '.join([f'{element} {b}'] * self.lanes)}>", self._bits)
        return self.f.value(f"{operation} {self._bits} {a.name}, {b.name}", self._bits)

    def _power_of_two(self, rounded: Value) -> Value:
        """Return 2**n, a normal number, of n + `_round`."""
        bits = self._integers("shl", self._as_bits(rounded), self._digits)
        return self._from_bits(self._integers("add", bits, self._one))

    def _reduced(self, x: Value) -> tuple[Value, Value]:
        """Return n and exp(r) - 1 such that exp(x) = 2**n * exp(r)."""
        n = self.fma(x, self.number_of(1 / log(2)), self.number_of(self._round)) - self._round
        high, low = (self.number_of(-part) for part in LOG2[self.element])
        r = self.fma(n, low, self.fma(n, high, x))
        return n, self.fma(r * r, self.polynomial(r, EXP[self.element]), r)

    @property
    def _avx512(self) -> bool:
        """Return whether vectors are AVX-512's, of float32."""
        return machine().avx512 and self.itemsize * self.lanes == 64 and self.itemsize == 4

    def quotient(self, a: Value, b: Value) -> Value:
        """Return a / b of finite numbers; a division of 16 elements takes as long as eight products."""
        if not self._avx512:
            return a // b
        every, blank = Value(self.f, "-1", "i16"), self.number_of(0.0)
        near = self.f.call("llvm.x86.avx512.rcp14.ps.512", b, blank, every, result=self.vector)
        return a * self.fma(self.fma(self.negative(b), near, self.number_of(1.0)), near, near)

    def _scaled(self, a: Value, n: Value) -> Value:
        """Return a * 2**n, which may be no normal number, nor 2**n."""
        if self._avx512:
            every, mode, blank = Value(self.f, "-1", "i16"), Value(self.f, "4", "i32"), self.number_of(0.0)
            name = "llvm.x86.avx512.mask.scalef.ps.512"
            return self.f.call(name, a, n, blank, every, mode, result=self.vector)
        whole = self._as_bits(n + (self._round + 4096))  # n + 4096 in its last bits, which are positive
        whole = self._integers("and", whole, 8191)
        half = self._integers("lshr", whole, 1)
        for part in (half, self._integers("sub", whole, half)):
            bits = self._integers("shl", part, self._digits)
            bits = self._integers("add", bits, self._one - (2048 << self._digits))
            a = a * self._from_bits(bits)
        return a

    def exp(self, x: Value) -> Value:
        """Return exp(x)."""
        n, power = self._reduced(self.within(x, *LIMITS[self.element]))
        return self._scaled(power + 1.0, n)

    def expm1(self, x: Value) -> Value:
        """Return exp(x) - 1, accurate near 0."""
        n, power = self._reduced(self.within(x, -80.0, LIMITS[self.element][1]))
        half = self._power_of_two(n + (self._round - 1))
        return self.with_sign(self.fma(half, power, half - 0.5) * 2.0, x)

    def tanh(self, x: Value) -> Value:
        """Return the hyperbolic tangent: a polynomial near 0, and 1 - 2 / (exp(2|x|) + 1) elsewhere."""
        a = self.absolute(x)
        small = self.compare("olt", a, 0.5625)
        square = self.choose(small, a * a, 0.0)
        near = self.fma(a * square, self.polynomial(square, TANH[self.element]), a)
        twice = a + a
        twice = self.choose(self.compare("ogt", twice, 2 * FAR[self.element]), 2 * FAR[self.element], twice)
        far = self.number_of(1.0) - self.quotient(self.number_of(2.0), self.exp(twice) + 1.0)
        return self.with_sign(self.choose(small, near, far), x)

    def log(self, x: Value) -> Value:
        """Return the natural logarithm; NaN below 0."""
        tiny = self.compare("olt", x, 2.0**-126 if self.itemsize == 4 else 2.0**-1022)
        scaled = self.choose(tiny, x * 2.0**self._digits, x)
        least = int(np.array(sqrt(0.5), f"f{self.itemsize}").view(f"i{self.itemsize}"))
        exponent = self._integers("ashr", self._integers("sub", self._as_bits(scaled), least), self._digits)
        bits = self._integers("sub", self._as_bits(scaled), self._integers("shl", exponent, self._digits))
        magic = int(np.array(self._round, f"f{self.itemsize}").view(f"i{self.itemsize}"))
        n = self._from_bits(self._integers("add", exponent, magic)) - self._round
        n = n - self.choose(tiny, float(self._digits), 0.0)
        f = self._from_bits(bits) - 1.0
        s = f // (f + 2.0)
        square, half = s * s, f * f * 0.5
        high, low = LOG2[self.element]
        inner = self.fma(s, self.fma(square, self.polynomial(square, LOG[self.element]), half), n * low)
        found = self.fma(n, self.number_of(high), f - (half - inner))
        found = self.choose(self.compare("oeq", x, 0.0), -inf, found)
        found = self.choose(self.compare("oeq", x, inf), inf, found)
        return self.choose(self.compare("oge", x, 0.0), found, nan)

    def log1p(self, x: Value) -> Value:
        """Return log(1 + x), accurate near 0."""
        u = x + 1.0
        found = self.log(u)
        inside = self.masks("and", self.compare("ogt", u, 0.0), self.compare("olt", u, inf))
        lost = self.choose(self.compare("olt", x, 1.0), x - (u - 1.0), self.number_of(1.0) - (u - x))
        return self.choose(inside, found + lost // u, found)

    @property
    def _lift(self) -> int:
        """Return what is added to exponents of two, so that powers are normal numbers up to `FAR`."""
        return 0 if self._avx512 else 64 if self.itemsize == 4 else 192

    def nearer(self, x: Value) -> Value:
        """Return the absolute value, up to `FAR`."""
        a = self.absolute(x)
        return self.choose(self.compare("ogt", a, FAR[self.element]), FAR[self.element], a)

    def lifted_bell(self, a: Value) -> Value:
        """Return exp(-a**2 / 2) * 2**lift for a from 0 to `FAR`, with the rounding errors of a**2 added."""
        lift = self._lift
        high, low = (self.number_of(part) for part in BELL[self.element])
        scaled = a * high
        lost = self.fma(a, low, self.fma(a, high, self.negative(scaled)))
        rounded = self.fma(a, scaled, self.number_of(self._round + lift))
        n = rounded - (self._round + lift)
        r = self.fma(a, lost, self.fma(a, scaled, self.negative(n)))
        power = self.fma(r, self.polynomial(r, EXP2[self.element]), self.number_of(1.0))
        if self._avx512:
            return self._scaled(power, n)
        return power * self._power_of_two(rounded)

    def lowered(self, bell: Value) -> Value:
        """Return exp(-a**2 / 2) from what `lifted_bell` returned."""
        return bell * 2.0**-self._lift

    def _tail(self, a: Value, bell: Value) -> Value:
        """Return the standard normal distribution function of -a, for a from 0 to `FAR`."""
        numerator, denominator = TAIL[self.element]
        lowered = [c * 2.0**-self._lift for c in numerator]
        above, below = (self.polynomial(a, c, 5) for c in (lowered, denominator))  # halves: fewer roundings
        return self.quotient(above, below) * bell

    def ndtr(self, x: Value, a: Value, bell: Value) -> Value:
        """Return the standard normal distribution function, with all its digits far below 0 too."""
        tail = self._tail(a, bell)
        return self.choose(self.compare("ogt", x, 0.0), self.number_of(1.0) - tail, tail)

    def erf(self, x: Value) -> Value:
        """Return the error function."""
        a = self.absolute(x)
        small = self.compare("olt", a, 1.0)
        near = self.fma(a, self.polynomial(self.choose(small, a * a, 1.0), ERF[self.element]), a)
        wide = self.nearer(a * sqrt(2))
        far = self.number_of(1.0) - self._tail(wide, self.lifted_bell(wide)) * 2.0
        return self.with_sign(self.choose(small, near, far), x)
