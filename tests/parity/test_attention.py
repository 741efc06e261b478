"""Attention's masks and dropout, embedding's options and layer starts, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fconv as fc
from fconv import functional as F

KEY = fc.random.key(0)


def draw(number, shape):
    return fc.random.normal(fc.random.key(number), shape, np.float64)


def compare(ours, theirs, arrays, mask=None, **options):
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    given = () if mask is None else (torch.tensor(mask, requires_grad=mask.dtype.kind == "f"),)
    expected = theirs(*tensors, *given, **options)
    masks = () if mask is None else (mask,)
    y, pull = ours.forward(*arrays, *masks, **options)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = draw(9, y.shape)
    expected.backward(torch.tensor(g))
    for grad, tensor in zip(pull(g), [*tensors, *given], strict=False):
        if tensor.grad is None:
            assert grad is None
        else:
            np.testing.assert_allclose(grad, tensor.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [bool, float])
def test_queries_that_see_no_key(kind):
    seen = np.array([[True, False, True], [False, False, False]])
    mask = seen if kind is bool else np.where(seen, 0.5, -np.inf)
    arrays = [draw(1, (2, 2, 4)), draw(2, (2, 3, 4)), draw(3, (2, 3, 5))]
    attention = torch.nn.functional.scaled_dot_product_attention
    compare(F.scaled_dot_product_attention, attention, arrays, mask)
    y = F.scaled_dot_product_attention(*arrays, mask)
    assert (y[:, 1] == 0).all()


@pytest.mark.parametrize(
    "shapes", [((2, 4), (3, 4), (3, 5)), ((2, 0), (3, 0), (3, 5)), ((2, 4), (0, 4), (0, 5))]
)
def test_attention_without_batch_features_or_keys(shapes):
    arrays = [draw(i, shape) for i, shape in enumerate(shapes)]
    y = F.scaled_dot_product_attention(*arrays)
    tensors = [torch.tensor(a) for a in arrays]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors)
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-12)
    grads = F.scaled_dot_product_attention_vjp(y, *arrays)
    assert [g.shape for g in grads[:3]] == list(shapes)


def test_scores_too_large_for_exp_and_nan():
    arrays = [1e4 * draw(1, (2, 4)), draw(2, (3, 4)), draw(3, (3, 5))]
    compare(F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention, arrays)
    arrays[0][0, 0] = np.nan
    y = F.scaled_dot_product_attention(*arrays)
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()


def test_dropout_of_attention_is_unbiased_and_differentiated():
    q, k, v = draw(1, (3, 4)), draw(2, (50, 4)), draw(3, (50, 2))
    plain = F.scaled_dot_product_attention(q, k, v)
    keys = fc.random.split(KEY, 400)
    dropped = [F.scaled_dot_product_attention(q, k, v, dropout_p=0.5, rng=key) for key in keys]
    np.testing.assert_allclose(np.mean(dropped, axis=0), plain, atol=0.1)
    from fconv.testing import check_vjp

    options = {"dropout_p": 0.3, "rng": KEY}
    check_vjp(F.scaled_dot_product_attention, F.scaled_dot_product_attention_vjp, [q, k, v], options)
    assert (F.scaled_dot_product_attention(q, k, v, dropout_p=1.0, rng=KEY) == 0).all()


@pytest.mark.parametrize("padding_idx", [None, 0, -2])
@pytest.mark.parametrize("scale_grad_by_freq", [False, True])
def test_embedding_is_pytorchs(padding_idx, scale_grad_by_freq):
    x = (7 * fc.random.uniform(KEY, (5, 40))).astype(np.int64)
    weight, g = draw(1, (7, 3)), draw(2, (5, 40, 3))
    options = {"padding_idx": padding_idx, "scale_grad_by_freq": scale_grad_by_freq}
    tensor = torch.tensor(weight, requires_grad=True)
    expected = torch.nn.functional.embedding(torch.tensor(x), tensor, **options)
    expected.backward(torch.tensor(g))
    np.testing.assert_array_equal(F.embedding(x, weight, **options), expected.detach().numpy())
    dx, dweight = F.embedding_vjp(g, x, weight, **options)
    assert dx is None
    np.testing.assert_allclose(dweight, tensor.grad.numpy(), rtol=1e-12, atol=1e-13)


def test_embedding_starts_as_pytorchs():
    weight = fc.embedding(2000, 20, padding_idx=-1).init(KEY, (3,))["weight"]
    assert abs(weight.std() - 1) < 0.02
    assert abs(weight.mean()) < 0.02
    assert (weight[-1] == 0).all()
    assert weight.dtype == np.float32
    own = fc.embedding(3, 2, padding_idx=1, weight_init=fc.initializers.ones()).init(KEY, (3,))["weight"]
    np.testing.assert_array_equal(own, [[1, 1], [0, 0], [1, 1]])


def test_many_equal_numbers_sum_as_well_as_pairwise():
    x = np.zeros(100_001, np.int64)
    g = np.full((100_001, 1), 0.1, np.float32)
    _, dweight = F.embedding_vjp(g, x, np.zeros((2, 1), np.float32))
    np.testing.assert_allclose(dweight, [[10000.1], [0.0]], rtol=1e-6)


def test_bilinear_starts_as_pytorchs():
    params = fc.bilinear(30).init(KEY, ((8, 16), (8, 9)))
    module = torch.nn.Bilinear(16, 9, 30)
    for name, theirs in module.named_parameters():
        assert params[name].shape == tuple(theirs.shape)
        assert abs(params[name]).max() <= 0.25
        assert abs(params[name]).max() > 0.2
