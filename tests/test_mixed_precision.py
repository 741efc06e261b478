"""Training in float16 with scaled losses."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv import trees
from tests.device import standin

KEY = fc.random.key(0)
X = fc.random.normal(KEY, (16, 1, 8, 8))
T = (X.mean(axis=(1, 2, 3)) > 0).astype(np.int64)


def network():
    return fc.compose(
        fc.conv2d(8, 3, padding=1), fc.relu(), fc.max_pool2d(2), fc.flatten(), fc.dropout(0.1), fc.linear(2)
    )


def trained(dtype, opt, steps=60, scale_input=1.0):
    net = network()
    state = fc.train_state(net, opt, KEY, X.shape, dtype)
    step = fc.train_step(net, fc.cross_entropy_loss(), opt)
    metrics = []
    for _ in range(steps):
        state, found = step(state, (X * scale_input).astype(dtype), T)
        metrics.append(found)
    return state, metrics


def test_float16_learns_as_float32_does():
    _, plain = trained(np.float32, fc.adam(3e-3))
    narrow, mixed = trained(np.float16, fc.mixed_precision(fc.adam(3e-3)))
    assert all(p.dtype == np.float16 for p in trees.leaves(narrow.params))
    for p, m in zip(trees.leaves(narrow.params), trees.leaves(narrow.opt_state["masters"]), strict=True):
        assert m.dtype == np.float32
        np.testing.assert_array_equal(p, m.astype(np.float16))
    assert mixed[0]["loss"].dtype == np.float32
    assert not any(m["skipped"] for m in mixed)
    losses = [[float(m["loss"]) for m in each] for each in (plain, mixed)]
    np.testing.assert_allclose(losses[1], losses[0], atol=0.02)
    assert losses[1][-1] < 0.2 * losses[1][0]


def test_small_steps_and_gradients_are_not_lost():
    p = np.ones(3, np.float16)
    opt = fc.mixed_precision(fc.sgd(lr=1e-4), init_scale=1024.0)
    state = opt.init(p)
    for _ in range(100):
        p, state = opt.step(p, np.full(3, 1024.0, np.float16), state)
    np.testing.assert_allclose(p, 1 - 100e-4, rtol=1e-3)  # one step alone rounds to nothing
    tiny = np.float16(3e-8) * 0 + np.float16(1024 * 3e-8)
    assert np.float16(1e-9) == 0
    assert tiny != 0


def test_the_scale_falls_at_an_overflow_and_rises_after_a_while():
    opt = fc.mixed_precision(fc.sgd(0.1, momentum=0.9), init_scale=16.0, growth_interval=3)
    params = {"w": np.ones(2, np.float16), "stat": np.zeros(2, np.float16)}
    state = opt.init(params)
    good, bad = ({"w": np.full(2, g, np.float16), "stat": None} for g in (16.0, np.nan))
    scales, skipped = [], []
    for grads in (good, bad, good, good, good, good):
        before, momentum = params, trees.leaves(state["optimizer"])
        params, state = opt.step(params, grads, state)
        scales.append(float(state["scale"]))
        skipped.append(bool(state["skipped"]))
        if skipped[-1]:
            np.testing.assert_array_equal(params["w"], before["w"])
            for a, b in zip(trees.leaves(state["optimizer"]), momentum, strict=True):
                assert isinstance(a, int) or np.array_equal(a, b)
    assert scales == [16, 8, 8, 8, 16, 16]
    assert skipped == [False, True, False, False, False, False]


def test_overflow_in_training_is_told_and_survived():
    opt = fc.mixed_precision(fc.sgd(0.01), init_scale=2.0**24)
    _, metrics = trained(np.float16, opt, steps=25)
    assert bool(metrics[0]["skipped"])
    assert float(metrics[1]["loss_scale"]) == 2.0**23
    assert not bool(metrics[-1]["skipped"])
    assert np.isfinite([float(m["loss"]) for m in metrics]).all()


def test_nothing_waits_for_a_device():
    net, opt = network(), fc.mixed_precision(fc.adam(1e-3))
    step = fc.train_step(net, fc.cross_entropy_loss(), opt)
    state = fc.train_state(net, opt, KEY, X.shape, np.float16)
    on_cpu, _ = step(state, X.astype(np.float16), T)
    with standin.installed():
        there = fc.to_device((state, X.astype(np.float16), T), "cuda")
        standin.waits.clear()
        ours, metrics = step(*there)
        assert standin.waits == []
        assert not bool(metrics["skipped"])
        found = fc.to_device(ours.params, "cpu")
    for a, b in zip(trees.leaves(found), trees.leaves(on_cpu.params), strict=True):
        assert a.dtype == np.float16
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)


def test_a_saved_state_goes_on(tmp_path):
    opt = fc.mixed_precision(fc.adam(1e-3))
    state, _ = trained(np.float16, opt, steps=3)
    fc.save(tmp_path / "state.safetensors", state)
    step = fc.train_step(network(), fc.cross_entropy_loss(), opt)
    a, b = (step(s, X.astype(np.float16), T)[0] for s in (state, fc.load(tmp_path / "state.safetensors")))
    for p, q in zip(trees.leaves(a), trees.leaves(b), strict=True):
        np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("wrapped", ["clip_by_value", "clip_by_global_norm", "accumulate_gradients", "ema"])
def test_other_wrappers_stand_within(wrapped):
    wrap = getattr(fc, wrapped)
    number = 2 if wrapped == "accumulate_gradients" else 0.5
    opt = fc.mixed_precision(wrap(fc.sgd(0.1), number), init_scale=8.0)
    p = np.ones(3, np.float16)
    state = opt.init(p)
    grads = [np.full(3, g, np.float16) for g in (8.0, np.inf, 8.0, 8.0, 8.0)]
    for g in grads:
        p, state = opt.step(p, g, state)
        assert np.isfinite(p).all()
    assert (p < 1).all()
    with pytest.raises(ValueError, match=rf"{wrapped}: mixed_precision stands outermost"):
        wrap(fc.mixed_precision(fc.sgd(0.1)), number)


def test_running_statistics_that_overflow_are_left():
    opt = fc.mixed_precision(fc.sgd(0.1), init_scale=1.0)
    params = {"w": np.ones(2, np.float16), "stat": np.ones(2, np.float16)}
    state = opt.init(params)
    params = {**params, "stat": np.array([np.inf, 3.0], np.float16)}
    params, state = opt.step(params, {"w": np.ones(2, np.float16), "stat": None}, state)
    np.testing.assert_array_equal(params["stat"], [1, 3])


def test_the_scale_has_a_floor():
    opt = fc.mixed_precision(fc.sgd(0.1), init_scale=1.0)
    p = np.ones(2, np.float16)
    state = opt.init(p)
    for _ in range(40):
        p, state = opt.step(p, np.full(2, np.nan, np.float16), state)
    assert float(state["scale"]) == 2.0**-14
    p, state = opt.step(p, np.zeros(2, np.float16), state)
    assert not bool(state["skipped"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"init_scale": 0}, "init_scale"),
        ({"init_scale": 2.0**25}, "init_scale"),
        ({"growth_factor": 1}, "growth_factor"),
        ({"backoff_factor": 1}, "backoff_factor below 1, got 1"),
        ({"growth_interval": 0}, "growth_interval"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=f"mixed_precision: .*{text}"):
        fc.mixed_precision(fc.sgd(0.1), **options)
    with pytest.raises(TypeError, match="mixed_precision: expected an optimizer"):
        fc.mixed_precision(fc.sgd)
