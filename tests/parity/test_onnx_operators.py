"""Layers of a user's own in ONNX files, written by functions of the user's."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc

onnx = pytest.importorskip("onnx")
from tests.parity.onnx_evaluators import entries, evaluators, feed  # noqa: E402


class Swish:
    """``factor * x * sigmoid(beta * x)``, with a beta for each channel."""

    def __init__(self, factor=1.0):
        self.options = {"factor": factor}

    def init(self, key, shape, dtype=np.float32):
        return {"beta": np.linspace(0.5, 1.5, shape[1], dtype=dtype)}

    def parts(self, params, x):
        beta = params["beta"].reshape(-1, *(1,) * (x.ndim - 2))
        return beta, fc.functional.sigmoid(beta * x)

    def apply(self, params, x, *, train=False, key=None):
        return x.dtype.type(self.options["factor"]) * x * self.parts(params, x)[1]

    def vjp(self, params, x, g, *, train=False, key=None):
        beta, gate = self.parts(params, x)
        g = x.dtype.type(self.options["factor"]) * g
        bent = x * gate * (1 - gate)
        return {"beta": (g * x * bent).sum((0, *range(2, x.ndim)))}, g * (gate + beta * bent)

    def out_shape(self, shape):
        return shape


def test_the_layer_itself_is_right():
    fc.testing.check_layer(Swish(0.5), np.random.default_rng(0).standard_normal((2, 3, 4, 5)))


def swish(at):
    beta = at.node("Reshape", at.parameter("beta"), at.integers(-1, *(1,) * (len(at.shape) - 2)))
    y = at.node("Mul", at.x, at.node("Sigmoid", at.node("Mul", beta, at.x)))
    return at.node("Mul", y, at.constant(at.options["factor"]))


def network(*last):
    net = fc.compose(stem=fc.conv2d(4, 3, padding=1), act=Swish(0.5), head=fc.compose(Swish(), *last))
    return net, net.init(fc.random.key(0), (2, 3, 5, 6)), (2, 3, 5, 6)


def test_a_function_of_the_users_writes_a_layer_with_its_parameters_and_options(tmp_path):
    net, params, shape = network(fc.relu())
    path, x = tmp_path / "net.onnx", entries("x", (3, *shape[1:]))
    fc.to_onnx(net, params, shape, path, operators={"Swish": swish})
    for run in evaluators("swish", np.float32):
        np.testing.assert_allclose(run(path, feed(net, x))[0], net.apply(params, x), 1e-5, 1e-6)
    read, held = fc.from_onnx(path)
    assert fc.to_state_dict(held).keys() == fc.to_state_dict(params).keys()
    np.testing.assert_allclose(read.apply(held, x), net.apply(params, x), 1e-5, 1e-6)


def test_it_goes_before_the_function_of_the_table(tmp_path):
    path = tmp_path / "net.onnx"
    fc.to_onnx(fc.relu(), (), (1, 3), path, operators={"relu": lambda at: at.node("Abs", at.x)})
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Abs"]
    fc.to_onnx(fc.compose(fc.relu(), fc.tanh()), ((), ()), (1, 3), path, operators={"relu": lambda at: at.x})
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Tanh"]


def test_it_may_write_for_one_batch_size(tmp_path):
    def whole(at):
        at.any_batch = False
        return at.node("Reshape", at.x, at.integers(*at.out_shape))

    path = tmp_path / "net.onnx"
    fc.to_onnx(fc.flatten(), (), (4, 3, 2), path, operators={"flatten": whole})
    sizes = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [(size.dim_value, size.dim_param) for size in sizes] == [(4, ""), (3, ""), (2, "")]


def test_an_operator_of_another_domain_is_written_and_not_read(tmp_path):
    path = tmp_path / "net.onnx"
    net, params, shape = network()
    write = {"Swish": lambda at: at.node("Swish", at.x, at.parameter("beta"), domain="com.example")}
    fc.to_onnx(net, params, shape, path, operators=write)
    model = onnx.load(path)
    assert {each.domain: each.version for each in model.opset_import} == {"": 21, "com.example": 1}
    onnx.checker.check_model(model)
    with pytest.raises(ValueError, match=r"Swish.*com\.example"):
        fc.from_onnx(path)


def test_without_one_the_error_names_the_layers_and_the_way(tmp_path):
    net, params, shape = network()
    text = (
        r"to_onnx: some layers have no operator:\n  act \(Swish\): .*\n  head\.0 \(Swish\): .*\n"
        r".*operators=\{'Swish': write\}"
    )
    with pytest.raises(ValueError, match=text):
        fc.to_onnx(net, params, shape, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("operators", "text"),
    [
        ({"Swish": "Swish"}, r"to_onnx: operators\['Swish'\]: expected a function, got str"),
        (swish, r"to_onnx: operators: expected functions by a layer's name, got function"),
        (
            {"Swish": lambda at: None},
            r"to_onnx: operators\['Swish'\]: expected the name of a value.*got None",
        ),
    ],
)
def test_what_is_no_such_function_is_refused(operators, text, tmp_path):
    net, params, shape = network()
    with pytest.raises(TypeError, match=text):
        fc.to_onnx(net, params, shape, tmp_path / "net.onnx", operators=operators)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_function_is_left_as_it_is(tmp_path):
    net, params, shape = network()
    with pytest.raises(KeyError, match="slope"):
        fc.to_onnx(
            net, params, shape, tmp_path / "net.onnx", operators={"Swish": lambda at: at.options["slope"]}
        )
    with pytest.raises(ValueError, match=r"act \(Swish\): expected a parameter alpha"):
        fc.to_onnx(
            net, params, shape, tmp_path / "net.onnx", operators={"Swish": lambda at: at.parameter("alpha")}
        )
