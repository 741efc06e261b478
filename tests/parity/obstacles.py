"""Modules of our own, one of every kind of obstacle that symbolic tracing met."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from tests.parity.traced import Of

PICTURE = (2, 4, 8, 8)


class NormAct(nn.BatchNorm2d):
    """A batch norm that looks at `self.training`, as timm's does."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        use_batch = self.training or (self.running_mean is None and self.running_var is None)
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, use_batch, factor, self.eps
        )
        return self.act(x)


class SamePad(nn.Conv2d):
    """Padding computed from the picture's size, which Python compares."""

    def forward(self, x):
        size, k, s = x.shape[-1], self.kernel_size[0], self.stride[0]
        missing = max((math.ceil(size / s) - 1) * s + k - size, 0)
        if missing > 0:
            x = F.pad(x, [missing // 2, missing - missing // 2, missing // 2, missing - missing // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride)


class Tokens(nn.Module):
    """A token stretched over the batch, positions, and attention of blocks of channels."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 17, 8))
        self.embed = nn.Conv2d(4, 8, 2, 2)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        x = x + self.attend(self.norm(x), self.norm(x), self.norm(x), need_weights=False)[0]
        return x[:, 0]


class Windows(nn.Module):
    """Shifted windows with a mask written into zeros, and a table of relative positions."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(49, 2))
        rows = torch.arange(16) // 4
        columns = torch.arange(16) % 4
        near = (rows[:, None] - rows[None] + 3) * 7 + columns[:, None] - columns[None] + 3
        self.register_buffer("near", near, persistent=False)
        self.qkv = nn.Linear(4, 24)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        n, c, h, w = x.shape
        x = torch.roll(x.permute(0, 2, 3, 1), (-2, -2), (1, 2))
        x = x.view(n, h // 4, 4, w // 4, 4, c).transpose(2, 3).reshape(n * (h // 4) * (w // 4), 16, c)
        q, k, v = self.qkv(x).reshape(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4)
        weights = q @ k.transpose(-2, -1) / 2 + self.table[self.near.view(-1)].view(16, 16, 2).permute(
            2, 0, 1
        )
        mask = x.new_zeros((h, w))
        count = 0
        for rows in ((0, -4), (-4, -2), (-2, None)):
            for columns in ((0, -4), (-4, -2), (-2, None)):
                mask[rows[0] : rows[1], columns[0] : columns[1]] = count
                count += 1
        mask = mask.view(h // 4, 4, w // 4, 4).permute(0, 2, 1, 3).reshape(-1, 16)
        mask = mask[:, None] - mask[:, :, None]
        mask = mask.masked_fill(mask != 0, -9.0).masked_fill(mask == 0, 0.0)
        weights = (weights.view(n, -1, 2, 16, 16) + mask[:, None]).view(-1, 2, 16, 16).softmax(-1)
        x = self.out((weights @ v).transpose(1, 2).reshape(-1, 16, 8))
        return x.view(n, h // 4, w // 4, 4, 4, 4).transpose(2, 3).reshape(n, h, w, 4).permute(0, 3, 1, 2)


class Lists(nn.Module):
    """Pieces, products by name, statistics over axes."""

    def forward(self, x):
        a, b = torch.unbind(x.reshape(x.shape[0], 2, 2, *x.shape[2:]), 1)
        c = torch.einsum("nchw,nchw->nc", a, b)[:, :, None, None]
        d = (a - a.mean((2, 3), keepdim=True)) / torch.sqrt(a.var((2, 3), keepdim=True) + 1e-5)
        e = d / d.norm(dim=1, keepdim=True).clamp(min=1e-6) + torch.linalg.vector_norm(
            b, dim=(1, 2), keepdim=True
        )
        return (
            torch.swapaxes(e * c + b.flip(3) + torch.cumsum(a, 2), 2, 3)
            .unflatten(1, (2, 1))
            .tile(1, 1, 2, 1, 1)
        )


class Masked(nn.Module):
    """Constants that the forward makes and writes into."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.scale = torch.tensor([1.0, -2.0, 0.5, 3.0])

    def forward(self, x):
        row = torch.arange(x.shape[-1], dtype=x.dtype)
        y = self.gain * x * row + self.scale[:, None, None] * torch.sin(row)
        y[:, 1] = 0.5
        y[:, 2:, :2] += x[:, 2:, :2]
        keep = torch.ones(8, 8, dtype=torch.bool).tril()
        return (
            y.masked_fill(~keep, -1.0)
            + torch.where(keep, x, torch.zeros_like(x))
            + x.new_ones(x.shape[0], 4, 1, 1)
        )


class Places(nn.Module):
    """Sines of positions that are counted in a mask of the whole batch."""

    def forward(self, x):
        mask = ~torch.zeros((x.shape[0], *x.shape[2:]), device=x.device).to(torch.bool)
        rows, columns = mask.cumsum(1, dtype=torch.float32), mask.cumsum(2, dtype=torch.float32)
        with torch.no_grad():
            rows = rows / (rows[:, -1:, :] + 1e-6)
        waves = torch.stack((rows.sin(), columns.cos()), 1)
        return torch.cat([x, waves.to(x.dtype)], 1)


class Rotary(nn.Module):
    """Places of every example, which operators of several results cut up before they meet the input."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        x = self.gain * x
        places = torch.arange(16).view(8, 2).expand(x.shape[0], -1, -1).flip((-1,)).to(x.dtype)
        cos, sin = torch.cat((places.cos(), places.sin()), -1).split([2, 2], -1)
        high, _ = torch.stack((cos, sin), -1).max(-1)
        a, b = x.chunk(2, 1)
        turned = torch.cat((a * cos[:, None, :, :1] - b * sin[:, None, :, 1:], b * cos[:, None, :, 1:]), 1)
        return turned + high[:, None, :, :1]


class Biases(nn.Module):
    """Weights that a small network makes of constant coordinates, as in Swin V2."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 4))
        grid = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij"), -1)
        self.register_buffer("grid", grid, persistent=False)

    def forward(self, x):
        return x + 16 * torch.sigmoid(self.mlp(self.grid)).permute(2, 0, 1)


class Compared(nn.Module):
    def forward(self, x):
        inner = (x > 0.1) & ~(x >= 1)
        y = torch.where(inner, x * 2, torch.zeros_like(x)).masked_fill(x == 0, 1.0)
        return y + x * (x < x.mean(1, keepdim=True)) + (x != 0).to(x.dtype)


class OneSided(nn.Module):
    """Norms with a weight and no bias, or a bias and no weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(8)
        self.a.bias = None
        self.b.bias = None
        self.c.weight = None

    def forward(self, x):
        return self.c(self.b(self.a(x)))


class Levels(nn.Module):
    """A pyramid with a level that has no channels, as segmentation's encoders without a stem give."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        empty = torch.empty((x.shape[0], 0, *x.shape[2:]), dtype=x.dtype)
        return torch.cat([self.conv(torch.cat([x, empty], 1)), empty], 1)


class Standardized(nn.Conv2d):
    """Weights normalised on the way, as in NFNets and BiT."""

    def forward(self, x):
        weight = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, training=True, momentum=0.0, eps=1e-6
        ).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias)


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.head = nn.Linear(6, 9, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(self.table(tokens).mean(1))


KINDS = {
    "norm that looks at training": (nn.Sequential(nn.Conv2d(4, 6, 3), NormAct(6)), None),
    "padding from the size": (nn.Sequential(SamePad(4, 6, 3, 2)), PICTURE),
    "a token for every example": (Tokens(), PICTURE),
    "shifted windows": (Windows(), PICTURE),
    "pieces and statistics": (Lists(), PICTURE),
    "constants": (Masked(), PICTURE),
    "biases of coordinates": (Biases(), PICTURE),
    "places": (Places(), PICTURE),
    "places in pieces": (Rotary(), PICTURE),
    "axes in another order": (Of(lambda m, x: x.movedim(1, -1).swapaxes(1, 2).mT.permute(0, 3, 1, 2)), None),
    "norms with one parameter": (OneSided(), PICTURE),
    "a level without channels": (Levels(), PICTURE),
    "standardized weights": (nn.Sequential(Standardized(4, 6, 3)), None),
    "squeeze": (Of(lambda m, x: x.mean((2, 3), keepdim=True).squeeze() * 2), PICTURE),
    "a maximum with its place": (
        Of(lambda m, x: x * torch.sigmoid(torch.max(x, dim=1, keepdim=True)[0])), None),
    "a view after a change": (
        Of(lambda m, x: (lambda y, z: [z.relu_(), y][1])(x.view(x.size(0), -1), x)), PICTURE),
    "comparisons": (Compared(), None),
    "powers": (Of(lambda m, x: 2.0**x + x.abs().pow(1.5) + torch.rsub(x, 1) + torch.addcmul(x, x, x)), None),
    "resizing": (
        Of(lambda m, x: F.interpolate(F.interpolate(x, scale_factor=2.0, mode="bicubic"), size=x.shape[2:])),
        PICTURE),
}  # fmt: skip
