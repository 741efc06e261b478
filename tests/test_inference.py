"""Networks made ready for inference."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fconv as fc
from fconv.layer import Layer
from fconv.testing import check_layer
from fconv.testing.purity import same_bits

KEY = fc.random.key(0)
X = fc.random.normal(KEY, (3, 4, 8, 8), np.float64)
CHAIN = fc.compose(
    fc.conv2d(6, 3, padding=1, bias=False), fc.batch_norm(), fc.relu(), fc.dropout2d(0.3), fc.identity(),
    fc.conv2d(5, 3, stride=2, groups=1), fc.batch_norm(affine=False), fc.leaky_relu(0.2),
    fc.flatten(), fc.dropout(0.5), fc.linear(7), fc.batch_norm(), fc.gelu(), fc.linear(2),
)  # fmt: skip
BODY = fc.compose(fc.conv2d(4, 3, padding=1), fc.batch_norm(), fc.relu(), fc.conv2d(4, 1), fc.batch_norm())
SHARED = {
    "conv": (fc.conv2d(4, 3, padding=1), "x"),
    "norm": (fc.batch_norm(), "conv"),
    "again": ("conv", "norm"),
    "act": (fc.relu(), "again"),
    "sum": (fc.add(), "act", "x"),
    "out": (fc.sigmoid(), "sum"),
}
TWO = {
    "a": (fc.compose(fc.conv2d(3, 1), fc.batch_norm(), fc.relu()), "p"),
    "b": (fc.conv2d(3, 1), "q"),
    "sum": (fc.add(), "a", "b"),
    "out": (fc.tanh(), "sum"),
}
BOTH = {"p": X, "q": -X}
NETWORKS = {
    # network, input, batch norms that stay, layers that are left
    "compose": (CHAIN, X, 0, 5),
    "by name": (fc.compose(conv=fc.conv2d(2, 3), norm=fc.batch_norm(), act=fc.hardtanh()), X, 0, 1),
    "norm first": (fc.compose(fc.batch_norm(), fc.relu(), fc.conv2d(3, 3)), X, 1, 2),
    "residual": (fc.compose(fc.residual(BODY), fc.relu()), X, 0, 2),
    "projected": (fc.residual(BODY, fc.compose(fc.conv2d(4, 1), fc.batch_norm())), X, 0, 3),
    "parallel": (fc.parallel(BODY, fc.compose(fc.conv2d(2, 1), fc.batch_norm())), X, 0, 4),
    "sum": (fc.parallel(BODY, fc.identity(), BODY, merge="sum"), X, 0, 5),
    "graph": (fc.graph(SHARED), X, 1, 4),
    "two inputs": (fc.graph(TWO, inputs=["p", "q"]), BOTH, 0, 2),
    "two outputs": (fc.graph(TWO, inputs=["p", "q"], outputs=["a", "out"]), BOTH, 0, 4),
    "repeat": (fc.repeat(BODY, 2), X, 0, 4),
    "repeat shared": (fc.repeat(BODY, 2, shared=True), X, 2, 5),
    "with outputs": (fc.with_outputs(CHAIN, ["1", "4", "13"]), X, 0, 8),
    "block": (fc.compose(fc.conv2d(4, 1), fc.batch_norm(), fc.squeeze_excitation(2)), X, 0, 2),
    "calls": (
        fc.graph(
            {
                "w": (fc.parameter(4, 4, 1, 1, init=fc.initializers.normal()),),
                "conv": (fc.call("conv2d"), "x", "w"),
                "norm": (fc.batch_norm(), "conv"),
                "act": (fc.relu(), "norm"),
            }
        ), X, 1, 3,
    ),
    "transposed": (fc.compose(fc.conv_transpose2d(6, 3, stride=2, groups=2), fc.batch_norm(), fc.elu()), X,
                   0, 1),
    "grouped": (fc.compose(fc.conv2d(8, 3, groups=4, padding=1, padding_mode="reflect"), fc.batch_norm()), X,
                0, 1),
    "1d": (fc.compose(fc.conv1d(5, 3), fc.batch_norm(), fc.silu(), fc.conv_transpose1d(3, 2),
                      fc.batch_norm()), X[:, :, 0], 0, 2),
    "3d": (fc.compose(fc.conv3d(5, 2), fc.batch_norm(), fc.softplus()), X[:, :, None].repeat(2, 2), 0, 1),
    "features": (fc.compose(fc.linear(4), fc.batch_norm(), fc.relu()), X[:, :, 0, 0], 0, 2),
    "deep features": (
        fc.compose(fc.flatten(), fc.linear(4), fc.relu(), fc.linear(3), fc.batch_norm()), X, 0, 3),
    "of the batch": (fc.compose(fc.conv2d(2, 1), fc.batch_norm(track_running_stats=False)), X, 1, 2),
    "nothing": (fc.compose(fc.dropout(0.5), fc.identity()), X, 0, 1),
    "one layer": (fc.conv2d(3, 3), X, 0, 0),
}  # fmt: skip


def _trained(net, x, dtype=np.float64):
    """Draw parameters whose statistics are not those that they begin with."""
    shape = {k: v.shape for k, v in x.items()} if isinstance(x, dict) else x.shape
    params = net.init(KEY, shape, dtype)
    params = fc.trees.map(lambda leaf: leaf + 0.1 if leaf.dtype.kind == "f" else leaf, params)
    for i in range(2):
        _, params, _ = net.forward(params, x, train=True, key=fc.random.fold_in(KEY, i))
    return shape, params


def _close(a, b, tolerance):
    for left, right in zip(fc.trees.leaves(a), fc.trees.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_inference_is_what_it_was(name):
    net, x, norms, count = NETWORKS[name]
    shape, params = _trained(net, x)
    before = fc.trees.map(np.copy, params)
    lean, its = fc.for_inference(net, params)
    assert all(map(same_bits, fc.trees.leaves(before), fc.trees.leaves(params)))
    expected = net.apply(params, x)
    found = lean.apply(its, x)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
    _close(found, expected, 1e-12)
    assert lean.out_shape(shape) == net.out_shape(shape)
    assert repr(lean).count("batch_norm(") == norms
    assert len(lean.children) == count
    drawn = lean.init(KEY, shape, np.float64)
    assert [leaf.shape for leaf in fc.trees.leaves(drawn)] == [leaf.shape for leaf in fc.trees.leaves(its)]
    assert pickle.loads(pickle.dumps(lean)) == lean == fc.for_inference(net, params)[0]
    again, the_same = fc.for_inference(lean, its)
    assert len(again.children) == count
    names = fc.to_state_dict(its)
    assert all(same_bits(leaf, names[name]) for name, leaf in fc.to_state_dict(the_same).items())
    if not isinstance(x, dict) and not isinstance(expected, dict):
        assert fc.summary(lean, shape).multiply_adds <= fc.summary(net, shape).multiply_adds


@pytest.mark.parametrize("name", ["compose", "residual", "projected", "transposed"])
def test_gradients_of_a_network_made_ready(name):
    net, x, _, _ = NETWORKS[name]
    _, params = _trained(net, x)
    lean, its = fc.for_inference(net, params)
    check_layer(lean, x, key=KEY)
    g = fc.random.normal(KEY, net.out_shape(x.shape), np.float64)
    _close(lean.vjp(its, x, g)[1], net.vjp(params, x, g)[1], 1e-11)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_other_dtypes_stay(dtype):
    x = X.astype(dtype)
    _, params = _trained(CHAIN, x, dtype)
    lean, its = fc.for_inference(CHAIN, params)
    assert {leaf.dtype for leaf in fc.trees.leaves(its)} == {np.dtype(dtype)}
    _close(lean.apply(its, x), CHAIN.apply(params, x), 1e-5 if dtype == np.float32 else 2e-2)


@pytest.mark.parametrize("order", ["C", "F", "K"])
def test_memory_orders_and_large_arrays(order):
    x = np.ones((2, 8, 96, 96), np.float32) * np.linspace(-1, 1, 96, dtype=np.float32)
    x = (
        np.asarray(x, order=order)
        if order != "K"
        else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    )
    net = fc.compose(fc.residual(fc.compose(fc.conv2d(8, 3, padding=1), fc.batch_norm())), fc.gelu())
    _, params = _trained(net, x, np.float32)
    lean, its = fc.for_inference(net, params)
    kept = x.copy()
    _close(lean.apply(its, x), net.apply(params, x), 1e-5)
    assert same_bits(x, kept)


@pytest.mark.parametrize("shape", [(0, 4, 8, 8), (1, 4, 1, 1)])
def test_empty_and_small_inputs(shape):
    net = fc.compose(fc.residual(BODY), fc.relu())
    _, params = _trained(net, X)
    lean, its = fc.for_inference(net, params)
    x = np.ones(shape)
    _close(lean.apply(its, x), net.apply(params, x), 1e-12)


def test_names_of_parameters_stay():
    net = fc.models.resnet20()
    params = net.init(KEY, (1, 3, 32, 32))
    lean, its = fc.for_inference(net, params)
    names = set(fc.to_state_dict(its))
    norms = {name for name in fc.to_state_dict(params) if ".bn" in f".{name}"}
    kept = set(fc.to_state_dict(params)) - norms
    assert kept <= names
    assert {name.rpartition(".")[2] for name in names - kept} == {"bias"}
    assert len(lean.children) == 26


def test_a_layer_of_the_users_is_left_alone():
    double = Layer(
        init=lambda key, shape, dtype=None: (),
        apply=lambda params, x, *, train=False, key=None: 2 * x,
        vjp=lambda params, x, g, *, train=False, key=None: ((), 2 * g),
        out_shape=lambda shape: shape,
        name="dropout",
    )
    net = fc.compose(fc.conv2d(2, 1), double)
    params = net.init(KEY, X.shape, np.float64)
    lean, its = fc.for_inference(net, params)
    assert same_bits(lean.apply(its, X), net.apply(params, X))


def test_features_of_three_axes_are_refused_not_mistaken():
    net = fc.compose(fc.linear(4), fc.batch_norm())
    params = net.init(KEY, (3, 4, 5))
    lean, its = fc.for_inference(net, params)
    with pytest.raises(ValueError, match=r"linear: expected 5 input features"):
        lean.apply(its, np.ones((3, 4, 5), np.float32))


def test_features_that_are_given_a_third_axis_are_refused_too():
    net = fc.compose(fc.flatten(), fc.reshape(4, 5), fc.linear(4), fc.batch_norm())
    params = net.init(KEY, (3, 4, 5))
    lean, its = fc.for_inference(net, params)
    with pytest.raises(ValueError, match=r"linear: expected 5 input features"):
        lean.apply(its, np.ones((3, 4, 5), np.float32))


def test_onnx_of_a_network_made_ready(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    net = fc.compose(fc.residual(BODY), fc.relu(), fc.flatten(), fc.linear(3))
    _, params = _trained(net, X.astype(np.float32), np.float32)
    lean, its = fc.for_inference(net, params)
    x = X.astype(np.float32)
    fc.to_onnx(lean, its, x.shape, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    _close(found, net.apply(params, x), 1e-4)
    read, its = fc.from_onnx(tmp_path / "net.onnx")
    _close(read.apply(its, x), net.apply(params, x), 1e-4)


@pytest.mark.parametrize(
    ("net", "params", "error", "message"),
    [
        (fc.relu, (), TypeError, "for_inference: expected a layer, got function relu"),
        (CHAIN, (), ValueError, "for_inference: params hold none for 0 conv2d; write params = net.init"),
        (fc.compose(fc.relu()), ((), {"weight": np.ones(2)}), ValueError, "hold 1 arrays that no layer"),
        (
            fc.compose(fc.conv2d(2, 1), fc.batch_norm()),
            ({"weight": np.ones((2, 1, 1, 1)), "bias": np.ones(2)}, {"weight": np.ones(2)}),
            ValueError,
            "for_inference: 1 batch_norm: expected parameters weight, bias, running_mean",
        ),
        (
            fc.with_outputs(fc.compose(fc.conv2d(2, 1), fc.relu()), ["1", "0.weight"]),
            ({"weight": np.ones((2, 1, 1, 1)), "bias": np.ones(2)}, ()),
            ValueError,
            "for_inference: 0.weight reads the parameters of 0",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_made_ready(net, params, error, message):
    with pytest.raises(error, match=message):
        fc.for_inference(net, params)


@pytest.mark.parametrize(
    ("after", "error", "message"),
    [
        ([fc.linear(3)], ValueError, r"fused\[1\]: expected a function of each element or add, got linear"),
        ([fc.relu(), fc.compose(fc.relu())], ValueError, r"fused\[2\]: expected a function of each element"),
        ([fc.relu], TypeError, r"fused\[1\]: expected a layer, got function relu"),
    ],
)
def test_what_cannot_be_fused(after, error, message):
    with pytest.raises(error, match=message):
        fc.fused(fc.linear(3), *after)


def test_fused_takes_a_tuple_where_it_adds():
    layer = fc.fused(fc.linear(3), fc.add(), fc.relu())
    params = layer.init(KEY, ((2, 4), (2, 3)), np.float64)
    with pytest.raises(TypeError, match="fused: expected a tuple of 2 inputs, got numpy array"):
        layer.apply(params, np.ones((2, 4)))
    check_layer(layer, (X[:, :, 0, 0], X[:, :3, 0, 0]), key=KEY)


def test_fused_overwrites_no_parameter():
    layer = fc.fused(fc.parameter(300, 300), fc.relu())
    params = np.full((300, 300), -1.0)
    assert (layer.apply(params, ()) == 0).all()
    assert (params == -1).all()


def test_values_are_let_go_once_they_are_used():
    import weakref

    seen = []

    def watch(params, x, *, train=False, key=None):
        alive = [ref() is not None for ref in seen]
        y = x + 1
        seen.append(weakref.ref(y))
        assert not any(alive[:-1])
        return y

    layer = Layer(
        init=lambda key, shape, dtype=None: (), apply=watch, out_shape=lambda shape: shape,
        vjp=lambda params, x, g, *, train=False, key=None: ((), g),
    )  # fmt: skip
    net = fc.graph({f"n{i}": (layer, f"n{i - 1}" if i else "x") for i in range(4)})
    assert net.apply({f"n{i}": () for i in range(4)}, np.zeros(2))[0] == 4
