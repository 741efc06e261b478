"""A residual block, an Inception block and a U-Net with a shared block against PyTorch's autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fconv as fc


def conv(channels, size=3, **options):
    return fc.conv2d(channels, size, padding=size // 2, **options)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(4, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Conv2d(6, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6))

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


def residual():
    body = fc.compose(
        conv(6, stride=2, bias=False), fc.batch_norm(), fc.relu(), conv(6, bias=False), fc.batch_norm()
    )
    return fc.residual(body, fc.compose(fc.conv2d(6, 1, stride=2, bias=False), fc.batch_norm()))


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(4, 2, 1)
        self.three = nn.Sequential(nn.Conv2d(4, 3, 1), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1))
        self.five = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 5, padding=2))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 2, 1))

    def forward(self, x):
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def inception():
    return fc.parallel(
        one=conv(2, 1),
        three=fc.compose(conv(3, 1), fc.relu(), conv(4)),
        five=fc.compose(conv(2, 1), fc.relu(), conv(3, 5)),
        pool=fc.compose(fc.max_pool2d(3, stride=1, padding=1), conv(2, 1)),
    )


class UNet(nn.Module):
    """The block `mix` works at three places with one set of weights."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(4, 5, 3, padding=1)
        self.mix = nn.Sequential(nn.Conv2d(5, 5, 3, padding=1), nn.Tanh())
        self.down = nn.Conv2d(5, 5, 3, stride=2, padding=1)
        self.fuse = nn.Conv2d(10, 5, 1)
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x):
        top = self.mix(self.stem(x))
        bottom = self.mix(self.down(top))
        up = nn.functional.interpolate(bottom, scale_factor=2)
        return self.head(self.mix(self.fuse(torch.cat([up, top], 1))))


def unet():
    return fc.graph(
        {
            "stem": (conv(5), "x"),
            "mix": (fc.compose(conv(5), fc.tanh()), "stem"),
            "down": (conv(5, stride=2), "mix"),
            "bottom": ("mix", "down"),
            "up": (fc.upsample(scale_factor=2), "bottom"),
            "cat": (fc.concat(), "up", "mix"),
            "fuse": (conv(5, 1), "cat"),
            "last": ("mix", "fuse"),
            "head": (conv(2, 1), "last"),
        }
    )


@pytest.mark.parametrize(("build", "module"), [(residual, Residual), (inception, Inception), (unet, UNet)])
def test_outputs_and_gradients_are_autograds(build, module):
    shape = (3, 4, 8, 8)
    net, theirs = build(), module().double().train()
    params = net.init(fc.random.key(0), shape, np.float64)
    theirs.load_state_dict(fc.to_torch(params), strict=True)
    x = fc.random.normal(fc.random.key(1), shape, np.float64)
    tensor = torch.tensor(x, requires_grad=True)
    expected = theirs(tensor)
    y, refreshed, pullback = net.forward(params, x, train=True)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = fc.random.normal(fc.random.key(2), y.shape, np.float64)
    expected.backward(torch.from_numpy(g))
    dparams, dx = pullback(g)
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-9, atol=1e-12)
    grads = {".".join(path): grad for path, _, grad in fc.trees.aligned(params, dparams) if grad is not None}
    assert grads.keys() == dict(theirs.named_parameters()).keys()
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(grads[name], p.grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)
    for name, value in fc.to_state_dict(refreshed).items():
        np.testing.assert_allclose(value, theirs.state_dict()[name].numpy(), rtol=1e-12, err_msg=name)
