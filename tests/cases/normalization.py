"""Normalisation."""

from __future__ import annotations

from math import inf

from hypothesis import strategies as st

import fconv as fc
from fconv.testing import strategies as fst
from tests import naive
from tests.cases.common import Case, elements, f64

sizes = st.lists(st.integers(1, 3), min_size=0, max_size=3).map(tuple)
epsilons = st.sampled_from([1e-5, 1e-2])


def offset(shape):
    """Draw elements of which no two sets are all alike, far from 0 or near it."""
    return fst.arrays_like(shape, f64, fills=("normal", "large"))


def parameters(draw, shape, count=2):
    """Draw scale and shift, or neither."""
    affine = draw(st.booleans())
    return [draw(elements(shape)) if affine else None for _ in range(count)]


@st.composite
def batch_norm_cases(draw):
    channels = draw(st.integers(1, 3))
    training = draw(st.booleans())
    batch = draw(st.integers(2 if training else 0, 4))
    x = draw(offset((batch, channels, *draw(sizes))))
    running = [draw(elements((channels,))), abs(draw(elements((channels,)))) + 0.5]
    return [x, *running, *parameters(draw, (channels,))], {"training": training, "eps": draw(epsilons)}


@st.composite
def instance_norm_cases(draw):
    channels, own = draw(st.integers(1, 3)), draw(st.booleans())
    # Two positions only would be normalised to almost 1 and -1, without a gradient to speak of.
    shape = (draw(st.integers(1, 3)), channels, draw(st.integers(3 if own else 0, 4)))
    x = draw(offset((*shape, *draw(sizes)[:2])))
    running = [draw(elements((channels,))), abs(draw(elements((channels,)))) + 0.5]
    if own and draw(st.booleans()):
        running = [None, None]
    return [x, *running, *parameters(draw, (channels,))], {"use_input_stats": own, "eps": draw(epsilons)}


@st.composite
def layer_norm_cases(draw, affine=2):
    shape = (*draw(sizes), draw(st.integers(3, 5)))
    last = shape[-draw(st.integers(1, len(shape))) :]
    x = draw(offset(shape))
    eps = draw(epsilons if affine == 2 else epsilons | st.none())
    return [x, last, *parameters(draw, last, affine)], {"eps": eps}


@st.composite
def group_norm_cases(draw):
    groups, size = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    shape = (draw(st.integers(0, 3)), groups * size, draw(st.integers(3, 4)), *draw(sizes)[:2])
    return [draw(offset(shape)), groups, *parameters(draw, shape[1:2])], {"eps": draw(epsilons)}


@st.composite
def response_cases(draw):
    x = draw(elements((draw(st.integers(0, 2)), draw(st.integers(1, 5)), *draw(sizes), 2)))
    options = {"size": draw(st.integers(1, 7))}
    if draw(st.booleans()):
        options |= {"alpha": 0.5, "beta": draw(st.sampled_from([0.5, 1.25])), "k": 2.0}
    return [x], options


@st.composite
def normalize_cases(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    x = draw(elements(shape))
    p = draw(st.sampled_from([2, 2.0, 1.0, 3.0, 1.5, 0.5, 0.0, inf, -inf, -1.0]))
    if p < 1:  # steep at 0
        x = x + 2.5
    return [x], {"p": p, "dim": draw(st.integers(-len(shape), len(shape) - 1))}


CASES = {
    "batch_norm": Case(batch_norm_cases(), naive.batch_norm),
    "instance_norm": Case(instance_norm_cases(), naive.instance_norm),
    "layer_norm": Case(layer_norm_cases(), naive.layer_norm),
    "group_norm": Case(group_norm_cases(), naive.group_norm),
    "rms_norm": Case(layer_norm_cases(1), naive.rms_norm),
    "local_response_norm": Case(response_cases(), naive.local_response_norm),
    "normalize": Case(normalize_cases(), naive.normalize),
}

LAYERS = {
    "batch_norm 1d": (fc.batch_norm(), (5, 3)),
    "batch_norm 1d sequence": (fc.batch_norm(), (3, 2, 4)),
    "batch_norm 2d": (fc.batch_norm(eps=1e-3, momentum=0.3), (3, 2, 4, 3)),
    "batch_norm cumulative": (fc.batch_norm(momentum=None), (3, 2, 4)),
    "batch_norm plain": (fc.batch_norm(affine=False, track_running_stats=False), (3, 2, 4)),
    "instance_norm": (fc.instance_norm(), (3, 2, 4, 3)),
    "instance_norm all": (
        fc.instance_norm(eps=1e-3, momentum=0.3, affine=True, track_running_stats=True),
        (3, 2, 4),
    ),
    "layer_norm": (fc.layer_norm(), (3, 2, 5)),
    "layer_norm of two axes": (fc.layer_norm(last_axes=2, eps=1e-3), (3, 2, 5)),
    "layer_norm without bias": (fc.layer_norm((2, 5), bias=False), (3, 2, 5)),
    "layer_norm plain": (fc.layer_norm(5, elementwise_affine=False), (3, 5)),
    "group_norm": (fc.group_norm(2), (3, 4, 3)),
    "group_norm plain": (fc.group_norm(2, eps=1e-3, affine=False), (3, 4, 3, 2)),
    "rms_norm": (fc.rms_norm(), (3, 2, 5)),
    "rms_norm plain": (fc.rms_norm((2, 5), eps=1e-3, elementwise_affine=False), (3, 2, 5)),
    "local_response_norm": (fc.local_response_norm(3, alpha=0.5), (3, 4, 3)),
}

CALLS = [
    ("batch_norm", [(4, 3, 2, 2), (3,), ("positive", (3,)), (3,), (3,)], {"training": True}),
    ("batch_norm", [(4, 3, 2, 2), (3,), ("positive", (3,)), (3,), (3,)], {"training": False, "eps": 1e-3}),
    ("instance_norm", [(2, 3, 4), None, None, (3,), (3,)], {}),
    ("instance_norm", [(2, 3, 4), (3,), ("positive", (3,)), (3,), (3,)], {"use_input_stats": False}),
    ("layer_norm", [(2, 3, 4), ("as is", (3, 4)), (3, 4), (3, 4)], {}),
    ("group_norm", [(2, 4, 3), ("as is", 2), (4,), (4,)], {"eps": 1e-3}),
    ("rms_norm", [(2, 3, 4), ("as is", (4,)), (4,)], {}),
    ("local_response_norm", [(2, 5, 3)], {"size": 3, "alpha": 0.5}),
    ("normalize", [(3, 4)], {}),
    ("normalize", [(3, 4)], {"p": 1.0, "dim": 0}),
]  # fmt: skip
