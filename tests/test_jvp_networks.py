"""Forward mode through layers and networks."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv import models, trees
from tests.test_layers import LAYERS, input_of
from tests.test_networks import NETWORKS

KEY = fc.random.key(0)


def tangent_of(tree, key):
    """Draw a tangent of each leaf, None for None."""
    paths = [path for path, _ in trees.leaves_with_path(tree)]
    keys = dict(zip(paths, fc.random.split(key, len(paths) or 1), strict=False))
    return trees.map_with_path(lambda path, g: fc.random.normal(keys[path], g.shape, g.dtype), tree)


def product(a, b):
    pairs = [(g, t) for _, g, t in trees.aligned(a, b) if g is not None and t is not None]
    return sum(float((g * t).sum()) for g, t in pairs), sum(float(abs(g * t).sum()) for g, t in pairs)


def check_adjoint(net, params, x, train, key=KEY, alone=True):
    """Require <g, jvp(t)> = <vjp(g), t>, together, by the parameters alone, and by the input alone."""
    y = net.apply(params, x, train=train, key=key)
    g = tangent_of(y, fc.random.key(1))
    dparams, dx = net.vjp(params, x, g, train=train, key=key)
    tparams, tx = tangent_of(dparams, fc.random.key(2)), tangent_of(dx, fc.random.key(3))
    for tangents in ((tparams, tx), *([(tparams, None), (None, tx)] if alone else ())):
        if not trees.leaves(tangents):
            continue
        ours, dy = fc.jvp(net, params, x, *tangents, train=train, key=key)
        for _, a, b, c in trees.aligned(ours, y, dy):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
            assert c.shape == b.shape
            assert c.dtype == b.dtype
        left, size = product(g, dy)
        right = 0.0
        for gradient, tangent in ((dparams, tangents[0]), (dx, tangents[1])):
            if tangent is not None:
                value, more = product(gradient, tangent)
                right, size = right + value, size + more
        assert abs(left - right) <= 1e-12 * max(size, 1e-3)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [False, True])
def test_layers(name, train):
    layer, shape = LAYERS[name]
    x = input_of(layer, fc.random.normal(KEY, shape, np.float64))
    check_adjoint(layer, layer.init(KEY, shape, np.float64), x, train)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("train", [False, True])
def test_networks(name, train):
    shape = (2, 3, 6, 6)
    net = NETWORKS[name]
    params = net.init(KEY, shape, np.float64)
    check_adjoint(net, params, fc.random.normal(KEY, shape, np.float64), train)


MERGES = [
    fc.add(), fc.subtract(), fc.multiply(), fc.divide(), fc.maximum(), fc.minimum(), fc.compare("less"),
    fc.matmul(), fc.concat(), fc.stack(1), fc.concat_padded(), fc.expand_like(None, -1, -1, -1), fc.pow(),
    fc.einsum("bcij,bcjk->bik"), fc.where(np.eye(4) > 0),
]  # fmt: skip


@pytest.mark.parametrize("layer", MERGES, ids=lambda layer: layer.name)
def test_merges(layer):
    xs = tuple(2 + fc.random.uniform(fc.random.key(i), (2, 3, 4, 4), np.float64) for i in range(2))
    xs = (xs[0][:1], xs[1]) if layer.name == "expand_like" else xs
    check_adjoint(layer, (), xs, False)
    y, dy = fc.jvp(layer, (), xs, None, (None, xs[1]))
    assert dy.shape == y.shape


def test_merges_of_three_arrays_and_of_stretched_ones():
    a, b, c = (fc.random.normal(fc.random.key(i), (2, 3), np.float64) for i in range(3))
    for layer in (fc.add(), fc.multiply(), fc.choose(), fc.concat()):
        check_adjoint(layer, (), (a, b, c), False)
    for layer in (fc.add(), fc.multiply(), fc.subtract(), fc.divide(), fc.maximum()):
        check_adjoint(layer, (), (a[:1], b), False)
        check_adjoint(layer, (), (a, b[:, :1]), False)
    for first, second in ((a, b[0]), (a[0], b.T), (a[0], b[0]), (a, b.T)):
        check_adjoint(fc.matmul(), (), (first, second), False)


def test_every_network_and_merge_is_here():
    others = {"choose", "compose", "fused", "graph", "parallel", "repeat", "residual", "with_outputs"}
    tools = {"Summary", "part", "summary"}
    assert set(fc.networks.__all__) <= {layer.name for layer in MERGES} | others | tools


def test_attention_with_dropout():
    q, k, v = (fc.random.normal(fc.random.key(i), (2, 2, 3, 4), np.float64) for i in range(3))
    mask = fc.random.normal(KEY, (3, 3), np.float64)
    check_adjoint(fc.scaled_dot_product_attention(dropout_p=0.3), (), (q, k, v), True)
    check_adjoint(fc.scaled_dot_product_attention(), (), (q, k, v, mask), False)


NODES = {
    "scale": (fc.parameter(1, 3, 1, 1, init=fc.initializers.ones()),),
    "shift": (fc.constant(np.arange(3.0).reshape(1, 3, 1, 1)), "x"),
    "scaled": (fc.multiply(), "x", "scale"),
    "sum": (fc.add(), "scaled", "shift"),
    "weight": (fc.parameter(2, 3, 3, 3, init=fc.initializers.normal()),),
    "conv": (fc.call("conv2d", ("x", "weight"), padding=1), "sum", "weight"),
}


@pytest.mark.parametrize(
    "net",
    [
        fc.graph(NODES),
        fc.graph(NODES, outputs=["sum", "conv"]),
        fc.fused(fc.conv2d(4, 3, padding=1), fc.gelu(), fc.relu()),
        fc.squeeze_excitation(2),
        fc.depthwise_separable_conv2d(4, 3, padding=1),
        fc.conv2d(4, 3, padding=1, padding_mode="reflect"),
        fc.with_outputs(NETWORKS["repeat"], ["1.0", "2"]),
        fc.with_outputs(
            fc.compose(a=fc.conv2d(2, 3), b=fc.dropout(0.5), c=fc.tanh()), ["a.weight", "b", "c"]
        ),
        fc.compose(),
    ],
    ids=["graph", "outputs", "fused", "squeeze", "depthwise", "padded", "inside", "parameter", "nothing"],
)
def test_other_networks(net):
    x = fc.random.normal(KEY, (2, 3, 6, 6), np.float64)
    check_adjoint(net, net.init(KEY, x.shape, np.float64), x, True)


def test_inputs_by_name():
    net = fc.graph({"sum": (fc.add(), "a", "b"), "end": (fc.tanh(), "sum")}, inputs=["a", "b"])
    x = {"a": fc.random.normal(KEY, (2, 3), np.float64), "b": np.ones((2, 3))}
    check_adjoint(net, net.init(KEY, {"a": (2, 3), "b": (2, 3)}, np.float64), x, False)


MODELS = {
    "lenet": (2, 1, 32, 32), "resnet20": (2, 3, 16, 16), "mobilenet_v2": (2, 3, 32, 32),
    "dncnn": (2, 1, 8, 8), "espcn": (2, 1, 8, 8), "fsrcnn": (2, 1, 8, 8), "srresnet": (2, 3, 6, 6),
    "srvgg": (2, 3, 6, 6), "srgan": (2, 3, 6, 6), "noise2noise": (2, 3, 8, 8),
    "noise2noise_strided": (2, 3, 8, 8), "noise2noise_shallow": (2, 3, 8, 8), "noise2noise_unet": (2, 3, 32, 32),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    net, shape = getattr(models, name)(), MODELS[name]
    params = net.init(KEY, shape, np.float64)
    check_adjoint(net, params, fc.random.normal(KEY, shape, np.float64), True, alone=False)


def test_a_network_for_inference():
    net, shape = models.resnet20(), MODELS["resnet20"]
    folded, params = fc.for_inference(net, net.init(KEY, shape, np.float64))
    check_adjoint(folded, params, fc.random.normal(KEY, shape, np.float64), False)


NET = fc.compose(fc.conv2d(2, 3), fc.batch_norm(), fc.relu())
PARAMS = NET.init(KEY, (2, 1, 5, 5))
X = np.ones((2, 1, 5, 5), np.float32)
MOVED = trees.map(lambda p: np.ones_like(p), PARAMS)


@pytest.mark.parametrize(
    ("dparams", "dx", "error", "message"),
    [
        (None, None, ValueError, "jvp: expected a tangent of the parameters, of x or of both, got None for each"),
        (None, X[:1], ValueError, r"jvp: expected a tangent of x of its shape \(2, 1, 5, 5\), got \(1, 1, 5, 5\)"),
        (None, X.astype(np.float64), TypeError, "jvp: expected a tangent of x of float32, got float64"),
        (None, X.astype(int), TypeError, "jvp: expected a tangent of x of float32, got int64"),
        (None, [1.0], TypeError, "jvp: expected an array for the tangent of x, got list"),
        (MOVED, None, ValueError, "jvp: 1.running_mean has no gradient, so its tangent is None or 0"),
        (MOVED[:2], None, ValueError, "jvp: the tangent of the parameters has another structure: trees differ"),
        (
            ({"weight": X, "bias": None}, trees.map(lambda _: None, PARAMS[1]), ()), None, ValueError,
            r"jvp: expected a tangent of 0.weight of its shape \(2, 1, 3, 3\), got \(2, 1, 5, 5\)",
        ),
    ],
)  # fmt: skip
def test_tangents_that_do_not_fit_are_refused(dparams, dx, error, message):
    with pytest.raises(error, match=message):
        fc.jvp(NET, PARAMS, X, dparams, dx)


def test_a_tangent_of_0_stands_for_none():
    y, dy = fc.jvp(NET, PARAMS, X, trees.map(np.zeros_like, PARAMS), X)
    for a, b in zip((y, dy), fc.jvp(NET, PARAMS, X, None, X), strict=True):
        np.testing.assert_array_equal(a, b)
    _, dy = fc.jvp(fc.flatten(), (), X, (), X * 0)
    assert not dy.any()


class Doubled:
    """A user's layer."""

    name = "doubled"

    def init(self, key, shape, dtype=np.float32):
        return ()

    def apply(self, params, x, *, train=False, key=None):
        return 2 * x

    def vjp(self, params, x, g, *, train=False, key=None):
        return (), 2 * g

    def out_shape(self, shape):
        return shape


def test_a_users_layer_brings_its_derivative():
    class Moved(Doubled):
        def jvp(self, params, x, dparams, dx, *, train=False, key=None):
            return 2 * x, 2 * dx

    net = fc.compose(fc.linear(3), Doubled())
    params = net.init(KEY, (2, 3))
    x = np.ones((2, 3), np.float32)
    with pytest.raises(
        TypeError, match=r"compose\[1\] doubled: forward mode needs the layer's derivative; give it"
    ):
        fc.jvp(net, params, x, None, x)
    check_adjoint(fc.compose(fc.linear(3), Moved()), net.init(KEY, (2, 3), np.float64), np.ones((2, 3)), True)
    # Where no tangent enters it, a layer needs none.
    y, dy = fc.jvp(fc.compose(Doubled(), fc.linear(3)), params[::-1], x, ((), params[0]), None)
    np.testing.assert_allclose(dy, y, rtol=1e-6)


def test_dropout_drops_the_units_of_its_key_and_needs_one():
    net, x = fc.compose(fc.dropout(0.5)), np.ones((4, 4), np.float32)
    y, dy = fc.jvp(net, ((),), x, None, x, train=True, key=KEY)
    np.testing.assert_array_equal(y, dy)
    np.testing.assert_array_equal(y, net.apply(((),), x, train=True, key=KEY))
    with pytest.raises(ValueError, match="a key is needed in training"):
        fc.jvp(net, ((),), x, None, x, train=True)


def test_integers_have_no_tangent():
    net = fc.compose(fc.embedding(4, 3), fc.linear(2))
    x = np.array([0, 3])
    params = net.init(KEY, x.shape)
    _, dy = fc.jvp(net, params, x, params, None)
    assert dy.shape == (2, 2)
    with pytest.raises(
        ValueError, match=r"compose\[0\] embedding_jvp: x has no gradient; its tangent is None"
    ):
        fc.jvp(net, params, x, None, x)
