"""Sizes of 0: what PyTorch takes is taken, with its shapes, values and gradients."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from fconv import functional as F

DRAW = np.random.default_rng(0).standard_normal


def compare(name, args, options):
    """Compare with PyTorch where it takes the arguments; tell whether it does."""
    tensors = [torch.tensor(a, requires_grad=True) if isinstance(a, np.ndarray) else a for a in args]
    try:
        expected = getattr(torch.nn.functional, name)(*tensors, **options)
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        return False
    said = f"{name} {[getattr(a, 'shape', a) for a in args]} {options}"
    if min(expected.shape, default=0) < 0:
        return False  # PyTorch gives reflect padding sizes below 0
    y, pullback = getattr(F, name).forward(*args, **options)
    assert y.shape == tuple(expected.shape), said
    np.testing.assert_allclose(y, expected.detach().numpy(), err_msg=said)
    grads = pullback(np.ones(y.shape))
    try:
        expected.sum().backward()
    except RuntimeError:
        return True  # PyTorch's gradients take less than its values
    arrays = [t for t in tensors if isinstance(t, torch.Tensor)]
    for ours, theirs in zip(grads if isinstance(grads, tuple) else (grads,), arrays, strict=False):
        if ours is not None:
            wanted = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
            np.testing.assert_allclose(ours, wanted.numpy(), atol=1e-12, err_msg=said)
    return True


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_convolution(name, ndim):
    taken = 0
    for n, c, length, stride, pad, k in product((0, 1), (0, 2), (0, 1, 3), (1, 2), (0, 1), (1, 3)):
        if c == 0 and name == "conv":
            continue  # PyTorch gives an output without channels whatever the weight has
        x = DRAW((n, c, length, *(4,) * (ndim - 1)))
        channels = (c, 2) if name == "conv_transpose" else (2, c)
        weight = DRAW((*channels, k, *(3,) * (ndim - 1)))
        taken += compare(f"{name}{ndim}d", [x, weight, DRAW(2)], {"stride": stride, "padding": pad})
    assert taken > 20


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_padding_to_nothing(mode):
    taken = 0
    for lead, height, width in product(((1, 1), (0, 1), (2,)), (0, 1, 3), (0, 1, 3)):
        for widths in product((-3, -1, 0, 1), (-1, 0, 1), (-3, -1, 0), (0,)):
            x = DRAW((*lead, height, width))
            sizes = (width + sum(widths[:2]), height + sum(widths[2:]))
            taken += min(sizes) == 0 and compare("pad", [x, widths], {"mode": mode})
    assert taken > 80


@pytest.mark.parametrize(
    "name", ["adaptive_avg_pool", "adaptive_max_pool", "max_pool", "avg_pool", "lp_pool"]
)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_pooling(name, ndim):
    for n, c, length, size in product((0, 1), (0, 2), (0, 3), (1, 2, 0)):
        x = DRAW((n, c, length, *(3,) * (ndim - 1)))
        if name.startswith("adaptive"):
            compare(f"{name}{ndim}d", [x], {"output_size": size})
        elif size:
            compare(f"{name}{ndim}d", [x, *([2.0] if name == "lp_pool" else [])], {"kernel_size": size})
    assert np.isnan(F.adaptive_avg_pool1d(np.zeros((1, 2, 0)), 1)).all()
    assert np.isnan(F.global_avg_pool(np.zeros((1, 2, 0)))).all()


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("batch_norm", [DRAW(0), DRAW(3), abs(DRAW(3))], {}),
        ("batch_norm", [DRAW(0), None, None, DRAW(3), DRAW(3)], {"training": True}),
        ("batch_norm", [DRAW((0, 3)), None, None, DRAW(3), DRAW(3)], {"training": True}),
        ("batch_norm", [DRAW((2, 3, 0)), None, None, DRAW(3), DRAW(3)], {"training": True}),
        ("interpolate", [DRAW((1, 2, 3))], {"size": 0, "mode": "area"}),
        ("interpolate", [DRAW((0, 2, 3))], {"size": 2}),
        ("prelu", [DRAW(0), DRAW(1)], {}),
        ("fold", [DRAW((0, 4, 2))], {"output_size": (2, 3), "kernel_size": 2}),
        ("unfold", [DRAW((0, 1, 3, 3))], {"kernel_size": 2}),
        ("glu", [DRAW((2, 0))], {}),
        ("softmax", [DRAW((0, 3))], {"dim": 1}),
        ("layer_norm", [DRAW((0, 3)), (3,)], {}),
        ("layer_norm", [DRAW((2, 0)), (0,)], {}),
        ("group_norm", [DRAW((0, 4, 2)), 2], {}),
        ("linear", [DRAW((0, 3)), DRAW((2, 3)), DRAW(2)], {}),
        ("linear", [DRAW((2, 0)), DRAW((2, 0)), DRAW(2)], {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_others(name, args, options):
    assert compare(name, args, options)


def test_what_nothing_can_be_made_of_is_refused():
    x = np.zeros((1, 2, 0))
    with pytest.raises(
        ValueError, match=r"pad: widths 0 and 2 do not fit an axis of 0 with mode 'replicate'"
    ):
        F.pad(x, (0, 2), mode="replicate")
    with pytest.raises(
        ValueError, match=r"conv_transpose1d: expected sizes that leave an output, got an input of"
    ):
        F.conv_transpose1d(x, np.zeros((2, 2, 1)))
    with pytest.raises(
        ValueError, match=r"adaptive_avg_pool1d: expected at least one element along each axis"
    ):
        F.adaptive_avg_pool1d(x, 2)
    with pytest.raises(ValueError, match=r"global_max_pool: expected at least one element along each axis"):
        F.global_max_pool(x)
