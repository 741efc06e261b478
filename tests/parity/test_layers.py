"""Layers against their torch.nn twins with one state dict: training and inference, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fconv as fc

MODES = ("zeros", "reflect", "replicate", "circular")
PICTURE, LINE, VOLUME = (2, 4, 7, 8), (2, 4, 9), (2, 2, 4, 5, 6)

TWINS = [
    *(
        (fc.conv1d(6, 3, stride=2, padding=2, padding_mode=m), nn.Conv1d(4, 6, 3, 2, 2, padding_mode=m), LINE)
        for m in MODES
    ),
    *(
        (
            fc.conv2d(6, (3, 2), padding=(2, 1), groups=2, dilation=(1, 2), padding_mode=m),
            nn.Conv2d(4, 6, (3, 2), padding=(2, 1), groups=2, dilation=(1, 2), padding_mode=m),
            PICTURE,
        )
        for m in MODES
    ),
    *(
        (
            fc.conv2d(3, (3, 4), padding="same", padding_mode=m),
            nn.Conv2d(4, 3, (3, 4), padding="same", padding_mode=m),
            PICTURE,
        )
        for m in MODES
    ),
    *(
        (fc.conv3d(3, 3, padding=1, padding_mode=m), nn.Conv3d(2, 3, 3, padding=1, padding_mode=m), VOLUME)
        for m in MODES
    ),
    (
        fc.conv_transpose1d(6, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose1d(4, 6, 3, 2, 1, 1),
        LINE,
    ),
    (
        fc.conv_transpose2d(6, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 2), groups=2, dilation=2),
        nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), 1, (1, 2), groups=2, dilation=2),
        PICTURE,
    ),
    (fc.conv_transpose3d(3, 2, stride=2, bias=False), nn.ConvTranspose3d(2, 3, 2, 2, bias=False), VOLUME),
    (fc.linear(5), nn.Linear(8, 5), PICTURE),
    (fc.batch_norm(momentum=0.3), nn.BatchNorm2d(4, momentum=0.3), PICTURE),
    (fc.batch_norm(momentum=None), nn.BatchNorm1d(4, momentum=None), LINE),
    (fc.batch_norm(affine=False), nn.BatchNorm3d(2, affine=False), VOLUME),
    (fc.batch_norm(track_running_stats=False), nn.BatchNorm2d(4, track_running_stats=False), PICTURE),
    (fc.instance_norm(affine=True), nn.InstanceNorm2d(4, affine=True), PICTURE),
    (
        fc.instance_norm(affine=True, track_running_stats=True),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        PICTURE,
    ),
    (fc.layer_norm((7, 8)), nn.LayerNorm((7, 8)), PICTURE),
    (fc.group_norm(2), nn.GroupNorm(2, 4), PICTURE),
    (fc.rms_norm(8), nn.RMSNorm(8), PICTURE),
    (fc.local_response_norm(3), nn.LocalResponseNorm(3), PICTURE),
    (fc.prelu(4), nn.PReLU(4), PICTURE),
    (fc.gelu(), nn.GELU(), PICTURE),
    (fc.gelu("tanh"), nn.GELU("tanh"), PICTURE),
    (fc.glu(1), nn.GLU(1), PICTURE),
    (fc.softmin(1), nn.Softmin(1), PICTURE),
    (fc.log_sigmoid(), nn.LogSigmoid(), PICTURE),
    (fc.max_pool2d(3, stride=2, padding=1, ceil_mode=True), nn.MaxPool2d(3, 2, 1, ceil_mode=True), PICTURE),
    (
        fc.avg_pool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(3, 2, 1, True, False),
        PICTURE,
    ),
    (fc.lp_pool2d(3, 2), nn.LPPool2d(3, 2), PICTURE),
    (fc.adaptive_avg_pool2d((3, 5)), nn.AdaptiveAvgPool2d((3, 5)), PICTURE),
    (fc.adaptive_max_pool2d((3, None)), nn.AdaptiveMaxPool2d((3, None)), PICTURE),
    (fc.upsample(scale_factor=1.7, mode="bilinear"), nn.Upsample(scale_factor=1.7, mode="bilinear"), PICTURE),
    (fc.upsample(size=(5, 11), mode="bicubic"), nn.Upsample(size=(5, 11), mode="bicubic"), PICTURE),
    (fc.pixel_shuffle(2), nn.PixelShuffle(2), PICTURE),
    (fc.channel_shuffle(2), nn.ChannelShuffle(2), PICTURE),
    (fc.pad((1, 2, 0, 1), mode="reflect"), nn.ReflectionPad2d((1, 2, 0, 1)), PICTURE),
    (fc.unfold(3, padding=1), nn.Unfold(3, padding=1), PICTURE),
    (fc.flatten(), nn.Flatten(), PICTURE),
    (fc.unflatten(1, (2, -1)), nn.Unflatten(1, (2, -1)), PICTURE),
]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 3e-5)])
@pytest.mark.parametrize(("layer", "module", "shape"), TWINS, ids=lambda v: getattr(v, "name", ""))
def test_a_layer_is_its_twin(layer, module, shape, dtype, tolerance, train):
    params = layer.init(fc.random.key(1), shape, dtype)
    if fc.trees.leaves(params):  # away from the special values that norms start with
        params = fc.trees.map(
            lambda p: (
                p + 0.3 * fc.random.uniform(fc.random.key(2), p.shape, p.dtype) if p.dtype.kind == "f" else p
            ),
            params,
        )
    module.to(getattr(torch, dtype)).train(train)
    module.load_state_dict(fc.to_torch(params), strict=True)
    module.zero_grad()
    x = fc.random.normal(fc.random.key(3), shape, dtype)
    tensor = torch.tensor(x, requires_grad=True)
    expected = module(tensor)
    y, refreshed, pullback = layer.forward(params, x, train=train)
    assert layer.out_shape(shape) == tuple(expected.shape) == y.shape
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=tolerance)
    g = fc.random.normal(fc.random.key(4), y.shape, dtype)
    expected.backward(torch.from_numpy(g))
    dparams, dx = pullback(g)
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=0, atol=10 * tolerance)
    trained = dict(module.named_parameters())
    for path, _, grad in fc.trees.aligned(params, dparams):
        name = ".".join(path)
        assert (grad is not None) == (name in trained)
        if grad is not None:
            np.testing.assert_allclose(
                grad, trained[name].grad.numpy(), rtol=0, atol=30 * tolerance, err_msg=name
            )
    for name, value in fc.to_state_dict(refreshed).items():
        theirs = module.state_dict()[name].numpy()
        np.testing.assert_allclose(value, theirs, rtol=0, atol=tolerance, err_msg=name)
        assert value.dtype == theirs.dtype


def test_embedding_is_its_twin():
    layer, module = fc.embedding(7, 3, padding_idx=2), nn.Embedding(7, 3, padding_idx=2).double()
    x = np.array([[0, 2, 2], [6, 1, 0]])
    params = layer.init(fc.random.key(0), x.shape, np.float64)
    assert not params["weight"][2].any()
    module.load_state_dict(fc.to_torch(params))
    expected = module(torch.from_numpy(x))
    y, _, pullback = layer.forward(params, x)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    g = fc.random.normal(fc.random.key(1), y.shape, np.float64)
    expected.backward(torch.from_numpy(g))
    dparams, dx = pullback(g)
    assert dx is None
    np.testing.assert_allclose(dparams["weight"], module.weight.grad.numpy(), rtol=1e-12)
