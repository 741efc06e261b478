"""Sums of losses, and losses of named outputs."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fconv as fc

KEY = fc.random.key(0)
X, T = fc.random.normal(KEY, (2, 4, 3), np.float64)
LABELS = np.array([0, 1, 2, 0])


def _two_headed():
    return fc.graph(
        {"body": (fc.linear(5), "x"), "act": (fc.tanh(), "body"), "class": (fc.linear(3), "act"),
         "box": (fc.linear(2), "act"), "hidden": (fc.identity(), "act")},
        outputs=["class", "box", "hidden"],
    )  # fmt: skip


LOSS = fc.losses_by_name(
    {
        "class": (1.0, fc.cross_entropy_loss()),
        "box": (0.5, fc.huber_loss()),
        "hidden": (0.01, fc.l1_penalty()),
    }
)


def test_sums_are_sums():
    a, b = fc.mse_loss(), fc.l1_loss()
    loss = a + 0.25 * b
    assert loss.apply(X, T) == pytest.approx(a.apply(X, T) + 0.25 * b.apply(X, T))
    np.testing.assert_allclose(loss.vjp(X, T, 2.0), 2 * a.vjp(X, T) + 0.5 * b.vjp(X, T))
    assert sum([a, b]) == a + b
    assert (a + b) + a == a + (b + a)
    assert 2 * (a + 0.5 * b) == 2 * a + b
    assert np.float64(0.5) * a == 0.5 * a
    assert a + b != b + a
    assert repr(2 * a + 0.1 * b) == "2 * mse_loss() + 0.1 * l1_loss()"
    for each in (loss, LOSS):
        assert pickle.loads(pickle.dumps(each)) == each
    assert loss.apply(X.astype(np.float32), T.astype(np.float32)).dtype == np.float32


def test_a_loss_of_a_users_own_adds():
    class Own:
        def apply(self, y, target):
            return y.sum()

        def vjp(self, y, target, g=1.0):
            return np.full_like(y, g)

    loss = fc.mse_loss() + Own()
    np.testing.assert_allclose(loss.vjp(X, T), fc.mse_loss().vjp(X, T) + 1)


def test_named_outputs():
    net = _two_headed()
    params = net.init(KEY, X.shape, np.float64)
    target = {"class": LABELS, "box": np.zeros((4, 2))}
    f = fc.value_and_grad(net, LOSS, outputs=True)
    loss, grads, _, y = f(params, X, target)
    expected = (
        fc.cross_entropy_loss().apply(y["class"], LABELS)
        + 0.5 * fc.huber_loss().apply(y["box"], target["box"])
        + 0.01 * abs(y["hidden"]).sum()
    )
    assert loss == pytest.approx(expected)
    d = fc.trees.map(lambda p: fc.random.normal(KEY, p.shape, np.float64), params)
    up, down = (f(fc.trees.map(lambda p, e, s=s: p + s * e, params, d), X, target)[0] for s in (1e-6, -1e-6))
    along = sum((g * e).sum() for g, e in zip(fc.trees.leaves(grads), fc.trees.leaves(d), strict=True))
    assert (up - down) / 2e-6 == pytest.approx(along, rel=1e-6)
    # An output without a loss has the gradient 0.
    lone = fc.losses_by_name({"box": (1, fc.mse_loss())})
    grads = fc.value_and_grad(net, lone)(params, X, {"box": np.zeros((4, 2))})[1]
    assert not grads["class"]["weight"].any()
    assert grads["body"]["weight"].any()
    # They add like others.
    assert (2 * LOSS).apply(y, target) == pytest.approx(2 * loss)


def test_training_with_half_precision():
    net = _two_headed()
    x, target = X.astype(np.float16), {"class": LABELS, "box": np.zeros((4, 2), np.float16)}
    opt = fc.mixed_precision(fc.sgd(0.1))
    state = fc.train_state(net, opt, KEY, x.shape, np.float16)
    state, metrics = fc.train_step(net, LOSS, opt)(state, x, target)
    assert np.isfinite(metrics["loss"])
    assert state.params["class"]["weight"].dtype == np.float16


Y = {"class": X, "box": T}


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: fc.losses_by_name({"box": (float("nan"), fc.mse_loss())}), ValueError,
     "losses_by_name: expected the weight of 'box' of 0 or more, got nan"),
    (lambda: fc.losses_by_name({"box": (-1, fc.mse_loss())}), ValueError,
     "losses_by_name: expected the weight of 'box' of 0 or more, got -1"),
    (lambda: fc.losses_by_name({"box": (float("inf"), fc.mse_loss())}), ValueError, "finite"),
    (lambda: fc.losses_by_name({"box": fc.mse_loss()}), TypeError,
     "losses_by_name: expected (weight, loss) for the output 'box', got "),
    (lambda: fc.losses_by_name({"box": (1.0, fc.mse_loss)}), TypeError, "losses_by_name[box]: expected a loss"),
    (lambda: fc.losses_by_name([fc.mse_loss()]), TypeError, "losses_by_name: expected (weight, loss) by output"),
    (lambda: fc.losses_by_name({}), ValueError, "losses_by_name: expected the loss of at least one output"),
    (lambda: fc.losses_by_name({"bix": (1, fc.mse_loss())}).apply(Y, {"bix": T}), ValueError,
     "losses_by_name: the network has no output 'bix', which has a loss; the nearest names are 'box'"),
    (lambda: fc.losses_by_name({"box": (1, fc.mse_loss())}).apply(Y, {"bix": T}), ValueError,
     "losses_by_name: the target 'bix' has no loss; the nearest names are 'box'"),
    (lambda: fc.losses_by_name({"box": (1, fc.mse_loss())}).apply(X, {"box": T}), TypeError,
     "losses_by_name: expected a dict of the outputs box, got "),
    (lambda: fc.losses_by_name({"box": (1, fc.mse_loss())}).apply(Y, T), TypeError,
     "losses_by_name: expected a dict of targets by output"),
    (lambda: -1 * fc.mse_loss(), ValueError, "a loss: expected its factor of 0 or more, got -1"),
    (lambda: float("nan") * fc.mse_loss(), ValueError, "a loss: expected its factor of 0 or more, got nan"),
    (lambda: fc.mse_loss() + 1, TypeError, "unsupported operand"),
    (lambda: fc.mse_loss() * fc.l1_loss(), TypeError, "unsupported operand"),
    (lambda: fc.mse_loss() + fc.relu(), TypeError, "unsupported operand"),
])  # fmt: skip
def test_errors(make, kind, message):
    with pytest.raises(kind) as caught:
        make()
    assert message in str(caught.value)
