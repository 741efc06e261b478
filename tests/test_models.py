"""Networks by name: shapes, names, numbers of parameters, gradients, refusals. No PyTorch."""

from __future__ import annotations

import re
from math import prod, sqrt
from pathlib import Path

import numpy as np
import pytest

import fconv as fc
from fconv import models
from fconv.networks.wiring import flat
from fconv.testing import check_layer
from tests.cases.models import undrawn

KEY = fc.random.key(0)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

# Trained numbers, entries of the state dict, output for the catalogue's input. The numbers of
# torchvision's networks and of the U-Net are the ones published with them.
PUBLISHED = {
    "lenet": (61_706, 10, (1, 10)),
    "vgg11": (132_863_336, 22, (1, 1000)),
    "vgg11_bn": (132_868_840, 62, (1, 1000)),
    "vgg16": (138_357_544, 32, (1, 1000)),
    "vgg16_bn": (138_365_992, 97, (1, 1000)),
    "resnet18": (11_689_512, 122, (1, 1000)),
    "resnet34": (21_797_672, 218, (1, 1000)),
    "resnet50": (25_557_032, 320, (1, 1000)),
    "resnet20": (269_722, 116, (1, 10)),
    "resnet32": (464_154, 188, (1, 10)),
    "resnet56": (853_018, 332, (1, 10)),
    "mobilenet_v2": (3_504_872, 314, (1, 1000)),
    "unet": (31_037_698, 118, (1, 2, 256, 256)),
    "dncnn": (555_137, 34, (1, 1, 256, 256)),
    "espcn": (31_131, 6, (1, 3, 255, 255)),
    "fsrcnn": (12_809, 23, (1, 1, 255, 255)),
    "srresnet": (1_546_752, 202, (1, 3, 256, 256)),
    "noise2noise": (38_723, 8, (1, 3, 32, 32)),
    "noise2noise_strided": (3_073, 8, (1, 3, 32, 32)),
    "noise2noise_shallow": (5_955, 6, (1, 3, 32, 32)),
    "noise2noise_unet": (991_203, 36, (1, 3, 256, 256)),
    "srgan": (734_219, 93, (1, 3, 256, 256)),
    "srvgg": (621_424, 53, (1, 3, 256, 256)),
}

# Some names and shapes of published state dicts, among them the first and the last.
ENTRIES = {
    "lenet": {"conv1.weight": (6, 1, 5, 5), "fc1.weight": (120, 400), "fc3.bias": (10,)},
    "vgg11": {"features.0.weight": (64, 3, 3, 3), "features.18.weight": (512, 512, 3, 3), "classifier.6.bias": (1000,)},
    "vgg16_bn": {"features.1.running_var": (64,), "features.40.weight": (512, 512, 3, 3), "classifier.0.weight": (4096, 25088)},
    "resnet18": {"conv1.weight": (64, 3, 7, 7), "layer2.0.downsample.1.num_batches_tracked": (), "fc.weight": (1000, 512)},
    "resnet50": {"layer1.0.downsample.0.weight": (256, 64, 1, 1), "layer4.2.conv2.weight": (512, 512, 3, 3), "fc.weight": (1000, 2048)},
    "resnet20": {"conv1.weight": (16, 3, 3, 3), "layer3.2.bn2.running_mean": (64,), "linear.weight": (10, 64)},
    "resnet56": {"layer3.8.conv2.weight": (64, 64, 3, 3)},
    "mobilenet_v2": {
        "features.0.0.weight": (32, 3, 3, 3), "features.1.conv.0.0.weight": (32, 1, 3, 3), "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.17.conv.2.weight": (320, 960, 1, 1), "features.18.1.bias": (1280,), "classifier.1.weight": (1000, 1280),
    },
    "unet": {
        "inc.double_conv.0.weight": (64, 3, 3, 3), "down4.maxpool_conv.1.double_conv.3.weight": (1024, 1024, 3, 3),
        "up1.up.weight": (1024, 512, 2, 2), "up4.conv.double_conv.0.weight": (64, 128, 3, 3), "outc.conv.bias": (2,),
    },
    "dncnn": {"model.0.weight": (64, 1, 3, 3), "model.30.bias": (64,), "model.32.weight": (1, 64, 3, 3)},
    "espcn": {"conv_1.weight": (64, 3, 5, 5), "conv_2.weight": (32, 64, 3, 3), "conv_3.weight": (27, 32, 3, 3)},
    "fsrcnn": {"first_part.1.weight": (56,), "mid_part.10.weight": (56, 12, 1, 1), "last_part.weight": (56, 1, 9, 9)},
    "srresnet": {"conv_input.weight": (64, 3, 9, 9), "residual.15.bn2.running_var": (64,), "bn_mid.weight": (64,), "upscale4x.3.weight": (256, 64, 3, 3)},
    "srgan": {"block1.1.weight": (1,), "block6.bn2.running_var": (64,), "block8.1.conv.weight": (256, 64, 3, 3), "block8.2.bias": (3,)},
    "srvgg": {"body.0.weight": (64, 3, 3, 3), "body.33.weight": (64,), "body.34.weight": (48, 64, 3, 3)},
    "noise2noise_unet": {"enc_conv0.weight": (48, 3, 3, 3), "dec_conv4a.weight": (96, 144, 3, 3), "dec_conv1a.weight": (64, 99, 3, 3), "dec_conv1c.bias": (3,)},
    "noise2noise": {"0.weight": (32, 3, 3, 3), "8.weight": (3, 32, 3, 3)},
}  # fmt: skip


def shapes_of(net, shape):
    return {name: p.shape for name, p in fc.to_state_dict(undrawn(net, shape)).items()}


def trained(shapes):
    return sum(prod(s) for name, s in shapes.items() if name.rsplit(".", 1)[-1] not in STATISTICS)


@pytest.mark.parametrize("name", models.MODELS)
def test_parameters_are_the_published_ones(name):
    model = models.MODELS[name]
    net = model.build()
    count, entries, out_shape = PUBLISHED[name]
    shapes = shapes_of(net, model.input_shape)
    assert (trained(shapes), len(shapes), net.out_shape(model.input_shape)) == (count, entries, out_shape)
    expected = ENTRIES.get(name, {})
    assert {entry: shapes.get(entry) for entry in expected} == expected


@pytest.mark.parametrize(
    ("net", "channels", "count"),
    [
        (models.unet(n_classes=1), 3, 31_037_633),
        (models.unet(n_classes=1, bias=True), 3, 31_043_521),
        (models.unet(n_classes=1, bilinear=True, bias=True), 3, 17_267_393),
        (models.resnet50(groups=32, width_per_group=4), 3, 25_028_904),  # resnext50_32x4d
        (models.resnet50(width_per_group=128), 3, 68_883_240),  # wide_resnet50_2
        (models.srvgg(convs=32), 3, 1_213_296),  # realesr-general-x4v3
        (models.dncnn(3, layers=20), 3, 668_227),  # KAIR's blind network of colour pictures
    ],
)
def test_options_lead_to_published_numbers_of_parameters(net, channels, count):
    assert trained(shapes_of(net, (1, channels, 64, 64))) == count


def test_widths_of_mobilenet_are_rounded_but_not_far_down():
    for width, first, last in ((0.35, 16, 1280), (0.5, 16, 1280), (0.75, 24, 1280), (1.4, 48, 1792)):
        shapes = shapes_of(models.mobilenet_v2(width_mult=width), (1, 3, 64, 64))
        assert (shapes["features.0.1.bias"], shapes["features.18.1.bias"]) == ((first,), (last,))


def test_the_catalogue_names_every_network_and_the_page_its_numbers():
    lowercase = {name for name in models.__all__ if name.islower()}
    assert set(models.MODELS) == set(PUBLISHED) == lowercase
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` .*\| ([\d,]+) \|", page, re.M))
    assert {name: f"{count:,}" for name, (count, _, _) in PUBLISHED.items()} == rows
    for name, model in models.MODELS.items():
        assert model.name == name
        assert model.build is getattr(models, name)
        assert re.search(rf"^\| `{name}` .*\| {re.escape(model.task)} .*{re.escape(model.names)}", page, re.M)


TINY = {
    "lenet": (models.lenet(3), (1, 1, 18, 16)),
    "unet": (models.unet(width=2), (2, 1, 17, 18)),
    "unet bilinear": (models.unet(width=2, bilinear=True, bias=True), (2, 1, 32, 16)),
    "dncnn": (models.dncnn(2, layers=4, width=3), (1, 2, 5, 6)),
    "dncnn in training": (models.dncnn(layers=4, width=3, batch_norm=True), (2, 1, 5, 6)),
    "espcn": (models.espcn(2, channels=1, clip=False), (1, 1, 5, 4)),
    "fsrcnn": (models.fsrcnn(2, d=4, s=3, m=1), (1, 1, 5, 4)),
    "srresnet": (models.srresnet(2, blocks=2, width=3), (1, 2, 5, 4)),
    "srresnet of single pictures": (models.srresnet(2, blocks=1, width=3, norm="instance"), (2, 2, 5, 4)),
    "lenet of its own stages": (
        models.lenet(3, stages=((2, 2),), kernel_size=3, padding=(1, 0), hidden=(4,)),
        (1, 2, 8, 6),
    ),
    "srgan": (models.srgan(2, blocks=1, scale=2, width=3), (1, 2, 5, 4)),
    "srvgg": (models.srvgg(2, convs=1, width=3, scale=2), (1, 2, 5, 4)),
    "noise2noise_strided": (models.noise2noise_strided(2), (1, 2, 8, 8)),
    "noise2noise_shallow": (models.noise2noise_shallow(2), (1, 2, 8, 4)),
}


@pytest.mark.parametrize("name", TINY)
def test_networks_keep_the_contract(name):
    net, shape = TINY[name]
    check_layer(net, fc.random.normal(KEY, shape), key=KEY, directions=1)


@pytest.mark.parametrize(
    ("net", "shape", "answer"),
    [
        (models.resnet18(5, zero_init_residual=True), (1, 3, 33, 40), (1, 5)),
        (models.resnet20(), (2, 3, 9, 12), (2, 10)),
        (models.mobilenet_v2(4, 0.35), (1, 3, 32, 32), (1, 4)),
        (models.vgg11(3, hidden=5), (1, 3, 32, 33), (1, 3)),
        (models.noise2noise(), (1, 3, 7, 10), (1, 3, 7, 10)),
        (models.espcn(4), (1, 3, 5, 6), (1, 3, 20, 24)),
    ],
)
def test_small_pictures_go_through(net, shape, answer):
    params = net.init(KEY, shape)
    y = net.apply(params, fc.random.uniform(KEY, shape))
    assert y.shape == net.out_shape(shape) == answer
    assert y.dtype == np.float32
    assert np.isfinite(y).all()


def test_initial_values_follow_the_original_implementations():
    resnet = models.resnet18().init(KEY, (1, 3, 32, 32))
    assert resnet["layer1"][0]["conv1"]["weight"].std() == pytest.approx(sqrt(2 / 576), rel=0.02)
    vgg = models.vgg11(hidden=64).init(KEY, (1, 3, 32, 32))
    assert vgg["classifier"][0]["weight"].std() == pytest.approx(0.01, rel=0.02)
    assert not vgg["features"][0]["bias"].any()
    cifar = models.resnet20().init(KEY, (1, 3, 32, 32))
    assert cifar["layer2"][0]["conv1"]["weight"].std() == pytest.approx(sqrt(2 / 144), rel=0.05)  # fan_in
    espcn = models.espcn().init(KEY, (1, 3, 8, 8))
    assert espcn["conv_2"]["weight"].std() == pytest.approx(0.001, rel=0.02)
    fsrcnn = models.fsrcnn().init(KEY, (1, 1, 8, 8))
    assert fsrcnn["mid_part"][1]["weight"].tolist() == [0.25] * 12
    zero = models.resnet50(zero_init_residual=True).init(KEY, (1, 3, 32, 32))
    assert not zero["layer1"][0]["bn3"]["weight"].any()
    assert zero["layer1"][0]["bn2"]["weight"].all()


def test_dncnn_subtracts_the_noise_it_estimates():
    net, x = models.dncnn(layers=3, width=4), fc.random.uniform(KEY, (1, 1, 6, 6))
    params = net.init(KEY, x.shape)
    noise = net.children["model"].apply(params["model"], x)
    np.testing.assert_array_equal(net.apply(params, x), x - noise)


def test_espcn_clips_as_published():
    x = fc.random.normal(KEY, (1, 3, 4, 4))
    params = fc.trees.map(lambda p: p * 1000, models.espcn().init(KEY, x.shape))
    free, clipped = (models.espcn(clip=clip).apply(params, x) for clip in (False, True))
    assert free.min() < 0 < 1 < free.max()
    np.testing.assert_array_equal(clipped, free.clip(0, 1))


def test_networks_are_laid_flat_for_other_tools():
    for name, model in models.MODELS.items():
        steps = flat(model.build(), model.input_shape).steps
        assert "concat_padded" not in {step.layer.name for step in steps}, name


@pytest.mark.parametrize(
    ("build", "shape", "message"),
    [
        (models.lenet, (1, 1, 15, 15), r"compose\[pool2\] max_pool2d: a window of 2 .* is larger than"),
        (models.vgg11, (1, 3, 31, 31), r"compose\[features\] compose\[20\] max_pool2d: a window of 2"),
        (models.unet, (1, 3, 15, 40), r"graph\[down4\] .*max_pool2d: a window of 2"),
        (models.noise2noise, (1, 3, 2, 2), r"compose\[0\] conv2d: a window of 3"),
        (models.dncnn, (1, 3, 8, 8), r"graph\[denoised\] subtract: expected inputs of one shape"),
        (models.resnet18, (3, 64, 64, 3, 1), r"compose\[conv1\] conv2d: expected"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(build, shape, message):
    with pytest.raises(ValueError, match=message):
        build().init(KEY, shape)
    with pytest.raises(ValueError, match=message):
        build().out_shape(shape)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: models.unet(width=3), ValueError, "unet: expected an even width, got 3"),
        (lambda: models.unet(width=2.5), TypeError, "unet: width"),
        (lambda: models.dncnn(layers=1), ValueError, "dncnn: layers"),
        (lambda: models.srresnet(norm="layer"), ValueError, 'srresnet: expected norm "batch" or "instance"'),
        (lambda: models.espcn(0), ValueError, "espcn: scale"),
        (lambda: models.fsrcnn(2, m=-1), ValueError, "fsrcnn: m"),
        (lambda: models.mobilenet_v2(width_mult=0), ValueError, "mobilenet_v2: .*width_mult"),
        (lambda: models.resnet50(groups=0), ValueError, "resnet50: groups"),
        (lambda: models.resnet18("ten"), TypeError, "linear: out_features"),
        (lambda: models.vgg16(dropout=1.5), ValueError, "dropout: "),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_published_state_dict_that_does_not_fit_is_refused_with_its_names():
    params = models.resnet20().init(KEY, (1, 3, 32, 32))
    prefixed = {f"module.{name}": p for name, p in fc.to_state_dict(params).items()}
    with pytest.raises(ValueError, match=r"does not fit") as caught:
        fc.from_state_dict(params, prefixed)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  missing: conv1.weight (16, 3, 3, 3); bn1.weight (16,); ")
    assert lines[2:] == [
        *(f"  layer{i}.*: 30 missing" for i in (1, 2, 3)),
        "  module.*: 116 unexpected",
        '  every name begins with "module.", which fconv.rename can take away',
    ]
    more = {name.replace("layer1.2.", "layer1.3."): p for name, p in fc.to_state_dict(params).items()}
    with pytest.raises(ValueError, match="does not fit") as caught:
        fc.from_state_dict(params, more)
    assert str(caught.value).splitlines()[1:] == ["  layer1.2.*: 10 missing", "  layer1.3.*: 12 unexpected"]
