"""Rearrangements, parts and reductions."""

from __future__ import annotations

from hypothesis import strategies as st

import fconv as fc
from tests import naive
from tests.cases.common import Case, elements

some_shapes = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)


def axis_of(shape):
    return st.integers(-len(shape), len(shape) - 1)


@st.composite
def permute_cases(draw):
    shape = draw(some_shapes)
    order = draw(st.permutations(range(len(shape))))
    dims = tuple(d - len(shape) if draw(st.booleans()) else d for d in order)
    return [draw(elements(shape))], {"dims": dims}


@st.composite
def transpose_cases(draw):
    shape = draw(some_shapes)
    return [draw(elements(shape))], {"dim0": draw(axis_of(shape)), "dim1": draw(axis_of(shape))}


@st.composite
def squeeze_cases(draw):
    shape = draw(st.lists(st.sampled_from([1, 1, 2, 3, 0]), min_size=1, max_size=4).map(tuple))
    dims = draw(st.none() | axis_of(shape) | st.permutations(range(len(shape))).map(lambda p: tuple(p[:2])))
    return [draw(elements(shape))], {} if dims is None else {"dim": dims}


@st.composite
def unsqueeze_cases(draw):
    shape = draw(some_shapes)
    return [draw(elements(shape))], {"dim": draw(st.integers(-len(shape) - 1, len(shape)))}


@st.composite
def narrow_cases(draw):
    shape = draw(some_shapes)
    dim = draw(axis_of(shape))
    start = draw(st.integers(0, shape[dim]))
    length = draw(st.integers(0, shape[dim] - start))
    if start < shape[dim] and draw(st.booleans()):
        start -= shape[dim]
    return [draw(elements(shape))], {"dim": dim, "start": start, "length": length}


@st.composite
def slice_cases(draw):
    shape, ends = draw(some_shapes), st.none() | st.integers(-6, 6)
    options = {"dim": draw(axis_of(shape)), "start": draw(ends), "end": draw(ends)}
    return [draw(elements(shape))], {**options, "step": draw(st.integers(1, 3))}


@st.composite
def reduction_cases(draw, least=0):
    shape = draw(st.lists(st.integers(least, 4), min_size=1, max_size=4).map(tuple))
    several = st.permutations(range(len(shape))).map(lambda p: tuple(p[:2]))
    dim = draw(st.none() | axis_of(shape) | several)
    return [draw(elements(shape))], {"dim": dim, "keepdim": draw(st.booleans())}


def torch_slice(x, dim, start=None, end=None, step=1):
    import torch

    return torch.ops.aten.slice(x, dim, start, end, step)


def torch_amax(x, dim=None, keepdim=False):
    return x.amax(() if dim is None else dim, keepdim)


CASES = {
    "amax": Case(reduction_cases(1), naive.amax, torch=torch_amax),
    "mean": Case(reduction_cases(1), naive.mean, linear=True),
    "narrow": Case(narrow_cases(), naive.narrow, linear=True),
    "permute": Case(permute_cases(), naive.permute, linear=True),
    "slice_along": Case(slice_cases(), naive.slice_along, linear=True, torch=torch_slice),
    "squeeze": Case(squeeze_cases(), naive.squeeze, linear=True),
    "sum": Case(reduction_cases(), naive.sum, linear=True),
    "transpose": Case(transpose_cases(), naive.transpose, linear=True),
    "unsqueeze": Case(unsqueeze_cases(), naive.unsqueeze, linear=True),
}

LAYERS = {
    "amax": (fc.amax((1, 2)), (2, 3, 4)),
    "chunk": (fc.chunk(2, 1, dim=1), (2, 5, 4)),
    "mean": (fc.mean((1, 2), keepdim=True), (2, 3, 4)),
    "narrow": (fc.narrow(-1, 1, 2), (2, 3, 4)),
    "permute": (fc.permute(2, 0, 1), (2, 3, 4)),
    "slice_along": (fc.slice_along(2, 1, None, 2), (2, 3, 6)),
    "split": (fc.split((2, 3), 1, dim=1), (2, 5, 4)),
    "split evenly": (fc.split(2, 2, dim=1), (2, 5, 4)),
    "squeeze": (fc.squeeze(1), (2, 1, 4)),
    "sum": (fc.sum(), (2, 3, 4)),
    "transpose": (fc.transpose(1, -1), (2, 3, 4)),
    "unsqueeze": (fc.unsqueeze(1), (2, 3, 4)),
    "view": (fc.view(-1, 2, 6), (2, 3, 4)),
    "view keeping an axis": (fc.view(0, -1), (2, 3, 4)),
}

CALLS = [
    ("amax", [(2, 3, 4)], {"dim": (0, 2), "keepdim": False}),
    ("mean", [(2, 3, 4)], {"dim": 1, "keepdim": True}),
    ("narrow", [(2, 7)], {"dim": 1, "start": 2, "length": 3}),
    ("permute", [(2, 3, 4)], {"dims": (2, 0, 1)}),
    ("slice_along", [(2, 7)], {"dim": 1, "start": 1, "end": None, "step": 2}),
    ("squeeze", [(2, 1, 3)], {"dim": 1}),
    ("sum", [(2, 3, 4)], {"dim": (0, 2), "keepdim": False}),
    ("transpose", [(2, 3, 4)], {"dim0": 0, "dim1": -1}),
    ("unsqueeze", [(2, 3)], {"dim": 1}),
]  # fmt: skip
