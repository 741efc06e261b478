"""Reading at other places, choices by masks, further reductions and products of several arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import fconv as fc
from tests.cases.common import Case, along_axis, elements
from tests.cases.rearranging import axis_of, reduction_cases, some_shapes
from tests.naive import indexing as naive

full = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def expand_cases(draw):
    shape = draw(st.lists(st.sampled_from([1, 1, 2, 3]), max_size=3).map(tuple))
    lead = draw(st.lists(st.integers(1, 3), max_size=2))
    sizes = [draw(st.sampled_from([-1, n])) if n > 1 else draw(st.integers(1, 3)) for n in shape]
    return [draw(elements(shape))], {"sizes": tuple(lead + sizes)}


@st.composite
def tile_cases(draw):
    shape = draw(some_shapes)
    return [draw(elements(shape))], {"dims": tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)))}


@st.composite
def flip_cases(draw):
    shape = draw(some_shapes)
    several = st.permutations(range(len(shape))).map(lambda p: tuple(p[:2]))
    return [draw(elements(shape))], {"dims": draw(several)}


@st.composite
def roll_cases(draw):
    shape = draw(full)
    if draw(st.booleans()):
        return [draw(elements(shape))], {"shifts": draw(st.integers(-6, 6))}
    dims = draw(st.permutations(range(len(shape))).map(lambda p: tuple(p[:2])))
    return [draw(elements(shape))], {"shifts": tuple(draw(st.integers(-6, 6)) for _ in dims), "dims": dims}


@st.composite
def select_cases(draw):
    shape = draw(full)
    dim = draw(axis_of(shape))
    return [draw(elements(shape))], {"dim": dim, "index": draw(st.integers(-shape[dim], shape[dim] - 1))}


@st.composite
def index_select_cases(draw):
    shape = draw(full)
    dim = draw(axis_of(shape))
    return [draw(elements(shape))], {
        "dim": dim, "index": draw(st.lists(st.integers(0, shape[dim] - 1), max_size=6)),
    }  # fmt: skip


@st.composite
def gather_cases(draw):
    shape = draw(full)
    dim = draw(axis_of(shape))
    sizes = [draw(st.integers(1, 5 if a == dim % len(shape) else n)) for a, n in enumerate(shape)]
    numbers = draw(st.lists(st.integers(0, shape[dim] - 1), min_size=1, max_size=7))
    return [draw(elements(shape))], {"dim": dim, "index": np.resize(numbers, sizes).tolist()}


@st.composite
def index_cases(draw):
    shape = draw(full)
    first = draw(st.integers(0, len(shape) - 1))
    count = draw(st.integers(1, min(2, len(shape) - first)))
    inner = draw(st.sampled_from([(3,), (2, 2), (4, 1)]))
    each = [
        np.resize(draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5)), inner).tolist()
        for n in shape[first : first + count]
    ]
    return [draw(elements(shape))], {"indices": (*(None,) * first, *each)}


@st.composite
def movedim_cases(draw):
    shape = draw(some_shapes)
    return [draw(elements(shape))], {"source": draw(axis_of(shape)), "destination": draw(axis_of(shape))}


@st.composite
def masked_fill_cases(draw):
    shape = draw(full)
    mask = np.resize(draw(st.lists(st.booleans(), min_size=1, max_size=5)), shape[draw(st.integers(0, 1)) :])
    return [draw(elements(shape))], {"mask": mask.tolist(), "value": draw(st.sampled_from([-1.5, 0.0]))}


@st.composite
def where_cases(draw):
    shape = draw(full)
    condition = np.resize(draw(st.lists(st.booleans(), min_size=1, max_size=5)), shape).tolist()
    return [
        condition,
        draw(elements(shape)),
        draw(elements(draw(st.sampled_from([shape, shape[1:], ()])))),
    ], {}


@st.composite
def pow_cases(draw):
    shape = draw(some_shapes)
    x, y = draw(elements(shape)), draw(elements(draw(st.sampled_from([shape, ()]))))
    return [np.asarray(np.clip(abs(x), 0, 2) + 0.5), np.asarray(np.clip(y, -2, 2))], {}


EQUATIONS = {
    "ij,jk->ik": ("ij", "jk"), "bij,bkj->bik": ("bij", "bkj"), "ij->ji": ("ij",), "ii->i": ("ii",),
    "ij->": ("ij",), "i,j,k->ijk": ("i", "j", "k"), "bii,i->b": ("bii", "i"), "ij,j->j": ("ij", "j"),
    "ii,jk->k": ("ii", "jk"), "ij,jk": ("ij", "jk"), "ji": ("ji",), "kii": ("kii",),
    "...ij,...jk->...ik": ("bij", "bjk"), "j...,jk": ("jb", "jk"), "...i,i...->i...": ("ki", "ibk"),
}  # fmt: skip
WRITTEN_OUT = {
    "ij,jk": "ij,jk->ik", "ji": "ji->ij", "kii": "kii->k", "...ij,...jk->...ik": "bij,bjk->bik",
    "j...,jk": "jb,jk->bk", "...i,i...->i...": "ki,ibk->ibk",
}  # fmt: skip


@st.composite
def einsum_cases(draw):
    equation = draw(st.sampled_from(sorted(EQUATIONS)))
    sizes = {a: draw(st.integers(1, 3)) for a in "bijk"}
    repeated = draw(st.sampled_from(["", *sizes]))  # of one operand, the first, where it has others
    arrays = []
    for i, letters in enumerate(EQUATIONS[equation]):
        alone = i == 0 and len(EQUATIONS[equation]) > 1 and letters.count(repeated) == 1
        arrays.append(draw(elements(tuple(1 if alone and a == repeated else sizes[a] for a in letters))))
    return [equation, *arrays], {}


def naive_einsum(equation, *arrays):
    return naive.einsum(WRITTEN_OUT.get(equation, equation), *arrays)


@st.composite
def one_axis(draw):
    shape = draw(full)
    return [draw(elements(shape))], {"dim": draw(axis_of(shape)), "keepdim": draw(st.booleans())}


@st.composite
def with_option(draw, base, **options):
    args, given = draw(base)
    return args, {**given, **{name: draw(strategy) for name, strategy in options.items()}}


@st.composite
def spread(draw):
    shape = draw(st.lists(st.integers(2, 4), min_size=1, max_size=3).map(tuple))
    return [draw(elements(shape))], {
        "dim": draw(st.none() | axis_of(shape)), "correction": draw(st.sampled_from([0, 1, 0.5])),
        "keepdim": draw(st.booleans()),
    }  # fmt: skip


@st.composite
def moderate_reduction(draw):
    (x,), options = draw(reduction_cases(1))
    return [np.asarray(np.clip(x, -5, 5))], options


def torch():
    import torch

    return torch


def _tensor(value):
    return torch().tensor(value, dtype=torch().int64)


def torch_index(x, indices):
    return x[tuple(slice(None) if i is None else _tensor(i) for i in indices)]


def torch_prod(x, dim=None, keepdim=False):
    dims = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    for d in sorted((d % x.ndim for d in dims), reverse=True):
        x = x.prod(d, keepdim)
    return x


def torch_amin(x, dim=None, keepdim=False):
    return x.amin(() if dim is None else dim, keepdim)


def torch_logsumexp(x, dim=None, keepdim=False):
    return x.logsumexp(tuple(range(x.ndim)) if dim is None else dim, keepdim)


CASES = {
    "amin": Case(reduction_cases(1), naive.amin, torch=torch_amin),
    "cumprod": Case(along_axis(), naive.cumprod),
    "cumsum": Case(along_axis(), naive.cumsum, linear=True),
    "einsum": Case(einsum_cases(), naive_einsum, torch=lambda e, *xs: torch().einsum(e, *xs)),
    "expand": Case(expand_cases(), naive.expand, linear=True, torch=lambda x, sizes: x.expand(sizes)),
    "flip": Case(flip_cases(), naive.flip, linear=True),
    "gather": Case(
        gather_cases(), naive.gather, linear=True, torch=lambda x, dim, index: x.gather(dim, _tensor(index))
    ),
    "index": Case(index_cases(), naive.index, linear=True, torch=torch_index),
    "index_select": Case(
        index_select_cases(), naive.index_select, linear=True,
        torch=lambda x, dim, index: x.index_select(dim, _tensor(index)),
    ),
    "logsumexp": Case(moderate_reduction(), naive.logsumexp, torch=torch_logsumexp),
    "masked_fill": Case(
        masked_fill_cases(), naive.masked_fill,
        torch=lambda x, mask, value: x.masked_fill(torch().tensor(mask), value),
    ),
    "max": Case(one_axis(), naive.max_along, torch=lambda x, **options: x.max(**options).values),
    "min": Case(one_axis(), naive.amin, torch=lambda x, **options: x.min(**options).values),
    "movedim": Case(movedim_cases(), naive.movedim, linear=True),
    "pow": Case(pow_cases(), naive.pow),
    "prod": Case(reduction_cases(), naive.prod, torch=torch_prod),
    "roll": Case(roll_cases(), naive.roll, linear=True),
    "select": Case(select_cases(), naive.select, linear=True),
    "std": Case(spread(), naive.std),
    "tile": Case(tile_cases(), naive.tile, linear=True),
    "var": Case(spread(), naive.var),
    "vector_norm": Case(
        with_option(reduction_cases(1), ord=st.sampled_from([1, 2, 3, 1.5, np.inf, -np.inf])),
        naive.vector_norm, torch=lambda x, **options: torch().linalg.vector_norm(x, **options),
    ),
    "where": Case(
        where_cases(), naive.where, torch=lambda c, a, b: torch().where(torch().tensor(c), a, b)
    ),
}  # fmt: skip

LAYERS = {
    "amin": (fc.amin((1, 2)), (2, 3, 4)),
    "cumprod": (fc.compose(fc.tanh(), fc.cumprod(1)), (2, 3, 4)),
    "cumsum": (fc.cumsum(-1), (2, 3, 4)),
    "expand": (fc.compose(fc.unsqueeze(1), fc.expand(-1, 3, -1)), (2, 4)),
    "flip": (fc.flip(1, -1), (2, 3, 4)),
    "gather": (fc.compose(fc.mean(0, keepdim=True), fc.gather(-1, [[[1, 0, 1], [2, 2, 0]]])), (2, 3, 4)),
    "index": (fc.index((None, [0, 2, 2], [1, 1, 0])), (2, 3, 4)),
    "index_select": (fc.index_select(1, [2, 0, 2, 1]), (2, 3, 4)),
    "logsumexp": (fc.logsumexp(1), (2, 3, 4)),
    "masked_fill": (fc.masked_fill([True, False, False, True], -1.0), (2, 3, 4)),
    "max": (fc.max(1), (2, 3, 4)),
    "min": (fc.min(1, keepdim=True), (2, 3, 4)),
    "movedim": (fc.movedim(1, -1), (2, 3, 4)),
    "prod": (fc.compose(fc.tanh(), fc.prod((1, 2), keepdim=True)), (2, 3, 4)),
    "roll": (fc.roll((1, -2), (1, 2)), (2, 3, 4)),
    "select": (fc.select(1, -1), (2, 3, 4)),
    "std": (fc.std(1, correction=0), (2, 3, 4)),
    "tile": (fc.tile(2, 3), (2, 3, 4)),
    "var": (fc.var((1, 2), keepdim=True), (2, 3, 4)),
    "vector_norm": (fc.vector_norm(2, 1), (2, 3, 4)),
    "vector_norm of absolute values": (fc.vector_norm(1, (1, 2), keepdim=True), (2, 3, 4)),
}

CALLS = [
    ("amin", [(2, 3, 4)], {"dim": (0, 2), "keepdim": False}),
    ("cumprod", [(2, 5)], {"dim": 1}),
    ("cumsum", [(2, 5)], {"dim": 1}),
    ("einsum", [("as is", "bij,bjk->bki"), (2, 3, 4), (2, 4, 5)], {}),
    ("einsum", [("as is", "...ii->...i"), (2, 3, 3)], {}),
    ("expand", [(2, 1)], {"sizes": (3, -1, 4)}),
    ("flip", [(2, 3)], {"dims": (0, 1)}),
    ("gather", [(2, 3)], {"dim": 1, "index": [[2, 2], [0, 1]]}),
    ("index", [(3, 4, 2)], {"indices": ([0, 2, 2], None, [1, 1, 0])}),
    ("index_select", [(3, 4)], {"dim": 0, "index": [2, 0, 2]}),
    ("logsumexp", [(3, 4)], {"dim": 1}),
    ("masked_fill", [(2, 3)], {"mask": [True, False, True], "value": 2.0}),
    ("max", [(3, 4)], {"dim": 1}),
    ("min", [(3, 4)], {"dim": 0, "keepdim": True}),
    ("movedim", [(2, 3, 4)], {"source": (0, 1), "destination": (-1, 0)}),
    ("pow", [("positive", (2, 3)), (3,)], {}),
    ("prod", [(2, 3, 2)], {"dim": (0, 2)}),
    ("roll", [(3, 4)], {"shifts": (1, -2), "dims": (0, 1)}),
    ("roll", [(3, 4)], {"shifts": 5}),
    ("select", [(3, 4)], {"dim": 1, "index": -2}),
    ("std", [(3, 4)], {"dim": 1}),
    ("tile", [(2, 3)], {"dims": (2, 1, 2)}),
    ("var", [(3, 4)], {"dim": (0, 1), "correction": 0}),
    ("vector_norm", [(3, 4)], {"ord": 3, "dim": 1}),
    ("where", [("as is", [[True], [False]]), (2, 3), (3,)], {}),
]
