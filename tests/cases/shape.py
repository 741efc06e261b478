"""Functions that rearrange elements or drop them."""

from __future__ import annotations

from math import prod

from hypothesis import strategies as st

import fconv as fc
from fconv.testing import strategies as fst
from tests import naive
from tests.cases.common import Case, elements, shapes


@st.composite
def dropout_cases(draw):
    options = {"p": draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])), "training": draw(st.booleans())}
    return [draw(elements(draw(shapes)))], {**options, "key": draw(fst.keys())}


@st.composite
def channel_dropout_cases(draw, ndims):
    (_,), options = draw(dropout_cases())
    shape = draw(st.lists(st.integers(0, 3), min_size=ndims[0], max_size=ndims[1]).map(tuple))
    return [draw(elements(shape))], options


@st.composite
def depth_cases(draw):
    args, options = draw(channel_dropout_cases((1, 3)))
    return args, {**options, "mode": draw(st.sampled_from(["row", "batch"]))}


@st.composite
def unflatten_cases(draw):
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    dim, sizes = draw(st.integers(-len(shape), len(shape) - 1)), draw(st.sampled_from([(2, 3), (2, 1, 2)]))
    shape[dim] = prod(sizes)
    if draw(st.booleans()):
        sizes = (sizes[0], -1, *sizes[2:])
    return [draw(elements(tuple(shape)))], {"dim": dim, "sizes": sizes}


@st.composite
def flatten_cases(draw):
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple))
    start = draw(st.integers(0, len(shape) - 1))
    return [draw(elements(shape))], {"start_dim": start, "end_dim": draw(st.integers(start, len(shape) - 1))}


@st.composite
def reshape_cases(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    cut = draw(st.integers(0, len(shape)))
    target = draw(st.sampled_from([(-1,), (prod(shape),), (prod(shape[:cut]), -1), (1, *shape[::-1])]))
    return [draw(elements(shape))], {"shape": target}


CASES = {
    "alpha_dropout": Case(dropout_cases(), naive.alpha_dropout, torch=False),
    "dropout": Case(dropout_cases(), naive.dropout, linear=True, torch=False),
    "dropout1d": Case(channel_dropout_cases((2, 3)), naive.dropout1d, linear=True, torch=False),
    "dropout2d": Case(channel_dropout_cases((3, 4)), naive.dropout2d, linear=True, torch=False),
    "dropout3d": Case(channel_dropout_cases((4, 5)), naive.dropout3d, linear=True, torch=False),
    "flatten": Case(flatten_cases(), naive.flatten, linear=True),
    "reshape": Case(reshape_cases(), naive.reshape, linear=True),
    "stochastic_depth": Case(depth_cases(), naive.stochastic_depth, linear=True, torch=False),
    "unflatten": Case(unflatten_cases(), naive.unflatten, linear=True),
}

LAYERS = {
    "flatten": (fc.flatten(), (2, 3, 4)),
    "reshape": (fc.reshape(2, -1), (2, 3, 4)),
    "identity": (fc.identity(), (2, 3, 4)),
    "unflatten": (fc.unflatten(1, (2, -1)), (2, 6, 3)),
    "alpha_dropout": (fc.alpha_dropout(0.4), (2, 3, 4)),
    "dropout": (fc.dropout(0.4), (2, 3, 4)),
    "dropout1d": (fc.dropout1d(0.4), (2, 3, 4)),
    "dropout2d": (fc.dropout2d(0.4), (2, 3, 4, 2)),
    "stochastic_depth": (fc.stochastic_depth(0.4), (3, 2, 4)),
    "dropout3d": (fc.dropout3d(0.4), (2, 3, 2, 2, 2)),
}

CALLS = [
    ("flatten", [(2, 3, 4)], {"start_dim": 1}),
    ("reshape", [(2, 6)], {"shape": (3, -1)}),
    ("unflatten", [(2, 6, 2)], {"dim": 1, "sizes": (3, -1)}),
]  # fmt: skip
