"""Every layer as a module of PyTorch's, whether torch.nn has one for it or not: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fconv as fc
from tests.test_layers import LAYERS, input_of

KEY = fc.random.key(0)


@pytest.mark.parametrize("name", [name for name in LAYERS if not name.startswith("bilinear")])
def test_a_layer_is_a_module(name):
    layer, shape = LAYERS[name]
    params = layer.init(KEY, shape, np.float64)
    x = input_of(layer, fc.random.normal(fc.random.key(1), shape, np.float64))
    module = fc.to_torch_module(layer, params, shape)
    for train in (False,) if layer.draws else (False, True):
        given = torch.tensor(x, requires_grad=x.dtype.kind == "f")
        expected = module.train(train)(given)
        y, _, pullback = layer.forward(params, x, train=train, key=KEY)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
        if expected.requires_grad and given.requires_grad:
            g = np.random.default_rng(2).standard_normal(y.shape)
            expected.backward(torch.from_numpy(g))
            np.testing.assert_allclose(pullback(g)[1], given.grad.numpy(), rtol=1e-7, atol=1e-9)
