"""Every layer as a module of PyTorch's, whether torch.nn has one for it or not: the same values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fconv as fc
from tests.test_layers import LAYERS, input_of

KEY = fc.random.key(0)

FITS = {name: case for name, case in LAYERS.items() if not case[0].draws}
"""Layers without random numbers."""


@pytest.mark.parametrize("name", FITS)
def test_a_layer_is_a_module_or_refused_by_name(name):
    layer, shape = FITS[name]
    params = layer.init(KEY, shape, np.float64)
    x = input_of(layer, fc.random.normal(fc.random.key(1), shape, np.float64))
    try:
        module = fc.to_torch_module(layer, params, shape)
    except ValueError as error:
        assert str(error).startswith("to_torch_module: ")
        return
    for train in (False, True):
        module.train(train)
        given = torch.tensor(x, requires_grad=x.dtype.kind == "f")
        expected = module(given)
        y, _, pullback = layer.forward(params, x, train=train, key=KEY)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
        if x.dtype.kind != "f" or not expected.requires_grad:
            continue
        g = np.random.default_rng(2).standard_normal(y.shape)
        expected.backward(torch.from_numpy(g))
        np.testing.assert_allclose(pullback(g)[1], given.grad.numpy(), rtol=1e-7, atol=1e-9)


def test_only_layers_without_an_expression_are_refused():
    refused = set()
    for layer, shape in FITS.values():
        try:
            fc.to_torch_module(layer, layer.init(KEY, shape, np.float64), shape)
        except ValueError:
            refused.add(layer.name)
    assert refused == set()
