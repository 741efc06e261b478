"""Arithmetic of each element."""

from __future__ import annotations

import math

import numpy as np


def _each(rule):
    def function(x, *args, **options):
        y = np.zeros(x.shape, x.dtype)
        for index in np.ndindex(*x.shape):
            y[index] = rule(float(x[index]), *args, **options)
        return y

    return function


scale_shift = _each(lambda x, scale=1.0, shift=0.0: x * scale + shift)
power = _each(lambda x, exponent: x**exponent)
exp = _each(math.exp)
log = _each(math.log)
sqrt = _each(math.sqrt)
sin = _each(math.sin)
cos = _each(math.cos)
reciprocal = _each(lambda x: 1 / x)
abs = _each(lambda x: -x if x < 0 else x)
erf = _each(math.erf)

power_of = _each(lambda x, base: base**x)
tan, asin, acos, atan = map(_each, (math.tan, math.asin, math.acos, math.atan))
sinh, cosh, asinh, acosh, atanh = map(_each, (math.sinh, math.cosh, math.asinh, math.acosh, math.atanh))
floor, ceil, round = map(_each, (math.floor, math.ceil, round))
sign = _each(lambda x: (x > 0) - (x < 0))


@_each
def clamp(x, min=None, max=None):
    y = min if min is not None and x < min else x
    return max if max is not None and y > max else y
