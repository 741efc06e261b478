"""Parts of networks, and intermediate values of ready ones."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fconv as fc
from fconv.testing import check_layer
from fconv.testing.purity import same_bits
from tests.test_freezing import Counting

KEY = fc.random.key(0)
X = fc.random.normal(KEY, (3, 2, 8, 8), np.float64)


def _net():
    return fc.compose(
        features=fc.compose(
            fc.conv2d(4, 3, padding=1), fc.batch_norm(), fc.relu(), fc.dropout(0.3),
            fc.residual(fc.compose(fc.conv2d(4, 3, padding=1), fc.dropout(0.2), fc.batch_norm())),
            fc.squeeze_excitation(2),
        ),
        flatten=fc.flatten(),
        head=fc.linear(3),
    )  # fmt: skip


@pytest.mark.parametrize("train", [False, True])
def test_intermediate_values_are_those_of_the_network(train):
    net = _net()
    params = net.init(KEY, X.shape, np.float64)
    names = ["features.4.body.1", "features.4", "features", "head", "features.0"]
    tapped = fc.with_outputs(net, names)
    y = tapped.apply(params, X, train=train, key=KEY)
    assert list(y) == names
    assert same_bits(y["head"], net.apply(params, X, train=train, key=KEY))
    assert {n: v.shape for n, v in y.items()} == tapped.out_shape(X.shape)
    if not train:
        assert same_bits(y["features.0"], net["features.0"].apply(params["features"][0], X))
        assert same_bits(y["features.4"], net["features"][:5].apply(params["features"][:5], X))
    again, refreshed, _ = tapped.forward(params, X, train=train, key=KEY)
    assert same_bits(again, y)
    assert same_bits(refreshed, net.forward(params, X, train=train, key=KEY)[1])
    assert same_bits(tapped.init(KEY, X.shape, np.float64), params)
    assert pickle.loads(pickle.dumps(tapped)) == tapped


def test_gradients():
    net = fc.compose(a=fc.linear(4), b=fc.compose(fc.tanh(), fc.linear(3), fc.sigmoid()), c=fc.linear(2))
    x = fc.random.normal(KEY, (2, 3), np.float64)
    check_layer(fc.with_outputs(net, ["c", "b.1", "b.1.weight", "a.bias"]), x)
    whole = fc.with_outputs(net, "c")
    params = net.init(KEY, x.shape, np.float64)
    g = np.ones((2, 2))
    assert same_bits(whole.vjp(params, x, {"c": g}), net.vjp(params, x, g))


def test_several_inputs_shared_layers_and_repetitions():
    block = fc.compose(fc.linear(3), fc.batch_norm())
    net = fc.graph(
        {"a": (block, "p"), "b": ("a", "q"), "sum": (fc.add(), "a", "b"),
         "more": (fc.repeat(fc.compose(fc.tanh(), fc.linear(3)), 3, shared=True), "sum")},
        inputs=["p", "q"],
    )  # fmt: skip
    x = {name: fc.random.normal(fc.random.fold_in(KEY, i), (4, 3), np.float64) for i, name in enumerate("pq")}
    params = net.init(KEY, {name: v.shape for name, v in x.items()}, np.float64)
    tapped = fc.with_outputs(net, ["a.0", "more.1.0", "more"])
    y, refreshed, pull = tapped.forward(params, x, train=True)
    expected, new, pull_whole = net.forward(params, x, train=True)
    assert same_bits((y["more"], refreshed), (expected, new))
    zero = {name: np.zeros_like(v) for name, v in y.items()}
    assert same_bits(pull({**zero, "more": np.ones_like(expected)}), pull_whole(np.ones_like(expected)))
    check_layer(tapped, x)


def test_what_nothing_depends_on_is_not_computed():
    after = Counting()
    net = fc.compose(fc.linear(3), fc.relu(), after)
    after.apply = None
    x = np.ones((2, 3), np.float32)
    params = (net[0].init(KEY, x.shape), (), {"weight": np.ones((), np.float32)})
    tapped = fc.with_outputs(net, ["1"])
    _, grads, _ = fc.value_and_grad(tapped, fc.losses_by_name({"1": (1, fc.l1_penalty())}))(params, x, None)
    assert grads[2] == {"weight": None}
    assert grads[0]["weight"].any()


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "mobilenet_v2", "unet", "srresnet"])
def test_ready_networks(name):
    net = getattr(fc.models, name)()
    names = {
        "resnet18": ["layer1.0.conv1", "layer2.1", "layer3", "fc"], "vgg11": ["features.8", "features"],
        "mobilenet_v2": ["features.3.conv.0.2", "features.3"],
        "unet": ["down1.maxpool_conv.1.double_conv.2", "outc"], "srresnet": ["residual.3", "sum"],
    }[name]  # fmt: skip
    shape = (1, 3, 32, 32)
    shapes = fc.with_outputs(net, names).out_shape(shape)
    assert list(shapes) == names
    if names[-1] in ("fc", "outc"):
        assert shapes[names[-1]] == net.out_shape(shape)
    if name == "resnet18":
        params = net.init(KEY, shape)
        x = fc.random.normal(KEY, shape)
        y = fc.with_outputs(net, names).apply(params, x)
        assert same_bits(y["fc"], net.apply(params, x))
        layer, own = fc.part(net, params, "layer1.0.conv1")
        assert same_bits(
            y["layer1.0.conv1"], layer.apply(own, fc.with_outputs(net, "maxpool").apply(params, x)["maxpool"])
        )


def test_penalties_on_activations_and_parameters_in_a_frozen_network():
    net = _net()
    params = net.init(KEY, X.shape, np.float64)
    loss = fc.losses_by_name({
        "head": (1.0, fc.cross_entropy_loss()), "features.2": (0.1, fc.l1_penalty()), "head.weight": (0.5, fc.l2_penalty()),
        "features.0.weight": (1.0, fc.l1_penalty()),
    })  # fmt: skip
    tapped = fc.with_outputs(net, list(loss._call.args[0]))
    t = {"head": np.array([0, 1, 2])}
    value, grads, _, y = fc.value_and_grad(tapped, loss, trainable="head", outputs=True)(
        params, X, t, key=KEY
    )
    weight = params["head"]["weight"]
    plain = fc.cross_entropy_loss().apply(y["head"], t["head"]) + 0.1 * abs(y["features.2"]).sum()
    assert value == pytest.approx(
        plain + 0.5 * (weight**2).sum() + abs(params["features"][0]["weight"]).sum()
    )
    assert grads["features"][0] == {"weight": None, "bias": None}
    lone = fc.value_and_grad(net, fc.cross_entropy_loss(), trainable="head")(params, X, t["head"], key=KEY)[1]
    np.testing.assert_allclose(grads["head"]["weight"], lone["head"]["weight"] + weight)


def test_indices():
    net = _net()
    params = net.init(KEY, X.shape)
    assert net[0] == net["features"] == net[-3]
    assert net["features.4.body.0"] == fc.conv2d(4, 3, padding=1)
    assert [layer.name for layer in net] == ["compose", "flatten", "linear"]
    assert net["features"][1:3] == fc.compose(fc.batch_norm(), fc.relu())
    assert net[:2] == fc.compose(features=net[0], flatten=net[1])
    assert net[:2].apply(
        {name: params[name] for name in ("features", "flatten")}, X.astype(np.float32)
    ).shape == (3, 256)
    for index in (0, -1, "features.4.body", slice(0, 2), "features.0"):
        layer, own = fc.part(net, params, index)
        assert layer == net[index]
        shape = {"features.4.body": (3, 4, 8, 8), -1: (3, 256)}.get(
            index if isinstance(index, (str, int)) else 0, X.shape
        )
        assert fc.trees.same_structure(own, layer.init(KEY, shape))
        assert layer.apply(own, np.ones(shape, np.float32)).shape == layer.out_shape(shape)
    layer, own = fc.part(net["features"], params["features"], slice(1, 3))
    assert own == params["features"][1:3]
    repeated = fc.repeat(fc.linear(3), 3)
    assert repeated[1:] == fc.compose(fc.linear(3), fc.linear(3))
    assert fc.repeat(fc.linear(3), 3, shared=True)[0] == fc.linear(3)


def test_graphs_are_cut_where_nothing_is_left_open():
    net = fc.graph({"a": (fc.linear(3), "x"), "b": (fc.relu(), "a"), "c": (fc.add(), "b", "a")})
    params = net.init(KEY, (2, 3))
    x = np.ones((2, 3), np.float32)
    head, own = fc.part(net, params, slice(0, 2))
    assert same_bits(head.apply(own, x), fc.with_outputs(net, "b").apply(params, x)["b"])
    assert net[:3] == net
    assert net["b"] == net[1] == fc.relu()


def test_a_cut_graph_takes_those_inputs_that_it_uses():
    nodes = {"a": (fc.linear(3), "p"), "b": (fc.linear(3), "q"), "sum": (fc.add(), "a", "b")}
    net = fc.graph(nodes, inputs=["p", "q"])
    x = {"p": np.ones((2, 3), np.float32), "q": np.zeros((2, 4), np.float32)}
    params = net.init(KEY, {name: each.shape for name, each in x.items()})
    for part, name, node in ((slice(1), "p", "a"), (slice(1, 2), "q", "b")):
        head, own = fc.part(net, params, part)
        assert head == fc.graph({node: nodes[node]}, inputs=[name])
        assert same_bits(head.apply(own, {name: x[name]}), fc.with_outputs(net, node).apply(params, x)[node])
    assert net[:] == net


def test_a_layer_that_is_used_again_is_cut_with_its_use():
    twice = {"a": (fc.linear(3), "x"), "b": ("a", "a")}
    assert fc.graph({**twice, "c": (fc.relu(), "b")})[:2] == fc.graph(twice)
    net = fc.graph({"a": (fc.linear(3), "x"), "b": ("a", "x"), "c": (fc.add(), "a", "b")})
    with pytest.raises(ValueError, match=r"graph: the slice \[1:2\] holds 'b' without the node 'a', whose"):
        net[1:2]


def test_a_name_with_a_dot_is_a_node_before_it_is_a_part_of_one():
    inner = fc.compose(b=fc.linear(3), c=fc.linear(4))
    net = fc.graph({"a": (inner, "x"), "a.b": (fc.linear(5), "a")})
    params = net.init(KEY, (2, 3))
    for name, features in (("a.b", 5), ("a.c", 4)):
        layer, own = fc.part(net, params, name)
        assert layer == net[name] == fc.linear(features)
        assert own["weight"].shape[0] == features


NET = fc.graph({"a": (fc.linear(3), "x"), "b": (fc.relu(), "a"), "c": (fc.add(), "b", "a"), "d": ("a", "c")})


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: NET[1:3], ValueError, "graph: the slice [1:3] leaves an input of 'b' open: 'a' lies outside it"),
    (lambda: NET[4:], ValueError, "graph: the slice [4:] holds no node; there are 4"),
    (lambda: fc.residual(fc.relu())[:1], TypeError, "residual: only chains and graphs of layers have slices"),
    (lambda: fc.relu()[:1], TypeError, "relu: only chains and graphs of layers have slices"),
    (lambda: _net()[3], IndexError, "compose: expected a position below 3, got 3"),
    (lambda: _net()[1.0], TypeError, "compose: expected a position, a slice or a name, got 1.0"),
    (lambda: _net()["haed"], ValueError, "compose: there is no layer 'haed'; the nearest names are 'head', "),
    (lambda: _net()["features.9"], KeyError, "compose: there is no layer 'features.9'; the nearest names are 'features"),
    (lambda: _net()["head.weight"], KeyError, "there is no layer 'head.weight'; linear holds no layers by name"),
    (lambda: fc.with_outputs(_net(), ["features.11"]), ValueError,
     "with_outputs: there is no layer 'features.11'; the nearest names are 'features.1'"),
    (lambda: fc.with_outputs(_net(), "features.5.fc1"), ValueError,
     "with_outputs: 'features.5.fc1' cannot be had: squeeze_excitation: what it is made of depends on"),
    (lambda: fc.with_outputs(fc.relu(), "a"), ValueError, "with_outputs: there is no layer 'a': relu is made of no others"),
    (lambda: fc.with_outputs(_net(), [3]), TypeError, "with_outputs: expected names of layers, as [\"features.8\"], got "),
    (lambda: fc.with_outputs(_net(), []), TypeError, "with_outputs: expected names of layers, as [\"features.8\"], got "),
    (lambda: fc.with_outputs(_net(), "head.wieght").apply(_net().init(KEY, X.shape), X), ValueError,
     "with_outputs[head.wieght] parameter: linear has no parameter 'wieght'; there are weight, bias"),
])  # fmt: skip
def test_errors(make, kind, message):
    with pytest.raises(kind) as caught:
        make()
    assert message in str(caught.value)
