"""Branches, repetition, graphs and summaries."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

import fconv as fc
from fconv.testing import check_layer
from fconv.testing.purity import same_bits

KEY = fc.random.key(0)


DENSE = fc.compose(first=fc.linear(4), second=fc.linear(3))


def conv(channels, **options):
    return fc.conv2d(channels, 3, padding=1, **options)


NETWORKS = {
    "residual": fc.residual(fc.compose(conv(3), fc.tanh())),
    "residual with a shortcut": fc.residual(conv(4, stride=2), fc.conv2d(4, 1, stride=2)),
    "parallel": fc.parallel(conv(2), fc.compose(conv(3), fc.batch_norm()), fc.identity()),
    "parallel sum by name": fc.parallel(a=conv(2), b=fc.conv2d(2, 1), merge="sum"),
    "parallel product": fc.parallel(conv(2), fc.conv2d(2, 1), merge=fc.multiply()),
    "repeat": fc.repeat(fc.compose(conv(3), fc.tanh()), 3),
    "repeat shared": fc.repeat(
        fc.compose(conv(3), fc.batch_norm(), fc.dropout(0.2), fc.tanh()), 3, shared=True
    ),
    "graph": fc.graph(
        {
            "out": (fc.add(), "act", "again", "x"),
            "conv": (conv(3), "x"),
            "act": (fc.tanh(), "conv"),
            "again": ("conv", "drop"),
            "drop": (fc.dropout(0.2), "act"),
            "end": (fc.concat(), "out", "conv"),
        }
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_keep_the_contract(name):
    check_layer(NETWORKS[name], fc.random.normal(KEY, (2, 3, 6, 6)), key=KEY)


@pytest.mark.parametrize(
    "merge", [fc.add(), fc.multiply(), fc.concat(), fc.concat(-1), fc.concat_padded()], ids=lambda m: m.name
)
def test_merges_have_the_gradients_of_differences(merge):
    from fconv.testing import check_vjp

    xs = [fc.random.normal(fc.random.key(i), (2, 3, 4), np.float64) for i in range(3)]
    check_vjp(lambda *x: merge.apply((), x), lambda g, *x: merge.vjp((), x, g)[1], xs)


def test_subtract_has_the_gradients_of_differences_and_takes_two():
    from fconv.testing import check_vjp

    merge = fc.subtract()
    xs = [fc.random.normal(fc.random.key(i), (2, 3), np.float64) for i in range(3)]
    check_vjp(lambda *x: merge.apply((), x), lambda g, *x: merge.vjp((), x, g)[1], xs[:2])
    np.testing.assert_array_equal(merge.apply((), (xs[0], xs[1])), xs[0] - xs[1])
    with pytest.raises(ValueError, match="subtract: expected two inputs, got 3"):
        merge.apply((), tuple(xs))
    with pytest.raises(ValueError, match="subtract: expected shapes that are equal or 1"):
        merge.out_shape(((2, 3), (2, 4)))


def test_concat_padded_sets_each_picture_in_the_middle_of_the_largest():
    from fconv.testing import check_vjp

    merge = fc.concat_padded()
    xs = [
        fc.random.normal(fc.random.key(i), s, np.float64) for i, s in enumerate([(2, 1, 5, 4), (2, 2, 4, 7)])
    ]
    y = merge.apply((), tuple(xs))
    assert y.shape == merge.out_shape(tuple(x.shape for x in xs)) == (2, 3, 5, 7)
    np.testing.assert_array_equal(y[:, :1], np.pad(xs[0], ((0, 0), (0, 0), (0, 0), (1, 2))))
    np.testing.assert_array_equal(y[:, 1:], np.pad(xs[1], ((0, 0), (0, 0), (0, 1), (0, 0))))
    check_vjp(lambda *x: merge.apply((), x), lambda g, *x: merge.vjp((), x, g)[1], xs)
    assert merge.apply((), tuple(x.astype(np.float32) for x in xs)).dtype == np.float32
    with pytest.raises(ValueError, match=r"concat_padded: expected shapes \(N, C, \*spatial\)"):
        merge.out_shape(((2, 3, 4), (1, 3, 4)))


def test_concat_padded_of_one_size_is_wired_as_concat():
    from fconv.networks.wiring import flat

    shapes = ((1, 2, 4, 4), (1, 3, 4, 4))
    net = fc.graph({"a": (fc.relu(), "x"), "b": (fc.tanh(), "x"), "c": (fc.concat_padded(), "a", "b")})
    steps = flat(net, (1, 2, 4, 4)).steps
    assert [(s.layer.name, s.sources) for s in steps][-1] == ("concat", ("a", "b"))
    assert fc.concat_padded().wiring((*shapes, (1, 3, 5, 4))) is None
    with pytest.raises(ValueError, match="depends on the sizes; give the input shape"):
        flat(net)


def test_multiply_stretches_axes_of_one_entry():
    x, gate = fc.random.normal(KEY, (2, 3, 4, 4), np.float64), fc.random.normal(KEY, (2, 3, 1, 1), np.float64)
    y, _, pullback = fc.multiply().forward((), (x, gate))
    _, (dx, dgate) = pullback(np.ones_like(y))
    np.testing.assert_allclose(dgate, x.sum((2, 3), keepdims=True))
    np.testing.assert_allclose(dx, np.broadcast_to(gate, x.shape))


def test_names_in_the_state_dict():
    net = fc.compose(
        stem=conv(3), block=fc.residual(fc.repeat(conv(3), 2)), ends=fc.parallel(fc.identity(), conv(1))
    )
    params = net.init(KEY, (1, 3, 6, 6))
    assert list(fc.to_state_dict(params)) == [
        "stem.weight", "stem.bias", "block.body.0.weight", "block.body.0.bias",
        "block.body.1.weight", "block.body.1.bias", "ends.1.weight", "ends.1.bias",
    ]  # fmt: skip


def test_a_shared_layer_has_one_set_of_params_whose_gradients_add():
    shared = fc.repeat(conv(3), 2, shared=True)
    unrolled = fc.compose(conv(3), conv(3))
    x = fc.random.normal(KEY, (1, 3, 6, 6), np.float64)
    params = shared.init(KEY, x.shape, np.float64)
    dparams, dx = shared.vjp(params, x, x)
    (first, second), expected = unrolled.vjp((params, params), x, x)
    np.testing.assert_allclose(dx, expected)
    np.testing.assert_allclose(dparams["weight"], first["weight"] + second["weight"])


def test_a_node_may_use_the_layer_of_one_that_uses_another():
    net = fc.graph({"c": ("b", "b"), "b": ("a", "a"), "a": (conv(3), "x")}, outputs="c")
    x = fc.random.normal(KEY, (1, 3, 4, 4), np.float64)
    params = net.init(KEY, x.shape, np.float64)
    assert list(params) == ["a"]
    np.testing.assert_array_equal(
        net.apply(params, x), fc.repeat(conv(3), 3, shared=True).apply(params["a"], x)
    )


def test_several_inputs_and_outputs_are_dicts_by_name():
    net = fc.graph(
        {
            "a": (conv(2), "left"),
            "b": (conv(2), "right"),
            "sum": (fc.add(), "a", "b"),
            "half": (fc.tanh(), "b"),
        },
        inputs=("left", "right"),
        outputs=("sum", "half"),
    )
    shapes = {"left": (1, 3, 4, 4), "right": (1, 1, 4, 4)}
    assert net.out_shape(shapes) == {"sum": (1, 2, 4, 4), "half": (1, 2, 4, 4)}
    params = net.init(KEY, shapes, np.float64)
    x = {name: fc.random.normal(KEY, shape, np.float64) for name, shape in shapes.items()}
    y, _, pullback = net.forward(params, x)
    g = {name: np.ones_like(v) for name, v in y.items()}
    _, dx = pullback(g)
    assert {name: v.shape for name, v in dx.items()} == shapes
    h = 1e-6
    for name in shapes:
        moved = [net.apply(params, {**x, name: x[name] + s * h}) for s in (1, -1)]
        slope = sum((moved[0][out] - moved[1][out]).sum() for out in y) / (2 * h)
        assert abs(slope - dx[name].sum()) < 1e-6 * abs(slope)
    with pytest.raises(ValueError, match="graph: expected a dict of inputs left, right, got left"):
        net.apply(params, {"left": x["left"]})
    with pytest.raises(ValueError, match="graph: expected a dict of shapes left, right, got tuple"):
        net.out_shape((1, 3, 4, 4))


def test_gradients_that_nobody_needs_are_not_computed():
    calls = []

    def counting(layer, name):
        def forward(params, x, *, train=False, key=None):
            y, params, pullback = layer.forward(params, x, train=train, key=key)

            def pull(g, input_grad=True):
                calls.append((name, input_grad))
                return pullback(g, input_grad)

            return y, params, pull

        return fc.Layer(layer.init, layer.apply, layer.vjp, layer.out_shape, forward)

    net = fc.graph(
        {
            "pre": (counting(fc.tanh(), "pre"), "x"),
            "conv": (counting(conv(3), "conv"), "pre"),
            "sum": (counting(fc.add(), "sum"), "conv", "pre"),
        }
    )
    x = np.ones((1, 3, 4, 4), np.float32)
    net.forward(net.init(KEY, x.shape), x)[2](x, input_grad=False)
    assert calls == [("sum", True), ("conv", False)]


GOOD = {"a": (fc.relu(), "x"), "b": (fc.relu(), "a")}


@pytest.mark.parametrize(
    ("build", "kind", "text"),
    [
        (lambda: fc.graph({"a": (fc.relu(), "b"), "b": (fc.relu(), "a")}), ValueError, "go round in a cycle: "),
        (lambda: fc.graph({"a": (fc.add(), "x", "a")}), ValueError, "go round in a cycle: a -> a"),
        (lambda: fc.graph({"a": (fc.relu(), "y")}), ValueError, r"graph\[a\]: unknown source 'y'; there are x, a"),
        (lambda: fc.graph({**GOOD, "c": (fc.relu(), "a")}, outputs="b"), ValueError, "no output depends on c"),
        (lambda: fc.graph(GOOD, inputs=("x", "z")), ValueError, "no output depends on z"),
        (lambda: fc.graph(GOOD, inputs="a"), ValueError, "the name 'a' stands for an input and for something else"),
        (lambda: fc.graph(GOOD, inputs=("x", "x")), ValueError, "the name 'x' stands for an input and"),
        (lambda: fc.graph(GOOD, outputs="c"), ValueError, "unknown output 'c'; there are a, b"),
        (lambda: fc.graph({"a": ("b", "x")}), ValueError, "expected a layer or the name of a node that has one, got 'b'"),
        (lambda: fc.graph({**GOOD, "c": ("x", "b")}), ValueError, "the name of a node that has one, got 'x'"),
        (lambda: fc.graph({**GOOD, "c": ("d", "b"), "d": ("c", "b")}), ValueError, r"graph\[c\]: nobody brings the layer: c -> d -> c"),
        (lambda: fc.graph({**GOOD, "c": ("c", "b")}), ValueError, r"graph\[c\]: nobody brings the layer: c -> c"),
        (lambda: fc.graph({1: (fc.relu(), "x")}), TypeError, "graph: expected the names of nodes to be text, got 1"),
        (lambda: fc.graph(GOOD, outputs=("b", 2)), TypeError, "graph: expected outputs to be text, got 2"),
        (lambda: fc.graph(GOOD, outputs=2), TypeError, "graph: expected outputs to be a name or several, got 2"),
        (lambda: fc.graph(GOOD, outputs=()), TypeError, r"graph: expected outputs to be a name or several, got \(\)"),
        (lambda: fc.graph(GOOD, inputs=None), TypeError, "graph: expected inputs to be a name or several, got None"),
        (lambda: fc.graph({"a": fc.relu()}), TypeError, r"graph\[a\]: expected \(layer, source, ...\), got relu\(\)"),
        (lambda: fc.graph({"a": (fc.relu(), 3)}), TypeError, r"graph\[a\]: expected names of sources, got int"),
        (lambda: fc.graph({"a": (fc.relu, "x")}), TypeError, r"graph\[a\]: expected a layer, got function relu"),
        (lambda: fc.graph({}), TypeError, "graph: expected a mapping of nodes"),
        (lambda: fc.compose(**{"a.b": fc.relu()}), ValueError, "a name holds no dot, got 'a.b'"),
        (lambda: fc.residual(conv(4)).init(KEY, (1, 3, 4, 4)), ValueError, r"residual add: expected inputs of one shape, got \(1, 4, 4, 4\) and \(1, 3, 4, 4\)"),
        (lambda: fc.residual(fc.relu), TypeError, r"residual\[body\]: expected a layer, got function relu"),
        (lambda: fc.parallel(), ValueError, "parallel: expected one branch or more"),
        (lambda: fc.parallel(conv(1), a=conv(1)), TypeError, "parallel: give branches either by position or by name"),
        (lambda: fc.parallel(conv(1), merge="max"), ValueError, 'expected merge "concat", "sum" or a layer'),
        (lambda: fc.parallel(conv(1), fc.conv2d(1, 3)).out_shape((1, 3, 4, 4)), ValueError, "concat: expected shapes that differ only along axis 1"),
        (lambda: fc.concat().out_shape(((2, 3, 4, 5), (2, 3, 7, 5))), ValueError, "concat: expected shapes that differ only along axis 1"),
        (lambda: fc.concat().out_shape(((2, 3, 4, 5), (2, 3, 4, 6))), ValueError, "concat: expected shapes that differ only along axis 1"),
        (lambda: DENSE.vjp(DENSE.init(KEY, (2, 3)), np.ones((2, 3), "f4"), np.ones((2, 5), "f4")), ValueError, r"compose\[second\] linear_vjp: expected a gradient of"),
        (lambda: fc.repeat(conv(3), 0), ValueError, "repeat: n must be at least 1, got 0"),
        (lambda: fc.repeat(conv(3), 1.5), TypeError, "repeat: n must be an integer, got 1.5"),
        (lambda: fc.repeat(conv(4), 2, shared=True).apply(conv(4).init(KEY, (1, 3, 4, 4)), np.ones((1, 3, 4, 4), "f4")), ValueError, r"repeat\[1\] conv2d: expected 3 input channels, got 4"),
        (lambda: fc.add().apply((), np.ones(3)), TypeError, "add: expected a tuple of inputs, got ndarray"),
        (lambda: fc.multiply().out_shape(((1, 2), (1, 3))), ValueError, "multiply: expected shapes that are equal or 1"),
        (lambda: fc.add().apply((), (np.ones(3), np.ones(3, "f4"))), TypeError, "add: input 0 is float64 but input 1 is float32"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_what_cannot_be_is_refused(build, kind, text):
    with pytest.raises(kind, match=text):
        build()


def test_a_long_chain_is_no_deep_recursion():
    nodes = {f"n{i}": (fc.relu(), f"n{i - 1}" if i else "x") for i in range(5000)}
    net = fc.graph(dict(reversed(nodes.items())), outputs="n4999")
    assert net.out_shape((2, 3)) == (2, 3)


def test_summary_counts_what_is_shared_once():
    net = fc.compose(
        conv(4), fc.batch_norm(), fc.repeat(conv(4), 3, shared=True), fc.residual(conv(4)),
        fc.graph({"a": (conv(4), "x"), "b": ("a", "a")}), fc.flatten(), fc.linear(10),
    )  # fmt: skip
    text = io.StringIO()
    found = fc.summary(net, (2, 3, 8, 8), file=text)
    params = net.init(KEY, (2, 3, 8, 8))
    untrained = 4 + 4 + 1
    assert found.params + found.buffers == sum(p.size for p in fc.trees.leaves(params))
    assert found.buffers == untrained
    per_conv = 2 * 64 * 4 * 4 * 9
    assert found.multiply_adds == 2 * 64 * 4 * 3 * 9 + 6 * per_conv + 2 * 256 * 10
    assert text.getvalue() == f"{found}\n"
    assert len(re.findall("shared", text.getvalue())) == 3
    assert "  2: repeat" in text.getvalue()
    with pytest.raises(ValueError, match=r"compose\[0\] conv2d: expected an input of 4 axes"):
        fc.summary(net, (2, 3))
    with pytest.raises(TypeError, match="summary: expected a layer"):
        fc.summary(conv, (2, 3))


RANDOM = fc.compose(a=conv(3), b=fc.dropout(0.5), c=fc.tanh())


@pytest.mark.parametrize(
    "net",
    [
        RANDOM, fc.residual(RANDOM), fc.parallel(RANDOM, conv(2)), fc.repeat(RANDOM, 2),
        fc.repeat(RANDOM, 2, shared=True), fc.graph({"y": (RANDOM, "x")}), fc.with_outputs(RANDOM, ["c"]),
    ],
    ids=lambda net: net.name,
)  # fmt: skip
def test_derivatives_are_those_of_inference_by_default(net):
    x = fc.random.normal(KEY, (2, 3, 4, 5), np.float64)
    params = net.init(KEY, x.shape, np.float64)
    y = net.apply(params, x)
    assert same_bits(y, net.apply(params, x, train=False))
    assert same_bits(net.vjp(params, x, y), net.vjp(params, x, y, train=False))
    if net.jvp:
        assert same_bits(net.jvp(params, x, params, x), net.jvp(params, x, params, x, train=False))
    assert same_bits(fc.jvp(net, params, x, params, x), fc.jvp(net, params, x, params, x, train=False))


def test_concat_padded_of_one_picture_is_itself():
    x = np.ones((2, 3, 4, 5))
    assert fc.concat_padded().out_shape((x.shape,)) == x.shape
    np.testing.assert_array_equal(fc.concat_padded().apply((), (x,)), x)
