"""float16: whatever is summed is accumulated in float32, at sizes at which a sum in float16 would show.

float16 has 11 bits, so a running sum of ones stops at 2048. Every function is compared with its
result in float64; what may remain is the rounding of one result.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F
from fconv.functional import arithmetic
from tests.cases import CASES
from tests.cases.activation import ELEMENTWISE

DRAW = np.random.default_rng(0)
NEAR = 2e-3
"""As near as PyTorch's: the half of a unit in the last place is 5e-4 of a number."""


def noise(*shape, mean=1.0, scale=1.0):
    """Draw numbers whose sum grows with their count."""
    return ((mean + 0.3 * DRAW.standard_normal(shape)) * scale).astype(np.float16)


def ones(*shape, scale=1.0):
    return np.full(shape, scale, np.float16)


def wide(x):
    return x.astype(np.float64) if getattr(x, "dtype", None) == np.float16 else x


def check_near(ours, exact, what):
    assert ours.dtype == np.float16, what
    size = float(np.abs(exact).max()) if exact.size else 0.0
    assert np.isfinite(exact).all(), what
    assert size < 6e4, f"{what}: the exact result is too large for float16"
    np.testing.assert_allclose(ours.astype(np.float64), exact, rtol=NEAR, atol=NEAR * size, err_msg=what)


LONG = noise(6000, scale=0.9)
ROWS = noise(2, 6000, scale=0.5)
PROBABILITIES = DRAW.uniform(0.2, 0.8, 6000).astype(np.float16)
TARGETS = DRAW.uniform(0.2, 0.8, 6000).astype(np.float16)
SIGNS = np.where(DRAW.random(6000) < 0.5, -1, 1)
PICTURE = noise(1, 1, 70, 70)
SMALL = noise(1, 1, 2, 2)
ONE_STEP = {"stride": 1}
CUBE = {"kernel_size": 15}
WIDE_WINDOW = {"kernel_size": 65, **ONE_STEP}
FILTERS = noise(2, 1, 3, 3)
LOW = {"scale": 0.002}
FUNCTIONS = {
    "conv1d": ([noise(3, 4, 3000), noise(6, 4, 5), noise(6)], {}),
    "conv1d, groups": ([noise(3, 4, 3000), noise(6, 2, 5)], {"groups": 2}),
    "conv2d": ([noise(8, 3, 40, 40), noise(4, 3, 3, 3), noise(4)], {"padding": 1}),
    "conv2d, groups": ([noise(8, 4, 40, 40), noise(4, 2, 3, 3)], {"groups": 2, "padding": 1}),
    "conv2d, depthwise": ([noise(8, 2, 40, 40), FILTERS], {"groups": 2, "padding": 1}),
    "conv2d, multiplied": ([noise(8, 2, 40, 40), noise(4, 1, 3, 3)], {"groups": 2, "stride": 2}),
    "conv2d, dilated": ([noise(8, 4, 40, 40), noise(4, 4, 3, 3)], {"dilation": 2, "stride": 2}),
    "conv2d, reference": ([noise(8, 4, 40, 40), noise(4, 2, 3, 3)], {"groups": 2, "algorithm": "reference"}),
    "conv2d, many channels": ([noise(1, 3000, 3, 3), noise(2, 3000, 3, 3, scale=0.1)], {}),
    "conv2d, large kernel": ([ones(1, 1, 80, 80), ones(1, 1, 65, 65, scale=0.01)], {"padding": 64}),
    "conv3d": ([noise(4, 2, 16, 16, 10), noise(2, 2, 3, 3, 3)], {}),
    "conv3d, depthwise": ([noise(4, 2, 16, 16, 10), noise(2, 1, 3, 3, 3)], {"groups": 2}),
    "conv_transpose1d": ([noise(2, 3, 3000), noise(3, 2, 5), noise(2)], {}),
    "conv_transpose2d": ([ones(1, 1, 80, 80), ones(1, 1, 65, 65, scale=0.01)], {}),
    "conv_transpose2d, groups": ([noise(8, 4, 40, 40), noise(4, 2, 3, 3)], {"groups": 2, "stride": 2}),
    "conv_transpose3d": ([noise(4, 2, 14, 14, 9), noise(2, 2, 3, 3, 3)], {}),
    "expand": ([noise(1)], {"sizes": (6000,)}),
    "tile": ([noise(2)], {"dims": (3000,)}),
    "index_select": ([noise(2)], {"dim": 0, "index": [0, 1] * 3000}),
    "gather": ([noise(2)], {"dim": 0, "index": [0, 1] * 3000}),
    "index": ([noise(2, 2)], {"indices": ([0, 1] * 3000, [1, 0] * 3000)}),
    "cumsum": ([noise(6000, scale=0.5)], {"dim": 0}),
    "logsumexp": ([LONG], {}),
    "std": ([ROWS], {"dim": 1}),
    "var": ([ROWS], {"dim": 1}),
    "vector_norm": ([ROWS], {"dim": 1}),
    "vector_norm, absolute": ([ROWS], {"ord": 1, "dim": 1}),
    "einsum": (["ij,kj->ik", ROWS, ROWS], {}),
    "where": ([[True, False] * 3000, noise(1), noise(1)], {}),
    "pow": ([np.abs(noise(6000)) + np.float16(0.25), noise(1)], {}),
    "unfold": ([noise(1, 1, 80, 80)], {"kernel_size": 65}),
    "fold": ([noise(1, 65 * 65, 256, scale=0.01)], {"output_size": 80, "kernel_size": 65}),
    "avg_pool1d": ([noise(1, 1, 9000)], {"kernel_size": 6000, "stride": 1}),
    "avg_pool2d": ([PICTURE], WIDE_WINDOW),
    "avg_pool3d": ([noise(1, 1, 15, 15, 15)], {"kernel_size": 14, "stride": 1}),
    "lp_pool1d": ([noise(1, 1, 9000)], {"norm_type": 2, "kernel_size": 6000, "stride": 1000}),
    "lp_pool2d": ([PICTURE], {"norm_type": 2, **WIDE_WINDOW}),
    "lp_pool3d": ([noise(1, 1, 15, 15, 15)], {"norm_type": 2, "kernel_size": 14, "stride": 1}),
    "max_pool1d": ([-np.arange(12000, dtype=np.float16)[None, None] / 4], {"kernel_size": 6000, "stride": 1}),
    "max_pool2d": ([np.pad(PICTURE, ((0, 0), (0, 0), (60, 60), (60, 60)))], WIDE_WINDOW),
    "max_pool3d": ([np.pad(noise(1, 1, 1, 1, 1), [(0, 0)] * 2 + [(15, 15)] * 3)], {**ONE_STEP, **CUBE}),
    "adaptive_avg_pool2d": ([PICTURE], {"output_size": 1}),
    "adaptive_avg_pool2d, uneven": ([noise(1, 1, 111, 111)], {"output_size": 2}),
    "adaptive_avg_pool2d, larger": ([SMALL], {"output_size": 151}),
    "adaptive_max_pool1d": ([noise(1, 1, 2)], {"output_size": 6000}),
    "adaptive_max_pool2d": ([SMALL], {"output_size": 151}),
    "global_avg_pool": ([PICTURE], {}),
    "interpolate, nearest": ([SMALL], {"size": 151}),
    "interpolate, bilinear": ([SMALL], {"size": 151, "mode": "bilinear"}),
    "interpolate, bicubic": ([SMALL], {"size": 151, "mode": "bicubic"}),
    "interpolate, area": ([PICTURE], {"size": 1, "mode": "area"}),
    "grid_sample": ([SMALL, noise(1, 151, 151, 2, mean=0)], {}),
    "deform_conv2d": ([noise(1, 6000, 1, 1), noise(1, 2, 1, 1, mean=0), noise(1, 6000, 1, 1)], {}),
    "pad, replicate": ([SMALL], {"pad": (70, 70, 70, 70), "mode": "replicate"}),
    "pad, circular": ([noise(1, 1, 60, 60)], {"pad": (60, 60, 60, 60), "mode": "circular"}),
    "linear": ([ROWS, noise(3, 6000), noise(3)], {}),
    "linear, many rows": ([noise(6000, 3), noise(2, 3), noise(2)], {}),
    "bilinear": ([noise(6000, 2), noise(6000, 3), noise(2, 2, 3), noise(2)], {}),
    "softmax": ([ROWS], {}),
    "softmin": ([ROWS], {}),
    "log_softmax": ([ROWS], {}),
    "scaled_dot_product_attention": ([noise(3, 4), noise(6000, 4), noise(6000, 2)], {}),
    "scaled_dot_product_attention, many queries": ([noise(6000, 4), noise(3, 4), noise(3, 2)], {}),
    "prelu": ([-noise(6000, 2), noise(2)], {}),
    "layer_norm": ([ROWS, (6000,), noise(6000), noise(6000)], {}),
    "layer_norm, many rows": ([noise(6000, 4), (4,), noise(4), noise(4)], {}),
    "rms_norm": ([noise(6000, 4), (4,), noise(4)], {}),
    "group_norm": ([noise(3000, 4, 2), 2, noise(4), noise(4)], {}),
    "instance_norm": ([noise(30, 2, 200), None, None, noise(2), noise(2)], {}),
    "batch_norm": ([noise(30, 2, 200), None, None, noise(2), noise(2)], {"training": True}),
    "batch_norm, running": ([noise(30, 2, 200), noise(2), noise(2), noise(2), noise(2)], {}),
    "local_response_norm": ([noise(1, 6000, 2)], {"size": 5000, "alpha": 1.0}),
    "normalize": ([ROWS], {}),
    "normalize, 1": ([ROWS], {"p": 1.0}),
    "normalize, 0": ([ROWS], {"p": 0.0}),
    "embedding": ([np.arange(6000) % 2, noise(3, 2)], {}),
    "sum": ([LONG], {}),
    "mean": ([LONG], {}),
    "mse_loss": ([LONG, -LONG], {}),
    "mse_loss, sum": ([LONG, -LONG], {"reduction": "sum"}),
    "l1_loss": ([LONG, -LONG], {"reduction": "sum"}),
    "smooth_l1_loss": ([LONG, -LONG], {"reduction": "sum"}),
    "huber_loss": ([LONG, -LONG], {"reduction": "sum"}),
    "poisson_nll_loss": ([LONG, LONG], {"reduction": "sum"}),
    "gaussian_nll_loss": ([LONG, -LONG, abs(LONG)], {"reduction": "sum"}),
    "gaussian_nll_loss, one variance": ([LONG[:, None].T, -LONG[:, None].T, ones(1)], {"reduction": "sum"}),
    "binary_cross_entropy": ([PROBABILITIES, TARGETS], {"reduction": "sum"}),
    "binary_cross_entropy_with_logits": ([LONG, TARGETS], {"reduction": "sum"}),
    "kl_div": ([LONG, TARGETS], {"reduction": "sum"}),
    "nll_loss": ([noise(6000, 3), np.arange(6000) % 3, noise(3)], {}),
    "nll_loss, sum": ([noise(6000, 3), np.arange(6000) % 3], {"reduction": "sum"}),
    "cross_entropy": ([noise(6000, 3), np.arange(6000) % 3, noise(3)], {"reduction": "sum"}),
    "cross_entropy, many classes": ([ROWS, np.array([3, 700])], {"label_smoothing": 0.5}),
    "hinge_embedding_loss": ([LONG, SIGNS], {"reduction": "sum"}),
    "margin_ranking_loss": ([LONG, -LONG, SIGNS], {"reduction": "sum"}),
    "soft_margin_loss": ([LONG, SIGNS], {"reduction": "sum"}),
    "triplet_margin_loss": ([ROWS, -noise(2, 6000), 0 * ROWS], {}),
    "cosine_embedding_loss": ([ROWS, 0.5 * ROWS + noise(2, 6000), np.array([1, 1])], {}),
    "psnr": ([PICTURE, 0 * PICTURE], {}),
    "total_variation": ([noise(1, 1, 70, 70, mean=0)], {}),
    "ssim": ([PICTURE, PICTURE + noise(1, 1, 70, 70)], {}),
}  # fmt: skip


SUM_NOTHING = {
    *ELEMENTWISE, *(name for name in CASES if name in arithmetic.__all__),
    "alpha_dropout", "amax", "amin", "cumprod", "flip", "masked_fill", "max", "min", "movedim", "prod",
    "roll", "select", "stochastic_depth",
    "channel_shuffle", "dropout", "dropout1d", "dropout2d", "dropout3d", "flatten",
    "global_max_pool", "glu", "hardtanh", "max_unpool1d", "max_unpool2d", "max_unpool3d", "narrow", "permute",
    "pixel_shuffle", "pixel_unshuffle", "reshape", "slice_along", "squeeze", "transpose", "unflatten",
    "unsqueeze",
}  # fmt: skip


def test_every_function_that_sums_has_a_case():
    families = {re.sub(r"[123]d$", "", case.partition(",")[0]) for case in FUNCTIONS}
    assert {name for name in CASES if re.sub(r"[123]d$", "", name) not in families} == SUM_NOTHING


@pytest.mark.parametrize("case", FUNCTIONS)
def test_sums_of_a_function_and_its_gradients(case):
    args, options = FUNCTIONS[case]
    function = getattr(F, case.partition(",")[0])
    y, pullback = function.forward(*args, **options)
    exact, exact_pullback = function.forward(*map(wide, args), **options)
    check_near(y, exact, case)
    g = noise(*exact.shape, scale=0.5 if exact.size < 5 else 0.1)
    grads, exact_grads = pullback(g), exact_pullback(wide(g))
    many = isinstance(grads, tuple)
    for name, ours, theirs in zip(
        function.arrays, grads if many else [grads], exact_grads if many else [exact_grads], strict=True
    ):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            check_near(ours, theirs, f"{case}: gradient of {name}")


def test_filters_of_groups_over_many_positions():
    """802,816 products of 0.002, less those that padding meets at the edges, make 803."""
    x, g = ones(32, 2, 112, 112), ones(32, 2, 112, 112, scale=0.002)
    dw = F.conv2d_vjp(g, x, np.zeros((2, 1, 3, 3), np.float16), padding=1, groups=2)[1]
    assert abs(float(dw[0, 0, 1, 1]) - 803.1) < 1


def test_windows_that_overlap_many_times():
    y = F.conv_transpose2d(ones(1, 1, 200, 200), ones(1, 1, 65, 65, scale=0.01))
    assert abs(float(y[0, 0, 130, 130]) - 42.26) < 0.05


@pytest.mark.parametrize(
    ("layer", "xs"),
    [
        (fc.matmul(), (noise(2, 6000), noise(6000, 2))),
        (fc.matmul(), (noise(6000, 2), noise(2, 3))),
        (fc.add(), (noise(6000, 2), noise(2))),
        (fc.add(), (noise(4),) * 3000),
        (fc.subtract(), (noise(6000, 2), noise(2))),
        (fc.multiply(), (noise(6000, 2), noise(2))),
        (fc.divide(), (noise(6000, 2), noise(1, 2) + 300)),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_sums_of_layers_of_several_inputs(layer, xs):
    y, _, pullback = layer.forward((), xs)
    exact, _, exact_pullback = layer.forward((), tuple(map(wide, xs)))
    check_near(y, exact, layer.name)
    g = noise(*y.shape)
    for ours, theirs in zip(pullback(g)[1], exact_pullback(wide(g))[1], strict=True):
        check_near(ours, theirs, f"{layer.name}: gradient")


def test_statistics_of_a_batch():
    x = noise(40, 2, 100, mean=100)
    for moments in (F.batch_moments, F.instance_moments):
        for ours, exact in zip(moments(x), moments(wide(x)), strict=True):
            np.testing.assert_allclose(ours, exact, rtol=1e-5)
    batch = F.batch_moments(x)
    running = (ones(2), ones(2, scale=1000))
    for ours, exact in zip(
        F.running_statistics(x, batch, running, 0.001),
        F.running_statistics(wide(x), batch, tuple(map(wide, running)), 0.001),
        strict=True,
    ):
        check_near(ours, exact, "running_statistics")


def test_the_norm_of_all_gradients():
    opt, p, g = fc.clip_by_global_norm(fc.sgd(lr=1.0), 1.0), ones(90000, scale=0), ones(90000, scale=2)
    moved, _ = opt.step(p, g, opt.init(p))  # the norm is 600
    np.testing.assert_allclose(moved.astype(np.float64), -2 / 600, rtol=NEAR)


def test_gradients_of_many_calls():
    opt, p = fc.accumulate_gradients(fc.sgd(lr=1.0), 3000), ones(2, scale=0)
    state = opt.init(p)
    for _ in range(3000):
        p, state = opt.step(p, ones(2), state)
    assert p.dtype == np.float16
    np.testing.assert_array_equal(p, -1)


def test_the_average_of_many_parameters():
    opt = fc.ema(fc.sgd(lr=0.0), decay=0.999)
    state = opt.init(ones(1))
    for _ in range(3000):
        _, state = opt.step(ones(1, scale=2), ones(1), state)
    np.testing.assert_allclose(fc.ema_params(state), 2 - 0.999**3000, rtol=1e-4)


@pytest.mark.parametrize(
    ("opt", "key"),
    [(fc.adam(0.0), "exp_avg_sq"), (fc.adagrad(0.0), "sum"), (fc.rmsprop(0.0, alpha=0.999), "square_avg")],
    ids=["adam", "adagrad", "rmsprop"],
)
def test_what_optimizers_add_up(opt, key):
    kept = {}
    for dtype in (np.float16, np.float64):
        p, g = np.ones(2, dtype), np.full(2, 1.0, dtype)
        state = opt.init(p)
        for _ in range(3000):
            p, state = opt.step(p, g, state)
        assert p.dtype == dtype
        kept[dtype] = state["leaves"][key]
    np.testing.assert_allclose(kept[np.float16], kept[np.float64], rtol=1e-4)


def test_a_network_of_float16_has_the_gradients_of_float64():
    net = fc.compose(
        fc.conv2d(8, 3, padding=1, groups=2), fc.batch_norm(), fc.relu(), fc.max_pool2d(3, stride=1),
        fc.conv2d(8, 3, groups=8), fc.global_avg_pool(), fc.flatten(), fc.linear(3),
    )  # fmt: skip
    params = net.init(fc.random.key(0), (16, 4, 24, 24), np.float64)
    x, t = noise(16, 4, 24, 24), np.arange(16) % 3
    narrow = fc.trees.map(lambda p: p.astype(np.float16) if p.dtype.kind == "f" else p, params)
    exact = fc.value_and_grad(net, fc.cross_entropy_loss())(fc.trees.map(wide, narrow), wide(x), t)[1]
    ours = fc.value_and_grad(net, fc.cross_entropy_loss())(narrow, x, t)[1]
    for a, b in zip(fc.trees.leaves(ours), fc.trees.leaves(exact), strict=True):
        if a is not None and np.abs(b).max() > 1e-3:  # not what batch normalisation cancels
            assert a.dtype == np.float16
            assert np.linalg.norm(a - b) < 2e-2 * np.linalg.norm(b)
