"""Norm layers over a few batches against torch.nn's modules: outputs, gradients, running statistics."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

import fconv as fc

CHOICES = list(product([0.1, 0.4, None], [True, False], [True, False]))
SHAPES = {1: (4, 3, 5), 2: (4, 3, 2, 5), 3: (4, 3, 2, 2, 3)}


def check_running(layer, module, shapes):
    """Train on some batches, then infer on one."""
    module = module.double()
    params = layer.init(fc.random.key(0), shapes[0], np.float64)
    assert set(fc.to_state_dict(params)) == set(module.state_dict())
    for step, shape in enumerate([*shapes, shapes[0]]):
        train = step < len(shapes)
        module.train(train)
        x = fc.random.normal(fc.random.key(step), shape, np.float64, mean=2.0, std=3.0)
        g = fc.random.normal(fc.random.key(10 + step), shape, np.float64)
        tensor = torch.tensor(x, requires_grad=True)
        module.zero_grad()
        theirs = module(tensor)
        theirs.backward(torch.tensor(g))
        y, params, pullback = layer.forward(params, x, train=train)
        np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
        dparams, dx = pullback(g)
        np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-9, atol=1e-11)
        for name, p in module.named_parameters():
            np.testing.assert_allclose(dparams[name], p.grad.numpy(), rtol=1e-10, atol=1e-11)
        for name, value in module.state_dict().items():
            np.testing.assert_allclose(params[name], value.numpy(), rtol=1e-12)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(("momentum", "affine", "track"), CHOICES)
def test_batch_norm_is_pytorchs(ndim, momentum, affine, track):
    module = getattr(torch.nn, f"BatchNorm{ndim}d")(3, 1e-3, momentum, affine, track)
    shape = SHAPES[ndim]
    check_running(
        fc.batch_norm(eps=1e-3, momentum=momentum, affine=affine, track_running_stats=track),
        module,
        [shape, (2, *shape[1:]), shape],
    )


def test_batch_norm_of_features_is_pytorchs():
    check_running(
        fc.batch_norm(momentum=None), torch.nn.BatchNorm1d(3, momentum=None), [(4, 3), (2, 3), (5, 3)]
    )


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(("momentum", "affine", "track"), CHOICES)
def test_instance_norm_is_pytorchs(ndim, momentum, affine, track):
    make = getattr(torch.nn, f"InstanceNorm{ndim}d")
    shape = SHAPES[ndim]
    shapes = [shape, (1, *shape[1:])]
    layer = fc.instance_norm(eps=1e-3, momentum=momentum, affine=affine, track_running_stats=track, ndim=ndim)
    check_running(layer, make(3, 1e-3, momentum, affine, track), shapes)
    check_running(layer, make(3, 1e-3, momentum, affine, track), shapes[::-1])


@pytest.mark.parametrize(
    ("layer", "module"),
    [
        (fc.layer_norm(), torch.nn.LayerNorm(5)),
        (fc.layer_norm((2, 5), eps=1e-2, bias=False), torch.nn.LayerNorm((2, 5), 1e-2, bias=False)),
        (fc.layer_norm(5, eps=1e-2, elementwise_affine=False), torch.nn.LayerNorm(5, 1e-2, False)),
        (fc.rms_norm(last_axes=2), torch.nn.RMSNorm((2, 5))),
        (fc.rms_norm(5, eps=1e-2, elementwise_affine=False), torch.nn.RMSNorm(5, 1e-2, False)),
        (fc.group_norm(3), torch.nn.GroupNorm(3, 3)),
        (fc.group_norm(1, eps=1e-2, affine=False), torch.nn.GroupNorm(1, 3, 1e-2, False)),
        (fc.local_response_norm(2, alpha=0.3, beta=0.5, k=2.0), torch.nn.LocalResponseNorm(2, 0.3, 0.5, 2.0)),
    ],
)
def test_sample_norms_are_pytorchs(layer, module):
    check_running(layer, module, [SHAPES[2]])


def test_rms_norm_of_float16_adds_the_precision_of_float32():
    x = np.full((1, 2), 1e-2, np.float16)
    theirs = torch.nn.functional.rms_norm(torch.tensor(x), (2,)).numpy()
    np.testing.assert_array_equal(fc.functional.rms_norm(x, (2,)), theirs)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.inf])
def test_normalize_at_ties_and_zeros_is_pytorchs(p):
    x = np.array([[0.0, 1.0, -1.0, 0.5], [0.0, 0.0, 0.0, 0.0], [2.0, 2.0, -2.0, 0.0]])
    g = np.arange(12.0).reshape(3, 4)
    tensor = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.normalize(tensor, p)
    theirs.backward(torch.tensor(g))
    np.testing.assert_allclose(fc.functional.normalize(x, p), theirs.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(
        fc.functional.normalize_vjp(g, x, p), tensor.grad.numpy(), rtol=1e-12, atol=1e-15
    )
