"""Arrays of a foreign byte order: the same numbers in this machine's own order come out of everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fconv as fc
from fconv import functional as F
from fconv import trees
from tests.cases import CASES
from tests.test_device import OPTIMIZERS
from tests.test_layers import LAYERS, input_of

KEY = fc.random.key(0)
FOREIGN = ">" if np.dtype("<f4").isnative else "<"


def foreign(tree):
    """Store numbers in the other byte order; keys of `fconv.random` stay."""

    def turned(x):
        is_plain = isinstance(x, np.ndarray) and not fc.arrays.is_key(x)
        return x.astype(x.dtype.newbyteorder(FOREIGN)) if is_plain else x

    return trees.map(turned, tree)


def tolerance(x):
    return 16 * float(np.finfo(x.dtype).eps) if x.dtype.kind == "f" else 0


def check_same(found, expected):
    """Require equal numbers in native order; gaps in memory, which a copy closes, may change a rounding."""
    assert trees.same_structure(found, expected)
    for ours, theirs in zip(trees.leaves(found), trees.leaves(expected), strict=True):
        if isinstance(theirs, (np.ndarray, np.generic)):
            assert ours.dtype.isnative
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=tolerance(theirs), atol=tolerance(theirs))
        else:
            assert ours == theirs


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=8)
@given(data=st.data())
def test_functions_and_gradients(name, data):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    y, pullback = function.forward(*args, **options)
    turned = [foreign(a) if isinstance(a, np.ndarray) else a for a in args]
    ours, back = function.forward(*turned, **options)
    check_same(ours, y)
    if not isinstance(y, tuple):
        g = fc.random.normal(KEY, y.shape, y.dtype)
        check_same(back(foreign(g)), pullback(g))
        check_same(function.vjp(g, *turned, **options), pullback(g))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [False, True])
def test_layers(name, train):
    layer, shape = LAYERS[name]
    params = layer.init(KEY, shape)
    x = input_of(layer, fc.random.normal(KEY, shape))
    y, refreshed, pullback = layer.forward(params, x, train=train, key=KEY)
    ours, new, back = layer.forward(foreign(params), foreign(x), train=train, key=KEY)
    g = trees.map(lambda each: fc.random.normal(KEY, each.shape), y)
    check_same(ours, y)
    check_same(back(foreign(g)), pullback(g))
    for mine, theirs in zip(trees.leaves(new), trees.leaves(refreshed), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)  # those that stay are the given arrays


def test_orders_may_be_mixed():
    x, w, b = (foreign(np.ones(shape, np.float32)) for shape in ((1, 2, 3, 3), (1, 2, 3, 3), (1,)))
    expected = F.conv2d(*map(fc.arrays.native, (x, w, b)))
    check_same(F.conv2d(x, fc.arrays.native(w), b), expected)
    check_same(fc.add().apply((), (x, fc.arrays.native(x))), fc.arrays.native(x) * 2)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "mixed_precision"])
def test_optimizers(name):
    opt = OPTIMIZERS[name]() if name in OPTIMIZERS else fc.mixed_precision(fc.sgd(0.1))
    dtype = np.float16 if name == "mixed_precision" else np.float32
    params = {"a": fc.random.normal(KEY, (3, 4), dtype), "b": np.zeros(2, dtype)}
    grads = {"a": fc.random.normal(fc.random.key(1), (3, 4), dtype), "b": np.full(2, 0.5, dtype)}
    state, our_state = opt.init(params), opt.init(foreign(params))
    check_same(our_state, state)
    ours = foreign(params)
    for _ in range(2):
        params, state = opt.step(params, grads, state)
        ours, our_state = opt.step(ours, foreign(grads), foreign(our_state))
    check_same(ours, params)


@pytest.mark.parametrize("loss", [fc.mse_loss(), fc.huber_loss(), fc.l1_loss()], ids=lambda v: v.name)
def test_losses(loss):
    y, t = np.arange(6.0), np.ones(6)
    check_same(loss.apply(foreign(y), foreign(t)), loss.apply(y, t))
    check_same(loss.vjp(foreign(y), foreign(t)), loss.vjp(y, t))


def test_training():
    net, opt = (
        fc.compose(fc.conv2d(2, 3), fc.batch_norm(), fc.flatten(), fc.linear(3)),
        fc.sgd(0.1, momentum=0.9),
    )
    step = fc.train_step(net, fc.cross_entropy_loss(), opt)
    state = fc.train_state(net, opt, KEY, (4, 1, 6, 6))
    x, t = fc.random.normal(KEY, (4, 1, 6, 6)), np.arange(4) % 3
    expected, metrics = step(state, x, t)
    ours, our_metrics = step(foreign(state), foreign(x), foreign(t))
    check_same(our_metrics, metrics)
    check_same(ours.params, expected.params)
    # What is kept for a leaf that is not trained is left alone.
    weight = {"step": 1, "momentum_buffer": expected.opt_state["leaves"][0]["weight"]["momentum_buffer"]}
    check_same(ours.opt_state["leaves"][0]["weight"], weight)


def test_state_dicts():
    params = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(3)}
    check_same(fc.to_state_dict(foreign(params)), fc.to_state_dict(params))
    check_same(fc.from_state_dict(foreign(params), foreign(params)), params)
    check_same(fc.find_state_dict({"model": foreign(params), "epoch": 1}), params)


def test_draws_of_a_foreign_dtype():
    dtype = np.dtype(np.float32).newbyteorder(FOREIGN)
    check_same(fc.random.normal(KEY, (3,), dtype), fc.random.normal(KEY, (3,)))
    check_same(fc.linear(2).init(KEY, (1, 3), dtype), fc.linear(2).init(KEY, (1, 3)))


def test_moments_and_running_statistics():
    x, running = np.arange(24.0).reshape(2, 3, 4), (np.zeros(3), np.ones(3))
    batch = F.batch_moments(x)
    check_same(F.batch_moments(foreign(x)), batch)
    ours = F.running_statistics(foreign(x), foreign(batch), foreign(running), 0.1)
    check_same(ours, F.running_statistics(x, batch, running, 0.1))
