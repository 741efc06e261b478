"""Activations."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import fconv as fc
from tests import naive
from tests.cases.common import Case, along_axis, elements, pointwise, shapes

slopes = st.sampled_from([-0.5, 0.0, 0.25, 1.5])
widths = st.sampled_from([0.3, 0.5, 2.0])


@st.composite
def hardtanh_cases(draw):
    args, _ = draw(pointwise())
    low = draw(slopes)
    return args, {"min_val": low, "max_val": low + draw(st.just(0.0) | widths)}


@st.composite
def tanhshrink_cases(draw):
    (x,), options = draw(pointwise())
    return [np.where(abs(x) < 0.1, x + 0.5, x)], options  # near 0 few digits are left in float32


@st.composite
def prelu_cases(draw):
    shape = draw(shapes)
    count = draw(st.sampled_from([1, shape[1] if len(shape) > 1 else 1]))
    weight = draw(elements(() if count == 1 and draw(st.booleans()) else (count,)))
    return [draw(elements(shape)), weight], {}


@st.composite
def softmax_cases(draw):
    """Draw as along any axis, and single numbers, which PyTorch takes for an axis of size 1."""
    if draw(st.integers(0, 9)) == 0:
        return [draw(elements(()))], {"dim": draw(st.sampled_from([0, -1]))}
    return draw(along_axis())


@st.composite
def glu_cases(draw):
    (x,), options = draw(along_axis())
    shape = list(x.shape)
    shape[options["dim"]] *= 2
    return [draw(elements(tuple(shape)))], options


def torch_hardsigmoid(x):
    """PyTorch's, but for the 1/6 of its gradient, which is rounded to float32 even in float64."""
    return (x + 3).clamp(0, 6) / 6


ELEMENTWISE = {
    "celu": ({"alpha": st.sampled_from([-1.0, 0.5, 2.0])}, {"alpha": 0.5}),
    "elu": ({"alpha": slopes}, {"alpha": 0.7}),
    "gelu": ({"approximate": st.sampled_from(["none", "tanh"])}, {"approximate": "tanh"}),
    "hardshrink": ({"lambd": widths}, {"lambd": 0.3}),
    "hardsigmoid": ({}, {}),
    "hardswish": ({}, {}),
    "leaky_relu": ({"negative_slope": slopes}, {"negative_slope": 0.2}),
    "logsigmoid": ({}, {}),
    "mish": ({}, {}),
    "relu": ({}, {}),
    "relu6": ({}, {}),
    "selu": ({}, {}),
    "sigmoid": ({}, {}),
    "silu": ({}, {}),
    "softplus": (
        {"beta": st.sampled_from([-1.0, 0.5, 3.0]), "threshold": st.sampled_from([0.2, 20.0])},
        {"beta": 2.0, "threshold": 1.0},
    ),
    "softshrink": ({"lambd": widths}, {"lambd": 0.3}),
    "softsign": ({}, {}),
    "tanh": ({}, {}),
    "tanhshrink": ({}, {}),
    "threshold": ({"threshold": slopes, "value": slopes}, {"threshold": 0.2, "value": -1.0}),
}
"""Options to draw, and those of one call, by function.

The alpha of celu has few digits, because PyTorch's gradient rounds it to float32 even in float64.
"""

CASES = {name: Case(pointwise(**drawn), getattr(naive, name)) for name, (drawn, _) in ELEMENTWISE.items()} | {
    "glu": Case(glu_cases(), naive.glu),
    "hardsigmoid": Case(pointwise(), naive.hardsigmoid, torch=torch_hardsigmoid),
    "hardtanh": Case(hardtanh_cases(), naive.hardtanh),
    "log_softmax": Case(softmax_cases(), naive.log_softmax),
    "prelu": Case(prelu_cases(), naive.prelu),
    "softmax": Case(softmax_cases(), naive.softmax),
    "softmin": Case(softmax_cases(), naive.softmin),
    "tanhshrink": Case(tanhshrink_cases(), naive.tanhshrink),
}

LAYERS = {
    name: (getattr(fc, {"logsigmoid": "log_sigmoid"}.get(name, name))(**options), (2, 3, 4))
    for name, (_, options) in ELEMENTWISE.items()
} | {
    "gelu exact": (fc.gelu(), (2, 3, 4)),
    "glu": (fc.glu(1), (2, 4, 3)),
    "hardtanh": (fc.hardtanh(-0.5, 2.0), (2, 3, 4)),
    "log_softmax": (fc.log_softmax(dim=-1), (2, 3, 4)),
    "prelu": (fc.prelu(), (2, 3, 4)),
    "prelu by channel": (fc.prelu(3, init=0.1), (2, 3, 4)),
    "softmax": (fc.softmax(), (2, 3, 4)),
    "softmin": (fc.softmin(), (2, 3, 4)),
}

CALLS = [(name, [(3, 4)], options) for name, (_, options) in ELEMENTWISE.items()] + [
    ("gelu", [(3, 4)], {}),
    ("glu", [(3, 4, 2)], {"dim": 1}),
    ("hardtanh", [(3, 4)], {"min_val": -0.5, "max_val": 2.0}),
    ("log_softmax", [(3, 4, 2)], {"dim": -1}),
    ("prelu", [(3, 4, 2), (4,)], {}),
    ("softmax", [(3, 4, 2)], {"dim": 1}),
    ("softmin", [(3, 4, 2)], {"dim": 1}),
]  # fmt: skip
