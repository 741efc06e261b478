"""The networks of fconv.models that make pictures in plain torch.nn, under the published parameter names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.parity.twins import Chain, conv

Seq = nn.Sequential


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
