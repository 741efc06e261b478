"""Every network of fconv.models against its twin in torch.nn: state dicts, outputs, gradients."""

from __future__ import annotations

import copy
from functools import partial
from math import prod, sqrt

import numpy as np
import pytest
import torch

import fconv as fc
from fconv import models
from tests.cases.models import undrawn
from tests.parity import restorers, twins

PICTURE = (2, 3, 40, 48)
NARROW = {"num_classes": 7, "hidden": 24}
HALF = [16, 8, 16, 16, 32, 48, 80, 160]  # the widths of MobileNetV2's table, halved and rounded to 8
FULL = [32, 16, 24, 32, 64, 96, 160, 320]

# Name: our network, its twin, an input.
CASES = {
    "lenet": (models.lenet, twins.lenet, (3, 1, 32, 32)),
    "lenet of digits": (models.lenet, partial(twins.lenet, side=28), (3, 1, 28, 28)),
    **{
        name: (
            partial(getattr(models, name), dropout=0.0, **NARROW),
            partial(getattr(twins, name.removesuffix("_bn")), norm=name.endswith("_bn"), **NARROW),
            (3, 3, 32, 32) if name in ("vgg11", "vgg16") else PICTURE,
        )
        for name in ("vgg11", "vgg11_bn", "vgg16", "vgg16_bn")
    },
    "resnet18": (models.resnet18, partial(twins.resnet, (2, 2, 2, 2), False), PICTURE),
    "resnet34": (
        partial(models.resnet34, num_classes=7), partial(twins.resnet, (3, 4, 6, 3), False, 7), PICTURE,
    ),
    "resnet50": (models.resnet50, partial(twins.resnet, (3, 4, 6, 3), True), PICTURE),
    "resnet50 of eight groups, as in ResNeXt": (
        partial(models.resnet50, groups=8, width_per_group=4),
        partial(twins.resnet, (3, 4, 6, 3), True, groups=8, width_per_group=4),
        PICTURE,
    ),
    "resnet20": (models.resnet20, partial(twins.resnet_cifar, 3), (2, 3, 32, 32)),
    "resnet20 of an odd size": (models.resnet20, partial(twins.resnet_cifar, 3), (2, 3, 11, 9)),
    "resnet32": (models.resnet32, partial(twins.resnet_cifar, 5), (2, 3, 16, 16)),
    "resnet56": (models.resnet56, partial(twins.resnet_cifar, 9), (2, 3, 16, 16)),
    "mobilenet_v2": (
        partial(models.mobilenet_v2, dropout=0.0), partial(twins.mobilenet_v2, FULL, 1280), PICTURE,
    ),
    "mobilenet_v2 of half the width": (
        partial(models.mobilenet_v2, 5, 0.5, dropout=0.0),
        partial(twins.mobilenet_v2, HALF, 1280, 5),
        PICTURE,
    ),
    "unet": (partial(models.unet, width=8), partial(restorers.UNet, width=8), (2, 3, 32, 48)),
    "unet bilinear with biases, an odd size": (
        partial(models.unet, n_classes=1, bilinear=True, bias=True, width=8),
        partial(restorers.UNet, 1, True, True, 8),
        (2, 3, 39, 50),
    ),
    "unet, an odd size": (partial(models.unet, width=8), partial(restorers.UNet, width=8), (2, 3, 39, 50)),
    "dncnn": (models.dncnn, restorers.DnCNN, (2, 1, 17, 14)),
    "dncnn in training": (
        partial(models.dncnn, 3, layers=20, batch_norm=True, width=16),
        partial(restorers.DnCNN, 3, 20, True, 16),
        (2, 3, 16, 16),
    ),
    "espcn": (models.espcn, restorers.espcn, (2, 3, 11, 9)),
    "espcn of luma": (
        partial(models.espcn, 2, channels=1, clip=False), partial(restorers.espcn, 2, 1, False),
        (2, 1, 11, 9),
    ),
    "fsrcnn": (models.fsrcnn, restorers.fsrcnn, (2, 1, 11, 9)),
    "fsrcnn doubling colours": (
        partial(models.fsrcnn, 2, 3, d=8, s=4, m=2), partial(restorers.fsrcnn, 2, 3, 8, 4, 2), (2, 3, 11, 9),
    ),
    "srresnet": (models.srresnet, restorers.SRResNet, (2, 3, 9, 8)),
    "srresnet of single pictures": (
        partial(models.srresnet, 1, blocks=3, norm="instance", width=8),
        partial(restorers.SRResNet, 1, 3, "instance", 8),
        (2, 1, 9, 8),
    ),
    "lenet of two convolutions a stage": (
        partial(models.lenet, 7, stages=((3, 3), (6, 6)), kernel_size=3, hidden=(30,)),
        partial(twins.lenet_of, ((3, 3), (6, 6)), 3, 0, (30,), 96, classes=7),
        (3, 1, 28, 28),
    ),
    "lenet with padding": (
        partial(models.lenet, padding=(2, 0)),
        partial(twins.lenet_of, ((6,), (16,)), 5, (2, 0), (120, 84), 400),
        (3, 1, 28, 28),
    ),
    "dncnn of fewer biases": (
        partial(models.dncnn, layers=5, batch_norm=True, width=8, bias="first"),
        partial(restorers.DnCNN, 1, 5, True, 8, "first"),
        (2, 1, 17, 14),
    ),
    "srgan": (
        partial(models.srgan, blocks=2, width=16), partial(restorers.SRGAN, blocks=2, width=16), (2, 3, 9, 8),
    ),
    "srgan that cuts off": (
        partial(models.srgan, 1, blocks=2, scale=2, width=8, bias=False, output="clip"),
        partial(restorers.SRGAN, 1, 2, 2, 8, False, True),
        (2, 1, 9, 8),
    ),
    "srvgg": (models.srvgg, restorers.SRVGG, (2, 3, 9, 8)),
    "srvgg of another factor": (
        partial(models.srvgg, 1, convs=2, width=8, scale=3), partial(restorers.SRVGG, 1, 2, 8, 3),
        (2, 1, 9, 8),
    ),
    "noise2noise_unet": (models.noise2noise_unet, restorers.Noise2NoiseUNet, (2, 3, 32, 64)),
    "noise2noise_unet of shared blocks": (
        partial(models.noise2noise_unet, 1, shared=True),
        partial(restorers.Noise2NoiseShared, 1),
        (2, 1, 64, 32),
    ),
    "noise2noise": (models.noise2noise, restorers.noise2noise, (2, 3, 32, 32)),
    "noise2noise_strided": (models.noise2noise_strided, restorers.noise2noise_strided, (2, 3, 32, 32)),
    "noise2noise_shallow": (models.noise2noise_shallow, restorers.noise2noise_shallow, (2, 3, 32, 32)),
}  # fmt: skip


def pair(name, dtype):
    """Our network, parameters off special values, the twin with the same, and an input."""
    build, twin, shape = CASES[name]
    net, module = build(), twin().to(getattr(torch, dtype))
    params = typical(undrawn(net, shape, dtype))
    module.load_state_dict(fc.to_torch(params), strict=True)
    return net, params, module, fc.random.normal(fc.random.key(1), shape, dtype)


def typical(params):
    """Return weights, scales, shifts and running statistics values that no error can hide behind."""
    # NumPy's own generator: many millions of numbers are drawn here, and fast is better than pure.
    draw = np.random.default_rng(3)

    def moved(path, p):
        if path[-1] == "num_batches_tracked":
            return p + 5
        if path[-1] == "running_var" or (path[-1] == "weight" and p.ndim == 1):
            return p * draw.uniform(0.6, 1.4, p.shape).astype(p.dtype)
        # The initial weights of some networks are so small that the input hardly matters.
        std = 0.1 if p.ndim == 1 else sqrt(2.0 / prod(p.shape[1:]))
        return draw.standard_normal(p.shape, p.dtype) * p.dtype.type(std)

    return fc.trees.map_with_path(moved, params)


def test_every_network_has_a_twin():
    assert set(models.MODELS) <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_state_dicts_pass_both_ways_bit_for_bit(name):
    build, twin, shape = CASES[name]
    module = twin()
    params = undrawn(build(), shape)
    module.load_state_dict(fc.to_torch(typical(params)), strict=True)
    published = module.state_dict()
    ours = fc.from_state_dict(params, published, strict=True)
    # The order is that of torch's parameters too, which an optimizer's state goes by.
    assert list(fc.to_state_dict(ours)) == list(published)
    back = fc.to_torch(ours)
    for entry, value in published.items():
        assert back[entry].dtype == value.dtype
        assert torch.equal(back[entry], value), entry
    module.load_state_dict(back, strict=True)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)]
)  # 17 layers of Winograd
def test_outputs_are_the_twins(name, dtype, tolerance):
    net, params, module, x = pair(name, dtype)
    exact = copy.deepcopy(module).double().eval()  # as PyTorch's float32 is off by as much
    with torch.no_grad():
        expected = exact(torch.from_numpy(x.astype(np.float64))).numpy()
    y = net.apply(params, x)
    assert y.dtype == dtype
    assert y.shape == expected.shape == net.out_shape(x.shape)
    assert expected.std() > 0
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_gradients_and_running_statistics_are_the_twins(name):
    net, params, module, x = pair(name, "float64")
    tensor = torch.tensor(x, requires_grad=True)
    expected = module.train()(tensor)
    # A key is needed by dropout, which drops nothing here.
    y, refreshed, pullback = net.forward(params, x, train=True, key=fc.random.key(4))
    close("the output", y, expected.detach(), 0.0)
    g = fc.random.normal(fc.random.key(2), y.shape, np.float64)
    expected.backward(torch.from_numpy(g))
    dparams, dx = pullback(g)
    grads = {".".join(path): grad for path, _, grad in fc.trees.aligned(params, dparams) if grad is not None}
    theirs = {entry: p.grad for entry, p in module.named_parameters()}
    assert list(grads) == list(theirs)
    # A bias before batch normalisation has the gradient 0, which both give but for rounding.
    rounding = 1e-12 * max(float(grad.abs().max()) for grad in theirs.values())
    close("dx", dx, tensor.grad, rounding)
    for entry, grad in theirs.items():
        close(entry, grads[entry], grad, rounding)
    for entry, value in fc.to_state_dict(refreshed).items():
        close(entry, value, module.state_dict()[entry], 0.0)


def close(what, ours, theirs, rounding):
    theirs = theirs.numpy()
    np.testing.assert_allclose(
        ours, theirs, rtol=0, atol=1e-8 * float(abs(theirs).max()) + rounding, err_msg=what
    )
