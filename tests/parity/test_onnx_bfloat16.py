"""ONNX files of bfloat16, which are computed with in float32."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

import fconv as fc
from fconv.onnx.tensors import rounded

X = fc.random.normal(fc.random.key(0), (2, 3, 5, 5))
WEIGHT = rounded(fc.random.normal(fc.random.key(1), (4, 3, 3, 3)))


def bits(x):
    return (np.asarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def tensor(name, x, raw=True, kind=TensorProto.BFLOAT16):
    if raw:
        return helper.make_tensor(name, kind, x.shape, bits(x).tobytes(), raw=True)
    made = TensorProto(name=name, data_type=kind, dims=x.shape)
    made.int32_data.extend(bits(x).ravel().tolist())
    return made


def written(path, nodes, tensors, kind=TensorProto.BFLOAT16, x=X):
    entry = helper.make_tensor_value_info("x", kind, x.shape)
    graph = helper.make_graph(nodes, "g", [entry], [helper.make_tensor_value_info("y", kind, None)], tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.mark.parametrize("raw", [True, False])
def test_a_network_is_read_in_float32(raw, tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Softmax", ["b"], ["c"], axis=1),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.BFLOAT16),
    ]
    path = written(tmp_path / "net.onnx", nodes, [tensor("conv.weight", WEIGHT, raw)])
    net, params = fc.from_onnx(path)
    held = params["conv"]["weight"]
    assert held.dtype == np.float32
    assert held.dtype.metadata is None
    np.testing.assert_array_equal(held, WEIGHT)
    expected = fc.functional.softmax(fc.functional.conv2d(X, WEIGHT), 1)
    np.testing.assert_allclose(net.apply(params, X), expected, 1e-6, 1e-6)
    fc.to_onnx(net, params, X.shape, tmp_path / "again.onnx")
    assert fc.to_state_dict(fc.from_onnx(tmp_path / "again.onnx")[1]).keys() == {"conv.weight"}


def test_rounding_of_what_the_input_decides_is_refused(tmp_path):
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)]
    with pytest.raises(ValueError, match="rounds to bfloat16, and there is no layer for that"):
        fc.from_onnx(written(tmp_path / "net.onnx", nodes, [], TensorProto.FLOAT))


@pytest.mark.parametrize("like", [False, True])
def test_constants_are_rounded(like, tmp_path):
    scale = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1.3], np.float32).reshape(3, 1, 1)
    cast = helper.make_node("Cast", ["scale"], ["narrow"], to=TensorProto.BFLOAT16)
    if like:
        cast = helper.make_node("CastLike", ["scale", "kind"], ["narrow"])
    nodes = [
        cast,
        helper.make_node("Cast", ["narrow"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "wide"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(scale, "scale"), tensor("kind", np.ones(1))]
    net, params = fc.from_onnx(written(tmp_path / "net.onnx", nodes, tensors, TensorProto.FLOAT))
    even = np.array([1, 1 + 2**-6, -1.296875], np.float32).reshape(3, 1, 1)
    np.testing.assert_array_equal(net.apply(params, X), X * even)


def test_rounding_is_that_of_the_nearest():
    x = fc.random.normal(fc.random.key(3), (10_000,))
    y = rounded(x)
    assert not (y.view(np.uint32) & 0xFFFF).any()
    assert (abs(y - x) <= abs(x) * 2.0**-8).all()
    special = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 3.4e38], np.float32)
    np.testing.assert_array_equal(rounded(special), [np.inf, -np.inf, np.nan, 0, 0, np.inf])


@pytest.mark.parametrize(
    ("kind", "most"), [(TensorProto.BFLOAT16, 1 << 16), (TensorProto.FLOAT8E5M2, 1 << 8)]
)
def test_bits_that_are_too_many_are_refused(kind, most, tmp_path):
    bad = TensorProto(name="scale", data_type=kind, dims=[1], int32_data=[most])
    nodes = [helper.make_node("Mul", ["x", "scale"], ["y"])]
    with pytest.raises(ValueError, match=r"as numbers of \d+ bits"):
        fc.from_onnx(written(tmp_path / "net.onnx", nodes, [bad]))
