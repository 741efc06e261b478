"""value_and_grad, train_state and train_step; losses and metrics."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv.testing.purity import call_purely, copied, same_bits

SHAPE = (8, 1, 6, 6)
NET = fc.compose(
    fc.conv2d(4, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2),
    fc.flatten(), fc.dropout(0.3), fc.linear(3),
)  # fmt: skip
OPT = fc.sgd(lr=lambda i: 0.1 / (1 + i), momentum=0.9)
STEP = fc.train_step(NET, fc.cross_entropy_loss(), OPT)


def batch(i):
    x_key, t_key = fc.random.split(fc.random.fold_in(fc.random.key(9), i))
    t = fc.random.permutation(t_key, 8) % 3
    return fc.random.normal(x_key, SHAPE) + t[:, None, None, None].astype(np.float32), t


def run(state, first, last):
    for i in range(first, last):
        state, metrics = STEP(state, *batch(i))
    return state, metrics


def fresh():
    return fc.train_state(NET, OPT, fc.random.key(1), SHAPE)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_run_stopped_after_any_step_resumes_bit_for_bit(tmp_path, suffix):
    whole, _ = run(fresh(), 0, 8)
    for stop in range(1, 8):
        path = tmp_path / f"state{suffix}"
        fc.save(path, run(fresh(), 0, stop)[0])
        resumed = fc.load(path)
        assert type(resumed) is fc.TrainState
        assert resumed.step == stop
        assert same_bits(run(resumed, stop, 8)[0], whole)


def test_a_step_is_pure_and_lowers_the_loss():
    state = fresh()
    before = copied(state)
    after, metrics = call_purely("train_step", STEP, state, *batch(0))
    assert same_bits(state, before)
    assert after.step == 1
    final, last = run(after, 1, 30)
    assert last["loss"] < 0.7 * metrics["loss"]
    assert final.opt_state["step"] == 30


def test_value_and_grad_is_the_gradient_of_the_loss():
    params = NET.init(fc.random.key(3), SHAPE, np.float64)
    x, t = batch(0)
    x, key = x.astype(np.float64), fc.random.key(4)
    f = fc.value_and_grad(NET, fc.cross_entropy_loss())
    loss, grads, refreshed = f(params, x, t, key=key)
    u = fc.trees.map(
        lambda p, g: None if g is None else fc.random.normal(fc.random.key(5), p.shape, p.dtype),
        params,
        grads,
    )
    h = 1e-6

    def at(step):
        moved = fc.trees.map(lambda p, d: p if d is None else p + step * d, params, u)
        return float(f(moved, x, t, key=key)[0])

    inner = sum(float((g * d).sum()) for _, _, g, d in fc.trees.aligned(params, grads, u) if g is not None)
    assert abs((at(h) - at(-h)) / (2 * h) - inner) < 1e-6 * max(1, abs(inner))
    assert refreshed[0]["weight"] is params[0]["weight"]
    assert grads[1]["running_mean"] is None
    assert (refreshed[1]["running_mean"] != params[1]["running_mean"]).all()
    assert loss.dtype == np.float64


def test_a_users_own_layer_and_loss_train_inside_compose():
    class Scale:
        name = "scale"

        def init(self, key, shape, dtype=np.float32):
            return {"factor": np.ones((), dtype)}

        def apply(self, params, x, *, train=False, key=None):
            return params["factor"] * x

        def vjp(self, params, x, g, *, train=False, key=None):
            return {"factor": (g * x).sum()}, params["factor"] * g

        def out_shape(self, shape):
            return shape

    class Squared:
        def apply(self, y, target):
            return ((y - target) ** 2).sum()

        def vjp(self, y, target, g=1.0):
            return 2 * g * (y - target)

    net = fc.compose(Scale(), fc.identity())
    x = np.array([[1.0, 2.0]])
    params = net.init(fc.random.key(0), x.shape, np.float64)
    loss, grads, _ = fc.value_and_grad(net, Squared())(params, x, 3 * x)
    assert loss == 20
    assert grads[0]["factor"] == -20


def test_losses_agree_with_their_forward():
    y, t = fc.random.normal(fc.random.key(0), (4, 3), np.float64), np.array([0, 1, 2, 0])
    for loss, target in [
        (fc.mse_loss(), y[::-1]), (fc.nll_loss(), t), (fc.cross_entropy_loss(reduction="sum"), t)
    ]:  # fmt: skip
        value, pullback = loss.forward(y, target)
        assert value == loss.apply(y, target)
        np.testing.assert_array_equal(pullback(2.0), loss.vjp(y, target, 2.0))
        np.testing.assert_allclose(loss.vjp(y, target, 2.0), 2 * loss.vjp(y, target))


def test_the_mean_over_no_targets_is_nan_and_has_a_zero_gradient():
    loss = fc.cross_entropy_loss()
    for y, t in [(np.zeros((0, 3)), np.zeros(0, np.int64)), (np.zeros((2, 3)), np.full(2, -100))]:
        assert np.isnan(loss.apply(y, t))
        assert not loss.vjp(y, t).any()


def test_log_likelihoods_of_certain_mistakes_are_finite():
    y = np.array([[1e4, -1e4, 0.0]])
    assert fc.cross_entropy_loss().apply(y, np.array([1])) == 2e4
    assert np.isfinite(fc.cross_entropy_loss().vjp(y, np.array([1]))).all()


def test_accuracy():
    assert np.isnan(fc.metrics.accuracy(np.zeros((0, 3)), np.zeros(0, np.int64)))
    assert fc.metrics.accuracy(np.eye(4), np.array([0, 1, 2, 0])) == 0.75
