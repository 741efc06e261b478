"""Private steps: each example's gradient is shortened, noise follows from the key, and misuse is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv import trees
from tests.device import standin

KEY = fc.random.key(7)
PARAMS = {"w": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([0.5, -0.5]), "seen": np.zeros((), np.int64)}


def drawn(count, scale=1.0):
    return {
        "w": scale * fc.random.normal(fc.random.key(1), (count, 2, 2), np.float64),
        "b": scale * fc.random.normal(fc.random.key(2), (count, 2), np.float64),
        "seen": None,
    }


def test_gradients_are_shortened_and_averaged():
    opt = fc.private_sgd(lr=0.5, max_norm=1.5, noise_multiplier=0.0, key=KEY, momentum=0.9)
    plain = fc.sgd(lr=0.5, momentum=0.9)
    params, state, expected, plain_state = PARAMS, opt.init(PARAMS), PARAMS, plain.init(PARAMS)
    for scale in (1.0, 0.1):
        grads = drawn(5, scale)
        factors = [
            min(1, 1.5 / np.sqrt((grads["w"][i] ** 2).sum() + (grads["b"][i] ** 2).sum())) for i in range(5)
        ]
        mean = {
            name: np.mean([f * g for f, g in zip(factors, grads[name], strict=True)], axis=0) for name in "wb"
        }
        params, state = opt.step(params, grads, state)
        expected, plain_state = plain.step(expected, mean | {"seen": None}, plain_state)
        for name in "wb":
            np.testing.assert_allclose(params[name], expected[name], rtol=1e-12)
    assert min(factors) == 1
    assert params["seen"] is PARAMS["seen"]


def test_noise_has_its_size_and_follows_from_the_key():
    p = {"w": np.zeros((100, 200), np.float32)}
    grads = {"w": np.zeros((4, 100, 200), np.float32)}
    opt = fc.private_sgd(lr=1.0, max_norm=3.0, noise_multiplier=0.5, key=KEY, batch_size=8)
    state = opt.init(p)
    assert state["step"] == 0
    first, after = opt.step(p, grads, state)
    assert after["step"] == 1
    assert first["w"].dtype == np.float32
    assert first["w"].std() == pytest.approx(3.0 * 0.5 / 8, rel=0.02)
    assert abs(first["w"].mean()) < 0.01
    np.testing.assert_array_equal(opt.step(p, grads, state)[0]["w"], first["w"])
    second = opt.step(p, grads, after)[0]["w"]
    assert abs(np.corrcoef(first["w"].ravel(), second.ravel())[0, 1]) < 0.03
    other = fc.private_sgd(lr=1.0, max_norm=3.0, noise_multiplier=0.5, key=fc.random.key(8))
    assert (other.step(p, grads, other.init(p))[0]["w"] != first["w"]).all()


def test_a_batch_may_be_empty_where_its_mean_size_is_known():
    grads = drawn(0)
    opt = fc.private_sgd(max_norm=1.0, noise_multiplier=1.0, key=KEY, batch_size=4)
    params, _ = opt.step(PARAMS, grads, opt.init(PARAMS))
    assert (params["w"] != PARAMS["w"]).all()
    opt = fc.private_sgd(max_norm=1.0, noise_multiplier=1.0, key=KEY)
    with pytest.raises(ValueError, match="expected one example or more, or a batch_size"):
        opt.step(PARAMS, grads, opt.init(PARAMS))


def test_a_saved_state_goes_on_with_the_same_noise(tmp_path):
    opt = fc.private_sgd(max_norm=1.0, noise_multiplier=1.0, key=KEY, momentum=0.5)
    params, state = opt.step(PARAMS, drawn(3), opt.init(PARAMS))
    fc.save(tmp_path / "state.safetensors", (params, state))
    again = fc.load(tmp_path / "state.safetensors")
    for own, other in zip(
        *(trees.leaves(opt.step(p, drawn(3), s)) for p, s in ((params, state), again)), strict=True
    ):
        np.testing.assert_array_equal(own, other)


def test_digits_are_learnt_in_private():
    x = fc.random.normal(fc.random.key(3), (256, 8), np.float32)
    t = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    net, loss = fc.compose(fc.linear(8), fc.tanh(), fc.linear(2)), fc.cross_entropy_loss()
    params = net.init(KEY, x.shape)
    opt = fc.ema(fc.private_sgd(0.5, max_norm=1.0, noise_multiplier=1.0, key=KEY, batch_size=64), 0.8)
    state, grads_of = opt.init(params), fc.per_example_gradients(net, loss)
    for i in range(60):
        drawn_in = fc.random.bernoulli(fc.random.fold_in(KEY, i), 64 / 256, (256,))
        params, state = opt.step(params, grads_of(params, x[drawn_in], t[drawn_in]), state)
    assert fc.metrics.accuracy(net.apply(fc.ema_params(state), x), t) > 0.85


def test_on_the_stand_in():
    opt = fc.private_sgd(lr=0.5, max_norm=1.5, noise_multiplier=0.3, key=KEY, momentum=0.9)
    with standin.installed():
        there = [fc.to_device(tree, "cuda") for tree in (PARAMS, drawn(5))]
        found = fc.to_device(opt.step(*there, opt.init(there[0]))[0], "cpu")
        for own, other in zip(
            *map(trees.leaves, (found, opt.step(PARAMS, drawn(5), opt.init(PARAMS))[0])), strict=True
        ):
            np.testing.assert_allclose(own, other, rtol=1e-12)


def test_bad_options_and_gradients():
    given = {"max_norm": 1.0, "noise_multiplier": 1.0, "key": KEY}
    for wrong, message in [
        ({"max_norm": 0.0}, "private_sgd: expected max_norm above 0"),
        ({"noise_multiplier": -1.0}, "private_sgd: expected noise_multiplier of 0 or more"),
        ({"batch_size": 0}, "private_sgd: batch_size must be at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            fc.private_sgd(**given | wrong)
    with pytest.raises(TypeError, match=r"private_sgd: expected a key .*; write fconv\.random\.key\(0\)"):
        fc.private_sgd(**given | {"key": 0})
    opt = fc.private_sgd(**given)
    state = opt.init(PARAMS)
    grads = drawn(3)
    with pytest.raises(
        ValueError, match=r"by each example, float64 of shape \(N, 2, 2\) for w, got .*write grads"
    ):
        opt.step(PARAMS, {**PARAMS, "seen": None}, state)
    with pytest.raises(ValueError, match="expected 3 examples for b, got 2"):
        opt.step(PARAMS, {**grads, "b": grads["b"][:2]}, state)
    with pytest.raises(ValueError, match="expected a state that its init gave"):
        opt.step(PARAMS, grads, fc.sgd().init(PARAMS))
    with pytest.raises(ValueError, match="trees differ"):
        opt.step(PARAMS, {"w": grads["w"]}, state)
