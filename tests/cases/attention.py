"""Attention, embeddings and the bilinear map."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

import fconv as fc
from fconv.arrays import xp_of
from fconv.testing import strategies as fst
from tests import naive
from tests.cases.common import Case, elements, f64

sizes = st.lists(st.integers(0, 3), min_size=0, max_size=2).map(tuple)


@st.composite
def bilinear_cases(draw):
    lead, features = draw(sizes), draw(st.lists(st.integers(1, 3), min_size=3, max_size=3))
    out, in1, in2 = features
    bias = draw(elements((out,))) if draw(st.booleans()) else None
    return [
        draw(elements((*lead, in1))),
        draw(elements((*lead, in2))),
        draw(elements((out, in1, in2))),
        bias,
    ], {}


@st.composite
def embedding_cases(draw):
    shape, rows = draw(sizes), draw(st.integers(2, 4))
    # The padding row is never looked up here: its gradient is 0 by decree, not by calculus.
    chosen = draw(st.lists(st.integers(0, rows - 2), min_size=prod(shape), max_size=prod(shape)))
    x = np.array(chosen, draw(st.sampled_from([np.int32, np.int64]))).reshape(shape)
    options = {"padding_idx": draw(st.sampled_from([None, rows - 1, -1]))}
    return [x, draw(elements((rows, draw(st.integers(1, 3)))))], options


def small(shape):
    return fst.arrays_like(shape, f64, fills=("normal", "tied", "zeros"))


@st.composite
def attention_cases(draw):
    lead = draw(sizes)
    rows, columns, features = draw(st.integers(0, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    stretched = [tuple(draw(st.sampled_from([n, 1])) for n in lead) for _ in range(2)]
    heads, shared, options = (), (), {}
    if draw(st.booleans()):
        heads, shared, options = (4,), (2,), {"enable_gqa": True}
    query = draw(small((*lead, *heads, rows, features)))
    key = draw(small((*stretched[0], *shared, columns, features)))
    value = draw(small((*stretched[1], *shared, columns, draw(st.integers(1, 3)))))
    options["scale"] = draw(st.sampled_from([None, 0.5]))
    kind = draw(st.sampled_from(["none", "causal", "float", "bool", "row"]))
    mask = None
    if kind == "causal":
        options["is_causal"] = True
    elif kind != "none":
        shape = (columns,) if kind == "row" else (*lead, *heads, rows, columns)
        mask = draw(small(shape))
        mask = mask > -0.5 if kind == "bool" else mask
    return [query, key, value, mask], options


CASES = {
    "bilinear": Case(bilinear_cases(), naive.bilinear),
    "embedding": Case(embedding_cases(), naive.embedding),
    "scaled_dot_product_attention": Case(attention_cases(), naive.scaled_dot_product_attention),
}


def halved(layer):
    """Return the two halves of the last axis to a layer of two inputs."""

    def parts(x):
        return x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]

    def halves(shape):
        return (*shape[:-1], shape[-1] // 2), (*shape[:-1], shape[-1] - shape[-1] // 2)

    def vjp(params, x, g, *, train=False, key=None):
        dparams, dx = layer.vjp(params, parts(x), g, train=train, key=key)
        return dparams, xp_of(dx[0]).concatenate(dx, axis=-1)

    def jvp(params, x, dparams, dx, *, train=False, key=None):
        return layer.jvp(params, parts(x), dparams, None if dx is None else parts(dx), train=train, key=key)

    def forward(params, x, *, train=False, key=None):
        y, new, pull = layer.forward(params, parts(x), train=train, key=key)

        def pullback(g, input_grad=True):
            dparams, dx = pull(g, input_grad)
            return dparams, None if dx is None else xp_of(dx[0]).concatenate(dx, axis=-1)

        return y, new, pullback

    return fc.Layer(
        init=lambda key, shape, dtype=np.float32: layer.init(key, halves(shape), dtype),
        apply=lambda params, x, *, train=False, key=None: layer.apply(params, parts(x), train=train),
        vjp=vjp,
        forward=forward,
        out_shape=lambda shape: layer.out_shape(halves(shape)),
        jvp=jvp,
        name=layer.name,
        options=layer.options,
    )


LAYERS = {
    "bilinear": (halved(fc.bilinear(3)), (4, 5)),
    "bilinear without bias": (halved(fc.bilinear(2, bias=False)), (2, 3, 4)),
    "embedding": (fc.embedding(4, 3), (5, 2)),
    "embedding with padding": (fc.embedding(6, 3, padding_idx=-1), (7,)),
}

CALLS = [
    ("bilinear", [(4, 3), (4, 2), (5, 3, 2), (5,)], {}),
    ("embedding", [("labels", (3, 4), 5), (5, 2)], {"padding_idx": 1}),
    ("scaled_dot_product_attention", [(2, 3, 4), (2, 5, 4), (2, 5, 3)], {}),
    ("scaled_dot_product_attention", [(2, 3, 4), (2, 5, 4), (2, 5, 3), (3, 5)], {"scale": 0.3}),
    ("scaled_dot_product_attention", [(2, 3, 4), (2, 5, 4), (2, 5, 3)], {"is_causal": True}),
]
