"""Comparisons, exponentials, logarithms and normal distributions of vectors, in LLVM IR.

Each function is a range reduction and one polynomial, without branches and tables. The polynomials are
Chebyshev interpolations of the functions named beside them, fitted with 60 digits. exp, tanh and erf are
within 2 units in the last place, in float32 and in float64.

References
----------
Muller, "Elementary functions: algorithms and implementation", 2016, for the reductions. Shepherd and
Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc(x)", 1981, for the tail of the normal
distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, log, nan, sqrt
from typing import Any

import numpy as np

from fconv.engine.compiled.llvm import Value
from fconv.engine.compiled.machine import machine
from fconv.engine.compiled.vectors import Numbers

# Coefficients, the constant one first:
# (exp(r) - 1 - r) / r**2 for r up to half of log(2); (2**r - 1) / r for r up to a half;
# (log((1 + s) / (1 - s)) - 2s) / s**3, of s**2, for (1 + s) / (1 - s) from sqrt(1/2) to sqrt(2);
# erf(x) / x - 1, of x**2, for x up to 1; (tanh(x) / x - 1) / x**2, of x**2, for x up to 0.5625;
# (a + 4) * exp(a**2 / 2) * ndtr(-a), of (a - 4) / (a + 4), for all a from 0.
# fmt: off
_EXP = {
    "float": (
        0.5000000014286223, 0.16666666682534356, 0.04166645680967788, 0.008333310024225292,
        0.0013934541928270264, 0.0001989198131397769,
    ),
    "double": (
        0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333325544, 0.0013888888888883327,
        0.00019841269876864356, 2.4801587327007187e-05, 2.755725283351691e-06, 2.75572718102198e-07,
        2.5106274733573296e-08, 2.0915442297780116e-09,
    ),
}
_EXP2 = {
    "float": (
        0.6931471880262288, 0.24022650760568126, 0.05550357114219078, 0.009618082557277852,
        0.0013390863364671234, 0.0001545316294512069,
    ),
    "double": (
        0.6931471805599453, 0.24022650695910097, 0.0555041086648216, 0.009618129107606888,
        0.0013333558146416936, 0.0001540353044173605, 1.525273382983612e-05,
        1.321544258792169e-06, 1.0178062445845774e-07, 7.072585949269223e-09,
        4.4549605981865186e-10,
    ),
}
_LOG = {
    "float": (
        0.6666666654507885, 0.40000129465675294, 0.28549964284819396, 0.2335354248644052,
    ),
    "double": (
        0.6666666666666666, 0.4000000000000101, 0.2857142857072283, 0.2222222240984404,
        0.18181793722272505, 0.15386342974308154, 0.1326603503726105, 0.13114976096717038,
    ),
}
_ERF = {
    "float": (
        0.1283791670615435, -0.3761263846802871, 0.11283782495236845, -0.026865430727670243,
        0.005221031807858023, -0.0008484080405535107, 0.00011265959025606609, -9.667044571486996e-06,
    ),
    "double": (
        0.12837916709551257, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792,
        0.0052239776248180145, -0.000854832698083379, 0.0001205533111164271, -1.4925595266831182e-05,
        1.6461000484121368e-06, -1.6350312701054695e-07, 1.4659775274047436e-08,
        -1.1372848856791674e-09, 5.957176147748911e-11,
    ),
}
_TANH = {
    "float": (
        -0.3333333328383897, 0.13333322054559227, -0.05396405837124636, 0.021811847744927806,
        -0.008499025864852579, 0.002487303959842421,
    ),
    "double": (
        -0.3333333333333333, 0.133333333333333, -0.05396825396820274, 0.021869488533121387,
        -0.008863235436878912, 0.0035921263490347436, -0.001455814906723265, 0.0005898785886021942,
        -0.00023836367100106462, 9.427551366562725e-05, -3.3327447467992856e-05, 7.632507318390177e-06,
    ),
}
_TAIL = {
    "float": (
        0.7552851305046339, -0.6078966402127833, 0.38713739441911355, -0.18652198492773026,
        0.06039664399817553, -0.007538688779951782, -0.003479943025800335, 0.001624247637261679,
        0.00013364042623394883, -0.00021777106565111796, -1.7259922922894346e-06,
        2.1979043414611655e-05,
    ),
    "double": (
        0.7552851304157515, -0.6078966419718923, 0.38713740074221453, -0.18652185795963533,
        0.06039657489093607, -0.007540188967419565, -0.0034796923673884156, 0.0016308184678064444,
        0.00013334431270030784, -0.00023109501999200649, -1.908265085342679e-06, 3.5145122560125815e-05,
        7.167263978705016e-07, -5.921638801978817e-06, -6.299974265164222e-07, 1.0248325060946323e-06,
        2.727176083262385e-07, -1.5982676610438677e-07, -8.713294621467491e-08, 1.7881872409503415e-08,
        2.1604426842720404e-08, -6.021003727951476e-10, -3.798041859957449e-09, -1.1742107539247065e-10,
        3.51569242668093e-10,
    ),
}
# fmt: on
_LOG2 = {
    "float": (float(np.float32(log(2))), -1.90465429995776804525e-09),
    "double": (log(2), 2.3190468138462995584e-17),
}
"""log(2) as the sum of two numbers."""
_BELL = {
    "float": (-0.7213475108146667, -9.629814955633087e-09),
    "double": (-0.7213475204444817, -1.0177636870465517e-17),
}
"""-1 / (2 log(2)) as the sum of two numbers."""
_LIMITS = {"float": (-105.0, 89.0), "double": (-760.0, 710.0)}
"""Where exp has underflowed to 0, and where it has overflowed."""
_FAR = {"float": 16.0, "double": 40.0}
"""Where the tail of the normal distribution has underflowed to 0."""


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

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """Evaluate by Horner's rule, of which each step waits for the last; a long one by two halves."""
        if len(coefficients) >= 8:
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

    def _rounded(self, a: Value) -> Value:
        return (a + self._round) - self._round

    def _power_of_two(self, n: Value) -> Value:
        """Return 2**n for an integral n whose power is a normal number."""
        bits = self._integers("shl", self._as_bits(n + self._round), self._digits)
        return self._from_bits(self._integers("add", bits, self._one))

    def _reduced(self, x: Value) -> tuple[Value, Value]:
        """Return n and exp(r) - 1 such that exp(x) = 2**n * exp(r)."""
        n = self._rounded(x * (1 / log(2)))
        high, low = (self.number_of(-part) for part in _LOG2[self.element])
        r = self.fma(n, low, self.fma(n, high, x))
        return n, self.fma(r * r, self.polynomial(r, _EXP[self.element]), r)

    @property
    def _avx512(self) -> bool:
        """Return whether vectors are AVX-512's, of float32."""
        return machine().avx512 and self.itemsize * self.lanes == 64 and self.itemsize == 4

    def reciprocal(self, a: Value) -> Value:
        """Return 1 / a of a finite number; a division of 16 elements takes as long as eight products."""
        if not self._avx512:
            return self.number_of(1.0) // a
        every, blank = Value(self.f, "-1", "i16"), self.number_of(0.0)
        near = self.f.call("llvm.x86.avx512.rcp14.ps.512", a, blank, every, result=self.vector)
        return self.fma(self.fma(self.negative(a), near, self.number_of(1.0)), near, near)

    def _scaled(self, a: Value, n: Value) -> Value:
        """Return a * 2**n, which may be no normal number."""
        if self._avx512:
            every, mode, blank = Value(self.f, "-1", "i16"), Value(self.f, "4", "i32"), self.number_of(0.0)
            name = "llvm.x86.avx512.mask.scalef.ps.512"
            return self.f.call(name, a, n, blank, every, mode, result=self.vector)
        half = self._rounded(n * 0.5)  # 2**n itself may be no normal number
        return a * self._power_of_two(half) * self._power_of_two(n - half)

    def exp(self, x: Value) -> Value:
        """Return exp(x)."""
        n, power = self._reduced(self.within(x, *_LIMITS[self.element]))
        return self._scaled(power + 1.0, n)

    def expm1(self, x: Value) -> Value:
        """Return exp(x) - 1, accurate near 0."""
        n, power = self._reduced(self.within(x, -80.0, _LIMITS[self.element][1]))
        half = self._power_of_two(n - 1.0)
        return self.with_sign(self.fma(half, power, half - 0.5) * 2.0, x)

    def tanh(self, x: Value) -> Value:
        """Return the hyperbolic tangent: a polynomial near 0, and 1 - 2 / (exp(2|x|) + 1) elsewhere."""
        a = self.absolute(x)
        small = self.compare("olt", a, 0.5625)
        square = self.choose(small, a * a, 0.0)
        near = self.fma(a * square, self.polynomial(square, _TANH[self.element]), a)
        twice = a + a
        twice = self.choose(self.compare("ogt", twice, 2 * _FAR[self.element]), 2 * _FAR[self.element], twice)
        far = self.number_of(1.0) - self.reciprocal(self.exp(twice) + 1.0) * 2.0
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
        high, low = _LOG2[self.element]
        inner = self.fma(s, self.fma(square, self.polynomial(square, _LOG[self.element]), half), n * low)
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

    def _bell(self, a: Value) -> Value:
        """Return exp(-a**2 / 2) for a up to `_FAR`; what rounding takes from products of `a` is added."""
        high, low = (self.number_of(part) for part in _BELL[self.element])
        scaled = a * high
        lost = self.fma(a, low, self.fma(a, high, self.negative(scaled)))
        n = self._rounded(a * scaled)
        r = self.fma(a, lost, self.fma(a, scaled, self.negative(n)))
        power = self.fma(r, self.polynomial(r, _EXP2[self.element]), self.number_of(1.0))
        lift = 64.0 if self.itemsize == 4 else 192.0  # with it 2**n is a normal number, up to `_FAR`
        return self._scaled(power, n) if self._avx512 else power * self._power_of_two(n + lift) * 2.0**-lift

    def _tail(self, a: Value) -> Value:
        """Return the standard normal distribution function of -a, for a from 0."""
        a = self.choose(self.compare("ogt", a, _FAR[self.element]), _FAR[self.element], a)
        inverse = self.reciprocal(a + 4.0)
        slow = self.polynomial((a - 4.0) * inverse, _TAIL[self.element])
        return self._bell(a) * (slow * inverse)

    def ndtr(self, x: Value) -> Value:
        """Return the standard normal distribution function, with all its digits far below 0 too."""
        tail = self._tail(self.absolute(x))
        return self.choose(self.compare("ogt", x, 0.0), self.number_of(1.0) - tail, tail)

    def erf(self, x: Value) -> Value:
        """Return the error function."""
        a = self.absolute(x)
        small = self.compare("olt", a, 1.0)
        near = self.fma(a, self.polynomial(self.choose(small, a * a, 1.0), _ERF[self.element]), a)
        far = self.number_of(1.0) - self._tail(a * sqrt(2)) * 2.0
        return self.with_sign(self.choose(small, near, far), x)
