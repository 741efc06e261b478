"""Activations against PyTorch where they are delicate: at kinks, far from 0, in float16, at NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fconv import functional as F
from tests.cases.activation import ELEMENTWISE

EACH = sorted([*ELEMENTWISE, "hardtanh"])
TOLERANCE = {"float64": (1e-12, 1e-14), "float32": (2e-6, 1e-6), "float16": (1e-3, 6e-4)}
"""Relative and absolute. In float16 PyTorch takes some gradients from the rounded value; ours are nearer."""

KINKS = [
    ("relu", [0], {}),
    ("relu6", [0, 6], {}),
    ("hardtanh", [-1, 1], {}),
    ("hardtanh", [-0.5, 2], {"min_val": -0.5, "max_val": 2.0}),
    ("hardtanh", [1, 2], {"min_val": 1.0, "max_val": 1.0}),
    ("leaky_relu", [0], {"negative_slope": 0.2}),
    ("threshold", [0.5, 1], {"threshold": 0.5, "value": 2.0}),
    ("hardsigmoid", [-3, 3], {}),
    ("hardswish", [-3, 3], {}),
    ("softshrink", [-0.5, 0.5], {}),
    ("softshrink", [0], {"lambd": 0.0}),
    ("hardshrink", [-0.5, 0.5], {}),
    ("hardshrink", [0, 1], {"lambd": 0.0}),
    ("hardshrink", [0, 1], {"lambd": -1.0}),
    ("elu", [0], {"alpha": 0.5}),
    ("selu", [0], {}),
    ("celu", [0], {"alpha": 0.5}),
    ("softplus", [0.25], {"threshold": 0.25}),
    ("softsign", [0], {}),
]


def theirs(name, x, options):
    """Return PyTorch's value, and its gradient for ones."""
    t = torch.tensor(x, requires_grad=True)
    y = getattr(torch.nn.functional, name)(t, **options)
    y.backward(torch.ones_like(y))
    return y.detach().numpy(), t.grad.numpy()


def compare(name, x, options):
    value, gradient = theirs(name, x, options)
    rtol, atol = TOLERANCE[str(x.dtype)]
    if name == "hardsigmoid":
        rtol = max(rtol, 1e-7)  # PyTorch's 1/6 is rounded to float32
    y = getattr(F, name)(x, **options)
    dx = getattr(F, f"{name}_vjp")(np.ones_like(x), x, **options)
    assert y.dtype == dx.dtype == x.dtype
    np.testing.assert_allclose(y, value, rtol, atol)
    np.testing.assert_allclose(dx, gradient, rtol, atol)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "points", "options"), KINKS)
def test_gradients_at_kinks_are_pytorchs(name, points, options, dtype):
    at = np.array(points, dtype)
    compare(
        name, np.concatenate([at, -at, np.nextafter(at, -99), np.nextafter(at, 99)], dtype=dtype), options
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", EACH)
def test_values_far_from_0_are_pytorchs(name, dtype):
    near = np.linspace(-8, 8, 33)
    far = [12.0, 20.0, 30.0, 80.0, 100.0, 1e3, 1e4, 6e4]
    x = np.array([*near, *far, *(-v for v in far)], dtype)
    compare(name, x, ELEMENTWISE[name][1] if name in ELEMENTWISE else {})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [*EACH, "logsigmoid", "softplus"])
def test_nan_passes_through_as_in_pytorch(name, dtype):
    # Long enough for PyTorch's vector code. For these it stops the gradient, which its code for single
    # entries lets pass for some of them; here it passes, see test_nan.py.
    x = np.full(64, np.nan, dtype)
    if name in ("hardshrink", "hardsigmoid", "hardtanh", "relu6", "softshrink"):
        assert np.isnan(theirs(name, x, {})[0]).all()
        return
    compare(name, x, ELEMENTWISE[name][1] if name in ELEMENTWISE else {})


@pytest.mark.parametrize("name", EACH)
def test_infinities_give_pytorchs_values_without_a_warning(name):
    x = np.array([-np.inf, np.inf])
    options = ELEMENTWISE[name][1] if name in ELEMENTWISE else {}
    np.testing.assert_array_equal(getattr(F, name)(x, **options), theirs(name, x, options)[0])


@pytest.mark.parametrize("weight", [[0.25], [0.25, -0.5, 2.0]])
def test_prelu_at_0_and_nan_is_pytorchs(weight):
    x = np.array([[0.0, -1.0, 2.0], [-0.0, 0.0, np.nan], [1.0, 1.0, 1.0]])
    w = np.array(weight)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w)]
    y = torch.nn.functional.prelu(*tensors)
    y.backward(torch.ones_like(y))
    np.testing.assert_array_equal(F.prelu(x, w), y.detach().numpy())
    for ours, tensor in zip(F.prelu_vjp(np.ones_like(x), x, w), tensors, strict=True):
        np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=1e-15)


@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
@pytest.mark.parametrize("row", [[-np.inf, 0.0, 1.0], [np.inf, 0.0, 1.0], [-np.inf, -np.inf, -np.inf]])
def test_softmax_over_infinities_is_pytorchs(name, row):
    x = np.array([row])
    expected = getattr(torch.nn.functional, name)(torch.tensor(x), dim=1).numpy()
    np.testing.assert_allclose(getattr(F, name)(x), expected, rtol=1e-15)


@pytest.mark.parametrize("name", ["dropout1d", "dropout2d", "dropout3d", "alpha_dropout"])
@pytest.mark.filterwarnings("ignore:dropout2d. Received a 3D input")
def test_dropout_masks_what_pytorchs_does(name):
    """The same axes share a draw, and what is kept and dropped becomes the same two numbers."""
    import fconv as fc

    ndims = {"dropout1d": (2, 3), "dropout2d": (3, 4), "dropout3d": (4, 5), "alpha_dropout": (2,)}[name]
    for ndim in ndims:
        x = np.ones((30, 20, 3, 3, 3)[:ndim])
        ours = getattr(F, name)(x, 0.3, training=True, key=fc.random.key(0))
        expected = getattr(torch.nn.functional, name)(torch.tensor(x), 0.3, training=True).numpy()
        np.testing.assert_allclose(np.unique(ours.round(12)), np.unique(expected.round(12)))
        for axis in range(ndim):
            shared = [bool((y == y.take([0], axis)).all()) for y in (ours, expected)]
            assert shared[0] == shared[1], axis
