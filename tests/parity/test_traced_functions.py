"""Functions of tensors in a module's forward, which are read as layers that compute what PyTorch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fconv as fc
from tests.parity.traced import Of, check_both_ways

SHAPE = (2, 3, 4, 6)
MASK = torch.tensor([True, False, True, True, False, True])
PLACES = torch.tensor([2, 0, 1, 1])
EACH = torch.tensor([4, 0, 2, 1]).repeat(2, 3, 4, 1)


def doubled(show):
    """Double a part of a tensor in place, through what shows it."""

    def forward(m, x):
        y = x * 1
        part = show(y)
        part.mul_(2)
        return y + x

    return forward


READ = {
    "a difference the other way round": lambda m, x: 3 - x,
    "a difference of parts": lambda m, x: torch.sub(x, x.tanh(), alpha=0.5),
    "a number over a tensor": lambda m, x: 1 / (2 + x.exp()),
    "numbers over a tensor": lambda m, x: 5 / (2 + x.exp()),
    "a quotient by a number": lambda m, x: x / 4,
    "a power of a tensor": lambda m, x: (1 + x.sigmoid()) ** x.tanh(),
    "a number to a power": lambda m, x: 2.0**x,
    "a tensor between tensors": lambda m, x: torch.clamp(x, x.sigmoid() - 1, x.tanh() + 1),
    "a tensor between a tensor and a number": lambda m, x: torch.clamp(x, -x.sigmoid()).clamp(max=0.5),
    "the larger of two": lambda m, x: torch.max(x, x.roll(1, 1)),
    "the smaller of two": lambda m, x: torch.min(x, x.flip(2)),
    "the largest of all": lambda m, x: x - x.max(),
    "the smallest of all": lambda m, x: x * x.min(),
    "an axis's largest": lambda m, x: x.amax(2, keepdim=True) + x,
    "a step between": lambda m, x: torch.lerp(x, x.tanh(), 0.25),
    "a step of each element": lambda m, x: torch.lerp(x, x.tanh(), x.sigmoid()),
    "a mask": lambda m, x: x.masked_fill(x > 0.3, -1.0),
    "a choice by a constant": lambda m, x: torch.where(MASK, x, x.tanh()),
    "a choice of a number": lambda m, x: torch.where(MASK, x, torch.zeros(())),
    "a choice of another number": lambda m, x: torch.where(MASK, torch.ones((), dtype=x.dtype), x),
    "both of two": lambda m, x: x * ((x > -0.5) & (x < 0.5)),
    "one of two": lambda m, x: x * ((x > 0.5) | ~(x > -0.5)),
    "the lower triangle": lambda m, x: x.tril(1),
    "the upper triangle": lambda m, x: torch.triu(x, -1),
    "chosen rows": lambda m, x: torch.index_select(x, 1, PLACES),
    "chosen elements": lambda m, x: torch.gather(x, 3, EACH),
    "repeats": lambda m, x: x.repeat(1, 2, 1, 3),
    "repeats of single sizes": lambda m, x: x.mean((2, 3), keepdim=True).repeat(1, 1, 4, 6) + x,
    "repeats of each element": lambda m, x: x.repeat_interleave(2, dim=2),
    "repeats of the last axis": lambda m, x: torch.repeat_interleave(x, 3, -1),
    "a product of matrices and a sum": lambda m, x: torch.baddbmm(
        x[:, 0], x[:, 1], x[:, 2].transpose(1, 2)[:, :, :4] @ x[:, 0]
    ),
    "an einsum of three": lambda m, x: torch.einsum("nchw,nchv,ncv->nchw", x, x.tanh(), x.mean(2)),
    "a norm by the root of squares": lambda m, x: F.rms_norm(x, (6,), eps=1e-5),
    "groups without parameters": lambda m, x: F.group_norm(x, 3),
    "dropout that is switched off": lambda m, x: F.dropout(x, 0.5, False) + F.dropout2d(x, 0.5, False),
    "an added axis": lambda m, x: x[:, :, None].flatten(1, 2),
    "a view of two axes": lambda m, x: x.reshape(x.shape[0], 3, 24).tanh().view(x.shape[0], 3, 4, 6),
    "a view with other axes": lambda m, x: x.reshape(x.shape[0], 6, 2, 6),
    "a view with single axes": lambda m, x: x.reshape(x.shape[0], 3, 1, 4, 1, 6).sum(2)[:, :, :, 0],
    "axes out of order": lambda m, x: x.permute(0, 2, 3, 1).reshape(x.shape[0], 8, 9),
    "a part of an axis": lambda m, x: x[..., 1:5:2] + x[..., :2],
    "the whole of an axis": lambda m, x: x[:, 0:3].narrow(2, 1, 2),
    "parts": lambda m, x: torch.cat([p * (k + 1) for k, p in enumerate(x.chunk(3, 1))], 1),
    "parts of some sizes": lambda m, x: torch.cat(x.split([1, 2], 1)[::-1], 1),
    "parts of any sizes": lambda m, x: torch.cat([p.tanh() for p in x.tensor_split(4, 3)][::-1], 3),
    "rows doubled in place": doubled(lambda y: y[:, 1]),
    "columns doubled in place": doubled(lambda y: y[..., 2:4]),
    "a turned tensor doubled in place": doubled(lambda y: y.transpose(1, 2)[:, 0]),
    "a permuted tensor doubled in place": doubled(lambda y: y.permute(0, 3, 1, 2)[:, 1]),
    "a view doubled in place": doubled(lambda y: y.view(y.shape[0], 3, 24)[:, :, 3:9]),
    "a size by the nearest": lambda m, x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "a size, smoothly": lambda m, x: F.interpolate(x, size=(3, 4), mode="bilinear", antialias=True),
    "twice the size": lambda m, x: F.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="nearest"),
    "softmax over two axes in one": lambda m, x: x.flatten(2).softmax(-1).unflatten(2, (4, 6)),
    "moved axes": lambda m, x: x.movedim(1, -1).swapaxes(1, 2),
    "products along axes": lambda m, x: x.prod(2) + x.prod(3)[:, :, :1],
    "attention": lambda m, x: F.scaled_dot_product_attention(x, x.tanh(), x.sigmoid(), is_causal=True),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_function_is_read_as_pytorch_computes_it(name):
    check_both_ways(Of(READ[name]), SHAPE, SHAPE, back=False)


REFUSED = {
    "a scaled ELU": (lambda m, x: torch.ops.aten.elu(x, 1.0, 2.0), r"scale=2.0 and input_scale=1"),
    "a rounded quotient": (lambda m, x: torch.div(x, 2, rounding_mode="floor"), r"rounding_mode='floor'"),
    "a quotient by 0": (lambda m, x: x / 0, r"division by 0"),
    "not of numbers": (lambda m, x: torch.logical_not(x) * x, r"no layer for a tensor of torch"),
    "both of numbers": (lambda m, x: torch.logical_and(x, x) * x, r"two computed tensors of truth"),
    "an einsum of four": (lambda m, x: torch.einsum("ab,ab,ab,ab->ab", *[x[:, 0, 0]] * 4), r"einsum of 4"),
    "computed indices": (lambda m, x: x.gather(1, x.long()), r"becoming torch.int64 has no layer"),
    "repeats of different numbers": (
        lambda m, x: x.repeat_interleave(PLACES[:3] + 1, 1, output_size=6), r"only one number of repeats",
    ),
    "repeats of all elements": (lambda m, x: x.repeat_interleave(2), r"only one number of repeats"),
    "writing to every second": (
        lambda m, x: torch.slice_scatter(x, x[:, :, ::2], 2, 0, None, 2), r"every 2-th element",
    ),
    "a scaled product and sum": (
        lambda m, x: torch.baddbmm(x[:, 0], x[:, 1], x[:, 2, :, :4].repeat(1, 2, 2)[:, :6, :6], beta=0.5),
        r"beta=0.5 and alpha=1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_without_a_layer_is_refused_by_name(name):
    function, message = REFUSED[name]
    module = Of(function).double()
    with pytest.raises(ValueError, match=message):
        fc.from_torch(module, SHAPE)


def test_constant_rows_of_a_table():
    table = nn.Embedding(5, 6).double()
    module = Of(lambda m, x: x + m.table(PLACES))
    module.table = table
    net, params = fc.from_torch(module, SHAPE)
    x = np.random.default_rng(0).standard_normal(SHAPE)
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(net.apply(params, x), expected, rtol=1e-12)


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_stochastic_depth_becomes_a_module_that_drops_whole_examples(mode):
    net = fc.compose(fc.identity(), fc.stochastic_depth(0.5, mode=mode), fc.tanh())
    params = net.init(fc.random.key(0), SHAPE)
    module = fc.to_torch_module(net, params, SHAPE)
    x = torch.ones(64, *SHAPE[1:])
    torch.testing.assert_close(module.eval()(x), x.tanh())
    y = module.train()(x)
    assert len(y.unique()) == 2 if mode == "row" else len(y.unique()) == 1
    assert all(len(each.unique()) == 1 for each in y)
    kept = (2 * torch.ones(())).tanh()
    assert all(torch.isclose(each, kept) or each == 0 for each in y.unique())
