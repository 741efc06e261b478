"""Places of maxima, ties and NaN in pooling, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fconv import functional as F
from fconv.testing import strategies as fst
from tests.cases.pooling import adaptive_cases, pool_cases


@st.composite
def awkward(draw, cases):
    """Fill with few values: ties, NaN, and windows of nothing but -inf."""
    (x,), options = draw(cases)
    values = draw(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan, -np.inf]), min_size=x.size, max_size=x.size)
    )
    return np.array(values).reshape(x.shape), options


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "adaptive_max"])
@given(data=st.data())
def test_places_and_gradients_are_pytorchs(kind, ndim, data):
    cases = pool_cases(ndim, "max") if kind == "max" else adaptive_cases(ndim)
    x, options = data.draw(awkward(cases))
    if x.size == 0:
        return
    function, name = getattr(F, f"{kind}_pool{ndim}d"), f"{kind}_pool{ndim}d"
    t = torch.tensor(x, requires_grad=True)
    theirs, places = getattr(torch.nn.functional, name)(t, **options, return_indices=True)
    y, indices = function(x, **options, return_indices=True)
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(y, theirs.detach().numpy())
    plane = x[0, 0].size if x.ndim == ndim + 2 else x[0].size
    real = (places.numpy() >= 0) & (places.numpy() < plane)  # dilated windows may hold padding alone
    np.testing.assert_array_equal(indices[real], places.numpy()[real])
    np.testing.assert_array_equal(function(x, **options), y)
    if real.all():
        g = np.arange(1.0, y.size + 1).reshape(y.shape)
        theirs.backward(torch.tensor(g))
        np.testing.assert_array_equal(function.vjp(g, x, **options, return_indices=True), t.grad.numpy())


@given(data=st.data(), key=fst.keys())
def test_unpooling_undoes_pooling(data, key):
    x = data.draw(fst.arrays_like((2, 2, 6, 5), np.float64, fills=("normal",)))
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    back = F.max_unpool2d(y, indices, 2, output_size=x.shape)
    np.testing.assert_array_equal(back[back != 0], x[back != 0])
    assert (back != 0).sum() == y.size
    theirs = torch.nn.functional.max_unpool2d(
        torch.tensor(y), torch.tensor(indices), 2, output_size=list(x.shape)
    )
    np.testing.assert_array_equal(back, theirs.numpy())
