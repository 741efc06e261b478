"""Batch normalisation in training as layers plan it, against the function."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fconv as fc
import fconv.functional as F
from fconv.engine import compiled
from fconv.functional.channels import sum_by_channel
from fconv.layers import normalization
from tests.convolutions import channels_last
from tests.guarded import guarded, guarding

pytestmark = pytest.mark.skipif(
    not compiled.wished() or compiled.problem() is not None, reason=f"no kernels: {compiled.problem()}"
)
SHAPES = [
    (2, 8, 1, 1), (4, 3, 5, 5), (32, 10), (5, 17, 9), (3, 1, 7, 7), (2, 300, 3, 3), (2, 513, 4, 4),
    (9, 24, 3, 4, 5), (64, 32, 8, 8), (6, 200, 2, 2), (40, 6, 33, 35), (3, 16, 80, 90),
]  # fmt: skip
FRESH = ("running_mean", "running_var")


def drawn(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, g = ((rng.standard_normal(shape) * 2 + 100).astype(dtype), rng.standard_normal(shape).astype(dtype))
    params = fc.batch_norm().init(fc.random.key(0), shape, dtype)
    made = {leaf: rng.standard_normal(shape[1]).astype(dtype) for leaf in ("weight", "bias", "running_mean")}
    return x, g, {**params, **made, "running_var": rng.random(shape[1]).astype(dtype)}


def general(params, x, g, **options):
    """Return what the layer does by the function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalization, "training_plan", lambda *args: None)
        y, refreshed, pullback = fc.batch_norm(**options).forward(params, x, train=True)
        return y, refreshed, *pullback(g)


def planned(params, x, g, **options):
    layer = fc.batch_norm(**options)
    with pytest.MonkeyPatch.context() as patch:
        plans = []
        real = normalization.training_plan
        patch.setattr(normalization, "training_plan", lambda *args: plans.append(real(*args)) or plans[-1])
        y, refreshed, pullback = layer.forward(params, x, train=True)
    assert plans[0] is not None
    return y, refreshed, *pullback(g)


@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_planned_batch_norm_is_the_function(shape, dtype, order):
    x, g, params = drawn(shape, dtype)
    x, g = order(x), order(g)
    before = x.copy(), g.copy(), fc.trees.map(np.copy, params)
    expected, found = (
        general(params, x, g, eps=1e-3, momentum=0.25),
        planned(params, x, g, eps=1e-3, momentum=0.25),
    )
    digits = {"rtol": 2e-6, "atol": 2e-6} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-13}
    for a, b in ((0, 0), (3, 3)):
        np.testing.assert_allclose(found[a], expected[b], **digits)
    for leaf in FRESH:
        np.testing.assert_allclose(found[1][leaf], expected[1][leaf], **digits)
        assert found[1][leaf].dtype == dtype
    assert found[1]["num_batches_tracked"] == 1
    for leaf in ("weight", "bias"):
        scale = np.abs(expected[2][leaf]).max()
        np.testing.assert_allclose(found[2][leaf] / scale, expected[2][leaf] / scale, **digits)
    assert found[2].keys() == expected[2].keys()
    assert all(found[2][leaf] is None for leaf in (*FRESH, "num_batches_tracked"))
    for a, b in zip(before, (x, g, params), strict=True):
        fc.trees.map(np.testing.assert_array_equal, a, b)


@pytest.mark.skipif(sys.platform == "win32", reason="protects pages")
@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_outside_of_the_arrays_is_touched(shape, dtype, behind):
    x, g, params = drawn(shape, dtype)
    expected = general(params, x, g)
    with guarding("compiled"):
        for order in (list(range(x.ndim)), [0, *range(2, x.ndim), 1]):
            xs, gs = (guarded(a, order, behind=behind) for a in (x, g))
            own = {k: guarded(v, range(v.ndim), behind=behind) if v.ndim else v for k, v in params.items()}
            layer = fc.batch_norm()
            for _ in range(2):
                y, refreshed, pullback = layer.forward(own, xs, train=True)
                grads, dx = pullback(gs)
            tolerance = 1e-5 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(y, expected[0], rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(dx, expected[3], rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(refreshed["running_var"], expected[1]["running_var"], rtol=tolerance)
            np.testing.assert_allclose(grads["bias"], sum_by_channel(gs), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(8, 5, 6, 7), (64, 32, 8, 8), (40, 6, 33, 35)])
@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last])
def test_the_first_call_and_later_ones_have_the_same_bits_with_any_threads(shape, order):
    x, g, params = drawn(shape, np.float32)
    layer, before, found = fc.batch_norm(), fc.get_num_threads(), set()
    try:
        for n in (1, 2, 3):
            fc.set_num_threads(n)
            for each in (layer, layer, fc.batch_norm()):
                y, refreshed, pullback = each.forward(params, order(x), train=True)
                grads, dx = pullback(order(g))
                arrays = (y, dx, grads["weight"], grads["bias"], *(refreshed[leaf] for leaf in FRESH))
                found.add(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays))
    finally:
        fc.set_num_threads(before)
    assert len(found) == 1


def test_means_far_larger_than_deviations_cost_no_digits():
    x, g, params = drawn((16, 4, 9, 9), np.float32)
    x = x * np.float32(1e-3) + np.float32(1e4)
    x[0, 1], x[:, 2] = 0.0, 0.1  # a channel that begins elsewhere, and a constant one
    y, refreshed, _, dx = planned(params, x, g)
    wide = x.astype(np.float64)
    mean, var = wide.mean((0, 2, 3), keepdims=True), wide.var((0, 2, 3), keepdims=True)
    scale, shift = (params[leaf].astype(np.float64).reshape(1, -1, 1, 1) for leaf in ("weight", "bias"))
    np.testing.assert_allclose(y, (wide - mean) / np.sqrt(var + 1e-5) * scale + shift, rtol=1e-4, atol=1e-4)
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(
        refreshed["running_mean"], 0.9 * params["running_mean"] + 0.1 * mean.ravel(), rtol=1e-6
    )


def test_nan_and_infinity_stay_in_their_channels():
    x, g, params = drawn((4, 5, 6, 6), np.float32)
    x[1, 2, 3, 3], x[2, 3, 0, 0] = np.nan, np.inf
    y, refreshed, _, dx = planned(params, x, g)
    for a in (y, dx):
        assert np.isfinite(a[:, [0, 1, 4]]).all()
        assert np.isnan(a[:, 2]).all()
    assert np.isfinite(refreshed["running_var"][[0, 1, 4]]).all()
    assert not np.isfinite(refreshed["running_var"][[2, 3]]).any()


def test_gradients_in_another_order_and_only_those_that_are_wanted():
    x, g, params = drawn((4, 6, 8, 8), np.float32)
    layer = fc.batch_norm()
    _, _, pullback = layer.forward(params, x, train=True)
    grads, dx = pullback(g)
    for other in (
        channels_last(g),
        np.repeat(g, 2, axis=3)[..., ::2],
        g[::-1][::-1].copy()[:, ::-1][:, ::-1],
    ):
        again, dx2 = pullback(other)
        np.testing.assert_array_equal(dx2, dx)
        np.testing.assert_array_equal(again["weight"], grads["weight"])
    only, nothing = pullback(g, False, wrt=("bias",))
    assert nothing is None
    assert only["weight"] is None
    np.testing.assert_array_equal(only["bias"], grads["bias"])


def test_another_thread_may_plan_at_any_moment():
    shape = (2, 3, 4, 4)
    layer, params, interrupted = fc.batch_norm(), drawn(shape, "f")[2], []

    def normalized(shape):
        return layer.forward(params, drawn(shape, "f")[0], train=True)[0].shape

    def between_lines(frame, event, argument):
        if frame.f_code.co_name != "plan_for":
            return None
        if event == "line":  # here another thread would be switched to
            interrupted.append(normalized((3 + len(interrupted), 3, 2, 2)))
        return between_lines

    before = sys.gettrace()
    sys.settrace(between_lines)
    try:
        found = normalized(shape)
    finally:
        sys.settrace(before)
    assert found == shape
    assert len(interrupted) > 5
    assert interrupted == [(3 + i, 3, 2, 2) for i in range(len(interrupted))]


def test_what_does_not_fit_is_refused_as_before():
    x, g, params = drawn((4, 6, 8, 8), np.float32)
    layer = fc.batch_norm()
    for _ in range(2):
        _, _, pullback = layer.forward(params, x, train=True)
        with pytest.raises(ValueError, match=r"batch_norm_vjp: .*\(4, 6, 8, 8\)"):
            pullback(g[:3])
        with pytest.raises(TypeError, match="float64"):
            pullback(g.astype(np.float64))
        with pytest.raises(ValueError, match="batch_norm: expected a weight of shape"):
            layer.forward({**params, "weight": params["weight"][:5]}, x, train=True)
        with pytest.raises(ValueError, match="more than one value per channel"):
            layer.forward(params, x[:1, :, :1, :1], train=True)
        with pytest.raises(TypeError):
            layer.forward({**params, "weight": list(params["weight"])}, x, train=True)
        renamed = {("batches" if k == "num_batches_tracked" else k): v for k, v in params.items()}
        with pytest.raises(ValueError, match="num_batches_tracked"):
            layer.forward(renamed, x, train=True)


def test_arrays_that_kernels_do_not_take_go_the_general_way():
    x, g, params = drawn((4, 6, 8, 8), np.float32)
    expected = general(params, x, g)
    memory = np.zeros(x.nbytes + 1, np.uint8)
    odd = memory[1:].view(np.float32).reshape(x.shape)
    odd[...] = x
    gaps = np.repeat(x, 2, axis=0)[::2]
    spaced = {**params, "weight": np.repeat(params["weight"], 2)[::2]}
    layer = fc.batch_norm()
    for _ in range(2):
        for each, given in ((params, odd), (params, gaps), (params, x[:, :, ::-1][:, :, ::-1]), (spaced, x)):
            y, _, pullback = layer.forward(each, given, train=True)
            np.testing.assert_allclose(y, expected[0], rtol=2e-6, atol=2e-6)
            np.testing.assert_allclose(pullback(g)[1], expected[3], rtol=2e-6, atol=2e-6)


def test_gradients_by_directional_differences():
    x, g, params = drawn((3, 4, 5, 5), np.float64)
    layer = fc.batch_norm()
    rng = np.random.default_rng(1)
    direction = {"x": rng.standard_normal(x.shape)} | {
        leaf: rng.standard_normal(4) for leaf in ("weight", "bias")
    }

    def value(t):
        moved = {**params, **{leaf: params[leaf] + t * direction[leaf] for leaf in ("weight", "bias")}}
        return (layer.forward(moved, x + t * direction["x"], train=True)[0] * g).sum()

    grads, dx = layer.forward(params, x, train=True)[2](g)
    along = (dx * direction["x"]).sum() + sum((grads[k] * direction[k]).sum() for k in ("weight", "bias"))
    assert along == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-7)
    assert F.batch_norm(x, training=True).shape == x.shape
