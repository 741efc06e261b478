"""Arithmetic of each entry."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import fconv as fc
from tests.cases.common import Case, pointwise
from tests.naive import arithmetic as naive

numbers = st.sampled_from([-1.5, 0.0, 0.25, 2.0])


@st.composite
def positive(draw, **options):
    """Draw entries well above 0, where logarithms and powers are defined."""
    (x,), drawn = draw(pointwise(**options))
    return [np.asarray(abs(x) + 0.5)], drawn


@st.composite
def moderate(draw):
    """Draw entries whose exponentials have all their digits in float32 too."""
    (x,), drawn = draw(pointwise())
    return [np.asarray(np.clip(x, -3, 3))], drawn


@st.composite
def clamp_cases(draw):
    args, _ = draw(pointwise())
    low, high = draw(st.sampled_from([(-0.5, None), (None, 0.5), (-0.5, 1.0), (0.25, 0.25)]))
    return args, {"min": low, "max": high}


def torch_scale_shift(x, scale=1.0, shift=0.0):
    return x * scale + shift


CASES = {
    "abs": Case(pointwise(), naive.abs),
    "clamp": Case(clamp_cases(), naive.clamp),
    "erf": Case(pointwise(), naive.erf),
    "exp": Case(moderate(), naive.exp),
    "log": Case(positive(), naive.log),
    "power": Case(positive(exponent=numbers), naive.power, torch=lambda x, exponent: x**exponent),
    "reciprocal": Case(positive(), naive.reciprocal),
    "scale_shift": Case(pointwise(scale=numbers, shift=numbers), naive.scale_shift, torch=torch_scale_shift),
    "sqrt": Case(positive(), naive.sqrt),
}

LAYERS = {
    "abs": (fc.abs(), (2, 3, 4)),
    "clamp": (fc.clamp(-0.5, 0.5), (2, 3, 4)),
    "erf": (fc.erf(), (2, 3, 4)),
    "exp": (fc.compose(fc.tanh(), fc.exp()), (2, 3, 4)),
    "log": (fc.compose(fc.softplus(), fc.log()), (2, 3, 4)),
    "power": (fc.compose(fc.softplus(), fc.power(-1.5)), (2, 3, 4)),
    "power of 2": (fc.power(2), (2, 3, 4)),
    "reciprocal": (fc.compose(fc.softplus(), fc.reciprocal()), (2, 3, 4)),
    "scale_shift": (fc.scale_shift(2.0, -1.0), (2, 3, 4)),
    "sqrt": (fc.compose(fc.softplus(), fc.sqrt()), (2, 3, 4)),
}

CALLS = [
    ("abs", [(3, 4)], {}),
    ("clamp", [(3, 4)], {"min": -0.5, "max": None}),
    ("erf", [(3, 4)], {}),
    ("exp", [(3, 4)], {}),
    ("log", [("positive", (3, 4))], {}),
    ("power", [("positive", (3, 4))], {"exponent": -1.5}),
    ("reciprocal", [("positive", (3, 4))], {}),
    ("scale_shift", [(3, 4)], {"scale": 2.0, "shift": -1.0}),
    ("sqrt", [("positive", (3, 4))], {}),
]  # fmt: skip
