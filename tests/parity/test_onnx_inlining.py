"""Operators that stand for other nodes, and what is known when a file is read."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

Node, FLOAT = helper.make_node, TensorProto.FLOAT
X = np.arange(12, dtype=np.float32).reshape(3, 4) - 4


def info(name, shape=None, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def read(tmp_path, nodes, constants=None, shape=("N", 4), opset=21, producer=""):
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", [info("x", shape)], [info("y")], tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, producer_name=producer
    )
    onnx.save(model, tmp_path / "net.onnx")
    return fc.from_onnx(tmp_path / "net.onnx")


def value(tmp_path, *args, **options):
    net, params = read(tmp_path, *args, **options)
    return net.apply(params, X)


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_is_the_one_that_its_condition_takes(taken, tmp_path):
    branches = [
        helper.make_graph([Node(op, ["x"], ["b"])], op, [], [info("b")]) for op in ("Relu", "Neg")
    ]  # fmt: skip
    nodes = [Node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])]
    np.testing.assert_array_equal(value(tmp_path, nodes, {"c": taken}), np.maximum(X, 0) if taken else -X)


def test_a_branch_that_the_input_decides_is_refused(tmp_path):
    branches = [helper.make_graph([Node("Relu", ["x"], ["b"])], "b", [], [info("b")])] * 2
    nodes = [
        Node("ReduceSum", ["x"], ["s"], keepdims=0), Node("Greater", ["s", "z"], ["c"]),
        Node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"\(If, .*its input 0 \('c'\) is computed"):
        read(tmp_path, nodes, {"z": np.float32(0)})


def test_a_branch_without_a_value_is_refused(tmp_path):
    empty = helper.make_graph([Node("Relu", ["x"], ["b"])], "b", [], [info("")])
    with pytest.raises(ValueError, match=r"\(If, .*nothing gives its output 'y'"):
        read(tmp_path, [Node("If", ["c"], ["y"], then_branch=empty, else_branch=empty)], {"c": True})


def test_a_loop_turns_and_gathers(tmp_path):
    body = helper.make_graph(
        [
            Node("Add", ["v", "x"], ["w"]), Node("Identity", ["go"], ["on"]), Node("Neg", ["w"], ["kept"])
        ],
        "body",
        [info("i", [], 7), info("go", [], 9), info("v")],
        [info("on", [], 9), info("w"), info("kept")],
    )  # fmt: skip
    nodes = [
        Node("Loop", ["m", "", "x"], ["last", "all"], body=body),
        Node("Concat", ["all", "rows"], ["y"], axis=0),
    ]
    nodes.insert(1, Node("Unsqueeze", ["last", "axis"], ["rows"]))
    found = value(tmp_path, nodes, {"m": np.array(3), "axis": np.array([0])})
    np.testing.assert_array_equal(found, np.stack([-2 * X, -3 * X, -4 * X, 4 * X]))


def test_a_scan_goes_along_an_axis(tmp_path):
    body = helper.make_graph(
        [Node("Add", ["s", "part"], ["t"]), Node("Identity", ["t"], ["out"])],
        "body", [info("s"), info("part")], [info("t"), info("out")],
    )  # fmt: skip
    nodes = [
        Node("ReduceSum", ["x", "axis"], ["zero"], keepdims=0), Node("Sub", ["zero", "zero"], ["start"]),
        Node("Scan", ["start", "x"], ["last", "y"], body=body, num_scan_inputs=1, scan_input_axes=[1],
             scan_output_axes=[1]),
    ]  # fmt: skip
    np.testing.assert_array_equal(value(tmp_path, nodes, {"axis": np.array([1])}), np.cumsum(X, 1))


def test_an_operator_is_read_by_its_definition(tmp_path):
    found = value(tmp_path, [Node("MeanVarianceNormalization", ["x"], ["y"], axes=[0])], shape=(3, 4))
    np.testing.assert_allclose(found, (X - X.mean(0)) / X.std(0), 1e-5)
    with pytest.raises(
        ValueError, match=r"Bernoulli.*of which it is made, RandomUniformLike: there is no layer"
    ):
        read(tmp_path, [Node("Bernoulli", ["x"], ["y"])])


def test_nodes_may_stand_in_any_order(tmp_path):
    nodes = [
        Node("Add", ["a", "c"], ["y"]),
        Node("Constant", [], ["c"], value_float=2.0),
        Node("Relu", ["x"], ["a"]),
    ]
    np.testing.assert_array_equal(value(tmp_path, nodes), np.maximum(X, 0) + 2)


def test_masks_that_the_input_decides(tmp_path):
    nodes = [
        Node("Greater", ["x", "low"], ["a"]), Node("Less", ["x", "high"], ["b"]),
        Node("And", ["a", "b"], ["in"]), Node("Not", ["in"], ["out"]),
        Node("Where", ["out", "x", "low"], ["z"]), Node("Cast", ["in"], ["m"], to=1),
        Node("Sub", ["z", "m"], ["y"]),
    ]  # fmt: skip
    inside = (X > -1) & (X < 3)
    found = value(tmp_path, nodes, {"low": np.float32(-1), "high": np.float32(3)})
    np.testing.assert_array_equal(found, np.where(inside, -1, X) - inside)


def test_quantized_weights_are_what_they_stand_for(tmp_path):
    q, scale, zero = (
        np.array([[0, 255], [10, 20]], np.uint8),
        np.float32([0.5, 0.25]),
        np.array([128, 10], np.uint8),
    )
    nodes = [
        Node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
        Node("Slice", ["x", "a", "b", "one"], ["part"]),
        Node("MatMul", ["part", "w"], ["y"]),
    ]  # fmt: skip
    constants = {"q": q, "s": scale, "z": zero, "a": np.array([0]), "b": np.array([2]), "one": np.array([1])}
    weight = (q.astype(np.float32) - zero[:, None]) * scale[:, None]
    np.testing.assert_array_equal(value(tmp_path, nodes, constants), X[:, :2] @ weight)


@pytest.mark.parametrize("ours", [True, False])
def test_a_node_constant_is_a_parameter_in_the_files_of_others(ours, tmp_path):
    table = numpy_helper.from_array(np.arange(4, dtype=np.float32))
    nodes = [Node("Constant", [], ["c"], value=table), Node("Add", ["x", "c"], ["y"])]
    net, params = read(tmp_path, nodes, producer="fconv" if ours else "")
    np.testing.assert_array_equal(net.apply(params, X), X + np.arange(4))
    assert len(fc.to_state_dict(params)) == (0 if ours else 1)


def test_filters_that_are_computed(tmp_path):
    nodes = [Node("Mul", ["w", "s"], ["v"]), Node("Reshape", ["x", "shape"], ["p"]),
             Node("Transpose", ["p"], ["t"], perm=[0, 1, 2]), Node("Relu", ["t"], ["k"]),
             Node("Conv", ["p", "k2"], ["y"])]  # fmt: skip
    nodes.insert(4, Node("Slice", ["k", "a", "b", "axis"], ["k2"]))
    constants = {"w": np.float32(1), "s": np.float32(1), "shape": np.array([-1, 1, 4]), "a": np.array([0]),
                 "b": np.array([2]), "axis": np.array([2])}  # fmt: skip
    found = value(tmp_path, nodes, constants)
    p = X.reshape(3, 1, 4)
    np.testing.assert_allclose(found, fc.functional.conv1d(p, np.maximum(p, 0)[:, :, :2]))
