"""The networks of fconv.models in plain torch.nn, under the published parameter names."""

from __future__ import annotations

import torch
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


def double_conv(i, m, o, bias):
    pair = []
    for a, b in ((i, m), (m, o)):
        pair += [conv(a, b, 3, bias=bias), nn.BatchNorm2d(b), nn.ReLU()]
    return Chain(double_conv=Seq(*pair))


class Up(nn.Module):
    def __init__(self, i, o, bilinear, bias):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        else:
            self.up = nn.ConvTranspose2d(i, i // 2, 2, 2)
        self.conv = double_conv(i, i // 2 if bilinear else o, o, bias)

    def forward(self, x, skip):
        x = self.up(x)
        rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return self.conv(torch.cat([skip, x], 1))


class UNet(nn.Module):
    def __init__(self, n_classes=2, bilinear=False, bias=False, width=64):
        super().__init__()
        w, f = [width * 2**n for n in range(5)], 2 if bilinear else 1
        self.inc = double_conv(3, w[0], w[0], bias)
        for n in range(1, 5):
            o = w[n] // (f if n == 4 else 1)
            down = Chain(maxpool_conv=Seq(nn.MaxPool2d(2), double_conv(w[n - 1], o, o, bias)))
            self.add_module(f"down{n}", down)
        for n in range(1, 5):
            o = w[4 - n] // (f if n < 4 else 1)
            self.add_module(f"up{n}", Up(w[5 - n], o, bilinear, bias))
        self.outc = Chain(conv=nn.Conv2d(w[0], n_classes, 1))

    def forward(self, x):
        seen = [self.inc(x)]
        for n in range(1, 5):
            seen.append(getattr(self, f"down{n}")(seen[-1]))
        x = seen.pop()
        for n in range(1, 5):
            x = getattr(self, f"up{n}")(x, seen.pop())
        return self.outc(x)


class DnCNN(nn.Module):
    def __init__(self, channels=1, layers=17, batch_norm=False, width=64, bias="all", name="model"):
        super().__init__()
        options = {"all": (1e-4, 0.9), "first": (1e-4, 0.95), "none": (1e-5, 0.1)}[bias]
        chain = [conv(channels, width, 3, bias=bias != "none"), nn.ReLU()]
        for _ in range(layers - 2):
            norm = [nn.BatchNorm2d(width, *options)] if batch_norm else []
            chain += [conv(width, width, 3, bias=bias == "all"), *norm, nn.ReLU()]
        self.add_module(name, Seq(*chain, conv(width, channels, 3, bias=bias == "all")))

    def forward(self, x):
        return x - next(self.children())(x)


class Clip(nn.Module):
    def forward(self, x):
        return x.clip(0.0, 1.0)


def espcn(scale=3, channels=3, clip=True):
    return Chain(
        conv_1=conv(channels, 64, 5, bias=True), a=nn.Tanh(), conv_2=conv(64, 32, 3, bias=True), b=nn.Tanh(),
        conv_3=conv(32, channels * scale**2, 3, bias=True), c=nn.PixelShuffle(scale),
        **({"d": Clip()} if clip else {}),
    )  # fmt: skip


def fsrcnn(scale=3, channels=1, d=56, s=12, m=4):
    middle = [conv(d, s, 1, bias=True), nn.PReLU(s)]
    for _ in range(m):
        middle += [conv(s, s, 3, bias=True), nn.PReLU(s)]
    return Chain(
        first_part=Seq(conv(channels, d, 5, bias=True), nn.PReLU(d)),
        mid_part=Seq(*middle, conv(s, d, 1, bias=True), nn.PReLU(d)),
        last_part=nn.ConvTranspose2d(d, channels, 9, scale, 4, scale - 1),
    )


class SRBlock(nn.Module):
    def __init__(self, width, norm):
        super().__init__()
        self.name = "bn" if norm == "batch" else "in"
        for n in (1, 2):
            self.add_module(f"conv{n}", conv(width, width, 3))
            self.add_module(f"{self.name}{n}", sr_norm(width, norm))

    def forward(self, x):
        y = F.leaky_relu(getattr(self, f"{self.name}1")(self.conv1(x)), 0.2)
        return getattr(self, f"{self.name}2")(self.conv2(y)) + x


def sr_norm(width, norm):
    return nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width, affine=True)


class SRResNet(nn.Module):
    def __init__(self, channels=3, blocks=16, norm="batch", width=64):
        super().__init__()
        self.conv_input = conv(channels, width, 9)
        self.residual = Seq(*(SRBlock(width, norm) for _ in range(blocks)))
        self.conv_mid = conv(width, width, 3)
        self.bn_mid = sr_norm(width, norm)
        larger = []
        for _ in range(2):
            larger += [conv(width, 4 * width, 3), nn.PixelShuffle(2), nn.LeakyReLU(0.2)]
        self.upscale4x = Seq(*larger)
        self.conv_output = conv(width, channels, 9)

    def forward(self, x):
        first = F.leaky_relu(self.conv_input(x), 0.2)
        y = self.bn_mid(self.conv_mid(self.residual(first)))
        return self.conv_output(self.upscale4x(y + first))


def noise2noise(c=3):
    return Seq(
        nn.Conv2d(c, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=3), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(64, 32, 3, 2), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(32, c, 3, 2), nn.Sigmoid(),
    )  # fmt: skip


def noise2noise_strided(c=3):
    return Seq(
        nn.Conv2d(c, 10, 3, 2, 2), nn.ReLU(), nn.Conv2d(10, 10, 3, 2, 2), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(10, 10, 4), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(10, c, 3), nn.Sigmoid(),
    )  # fmt: skip


def noise2noise_shallow(c=3):
    return Seq(
        conv(c, 16, 3, 2, bias=True), nn.ReLU(), conv(16, 32, 3, 2, bias=True), nn.ReLU(),
        nn.Upsample(scale_factor=4), conv(32, c, 3, bias=True), nn.Sigmoid(),
    )  # fmt: skip


class SRGAN(nn.Module):
    """The generator of leftthomas/SRGAN."""

    def __init__(self, channels=3, blocks=5, scale=4, width=64, bias=True, clip=False):
        super().__init__()
        self.count, self.clip = blocks, clip
        self.block1 = Seq(conv(channels, width, 9, bias=True), nn.PReLU())
        for i in range(2, 2 + blocks):
            block = Chain(
                conv1=conv(width, width, 3, bias=bias), bn1=nn.BatchNorm2d(width), prelu=nn.PReLU(),
                conv2=conv(width, width, 3, bias=bias), bn2=nn.BatchNorm2d(width),
            )  # fmt: skip
            self.add_module(f"block{i}", block)
        self.add_module(f"block{blocks + 2}", Seq(conv(width, width, 3, bias=bias), nn.BatchNorm2d(width)))
        doublings = [
            Chain(conv=conv(width, 4 * width, 3, bias=True), shuffle=nn.PixelShuffle(2), prelu=nn.PReLU())
            for _ in range(scale.bit_length() - 1)
        ]
        self.add_module(f"block{blocks + 3}", Seq(*doublings, conv(width, channels, 9, bias=True)))

    def forward(self, x):
        first, *residual, middle, last = self.children()
        y = x = first(x)
        for block in residual:
            y = y + block(y)
        y = last(x + middle(y))
        return y.clamp(0, 1) if self.clip else (torch.tanh(y) + 1) / 2


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.rcb = Seq(
            conv(width, width, 3), nn.BatchNorm2d(width), nn.PReLU(),
            conv(width, width, 3), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x):
        return x + self.rcb(x)


class Doubling(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.upsample_block = Seq(conv(width, 4 * width, 3, bias=True), nn.PixelShuffle(2), nn.PReLU())

    def forward(self, x):
        return self.upsample_block(x)


class SRGANByTrunk(nn.Module):
    """The generator of Lornatang/SRGAN-PyTorch; `name` is "conv" or, for a time, "conv_block"."""

    def __init__(self, channels=3, blocks=16, scale=4, width=64, name="conv"):
        super().__init__()
        first = Seq(conv(channels, width, 9, bias=True), nn.PReLU())
        self.add_module(f"{name}1", first)
        self.trunk = Seq(*(Residual(width) for _ in range(blocks)))
        second = Seq(conv(width, width, 3), nn.BatchNorm2d(width))
        self.add_module(f"{name}2", second)
        self.upsampling = Seq(*(Doubling(width) for _ in range(scale.bit_length() - 1)))
        self.add_module(f"{name}3", conv(width, channels, 9, bias=True))

    def forward(self, x):
        first, trunk, second, upsampling, last = self.children()
        x = first(x)
        return last(upsampling(x + second(trunk(x)))).clamp(0, 1)


class SRVGG(nn.Module):
    """SRVGGNetCompact of xinntao/Real-ESRGAN."""

    def __init__(self, channels=3, convs=16, width=64, scale=4):
        super().__init__()
        self.body, self.scale = nn.ModuleList(), scale
        for i in range(1 + convs):
            self.body.append(conv(width if i else channels, width, 3, bias=True))
            self.body.append(nn.PReLU(width))
        self.body.append(conv(width, channels * scale**2, 3, bias=True))

    def forward(self, x):
        y = x
        for module in self.body:
            y = module(y)
        return F.pixel_shuffle(y, self.scale) + F.interpolate(x, scale_factor=self.scale)


class FSRCNNByParts(nn.Module):
    """FSRCNN under the names of Lornatang/FSRCNN-PyTorch."""

    def __init__(self, scale=2, channels=1, d=56, s=12, m=4):
        super().__init__()
        self.feature_extraction = Seq(conv(channels, d, 5, bias=True), nn.PReLU(d))
        self.shrink = Seq(conv(d, s, 1, bias=True), nn.PReLU(s))
        self.map = Seq(*(part for _ in range(m) for part in (conv(s, s, 3, bias=True), nn.PReLU(s))))
        self.expand = Seq(conv(s, d, 1, bias=True), nn.PReLU(d))
        self.deconv = nn.ConvTranspose2d(d, channels, 9, scale, 4, scale - 1)

    def forward(self, x):
        for module in self.children():
            x = module(x)
        return x


class Noise2NoiseUNet(nn.Module):
    """The table of the paper, a module a row."""

    def __init__(self, channels=3):
        super().__init__()
        for i in range(7):
            self.add_module(f"enc_conv{i}", conv(48 if i else channels, 48, 3, bias=True))
        for i in range(5, 0, -1):
            entering = {5: 96, 1: 96 + channels}.get(i, 144)
            self.add_module(f"dec_conv{i}a", conv(entering, 96 if i > 1 else 64, 3, bias=True))
            self.add_module(f"dec_conv{i}b", conv(96 if i > 1 else 64, 96 if i > 1 else 32, 3, bias=True))
        self.dec_conv1c = conv(32, channels, 3, bias=True)

    def then(self, name, x):
        return F.leaky_relu(getattr(self, name)(x), 0.1)

    def forward(self, x):
        pools = [x]
        y = self.then("enc_conv0", x)
        for i in range(1, 6):
            y = F.max_pool2d(self.then(f"enc_conv{i}", y), 2)
            pools.append(y)
        y = self.then("enc_conv6", pools.pop())
        for i in range(5, 0, -1):
            y = torch.cat([F.interpolate(y, scale_factor=2), pools.pop()], 1)
            y = self.then(f"dec_conv{i}b", self.then(f"dec_conv{i}a", y))
        return self.dec_conv1c(y)


class Noise2NoiseShared(nn.Module):
    """The same as joeylitalien/noise2noise-pytorch has it: blocks that are used several times."""

    def __init__(self, c=3):
        super().__init__()

        def double(*before, o):
            return Seq(*before, nn.ConvTranspose2d(o, o, 3, 2, 1, 1))

        def two(i, o):
            return conv(i, o, 3, bias=True), nn.ReLU(), conv(o, o, 3, bias=True), nn.ReLU()

        self._block1 = Seq(*two(c, 48), nn.MaxPool2d(2))
        self._block2 = Seq(conv(48, 48, 3, bias=True), nn.ReLU(), nn.MaxPool2d(2))
        self._block3 = double(conv(48, 48, 3, bias=True), nn.ReLU(), o=48)
        self._block4 = double(*two(96, 96), o=96)
        self._block5 = double(*two(144, 96), o=96)
        self._block6 = Seq(
            conv(96 + c, 64, 3, bias=True), nn.ReLU(), conv(64, 32, 3, bias=True), nn.ReLU(),
            conv(32, c, 3, bias=True), nn.LeakyReLU(0.1),
        )  # fmt: skip

    def forward(self, x):
        pools = [x, self._block1(x)]
        for _ in range(3):
            pools.append(self._block2(pools[-1]))
        y = self._block3(self._block2(pools[-1]))
        for block in (self._block4, self._block5, self._block5, self._block5, self._block6):
            y = block(torch.cat([y, pools.pop()], 1))
        return y


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
