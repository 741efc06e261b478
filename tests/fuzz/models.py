"""ONNX files as a target for fuzzing."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import fconv as fc
from fconv.tools.inspection import describe
from fconv.tools.weights import read_weights
from tests.fuzz.files import in_file

Node = helper.make_node


def seeds():
    """Small models: layers of several kinds, arithmetic of sizes, constants in every field, folded chains."""
    draw = np.random.default_rng(0)

    def weight(*shape):
        return draw.random(shape, np.float32)

    return [
        _model([
            Node("Conv", ["x", "c.weight", "c.bias"], ["a"], pads=[1, 1, 1, 1], name="/c/Conv"),
            Node("BatchNormalization", ["a", "s", "s", "s", "s"], ["b"], epsilon=1e-5),
            Node("Relu", ["b"], ["d"]), Node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
            Node("Flatten", ["e"], ["f"]), Node("Gemm", ["f", "l.weight", "l.bias"], ["y"], transB=1),
        ], ("n", 1, 4, 4), {"c.weight": weight(2, 1, 3, 3), "c.bias": weight(2), "s": weight(2),
                            "l.weight": weight(3, 8), "l.bias": weight(3)}),
        _model([
            Node("Shape", ["x"], ["s"]), Node("Gather", ["s", "zero"], ["n"]),
            Node("Unsqueeze", ["n", "axes"], ["u"]),
            Node("Concat", ["u", "rest"], ["t"], axis=0), Node("Reshape", ["x", "t"], ["r"]),
            Node("MatMul", ["r", "w"], ["y"]),
        ], ("n", 2, 3), {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([6]),
                         "w": weight(6, 2)}),
        _model([
            Node("ConstantOfShape", ["k"], ["a"], value=numpy_helper.from_array(np.ones(1, np.float32))),
            Node("Expand", ["a", "m"], ["b"]), Node("Range", ["p", "q", "o"], ["r"]),
            Node("Pow", ["r", "r"], ["t"]), Node("Cast", ["t"], ["u"], to=1),
            Node("Slice", ["u", "p1", "q1"], ["v"]), Node("Mul", ["b", "v"], ["w"]),
            Node("Where", ["e", "w", "b"], ["z"]), Node("Constant", [], ["g"], value_floats=[1.0, 2.0]),
            Node("Div", ["z", "g"], ["h"]), Node("Add", ["x", "h"], ["y"]),
        ], (2, 2), {"k": np.array([1]), "m": np.array([2, 2]), "p": np.array(0), "q": np.array(2),
                    "o": np.array(1), "p1": np.array([0]), "q1": np.array([2]),
                    "e": np.array([True, False])}, fields=True),
        _model([
            Node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2), Node("Sigmoid", ["b"], ["c"]),
            Node("Mul", ["a", "c"], ["d"]), Node("Pad", ["d", "p"], ["e"]),
            Node("Resize", ["e", "", "f"], ["g"]), Node("LayerNormalization", ["g", "w"], ["h"]),
            Node("ReduceMean", ["h", "axes"], ["y"], keepdims=0),
        ], ("n", 4, 6), {"p": np.array([0, 0, 1, 0, 0, 1]), "f": np.array([1, 1, 2], np.float32),
                         "w": weight(16), "axes": np.array([2])}),
        _model([
            Node("Loop", ["m", "", "x"], ["a", "all"], body=_body()),
            Node("If", ["c"], ["b"], then_branch=_branch("Relu"), else_branch=_branch("Neg")),
            Node("ScatterND", ["b", "i", "u"], ["d"]), Node("GatherND", ["d", "i"], ["e"]),
            Node("ReduceSum", ["all"], ["f"], keepdims=0), Node("Greater", ["e", "f"], ["g"]),
            Node("Where", ["g", "e", "f"], ["h"]), Node("MeanVarianceNormalization", ["b"], ["k"], axes=[0]),
            Node("Einsum", ["h", "k"], ["l"], equation="i,jk->ijk"), Node("Tile", ["l", "t"], ["y"]),
        ], (2, 3), {"m": np.array(2), "c": np.array(True), "i": np.array([[0, 1], [1, 2]]),
                    "u": weight(2), "t": np.array([1, 2, 1])}),
        _model([
            Node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0), Node("Trilu", ["w"], ["v"]),
            Node("OneHot", ["i", "n", "o"], ["p"], axis=0), Node("Pad", ["p", "b"], ["r"]),
            Node("CumSum", ["r", "axis"], ["t"]), Node("MatMul", ["v", "t"], ["u"]),
            Node("Resize", ["x", "", "", "sizes"], ["d"], mode="cubic", antialias=1),
            Node("AveragePool", ["d"], ["e"], kernel_shape=[2], dilations=[2], pads=[1, 0]),
            Node("Attention", ["e", "e", "e"], ["f"], q_num_heads=1, kv_num_heads=1),
            Node("MatMul", ["f", "u"], ["y"]),
        ], (1, 3, 4), {"q": np.arange(9, dtype=np.uint8).reshape(3, 3), "s": weight(3),
                       "z": np.array([1, 2, 3], np.uint8), "i": np.array([0, 1]), "n": np.array(2),
                       "o": weight(2), "b": np.array([0, 0, 1, 0]), "axis": np.array(0),
                       "sizes": np.array([1, 3, 4])}, opset=23),
        _model([
            Node("AffineGrid", ["theta", "size"], ["g"]), Node("CastLike", ["k", "x"], ["l"]),
            Node("Mul", ["x", "l"], ["m"]), Node("GridSample", ["m", "g"], ["a"], mode="cubic"),
            Node("DeformConv", ["a", "w", "o"], ["y"], pads=[1, 1, 1, 1]),
        ], (1, 2, 3, 4), {"theta": weight(1, 2, 3), "size": np.array([1, 2, 3, 4]), "w": weight(2, 2, 3, 3),
                          "o": weight(1, 18, 3, 4), "k": np.array(3)}),
        _model([
            Node("Cast", ["w"], ["v"], to=TensorProto.BFLOAT16),
            Node("Cast", ["v"], ["u"], to=TensorProto.FLOAT), Node("Mul", ["x", "u"], ["y"]),
        ], (2, 3), {"w": weight(3)}),
    ]  # fmt: skip


def _info(name, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, None)


def _branch(op):
    return helper.make_graph([Node(op, ["a"], ["r"])], op, [], [_info("r")])


def _body():
    nodes = [Node("Add", ["v", "x"], ["w"]), Node("Identity", ["go"], ["on"]), Node("Neg", ["w"], ["kept"])]
    inputs = [_info("i", TensorProto.INT64), _info("go", TensorProto.BOOL), _info("v")]
    return helper.make_graph(
        nodes, "body", inputs, [_info("on", TensorProto.BOOL), _info("w"), _info("kept")]
    )


def _model(nodes, shape, constants, fields=False, opset=21):
    tensors = [numpy_helper.from_array(x, name) for name, x in constants.items()]
    if fields:  # the elements by themselves rather than as raw bytes
        tensors = [
            helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape, x.ravel().tolist())
            for name, x in constants.items()
        ]
    graph = helper.make_graph(
        nodes, "fuzz",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString()


def read(data):
    """Describe the model, read its weights and read it as a network."""

    def everything(path):
        try:
            describe(path)
            read_weights(path)
        except ValueError:
            pass  # a network is read all the same: it may need less of the file
        return fc.from_onnx(path)

    return in_file(".onnx", data, everything)
