"""Arithmetic of each element."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import fconv as fc
from tests.cases.common import Case, pointwise
from tests.naive import arithmetic as naive

numbers = st.sampled_from([-1.5, 0.0, 0.25, 2.0])


@st.composite
def positive(draw, **options):
    """Draw elements well above 0, where logarithms and powers are defined."""
    (x,), drawn = draw(pointwise(**options))
    return [np.asarray(abs(x) + 0.5)], drawn


@st.composite
def moderate(draw):
    """Draw elements whose exponentials have all their digits in float32 too."""
    (x,), drawn = draw(pointwise())
    return [np.asarray(np.clip(x, -3, 3))], drawn


@st.composite
def within(draw, low, high):
    """Draw elements between two numbers, where a function is defined and no kink is."""
    (x,), _ = draw(pointwise())
    return [np.asarray(low + (high - low) * (0.5 + 0.45 * np.tanh(x)))], {}


@st.composite
def between_integers(draw):
    """Draw elements away from where rounding jumps."""
    (x,), _ = draw(pointwise())
    return [np.asarray(np.floor(np.clip(x, -9, 9)) + 0.25)], {}


@st.composite
def clamp_cases(draw):
    args, _ = draw(pointwise())
    low, high = draw(st.sampled_from([(-0.5, None), (None, 0.5), (-0.5, 1.0), (0.25, 0.25)]))
    return args, {"min": low, "max": high}


@st.composite
def with_base(draw):
    args, _ = draw(moderate())
    return args, {"base": draw(st.sampled_from([0.5, 2.0, 3.0]))}


def torch_scale_shift(x, scale=1.0, shift=0.0):
    return x * scale + shift


CASES = {
    "abs": Case(pointwise(), naive.abs),
    "acos": Case(within(-1, 1), naive.acos),
    "acosh": Case(within(1, 4), naive.acosh),
    "asin": Case(within(-1, 1), naive.asin),
    "asinh": Case(pointwise(), naive.asinh),
    "atan": Case(pointwise(), naive.atan),
    "atanh": Case(within(-1, 1), naive.atanh),
    "ceil": Case(between_integers(), naive.ceil),
    "cosh": Case(moderate(), naive.cosh),
    "floor": Case(between_integers(), naive.floor),
    "power_of": Case(with_base(), naive.power_of, torch=lambda x, base: x.new_tensor(base) ** x),
    "round": Case(between_integers(), naive.round),
    "sign": Case(between_integers(), naive.sign),
    "sinh": Case(moderate(), naive.sinh),
    "tan": Case(within(-1.4, 1.4), naive.tan),
    "clamp": Case(clamp_cases(), naive.clamp),
    "cos": Case(pointwise(), naive.cos),
    "erf": Case(pointwise(), naive.erf),
    "exp": Case(moderate(), naive.exp),
    "log": Case(positive(), naive.log),
    "power": Case(positive(exponent=numbers), naive.power, torch=lambda x, exponent: x**exponent),
    "reciprocal": Case(positive(), naive.reciprocal),
    "scale_shift": Case(pointwise(scale=numbers, shift=numbers), naive.scale_shift, torch=torch_scale_shift),
    "sin": Case(pointwise(), naive.sin),
    "sqrt": Case(positive(), naive.sqrt),
}

LAYERS = {
    "abs": (fc.abs(), (2, 3, 4)),
    "acos": (fc.compose(fc.tanh(), fc.scale_shift(0.9), fc.acos()), (2, 3, 4)),
    "acosh": (fc.compose(fc.softplus(), fc.scale_shift(1.0, 1.0), fc.acosh()), (2, 3, 4)),
    "asin": (fc.compose(fc.tanh(), fc.scale_shift(0.9), fc.asin()), (2, 3, 4)),
    "asinh": (fc.asinh(), (2, 3, 4)),
    "atan": (fc.atan(), (2, 3, 4)),
    "atanh": (fc.compose(fc.tanh(), fc.scale_shift(0.9), fc.atanh()), (2, 3, 4)),
    "ceil": (fc.ceil(), (2, 3, 4)),
    "cosh": (fc.compose(fc.tanh(), fc.cosh()), (2, 3, 4)),
    "floor": (fc.floor(), (2, 3, 4)),
    "power_of": (fc.compose(fc.tanh(), fc.power_of(2.0)), (2, 3, 4)),
    "round": (fc.round(), (2, 3, 4)),
    "sign": (fc.sign(), (2, 3, 4)),
    "sinh": (fc.compose(fc.tanh(), fc.sinh()), (2, 3, 4)),
    "tan": (fc.compose(fc.tanh(), fc.tan()), (2, 3, 4)),
    "clamp": (fc.clamp(-0.5, 0.5), (2, 3, 4)),
    "cos": (fc.cos(), (2, 3, 4)),
    "erf": (fc.erf(), (2, 3, 4)),
    "exp": (fc.compose(fc.tanh(), fc.exp()), (2, 3, 4)),
    "log": (fc.compose(fc.softplus(), fc.log()), (2, 3, 4)),
    "power": (fc.compose(fc.softplus(), fc.power(-1.5)), (2, 3, 4)),
    "power of 2": (fc.power(2), (2, 3, 4)),
    "reciprocal": (fc.compose(fc.softplus(), fc.reciprocal()), (2, 3, 4)),
    "scale_shift": (fc.scale_shift(2.0, -1.0), (2, 3, 4)),
    "sin": (fc.sin(), (2, 3, 4)),
    "sqrt": (fc.compose(fc.softplus(), fc.sqrt()), (2, 3, 4)),
}

CALLS = [
    ("abs", [(3, 4)], {}),
    ("acos", [("unit", (3, 4))], {}),
    ("acosh", [("as is", np.array([1.5, 2.0, 3.0]))], {}),
    ("asin", [("unit", (3, 4))], {}),
    ("asinh", [(3, 4)], {}),
    ("atan", [(3, 4)], {}),
    ("atanh", [("unit", (3, 4))], {}),
    ("ceil", [(3, 4)], {}),
    ("cosh", [(3, 4)], {}),
    ("floor", [(3, 4)], {}),
    ("power_of", [(3, 4)], {"base": 3.0}),
    ("round", [(3, 4)], {}),
    ("sign", [(3, 4)], {}),
    ("sinh", [(3, 4)], {}),
    ("tan", [(3, 4)], {}),
    ("clamp", [(3, 4)], {"min": -0.5, "max": None}),
    ("cos", [(3, 4)], {}),
    ("erf", [(3, 4)], {}),
    ("exp", [(3, 4)], {}),
    ("log", [("positive", (3, 4))], {}),
    ("power", [("positive", (3, 4))], {"exponent": -1.5}),
    ("reciprocal", [("positive", (3, 4))], {}),
    ("scale_shift", [(3, 4)], {"scale": 2.0, "shift": -1.0}),
    ("sin", [(3, 4)], {}),
    ("sqrt", [("positive", (3, 4))], {}),
]  # fmt: skip
