"""Every function of the case table against PyTorch: values and gradients, float64 and float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fconv import functional as F
from fconv import random
from fconv.testing import strategies as fst
from fconv.testing.purity import check_close
from tests.cases import CASES
from tests.data.record import torch_function

NAMES = sorted(name for name, case in CASES.items() if case.torch)


def tensor(a, dtype):
    if not isinstance(a, np.ndarray):
        return a
    if a.dtype.kind != "f":
        return torch.from_numpy(np.ascontiguousarray(a).reshape(a.shape))
    return torch.tensor(a.copy(), dtype=dtype, requires_grad=True)


def cast(a, dtype):
    return a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a


def constant(a):
    return torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), key=fst.keys())
def test_values_and_gradients_are_pytorchs(name, dtype, data, key):
    args, options = data.draw(CASES[name].draw)
    args = [cast(a, dtype) for a in args]
    options = {k: cast(v, dtype) for k, v in options.items()}
    assume(not (name.startswith("pixel") and args[0].size == 0))  # torch gives a wrong shape
    function = getattr(F, name)
    tensors = [tensor(a, getattr(torch, dtype)) for a in args]
    places = [i for i, a in enumerate(args) if a is None or isinstance(a, np.ndarray)]
    for i, argument in zip(places, function.arrays, strict=False):  # torch refuses, or mutates, constants
        if argument in function.constants and tensors[i] is not None:
            tensors[i] = tensors[i].detach()
    try:
        their_options = {k: constant(v) for k, v in options.items()}
        theirs = torch_function(name)(*tensors, **their_options)
    except RuntimeError as error:
        # torch refuses some empty batches and some pictures that pooling's padding exceeds
        assert "empty" in str(error) or "non-zero" in str(error) or "size" in str(error), error  # noqa: PT017
        return
    ours = function(*args, **options)
    tolerance = 1e-11 if dtype == "float64" else 2e-5
    check_close(name, "fconv and torch", ours, theirs.detach().numpy(), tolerance, 1.0)
    g = random.normal(key, ours.shape, dtype)
    if not np.isfinite(ours).all():
        return  # a mean over nothing, or a pooling window with nothing but padding
    if theirs.grad_fn is not None:
        theirs.backward(torch.from_numpy(np.asarray(g)))
    grads = getattr(F, f"{name}_vjp")(g, *args, **options)
    for i, grad in zip(places, grads if isinstance(grads, tuple) else (grads,), strict=False):
        a, t = args[i], tensors[i]
        if grad is not None and t.grad is not None:
            scale = max(1.0, float(np.abs(a).max(initial=0.0)))
            check_close(f"{name}_vjp", "fconv and torch", grad, t.grad.numpy(), 10 * tolerance, scale)


def test_ties_and_nan_in_max_pooling_go_where_pytorch_sends_them():
    x = np.array([[1.0, 1.0, np.nan, 2.0, 2.0, np.nan, np.nan, 0.0]]).reshape(1, 1, 8)
    t = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.max_pool1d(t[None, 0], 4, stride=2)
    y.backward(torch.ones_like(y))
    np.testing.assert_array_equal(F.max_pool1d(x, 4, 2), y.detach().numpy())
    np.testing.assert_array_equal(F.max_pool1d_vjp(np.ones(y.shape), x, 4, 2), t.grad.numpy())


def test_nan_passes_through_as_in_pytorch():
    x = np.array([[np.nan, 1.0, -1.0]])
    for name in ["relu", "sigmoid", "tanh", "softmax", "log_softmax"]:
        options = {"dim": 1} if "softmax" in name else {}
        t = torch.tensor(x, requires_grad=True)
        y = torch_function(name)(t, **options)
        y.backward(torch.ones_like(y))
        np.testing.assert_allclose(getattr(F, name)(x, **options), y.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(
            getattr(F, f"{name}_vjp")(np.ones_like(x), x, **options), t.grad.numpy(), rtol=1e-12, atol=1e-15
        )
