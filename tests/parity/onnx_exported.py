"""Networks that torch.onnx.export writes, read here: ``python -m tests.parity.onnx_exported``.

Modules of PyTorch by hand, of the kinds that people export, and those that `to_torch_module` makes of
`fconv.models`. What is read must have ONNX Runtime's output. Each is exported by torch.export (dynamo) and,
where that is asked for with ``--old``, by tracing.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # as PyTorch's users call it

import fconv as fc
from tests.parity.onnx_evaluators import by_runtime


class Of(nn.Module):
    """A module of a function of itself and its input."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def conv(i, o, k=3, **options):
    return nn.Sequential(
        nn.Conv2d(i, o, k, padding=k // 2, bias=False, **options), nn.BatchNorm2d(o), nn.ReLU()
    )


def attention(m, x):
    b, n, c = x.shape
    q, k, v = m.qkv(x).reshape(b, n, 3, 2, c // 6 * 3).permute(2, 0, 3, 1, 4)
    return m.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


def patches(m, x):
    x = m.patch(x).flatten(2).transpose(1, 2)
    x = torch.cat([m.token.expand(x.shape[0], -1, -1), x], 1) + m.place
    x = x + m.block(m.norm(x))
    return m.head(x[:, 0])


def windows(m, x):
    b, c, h, w = x.shape
    x = torch.roll(x, (-2, -2), (2, 3)).view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1)
    x = m.mix(x.reshape(-1, 16, c)).reshape(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4)
    return torch.roll(x.reshape(b, c, h, w), (2, 2), (2, 3))


def unet(m, x):
    a = m.down(x)
    b = m.middle(F.max_pool2d(a, 2))
    return m.up(torch.cat([a, F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=False)], 1))


def transformer(m, x):
    return F.grid_sample(
        x, F.affine_grid(m.find(x).view(-1, 2, 3), list(x.shape), align_corners=False), align_corners=False
    )


PICTURE = (2, 3, 16, 16)
WIDE = (2, 8, 16, 16)

HAND_WRITTEN = {
    "plain": (
        nn.Sequential(
            conv(3, 8), nn.MaxPool2d(2), conv(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
        ),
        PICTURE,
    ),
    "residual": (
        Of(lambda m, x: F.relu(x + m.body(x)), body=nn.Sequential(conv(8, 8), nn.Conv2d(8, 8, 3, padding=1))),
        WIDE,
    ),
    "inverted residual": (
        Of(
            lambda m, x: x + m.body(x),
            body=nn.Sequential(conv(8, 16, 1), conv(16, 16, groups=16), nn.Hardswish(), nn.Conv2d(16, 8, 1)),
        ),
        WIDE,
    ),
    "squeeze and excitation": (
        Of(
            lambda m, x: x * m.gate(x.mean((2, 3), keepdim=True)),
            gate=nn.Sequential(nn.Conv2d(8, 2, 1), nn.SiLU(), nn.Conv2d(2, 8, 1), nn.Sigmoid()),
        ),
        WIDE,
    ),
    "convolutional block attention": (
        Of(
            lambda m, x: x * torch.sigmoid(m.conv(torch.cat([x.amax(1, True), x.mean(1, True)], 1))),
            conv=nn.Conv2d(2, 1, 7, padding=3),
        ),
        WIDE,
    ),
    "dense": (
        Of(
            lambda m, x: torch.cat([x, m.a(x), m.b(torch.cat([x, m.a(x)], 1))], 1),
            a=conv(8, 4),
            b=conv(12, 4),
        ),
        WIDE,
    ),
    "ConvNeXt": (
        Of(
            lambda m, x: (
                x + m.scale * m.out(F.gelu(m.norm(m.depth(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
            ),
            depth=nn.Conv2d(8, 8, 7, padding=3, groups=8),
            norm=nn.LayerNorm(8),
            out=nn.Linear(8, 8),
            scale=nn.Parameter(torch.rand(8, 1, 1)),
        ),
        WIDE,
    ),
    "shuffle": (
        Of(
            lambda m, x: (
                torch.cat([x[:, :4], m.conv(x[:, 4:])], 1)
                .view(x.shape[0], 2, 4, 16, 16)
                .transpose(1, 2)
                .flatten(1, 2)
            ),
            conv=conv(4, 4),
        ),
        WIDE,
    ),
    "super resolution": (
        nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 27, 3, padding=1), nn.PixelShuffle(3)
        ),
        PICTURE,
    ),
    "transposed": (
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8), nn.ConvTranspose2d(8, 3, 4, 2, 1)),
        PICTURE,
    ),
    "U-Net": (Of(unet, down=conv(3, 8), middle=conv(8, 8), up=nn.Conv2d(16, 2, 1)), PICTURE),
    "pyramid": (
        Of(
            lambda m, x: torch.cat(
                [F.interpolate(F.adaptive_avg_pool2d(x, n), (16, 16)) for n in (1, 2, 4)], 1
            )
        ),
        WIDE,
    ),
    "dilated": (
        Of(
            lambda m, x: sum(each(x) for each in m.rates),
            rates=nn.ModuleList(nn.Conv2d(8, 4, 3, padding=d, dilation=d) for d in (1, 2, 4)),
        ),
        WIDE,
    ),
    "style": (
        nn.Sequential(
            nn.ReflectionPad2d(2),
            nn.Conv2d(3, 8, 5),
            nn.InstanceNorm2d(8, affine=True),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.ZeroPad2d((1, 0, 2, 1)),
        ),
        PICTURE,
    ),
    "group norm": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.Mish(), nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        ),
        PICTURE,
    ),
    "local response": (
        nn.Sequential(
            nn.Conv2d(3, 8, 5, 2),
            nn.ReLU(),
            nn.LocalResponseNorm(5),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Flatten(),
            nn.LazyLinear(4),
        ),
        PICTURE,
    ),
    "attention": (Of(attention, qkv=nn.Linear(12, 36), out=nn.Linear(12, 12)), (2, 5, 12)),
    "vision transformer": (
        Of(
            patches,
            patch=nn.Conv2d(3, 8, 8, 8),
            token=nn.Parameter(torch.rand(1, 1, 8)),
            place=nn.Parameter(torch.rand(1, 5, 8)),
            norm=nn.LayerNorm(8),
            block=nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)),
            head=nn.Linear(8, 3),
        ),
        PICTURE,
    ),
    "shifted windows": (Of(windows, mix=nn.Linear(8, 8)), WIDE),
    "spatial transformer": (
        Of(
            transformer,
            find=nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)),
        ),
        PICTURE,
    ),
    "einsum": (
        Of(
            lambda m, x: torch.einsum("bchw,kc->bkhw", x, m.mix).softmax(1),
            mix=nn.Parameter(torch.rand(3, 8)),
        ),
        WIDE,
    ),
    "norm of vectors": (
        Of(lambda m, x: F.normalize(x, dim=1) * x.std((2, 3), keepdim=True).clamp(min=0.1)),
        WIDE,
    ),
    "masks": (
        Of(
            lambda m, x: torch.where(x > 0.2, x.exp(), 0.1 * x).masked_fill(m.mask, -1.0),
            mask=nn.Buffer(torch.eye(16) > 0),
        ),
        WIDE,
    ),
    "one axis": (
        nn.Sequential(
            nn.Conv1d(4, 8, 3),
            nn.BatchNorm1d(8),
            nn.ELU(),
            nn.MaxPool1d(2),
            nn.Conv1d(8, 2, 1),
            nn.Softplus(),
        ),
        (2, 4, 20),
    ),
    "volumes": (
        nn.Sequential(
            nn.Conv3d(2, 4, 3, padding=1),
            nn.BatchNorm3d(4),
            nn.ReLU6(),
            nn.AvgPool3d(2),
            nn.ConvTranspose3d(4, 2, 2, 2),
        ),
        (1, 2, 6, 6, 6),
    ),
}

MODELS = {
    "lenet": (1, 1, 32, 32),
    "resnet18": (1, 3, 32, 32),
    "resnet50": (1, 3, 32, 32),
    "mobilenet_v2": (1, 3, 32, 32),
    "vgg11": (1, 3, 32, 32),
    "unet": (1, 3, 32, 32),
    "dncnn": (1, 1, 16, 16),
    "fsrcnn": (1, 1, 12, 12),
    "srresnet": (1, 3, 8, 8),
}


def modules():
    """Yield each module with its name and the shape of its input."""
    for name, (module, shape) in HAND_WRITTEN.items():
        torch.manual_seed(0)
        x = torch.randn(shape)
        with torch.no_grad():
            module.train()(x)  # so that running statistics are none that say nothing
        yield name, module.eval(), shape
    for name, shape in MODELS.items():
        if hasattr(fc.models, name):
            net = getattr(fc.models, name)()
            params = net.init(fc.random.key(0), shape)
            yield name, fc.to_torch_module(net, params, shape=shape).eval(), shape


def check(module, shape, path, dynamo):
    """Export, read and compare; return the largest difference relative to the largest output."""
    torch.manual_seed(1)
    x = torch.randn(shape)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        how = {"dynamo": True, "external_data": False} if dynamo else {"dynamo": False}
        torch.onnx.export(module, (x,), path, input_names=["x"], **how)
    (expected,) = by_runtime(path, {"x": x.numpy()})
    net, params = fc.from_onnx(path)
    y = net.apply(params, x.numpy())
    return float(np.abs(y - expected).max() / np.abs(expected).max())


def main(dynamo=True):
    """Check all, and print what fails."""
    agreed = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, module, shape in modules():
            tried += 1
            try:
                off = check(module, shape, Path(folder) / "net.onnx", dynamo)
                agreed += off < 1e-4
                if off >= 1e-4:
                    print(f"{name}: the outputs differ by {off:.1e}", flush=True)
            except Exception as error:  # each is shown, whatever it is
                print(f"{name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(f"{agreed} of {tried} networks agree with ONNX Runtime")


if __name__ == "__main__":
    main("--old" not in sys.argv)
