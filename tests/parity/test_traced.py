"""Modules read as networks, and networks made modules again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fconv as fc
from tests import SLOW
from tests.parity.test_layers import TWINS
from tests.parity.test_models import CASES
from tests.parity.traced import check_both_ways, check_network, drawn, same_bits, shaken

PICTURE, LINE, VOLUME = (2, 4, 7, 8), (2, 4, 9), (2, 2, 4, 5, 6)

FURTHER = [
    *((m, PICTURE) for m in (
        nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.CELU(2.0),
        nn.SiLU(), nn.Mish(), nn.Softplus(2.0, 5.0), nn.Softsign(), nn.Tanh(), nn.Sigmoid(),
        nn.Hardtanh(-0.5, 0.7), nn.Hardsigmoid(), nn.Hardswish(), nn.Threshold(0.1, 2.0), nn.Tanhshrink(),
        nn.Softshrink(0.3), nn.Hardshrink(0.4), nn.Softmax(1), nn.LogSoftmax(-1), nn.Softmax2d(),
        nn.Dropout(0.0), nn.Dropout2d(0.0), nn.AlphaDropout(0.0), nn.PReLU(), nn.AdaptiveAvgPool2d(1),
        nn.MaxPool2d((3, 2), 2, (1, 0), dilation=(1, 2)), nn.AvgPool2d(2, divisor_override=3),
        nn.PixelUnshuffle(1), nn.ReplicationPad2d(1), nn.CircularPad2d(1), nn.ConstantPad2d(1, 0.5),
        nn.ZeroPad2d((1, -1, 0, 2)), nn.UpsamplingNearest2d(scale_factor=2),
        nn.UpsamplingBilinear2d(size=(9, 5)), nn.LayerNorm((7, 8), bias=False),
        nn.LayerNorm(8, elementwise_affine=False), nn.GroupNorm(2, 4, affine=False),
        nn.RMSNorm((7, 8), elementwise_affine=False), nn.Conv2d(4, 6, 3, bias=False),
        nn.Linear(8, 3, bias=False), nn.InstanceNorm2d(4), nn.Upsample(scale_factor=2.0),
    )),
    *((m, LINE) for m in (
        nn.MaxPool1d(3, 2), nn.AvgPool1d(3), nn.LPPool1d(2, 3), nn.AdaptiveAvgPool1d(4),
        nn.AdaptiveMaxPool1d(4), nn.ReflectionPad1d((2, 1)), nn.ReplicationPad1d(2), nn.CircularPad1d(1),
        nn.ConstantPad1d(1, -1.0), nn.BatchNorm1d(4), nn.InstanceNorm1d(4, affine=True), nn.Dropout1d(0.0),
        nn.Conv1d(4, 2, 3, padding="valid"), nn.Fold((1, 9), 1),
    )),
    *((m, VOLUME) for m in (
        nn.MaxPool3d(2), nn.AvgPool3d(2), nn.LPPool3d(2, 2), nn.AdaptiveAvgPool3d((1, 2, 3)),
        nn.AdaptiveMaxPool3d(2), nn.ReflectionPad3d(1), nn.ReplicationPad3d(1), nn.CircularPad3d(1),
        nn.ConstantPad3d(1, 0.0), nn.Dropout3d(0.0), nn.InstanceNorm3d(2), nn.BatchNorm3d(2),
        nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True),
    )),
    (nn.BatchNorm1d(9), (5, 9)),
]  # fmt: skip


def case(value):
    return type(value).__name__ if isinstance(value, nn.Module) else ""


@pytest.mark.parametrize(
    ("module", "shape"), [*((module, shape) for _, module, shape in TWINS), *FURTHER], ids=case
)
def test_a_module_is_a_layer_both_ways(module, shape):
    net = check_both_ways(module, shape)
    back = fc.to_torch_module(net, fc.from_torch(module)[1], shape)
    plain = {"UpsamplingNearest2d": "Upsample", "UpsamplingBilinear2d": "Upsample", "Softmax2d": "Softmax"}
    name = type(module).__name__
    assert type(back).__name__ == plain.get(name, name).replace("ZeroPad", "ConstantPad")


@pytest.mark.parametrize(("layer", "_module", "shape"), TWINS, ids=lambda v: getattr(v, "name", ""))
def test_a_layer_is_a_module(layer, _module, shape):
    params = layer.init(fc.random.key(0), shape, np.float64)
    module = fc.to_torch_module(layer, params, shape)
    assert type(module).__module__.startswith("torch.nn.")
    for train in (False, True):
        check_network(layer, params, module, drawn(shape), train)


def test_embedding_and_bilinear():
    table = nn.Embedding(7, 3, padding_idx=2).double()
    layer, params = fc.from_torch(table)
    tokens = np.array([[0, 2], [6, 1]])
    expected = table(torch.from_numpy(tokens)).detach().numpy()
    np.testing.assert_array_equal(layer.apply(params, tokens), expected)
    back = fc.to_torch_module(layer, params)
    same_bits(back.state_dict(), table.state_dict())
    assert back.padding_idx == 2

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Bilinear(3, 4, 5)

        def forward(self, left, right):
            return self.mix(left, right)

    check_both_ways(Pair(), {"left": (6, 3), "right": (6, 4)})


# Structures.


class Bottleneck(nn.Module):
    """As in ResNets: in-place activations, in-place additions, one activation module for all."""

    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out, momentum=None)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.layer1 = nn.Sequential(Bottleneck(4, 4, 1), Bottleneck(4, 6, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = self.avgpool(self.layer1(self.conv1(x)))
        return self.fc(torch.flatten(x, 1))


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                "one": nn.Conv2d(4, 2, 1),
                "three": nn.Sequential(nn.Conv2d(4, 3, 1), nn.ReLU(True), nn.Conv2d(3, 4, 3, padding=1)),
                "pool": nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 2, 1)),
            }
        )

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches.values()], dim=1)


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
        up = F.interpolate(bottom, size=top.shape[2:], mode="bilinear", align_corners=False)
        return self.head(self.mix(self.fuse(torch.cat((up, top), 1))))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList([nn.Conv2d(4 + 2 * i, 2, 3, padding=1) for i in range(3)])

    def forward(self, x):
        seen = [x]
        for step in self.steps:
            seen.append(F.elu(step(torch.cat(seen, 1)), 0.5))
        return torch.cat(seen[1:], 1)


class LeNet(nn.Module):
    """All in functions."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 6, 3), nn.Conv2d(6, 5, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.relu_(self.conv2(x))
        x = F.max_pool2d(x, kernel_size=2, stride=2)
        x = F.dropout(x, 0.0, training=self.training)
        x = x.view(x.size(0), -1)
        x = torch.tanh(self.fc1(x))
        return F.log_softmax(self.fc2(x), dim=1)


class Weights(nn.Module):
    """Functions with the module's own parameters, under names of its own."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(5, 4, 3, 3))
        self.offset = nn.Parameter(torch.randn(5))
        self.slope = nn.Parameter(torch.rand(1))
        self.last = nn.Linear(7, 2)
        self.named = nn.Module()
        self.named.weight = nn.Parameter(torch.randn(6, 5, 1, 1))
        self.named.bias = nn.Parameter(torch.randn(6))
        self.register_buffer("mean", torch.rand(4, 1, 1))

    def forward(self, x):
        x = F.conv2d(x - self.mean, self.kernel, self.offset, padding=1)
        x = F.conv2d(x, self.named.weight, self.named.bias)
        x = F.conv2d(x.chunk(6, 1)[0], self.named.weight[:2, :1]) + F.prelu(x, self.slope).mean()
        return F.linear(x[..., :7], self.last.weight, self.last.bias)


class Shuffle(nn.Module):
    """Pieces and turned axes, as in ShuffleNet; sizes that the shape tells."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, groups=2)

    def forward(self, x):
        left, right = x.chunk(2, dim=1)
        x = torch.cat((left, self.conv(right)), dim=1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        x = x.view(batch, -1, height, width)
        x = x.permute(0, 2, 3, 1).reshape(batch * height, width, channels)
        a, b, c = x.split([2, 2, 1], 1)
        return torch.stack((a.mean(1), b.sum(dim=1), c.squeeze(1).amax(-1, keepdim=True) * x[:, 0]), 1)


class Arithmetic(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, x):
        y = 0.2 * self.conv(x) + x
        y = (2 - y) / 3 - torch.exp(-y.abs()) + 1 / (1 + x * x)
        y = y * self.scale + torch.sqrt(x**2 + 1) - torch.log(x.pow(2) + 2)
        y = torch.add(y, x, alpha=0.5).clamp(-3, 3) / torch.clamp(x.square(), min=0.5)
        return torch.maximum(y, x) - torch.min(y, 0.3 * x) - y.neg().sub(1.5)


class Gate(nn.Module):
    """Squeeze and excitation, as often written."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(4, 2), nn.ReLU(inplace=True), nn.Linear(2, 4), nn.Sigmoid())

    def forward(self, x):
        b, c, _, _ = x.shape
        gate = F.adaptive_avg_pool2d(x, 1).view(b, c)
        return x * self.fc(gate).view(b, c, 1, 1).expand_as(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        n, length, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, length, 3, 2, width // 6 * 3 + 1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = torch.softmax(q @ k.transpose(-2, -1) * (width // 2) ** -0.5, dim=-1)
        mixed = torch.matmul(weights, v) + F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(1, 2).reshape(n, length, width))


class Mutating(nn.Module):
    def forward(self, x):
        same = x
        x += 1
        y = x * 2
        y.mul_(3).sub_(0.5).relu_()
        return y + same


STRUCTURES = [
    (ResNet(), (3, 4, 8, 8), None),
    (Inception(), (2, 4, 6, 7), None),
    (UNet(), (2, 4, 8, 8), (1, 4, 8, 8)),
    (Dense(), (2, 4, 6, 6), None),
    (LeNet(), (2, 4, 8, 9), None),
    (Weights(), (2, 4, 6, 7), None),
    (Shuffle(), (3, 4, 8, 5), (1, 4, 8, 5)),
    (Arithmetic(), (2, 4, 3, 3), None),
    (Gate(), (2, 4, 5, 5), (1, 4, 5, 5)),
    (Attention(), (3, 5, 8), (1, 5, 8)),
    (Mutating(), (3, 4), (3, 4)),
]


@pytest.mark.parametrize(("module", "shape", "given"), STRUCTURES, ids=case)
def test_structures_both_ways(module, shape, given):
    check_both_ways(module, shape, given)


LIKE_OTHERS = ("vgg16", "resnet34", "resnet32", "resnet56", "resnet50 of eight", "mobilenet_v2 of half")
READ = [name for name in CASES if SLOW or not name.startswith(LIKE_OTHERS)]
"""Deeper and narrower networks of the same blocks are left to the slow run."""


@pytest.mark.parametrize("name", READ)
def test_twins_of_the_models_are_read_as_they_are(name):
    _, twin, shape = CASES[name]
    # Small pictures are enough, and U-Nets ask for sizes.
    given = shape if name.startswith("unet") else None
    torch.manual_seed(0)
    module = shaken(twin().double())
    net, params = fc.from_torch(module, given)
    same_bits(fc.to_torch(params), module.state_dict())
    for train in (False, True):
        check_network(net, params, module, drawn(shape), train, scaled=True)


@pytest.mark.parametrize("name", READ)
def test_models_are_modules_and_back(name):
    build, _, shape = CASES[name]
    net = build()
    params = net.init(fc.random.key(0), shape, np.float64)
    module = fc.to_torch_module(net, params)
    same_bits(module.state_dict(), fc.to_torch(params))
    for train in (False, True):
        check_network(net, params, module, drawn(shape), train, scaled=True)
    again, again_params = fc.from_torch(module, shape)
    same_bits(fc.to_torch(again_params), module.state_dict())
    x = drawn(shape)
    np.testing.assert_allclose(again.apply(again_params, x), net.apply(params, x), rtol=1e-10, atol=1e-12)
