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
