"""State dicts in the naming of published implementations: the command builds the network they belong to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fconv as fc
from fconv.tools.weights import params_from, renamed
from fconv.vision.guessing import guess_model, options_in
from fconv.vision.images import Picture, read_image, write_image
from tests.parity import restorers, twins

NARROW = {"layers": 5, "width": 8}

# Module, task, factor, name and options of the network.
PUBLISHED = {
    "KAIR's DnCNN with batch norm": (
        lambda: restorers.DnCNN(3, 5, True, 8), "denoising", None, "dncnn",
        {"channels": 3, **NARROW, "batch_norm": True, "bias": "all"},
    ),
    "cszn's DnCNN in PyTorch": (
        lambda: restorers.DnCNN(1, 5, True, 8, "first", "dncnn"), "denoising", None, "dncnn",
        {"channels": 1, **NARROW, "batch_norm": True, "bias": "first"},
    ),
    "SaoYan's DnCNN": (
        lambda: restorers.DnCNN(1, 5, True, 8, "none", "dncnn"), "denoising", None, "dncnn",
        {"channels": 1, **NARROW, "batch_norm": True, "bias": "none"},
    ),
    "Noise2Noise, the paper's table": (
        lambda: restorers.Noise2NoiseUNet(1), "denoising", None, "noise2noise_unet",
        {"channels": 1, "shared": False},
    ),
    "Noise2Noise of joeylitalien": (
        restorers.Noise2NoiseShared, "denoising", None, "noise2noise_unet", {"channels": 3, "shared": True},
    ),
    "FSRCNN of three channels": (
        lambda: restorers.fsrcnn(2, 3, 8, 4, 2), "super-resolution", 2, "fsrcnn",
        {"scale_factor": 2, "num_channels": 3, "d": 8, "s": 4, "m": 2},
    ),
    "Lornatang's FSRCNN": (
        lambda: restorers.FSRCNNByParts(3, 3, 8, 4, 2), "super-resolution", 3, "fsrcnn",
        {"scale_factor": 3, "num_channels": 3, "d": 8, "s": 4, "m": 2},
    ),
    "leftthomas's SRGAN": (
        lambda: restorers.SRGAN(blocks=3, scale=2, width=8), "super-resolution", None, "srgan",
        {"channels": 3, "blocks": 3, "scale": 2, "width": 8, "bias": True, "output": "tanh"},
    ),
    **{
        f"Lornatang's SRGAN, {name}": (
            lambda name=name: restorers.SRGANByTrunk(blocks=2, width=8, name=name),
            "super-resolution", None, "srgan",
            {"channels": 3, "blocks": 2, "scale": 4, "width": 8, "bias": False, "output": "clip"},
        )
        for name in ("conv", "conv_block")
    },
    "Real-ESRGAN's realesr-animevideov3": (
        restorers.SRVGG, "super-resolution", None, "srvgg",
        {"channels": 3, "convs": 16, "width": 64, "scale": 4},
    ),
    "Real-ESRGAN's realesr-general-x4v3": (
        lambda: restorers.SRVGG(convs=32), "super-resolution", None, "srvgg",
        {"channels": 3, "convs": 32, "width": 64, "scale": 4},
    ),
}  # fmt: skip


def settled(module):
    """Return running statistics that no error can hide behind."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if "running" in name:
                value.uniform_(0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize("case", PUBLISHED)
def test_a_published_naming_is_recognised_and_computes_what_its_module_does(case, run):
    build, task, factor, name, options = PUBLISHED[case]
    module = settled(build())
    weights = {key: value.numpy() for key, value in module.state_dict().items()}
    guess = guess_model(weights, task, factor=factor)
    assert (guess.name, guess.options) == (name, options)
    x = fc.random.uniform(fc.random.key(1), (1, guess.channels, 32, 64))
    net = guess.build()
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    y = net.apply(params_from(net, x.shape, renamed(weights, guess.renames)), x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * abs(expected).max())

    torch.save({"params": module.state_dict()}, "w.pth")
    write_image("in.png", Picture(x[0]))
    command = (
        ["denoise"]
        if task == "denoising"
        else ["upscale"]
        if factor is None
        else ["upscale", "--factor", factor]
    )
    shown = run(*command, "in.png", "out.png", "--weights", "w.pth")
    assert shown.exit_code == 0, shown.stderr
    assert f"by {name}(" in shown.output
    seen = (read_image("in.png").pixels)[None]
    with torch.no_grad():
        expected = module(torch.from_numpy(seen)).numpy().clip(0, 1)
    if guess.channels == 3 or task == "denoising":
        np.testing.assert_allclose(read_image("out.png").pixels, expected[0], rtol=0, atol=0.5 / 255 + 1e-4)


LENETS = {
    "PyTorch's tutorial": (
        lambda: twins.lenet_of(((6,), (16,)), 5, 0, (120, 84), 400, 3),
        {},
        (1, 3, 32, 32),
    ),
    "the same for 28x28": (lambda: twins.lenet_of(((6,), (16,)), 5, 0, (120, 84), 256), {}, (1, 1, 28, 28)),
    "the notebook's": (
        lambda: twins.lenet_of(((3, 3), (6, 6)), 3, 0, (30,), 96),
        {"stages": ((3, 3), (6, 6)), "kernel_size": 3, "hidden": (30,)},
        (1, 1, 28, 28),
    ),
    "PyTorch's MNIST example": (
        lambda: twins.lenet_of(((32, 64),), 3, 0, (128,), 9216),
        {"stages": ((32, 64),), "kernel_size": 3, "hidden": (128,)},
        (1, 1, 28, 28),
    ),
}


@pytest.mark.parametrize("case", LENETS)
def test_variants_of_lenet_are_seen_in_their_weights(case, run):
    build, options, shape = LENETS[case]
    module = settled(build())
    weights = {key: value.numpy() for key, value in module.state_dict().items()}
    assert options_in("lenet", weights) == ({"num_classes": 10, **options}, shape)
    torch.save(module.state_dict(), "w.pth")
    write_image("in.png", Picture(fc.random.uniform(fc.random.key(1), shape[1:])))
    seen = read_image("in.png").pixels[None]
    with torch.no_grad():
        likely = module(torch.from_numpy(seen)).softmax(1)[0]
    plain = ["--mean", ",".join("0" * shape[1]), "--std", ",".join("1" * shape[1])]
    shown = run("predict", "lenet", "in.png", "--weights", "w.pth", "--top", 1, *plain)
    assert shown.exit_code == 0, shown.stderr
    assert shown.output.split() == ["in.png", f"{float(likely.max()):.2%}", str(int(likely.argmax()))]


def test_lenet_with_padding_is_seen_where_the_shape_is_known():
    module = twins.lenet_of(((6,), (16,)), 5, (2, 0), (120, 84), 400)
    weights = {key: value.numpy() for key, value in module.state_dict().items()}
    assert options_in("lenet", weights, (1, 1, 28, 28))[0] == {"num_classes": 10, "padding": (2, 0)}
    assert options_in("lenet", weights)[0] == {"num_classes": 10}  # as the tutorial's, of 32x32


def test_convert_to_onnx_knows_the_shape_from_the_weights(run):
    onnx = pytest.importorskip("onnx")
    build, _, shape = LENETS["the notebook's"]
    torch.save(build().state_dict(), "w.pth")
    shown = run("convert", "w.pth", "net.onnx", "--model", "lenet")
    assert shown.exit_code == 0, shown.stderr
    sizes = onnx.load("net.onnx").graph.input[0].type.tensor_type.shape.dim
    assert tuple(d.dim_value for d in sizes)[1:] == shape[1:]
