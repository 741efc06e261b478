"""The networks of fconv.models in plain torch.nn, under the published parameter names."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

Seq = nn.Sequential


class Chain(nn.Module):
    """Named modules one after another: what a state dict with names but no branches comes from."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        for module in self.children():
            x = module(x)
        return x


def conv(i, o, k, s=1, groups=1, bias=False):
    return nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=bias)


def lenet(num_classes=10, side=32):
    flat = 16 * ((side // 2 - 2) // 2 - 2) ** 2
    return Chain(
        conv1=nn.Conv2d(1, 6, 5), a=nn.ReLU(), b=nn.MaxPool2d(2),
        conv2=nn.Conv2d(6, 16, 5), c=nn.ReLU(), d=nn.MaxPool2d(2), e=nn.Flatten(),
        fc1=nn.Linear(flat, 120), f=nn.ReLU(), fc2=nn.Linear(120, 84), g=nn.ReLU(),
        fc3=nn.Linear(84, num_classes),
    )  # fmt: skip


def vgg(stages, norm=False, num_classes=1000, hidden=4096):
    features, i = [], 3
    for stage in stages:
        for o in stage:
            features += [conv(i, o, 3, bias=True), *([nn.BatchNorm2d(o)] if norm else []), nn.ReLU()]
            i = o
        features += [nn.MaxPool2d(2)]
    classifier = Seq(
        nn.Linear(25088, hidden), nn.ReLU(), nn.Dropout(0.0),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.0), nn.Linear(hidden, num_classes),
    )  # fmt: skip
    return Chain(
        features=Seq(*features), avgpool=nn.AdaptiveAvgPool2d(7), flat=nn.Flatten(), classifier=classifier
    )


def vgg11(**options):
    return vgg([[64], [128], [256] * 2, [512] * 2, [512] * 2], **options)


def vgg16(**options):
    return vgg([[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3], **options)


class Block(nn.Module):
    """A residual block: `body` is a dict of modules, relu comes between and after."""

    def __init__(self, convs, side=None):
        super().__init__()
        for n, (i, o, k, s, groups) in enumerate(convs, 1):
            self.add_module(f"conv{n}", conv(i, o, k, s, groups))
            self.add_module(f"bn{n}", nn.BatchNorm2d(o))
        self.count = len(convs)
        self.downsample = side

    def forward(self, x):
        y = x
        for n in range(1, self.count + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            if n < self.count:
                y = y.relu()
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


def resnet(depths, bottleneck, num_classes=1000, groups=1, width_per_group=64):
    i, layers = 64, {}
    for n, depth in enumerate(depths):
        blocks, c = [], 64 * 2**n
        for j in range(depth):
            s = 2 if n and not j else 1
            o, w = (4 * c, c * width_per_group // 64 * groups) if bottleneck else (c, c)
            convs = [(i, w, 1, 1, 1), (w, w, 3, s, groups), (w, o, 1, 1, 1)]
            side = Seq(conv(i, o, 1, s), nn.BatchNorm2d(o)) if s != 1 or i != o else None
            blocks.append(Block(convs if bottleneck else [(i, c, 3, s, 1), (c, c, 3, 1, 1)], side))
            i = o
        layers[f"layer{n + 1}"] = Seq(*blocks)
    return Chain(
        conv1=conv(3, 64, 7, 2), bn1=nn.BatchNorm2d(64), relu=nn.ReLU(), maxpool=nn.MaxPool2d(3, 2, 1),
        **layers, avgpool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(i, num_classes),
    )  # fmt: skip


class OptionA(nn.Module):
    def __init__(self, missing):
        super().__init__()
        self.missing = missing

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.missing, self.missing))


def resnet_cifar(depth, num_classes=10):
    i, layers = 16, {}
    for n, c in enumerate((16, 32, 64), 1):
        blocks = []
        for _ in range(depth):
            s = 1 if i == c else 2
            blocks.append(Block([(i, c, 3, s, 1), (c, c, 3, 1, 1)], OptionA(c // 4) if s == 2 else None))
            i = c
        layers[f"layer{n}"] = Seq(*blocks)
    return Chain(
        conv1=conv(3, 16, 3), bn1=nn.BatchNorm2d(16), relu=nn.ReLU(), **layers,
        pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), linear=nn.Linear(64, num_classes),
    )  # fmt: skip


class Inverted(nn.Module):
    def __init__(self, i, o, s, t):
        super().__init__()
        h = i * t
        widen = [conv_bn6(i, h, 1)] if t != 1 else []
        self.conv = Seq(*widen, conv_bn6(h, h, 3, s, h), conv(h, o, 1), nn.BatchNorm2d(o))
        self.add = s == 1 and i == o

    def forward(self, x):
        return x + self.conv(x) if self.add else self.conv(x)


def conv_bn6(i, o, k, s=1, groups=1):
    return Seq(conv(i, o, k, s, groups), nn.BatchNorm2d(o), nn.ReLU6())


def mobilenet_v2(channels, last, num_classes=1000):
    """`channels` is the table of the numbers that the widths come to, the stem's first."""
    i, features = channels[0], [conv_bn6(3, channels[0], 3, 2)]
    for o, t, n, s in zip(
        channels[1:], [1] + [6] * 6, [1, 2, 3, 4, 3, 3, 1], [1, 2, 2, 2, 1, 2, 1], strict=True
    ):
        for j in range(n):
            features.append(Inverted(i, o, s if j == 0 else 1, t))
            i = o
    features.append(conv_bn6(i, last, 1))
    return Chain(
        features=Seq(*features), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(),
        classifier=Seq(nn.Dropout(0.0), nn.Linear(last, num_classes)),
    )  # fmt: skip


def lenet_of(stages, size, padding, hidden, flat, channels=1, classes=10):
    """Convolutions conv1, conv2, ... in stages, then fc1, fc2, ..., as networks for MNIST are written."""
    layers, i, n = {}, channels, 0
    for stage in stages:
        for o in stage:
            n += 1
            pad = padding if isinstance(padding, int) else padding[n - 1]
            layers |= {f"conv{n}": nn.Conv2d(i, o, size, padding=pad), f"act{n}": nn.ReLU()}
            i = o
        layers[f"pool{n}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    for j, o in enumerate(hidden, 1):
        layers |= {f"fc{j}": nn.Linear(flat, o), f"relu{j}": nn.ReLU()}
        flat = o
    return Chain(**layers, **{f"fc{len(hidden) + 1}": nn.Linear(flat, classes)})
