"""Every layer keeps the contract, and what it refuses it refuses by name."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings

import fconv as fc
from fconv import functional as F
from fconv.engine import plans
from fconv.geometry import conv_geometry
from fconv.testing import check_layer
from fconv.testing import strategies as fst
from tests import naive
from tests.cases import FAMILIES

KEY = fc.random.key(0)

LAYERS = {name: case for family in FAMILIES for name, case in getattr(family, "LAYERS", {}).items()} | {
    "compose": (fc.compose(fc.conv2d(3, 2), fc.batch_norm(), fc.dropout(0.3), fc.relu()), (3, 2, 4, 4)),
    "compose by name": (fc.compose(a=fc.linear(4), b=fc.compose(fc.tanh(), fc.linear(2))), (3, 4)),
}


def input_of(layer, x):
    """Turn drawn numbers into what the layer takes: an embedding takes numbers of rows, not the padding's."""
    return (abs(4 * x) % 4).astype(np.int64) if layer.name == "embedding" else x


def test_every_layer_is_here():
    built = {each.name for layer, _ in LAYERS.values() for each in (layer, *layer.children.values())}
    assert set(fc.layers.__all__) <= built


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=4)
@given(data=fst.keys(), fill=fst.arrays_like((1,)))
def test_layer_keeps_the_contract(name, data, fill):
    layer, shape = LAYERS[name]
    x = input_of(layer, fst.laid_out(fc.random.normal(data, shape) + fill, "channels_last"))
    check_layer(layer, x, key=data, directions=1)


@pytest.mark.parametrize("name", LAYERS)
def test_empty_batch_gives_an_empty_result_and_zero_gradients(name):
    layer, shape = LAYERS[name]
    shape = (0, *shape[1:])
    params = layer.init(KEY, shape)
    x = input_of(layer, np.zeros(shape, np.float32))
    for train in (False, True):
        y, refreshed, pullback = layer.forward(params, x, train=train, key=KEY)
        assert y.shape == layer.out_shape(shape)
        dparams, dx = pullback(np.zeros_like(y))
        assert dx is None if x.dtype.kind == "i" else dx.shape == x.shape
        assert all(not g.any() for g in fc.trees.leaves(dparams))
        for p in fc.trees.leaves(refreshed):
            assert np.isfinite(p).all()


@pytest.mark.parametrize("name", LAYERS)
def test_repr_names_the_layer(name):
    layer, _ = LAYERS[name]
    assert repr(layer).startswith(f"{layer.name}(")


def test_reference_is_compared():
    check_layer(
        fc.conv2d(2, 3), np.ones((1, 1, 4, 4)), reference=lambda p, x: naive.conv(x, p["weight"], p["bias"])
    )
    with pytest.raises(AssertionError, match="the output and the reference"):
        check_layer(fc.relu(), np.ones((2, 2)), reference=lambda p, x: 2 * x)


def test_running_statistics_are_pytorchs():
    layer = fc.batch_norm(momentum=0.1)
    x = fc.random.normal(KEY, (8, 2, 3), np.float64, mean=3.0, std=2.0)
    params = layer.init(KEY, x.shape, np.float64)
    _, refreshed, _ = layer.forward(params, x, train=True)
    np.testing.assert_allclose(refreshed["running_mean"], 0.1 * x.mean((0, 2)))
    np.testing.assert_allclose(refreshed["running_var"], 0.9 + 0.1 * x.var((0, 2), ddof=1))
    assert refreshed["num_batches_tracked"] == 1
    assert refreshed["num_batches_tracked"].dtype == np.int64
    assert refreshed["weight"] is params["weight"]
    assert params["num_batches_tracked"] == 0


def test_cumulative_statistics_are_the_plain_mean():
    layer = fc.batch_norm(momentum=None)
    params = layer.init(KEY, (4, 1), np.float64)
    means = []
    for i in range(3):
        x = fc.random.normal(fc.random.key(i), (4, 1), np.float64)
        means.append(x.mean())
        params = layer.forward(params, x, train=True)[1]
    np.testing.assert_allclose(params["running_mean"], np.mean(means))


def test_variance_of_far_off_values_in_float32():
    x = fc.random.normal(KEY, (64, 2, 32, 32), np.float32) + np.float32(1e4)
    for layout in ("C", "channels_last"):
        mean, var = F.batch_moments(fst.laid_out(x, layout))
        exact = x.astype(np.float64)
        np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(var, exact.var((0, 2, 3)), rtol=1e-3)


def test_dropout_drops_about_a_share_p_and_keeps_the_mean():
    x = np.ones(100_000, np.float32)
    y = fc.dropout(0.2).apply((), x, train=True, key=KEY)
    assert abs((y == 0).mean() - 0.2) < 0.01
    assert abs(y.mean() - 1) < 0.01
    np.testing.assert_array_equal(fc.dropout(0.2).vjp((), x, x, train=True, key=KEY)[1], y)
    assert fc.dropout(0.2).apply((), x) is x


PLAN = type(plans.plan(conv_geometry("conv2d", 2, (1, 1, 6, 6), (2, 1, 3, 3), None, 1, 0, 1, 1), "float32"))


def test_unasked_input_gradients_are_not_computed(monkeypatch):
    """The first layer's input gradient is the dearest of all, and training never looks at it."""
    calls = []
    original = PLAN.input_gradient
    monkeypatch.setattr(PLAN, "input_gradient", lambda *a: calls.append(1) or original(*a))
    net = fc.compose(fc.relu(), fc.conv2d(2, 3), fc.relu(), fc.conv2d(2, 3))
    x = np.ones((1, 1, 6, 6), np.float32)
    params = net.init(KEY, x.shape)
    fc.value_and_grad(net, fc.mse_loss())(params, x, np.ones((1, 2, 2, 2), np.float32))
    assert len(calls) == 1


def test_inference_does_no_work_for_the_gradient(monkeypatch):
    monkeypatch.setattr(PLAN, "input_gradient", None)
    monkeypatch.setattr(PLAN, "weight_gradient", None)
    params = fc.conv2d(2, 3).init(KEY, (1, 1, 6, 6))
    fc.conv2d(2, 3).apply(params, np.ones((1, 1, 6, 6), np.float32))
    monkeypatch.undo()
    monkeypatch.setattr(PLAN, "convolve", None)  # nor does the gradient compute the value
    x = np.ones((1, 1, 6, 6), np.float32)
    fc.conv2d(2, 3).vjp(params, x, np.ones((1, 2, 4, 4), np.float32))


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda s: fc.conv2d(4, 3, stride=s), (1, 3, 8, 8)),
        (lambda s: fc.conv_transpose2d(4, 3, stride=s), (1, 3, 8, 8)),
        (lambda s: fc.max_pool2d(s), (1, 3, 8, 8)),
        (lambda s: fc.max_pool2d(np.array(s)), (1, 3, 8, 8)),
        (lambda s: fc.upsample(size=s), (1, 3, 8, 8)),
        (lambda s: fc.adaptive_avg_pool2d(s), (1, 3, 8, 8)),
        (lambda s: fc.unfold(s), (1, 3, 8, 8)),
        (lambda s: fc.pad(s), (1, 3, 8, 8)),
        (lambda s: fc.layer_norm(s), (1, 3, 2, 2)),
    ],
)
def test_a_layer_keeps_its_options_when_the_callers_list_changes(build, shape):
    sizes = [2, 2]
    layer = build(sizes)
    before = layer.out_shape(shape)
    sizes[0] = 3
    assert layer.out_shape(shape) == before


def test_layers_are_values_that_copy_as_themselves():
    layer = fc.compose(fc.conv2d(2, 3), fc.relu())
    assert copy.deepcopy(layer) is layer
    assert copy.copy(layer) is layer


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_numpy_numbers_as_options_leave_float32_alone(kind):
    x = np.ones((2, 4, 3, 3), np.float32)
    half = kind(0.5)
    layers = [
        fc.leaky_relu(half), fc.elu(half), fc.celu(half), fc.softplus(half), fc.hardtanh(-half, half),
        fc.threshold(half, half), fc.softshrink(half), fc.batch_norm(eps=half, momentum=half),
        fc.instance_norm(eps=half), fc.layer_norm(last_axes=1, eps=half), fc.group_norm(2, eps=half),
        fc.local_response_norm(3, alpha=half, beta=half, k=half), fc.dropout(half), fc.dropout2d(half),
        fc.alpha_dropout(half),
        fc.lp_pool2d(kind(2.0), 2), fc.upsample(scale_factor=kind(2.0)), fc.pad((1, 1), value=half),
    ]  # fmt: skip
    for layer in layers:
        params = layer.init(KEY, x.shape)
        y, refreshed, pullback = layer.forward(params, x, train=True, key=KEY)
        dparams, dx = pullback(np.ones_like(y))
        for leaf in [y, dx, *fc.trees.leaves(dparams), *fc.trees.leaves(refreshed)]:
            assert leaf.dtype in (np.float32, np.int64), layer


def test_a_loss_keeps_its_weights_when_the_callers_array_changes():
    weight = np.array([1.0, 2.0, 3.0])
    loss, y, t = fc.cross_entropy_loss(weight=weight), np.eye(3), np.arange(3)
    before = loss.apply(y, t)
    weight[:] = [9, 1, 1]
    assert loss.apply(y, t) == before


def test_numpy_integers_serve_as_sizes():
    two = np.int64(2)
    assert fc.max_pool2d(two, stride=two).out_shape((1, 3, 8, 8)) == (1, 3, 4, 4)
    assert F.avg_pool2d(np.ones((1, 3, 8, 8)), two, two).shape == (1, 3, 4, 4)
    assert F.normalize(np.ones((2, 3), np.float32), p=np.float32(2)).dtype == np.float32


def test_transposed_convolution_costs_what_its_convolution_does():
    assert fc.conv_transpose1d(4, 3).multiply_adds((1, 4, 6)) == 4 * 4 * 3 * 6
