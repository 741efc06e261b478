"""Published checkpoints through fconv.models: PyTorch's outputs, and the quality their papers report."""

from __future__ import annotations

from math import log10
from pathlib import Path

import numpy as np
import pytest
import torch

import fconv as fc
from tests.parity import restorers

DATA = Path(__file__).parents[2].parent / "shared" / "data"
DNCNN = "kair_dncnn/dncnn_25.pth"
ESPCN = "nhat_espcn/ESPCN-x{}.pt"
SIGMA = 25 / 255


def read(name):
    """Read a file of the checkpoints, without PyTorch."""
    path = DATA / "checkpoints" / name
    if not path.exists():
        pytest.skip(f"{name} is not at hand: it lies in ../shared/data/checkpoints, outside the project")
    return fc.load(path)


def picture(name):
    """Read a colour photograph as (H, W, 3) bytes, or a grey one as (H, W)."""
    data = pytest.importorskip("skimage.data")
    return getattr(data, name)() if hasattr(data, name) else from_file(f"photos/{name}")


def from_file(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not at hand: it lies in ../shared/data, outside the project")
    return pytest.importorskip("skimage.io").imread(path)


def grey(name, side):
    """Cut a grey picture of (1, 1, side, side) from 0 to 1 out of the middle of a photograph."""
    whole = picture(name)
    whole = whole if whole.ndim == 2 else whole @ np.array([0.299, 0.587, 0.114])
    top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
    return (whole[top : top + side, left : left + side] / 255).astype(np.float32)[None, None]


def as_channels(rows):
    return np.ascontiguousarray(rows.astype(np.float32).transpose(2, 0, 1)[None])


def psnr(y, target):
    return 10 * log10(1 / float(((y.astype(np.float64) - target) ** 2).mean()))


def loaded(net, twin, published, shape):
    """Our network and its twin with the published parameters, nothing missing and nothing left."""
    params = fc.from_state_dict(net.init(fc.random.key(0), shape), published, strict=True)
    twin.load_state_dict(fc.to_torch(published), strict=True)
    for name, value in fc.to_state_dict(params).items():
        np.testing.assert_array_equal(value, published[name], err_msg=name)
    return params, twin.eval()


def both(net, params, twin, x):
    """Run a network and its twin; the outputs must agree to 1e-5."""
    with torch.no_grad():
        expected = twin(torch.from_numpy(x)).numpy()
    y = net.apply(params, x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    return y


@pytest.mark.parametrize(
    ("name", "least"), [("camera", 29.5), ("chelsea", 29.0), ("coffee", 29.0), ("brick", 33.0)]
)
def test_dncnn_25_removes_noise_as_its_paper_says(name, least):
    # The paper: 30.18 dB for its photographer, 29.23 dB on average over BSD68, from 20.2 dB.
    net, published = fc.models.dncnn(), read(DNCNN)
    clean = grey(name, 192)
    params, twin = loaded(net, restorers.DnCNN(), published, clean.shape)
    noise = fc.random.normal(fc.random.key(1), clean.shape)
    noisy = clean + np.float32(SIGMA) * noise
    denoised = both(net, params, twin, noisy)
    assert 20.0 < psnr(noisy, clean) < 20.4
    assert psnr(denoised, clean) > least


@pytest.mark.parametrize(("scale", "least", "gain"), [(2, 36.0, 2.0), (3, 31.6, 1.0), (4, 28.9, 0.35)])
def test_espcn_enlarges_the_luma_better_than_cubic_interpolation(scale, least, gain):
    color = pytest.importorskip("skimage.color")
    net, published = fc.models.espcn(scale), read(ESPCN.format(scale))
    params, twin = loaded(net, restorers.espcn(scale), published, (1, 3, 8, 8))
    gained, reached = [], []
    for i in range(1, 6):
        small, large = (
            color.rgb2ycbcr(from_file(f"photos/Set5_LRHR/x{scale}/{kind}/img_00{i}_SRF_{scale}_{end}.png"))
            / 255
            for kind, end in (("data", "LR"), ("labels", "HR"))
        )
        y = both(net, params, twin, as_channels(small))[0, 0]
        cubic = fc.functional.interpolate(as_channels(small)[:, :1], scale_factor=scale, mode="bicubic")
        reached.append(psnr(y, large[..., 0]))
        gained.append(reached[-1] - psnr(cubic[0, 0], large[..., 0]))
    assert np.mean(reached) > least
    assert np.mean(gained) > gain


def test_espcn_takes_a_photograph():
    net, published = fc.models.espcn(3), read(ESPCN.format(3))
    x = as_channels(picture("astronaut")[100:180, 200:290] / 255)
    params, twin = loaded(net, restorers.espcn(3), published, x.shape)
    assert both(net, params, twin, x).shape == (1, 3, 240, 270)


def test_espcn_training_state_holds_the_model_beside_the_optimizer():
    state = read("nhat_espcn/ckpt-x3.pt")
    net = fc.models.espcn(3)
    params, _ = loaded(net, restorers.espcn(3), state["model"], (1, 3, 8, 8))
    moments = state["optimizer"]["state"]
    # Adam's moments stand in the order of the parameters.
    assert [m["exp_avg"].shape for m in moments.values()] == [p.shape for p in fc.trees.leaves(params)]
