"""Places of maxima, ties and NaN in pooling, against PyTorch."""

from __future__ import annotations

from itertools import product

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
    # Dilated windows may hold padding alone. PyTorch's place for them is none, or another row's.
    real = np.isfinite(function(np.zeros_like(x), **options))
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


@pytest.mark.parametrize(
    ("kind", "ndim"),
    # PyTorch's avg_pool3d and lp_pool3d refuse what their other ranks take; test_functions.py has ours.
    [(kind, ndim) for kind in ("max", "avg", "lp") for ndim in (1, 2, 3) if kind == "max" or ndim < 3],
)
def test_windows_larger_than_the_input(kind, ndim):
    """Every kernel and stride up to 4 on every smaller input."""
    name = f"{kind}_pool{ndim}d"
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    draw = np.random.default_rng(0)
    taken = refused = 0
    for size, kernel, stride in product(range(1, 4), range(2, 5), range(1, 5)):
        x = abs(draw.standard_normal((1, 2, *(5,) * (ndim - 1), size))) + 0.1
        if size >= kernel:
            continue
        windows = (
            [kernel, stride] if ndim == 1 else [(2,) * (ndim - 1) + (kernel,), (2,) * (ndim - 1) + (stride,)]
        )
        args = [2.0, *windows] if kind == "lp" else windows
        t = torch.tensor(x, requires_grad=True)
        try:
            expected = theirs(t, *args, ceil_mode=True)
        except RuntimeError:
            refused += 1
            with pytest.raises(
                ValueError, match=f"{name}: a window of {kernel} .* is larger than the padded"
            ):
                ours(x, *args, ceil_mode=True)
            continue
        taken += 1
        y, pullback = ours.forward(x, *args, ceil_mode=True)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12)
        g = draw.standard_normal(y.shape)
        expected.backward(torch.tensor(g))
        np.testing.assert_allclose(pullback(g), t.grad.numpy(), rtol=1e-12, atol=1e-15)
    assert (taken, refused) == (14, 10)
