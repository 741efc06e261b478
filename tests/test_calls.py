"""Nodes without sources, and calls of functions on several arrays."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv import functional as F
from fconv.testing import check_layer

KEY = fc.random.key(0)


def draw(*shape):
    return fc.random.normal(fc.random.key(len(shape)), shape, np.float64)


def scaling(trained=True):
    return fc.graph(
        {
            "inner.scale": (fc.parameter(1, 3, 1, 1, trained=trained, init=fc.initializers.ones()),),
            "scaled": (fc.multiply(), "x", "inner.scale"),
        }
    )


def test_a_parameter_is_called_as_its_node():
    net, x = (
        fc.graph({"kernel": (fc.parameter(4, 3, 3, 3),), "y": (fc.call("conv2d"), "x", "kernel")}),
        draw(2, 3, 5, 5),
    )
    params = net.init(KEY, x.shape, np.float64)
    assert list(fc.to_state_dict(params)) == ["kernel"]
    params = fc.from_state_dict(params, {"kernel": draw(4, 3, 3, 3)})
    np.testing.assert_array_equal(net.apply(params, x), F.conv2d(x, params["kernel"]))
    check_layer(net, x)
    assert [step.sources for step in fc.networks.wiring.flat(net).steps] == [(), ("x", "kernel")]


def test_a_buffer_has_no_gradient():
    net, x = scaling(trained=False), np.ones((1, 3, 2, 2))
    params = net.init(KEY, x.shape, np.float64)
    dparams, dx = net.vjp(params, x, x)
    assert dparams["inner.scale"] is None
    np.testing.assert_array_equal(dx, x)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (fc.call("conv2d", padding=1), ((2, 3, 4, 4), (4, 3, 3, 3))),
        (fc.call("linear", ("x", "weight", "bias")), ((5, 3), (2, 3), (2,))),
        (fc.call("scaled_dot_product_attention", is_causal=True), ((2, 4, 3), (2, 4, 3), (2, 4, 3))),
    ],
)  # fmt: skip
def test_a_call_is_its_function(layer, shapes):
    xs = tuple(draw(*shape) for shape in shapes)
    named = dict(zip(layer.options["arrays"], xs, strict=True))
    options = {k: v for k, v in layer.options.items() if k not in ("function", "arrays")}
    function = getattr(F, layer.options["function"])
    y, _, pullback = layer.forward((), xs)
    np.testing.assert_array_equal(y, function(**named, **options))
    assert layer.out_shape(shapes) == y.shape
    wanted = [g for g in function.vjp(y, **named, **options) if g is not None]
    for found in (pullback(y)[1], layer.vjp((), xs, y)[1]):
        for g, expected in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(g, expected)
    assert pullback(y, input_grad=False) == ((), None)


def test_a_call_of_one_array():
    layer, x = fc.call("tanh"), draw(2, 3)
    np.testing.assert_allclose(layer.apply((), x), np.tanh(x), rtol=1e-6 if x.dtype == np.float32 else 1e-15)
    check_layer(layer, x)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fc.call("conv4d"), "call: fconv.functional has no differentiable function 'conv4d'"),
        (lambda: fc.call("conv2d", strides=2), r"call conv2d: expected arguments among x, weight, .*, got \['strides'\]"),
        (lambda: fc.call("conv2d", ("x", "w")), r"call conv2d: expected arguments among x, weight, .*, got \['w'\]"),
        (lambda: fc.call("conv2d").out_shape(((1, 3, 4, 4),)), "call conv2d: expected a tuple of x, weight, got tuple"),
        (lambda: fc.parameter(-1), "parameter: a size in the input shape must be at least 0, got -1"),
        (lambda: fc.parameter(2).apply(np.ones(3), ()), r"parameter: expected an array of shape \(2,\), got \(3,\)"),
        (lambda: fc.parameter(2).apply(np.ones(2), np.ones(2)), r"parameter: expected no input, \(\), got "),
        (lambda: fc.graph({"a": ()}), r"graph\[a\]: expected \(layer, source, ...\), got \(\)"),
    ],
)  # fmt: skip
def test_errors(make, text):
    with pytest.raises((ValueError, TypeError), match=text):
        make()


def test_a_parameter_that_is_not_trained_is_a_buffer():
    net = fc.graph(
        {
            "b": (fc.parameter(3, trained=False),),
            "w": (fc.parameter(2),),
            "y": (fc.call("linear", ["x", "weight"]), "x", "m"),
            "m": (fc.stack(), "b", "b"),
            "z": (fc.add(), "y", "w"),
        }
    )
    found = fc.summary(net, (4, 3))
    assert (found.params, found.buffers) == (2, 3)
    check_layer(net, fc.random.normal(fc.random.key(0), (4, 3)))


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (fc.einsum("bij,bjk->bki"), ((2, 3, 4), (2, 4, 2))),
        (fc.einsum("...ij->...ji"), ((2, 3, 4),)),
        (fc.einsum("...i,ij"), ((2, 3, 4), (4, 5))),
        (fc.where([True, False, True]), ((2, 3), (2, 1))),
        (fc.scaled_dot_product_attention(), ((2, 4, 3), (2, 5, 3), (2, 5, 2))),
        (fc.scaled_dot_product_attention(is_causal=True, dropout_p=0.4), ((2, 4, 3), (2, 4, 3), (2, 4, 3))),
        (fc.scaled_dot_product_attention(scale=0.5), ((2, 4, 3), (2, 5, 3), (2, 5, 2), (4, 5))),
    ],
)  # fmt: skip
def test_layers_of_several_arrays_keep_the_contract(layer, shapes):
    names = [f"x{i}" for i in range(len(shapes))]
    # One array is cut into the inputs, each of which gets its gradient.
    sizes = [int(np.prod(shape)) for shape in shapes]
    cut = {
        name: (fc.compose(fc.split(sizes, i, dim=0), fc.view(*shape)), "x")
        for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
    }
    check_layer(fc.graph({**cut, "y": (layer, *names)}), draw(sum(sizes)), key=KEY)


def test_attention_drops_in_training_alone():
    layer, xs = fc.scaled_dot_product_attention(dropout_p=0.5), (draw(1, 4, 3),) * 3
    plain = fc.scaled_dot_product_attention().apply((), xs)
    np.testing.assert_array_equal(layer.apply((), xs), plain)
    dropped = F.scaled_dot_product_attention(*xs, dropout_p=0.5, rng=KEY)
    np.testing.assert_array_equal(layer.apply((), xs, train=True, key=KEY), dropped)
    with pytest.raises(ValueError, match="scaled_dot_product_attention: a key is needed in training"):
        layer.apply((), xs, train=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_is_no_parameter_and_comes_in_the_inputs_type(dtype):
    net = fc.graph({"table": (fc.constant(np.arange(3)), "x"), "y": (fc.multiply(), "x", "table")})
    x = np.ones((2, 3), dtype)
    params = net.init(KEY, x.shape, dtype)
    assert fc.to_state_dict(params) == {}
    y, _, pull = net.forward(params, x)
    np.testing.assert_array_equal(y, np.asarray([[0, 1, 2]] * 2, dtype), strict=True)
    np.testing.assert_array_equal(pull(np.ones_like(y))[1], y)


@pytest.mark.parametrize(
    ("made", "kind", "text"),
    [
        (lambda: fc.einsum("a,b,c,d"), ValueError, "einsum: expected at most three arrays"),
        (lambda: fc.einsum(3), TypeError, "einsum: expected an equation"),
        (lambda: fc.constant("text"), TypeError, "constant: expected real numbers"),
        (lambda: fc.einsum("ij,jk->ik").out_shape(((2, 3), (4, 5))), ValueError, "axis 'j' has sizes 3 and 4"),
        (lambda: fc.index_select(1, [3]).out_shape((2, 3)), ValueError, "index from -3 to 2, got 3 to 3"),
        (lambda: fc.gather(0, [[0.5]]), TypeError, "gather: expected index to be integers, got float64"),
        (lambda: fc.expand(3, 3).out_shape((2, 3)), ValueError, r"cannot stretch an input of shape \(2, 3\)"),
        (lambda: fc.masked_fill([1, 0], 0.0).out_shape((2, 2)), TypeError, "expected mask to be boolean"),
        (lambda: fc.stochastic_depth(0.1, "column"), ValueError, 'expected mode "row" or "batch"'),
        (lambda: fc.vector_norm(0).apply((), np.ones(2)), ValueError, "expected an ord above 0"),
    ],
)  # fmt: skip
def test_mistakes_are_named(made, kind, text):
    with pytest.raises(kind, match=text):
        made()
