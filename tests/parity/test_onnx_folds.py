"""Operators whose inputs are all in the file: what from_onnx works out is what ONNX Runtime computes."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

from tests.parity.onnx_evaluators import by_runtime  # noqa: E402
from tests.parity.test_onnx_reading import model, read  # noqa: E402

DRAW = np.random.default_rng(0)
A = DRAW.standard_normal((3, 4)).astype(np.float32)
B = DRAW.standard_normal((2, 3, 4)).astype(np.float32)
N = np.array([[3, -1, 2], [0, 5, -4]], np.int64)
BYTES = np.array([[0, 17, 255], [128, 3, 90]], np.uint8)


def i(*values):
    return np.array(values, np.int64)


def f(*values):
    return np.array(values, np.float32)


CASES = {
    # Operator, constants, attributes; the opset is 18 unless it is given.
    "sum over an axis": ("ReduceSum", [B, i(1)], {}),
    "sum over all": ("ReduceSum", [B], {"keepdims": 0}),
    "sum over none": ("ReduceSum", [B, i()], {"noop_with_empty_axes": 1}),
    "sum by an attribute": ("ReduceSum", [B], {"axes": [0, -1], "opset": 11}),
    "product": ("ReduceProd", [N, i(0)], {}),
    "product of an attribute": ("ReduceProd", [B], {"axes": [2], "opset": 13}),
    "mean": ("ReduceMean", [B, i(0, 2)], {"keepdims": 0}),
    "largest": ("ReduceMax", [B, i(-1)], {}),
    "smallest": ("ReduceMin", [N, i(1)], {}),
    "tile": ("Tile", [N, i(2, 3)], {}),
    "pad": ("Pad", [A, i(1, 0, 2, 3)], {}),
    "pad by a value": ("Pad", [A, i(1, 0, 2, 3), np.float32(7)], {}),
    "pad some axes": ("Pad", [A, i(1, 2), np.float32(7), i(-1)], {}),
    "reflect": ("Pad", [A, i(1, 2, 2, 3)], {"mode": "reflect"}),
    "edge": ("Pad", [A, i(1, 0, 2, 3)], {"mode": "edge"}),
    "wrap": ("Pad", [A, i(1, 0, 2, 3)], {"mode": "wrap", "opset": 19}),
    "running sum": ("CumSum", [B, np.int64(1)], {}),
    "running sum, exclusive": ("CumSum", [B, np.int64(-1)], {"exclusive": 1}),
    "running sum, reverse": ("CumSum", [B, np.int64(0)], {"reverse": 1}),
    "running sum, both": ("CumSum", [B, np.int64(2)], {"reverse": 1, "exclusive": 1}),
    "scatter": ("ScatterND", [A, i(2, 0).reshape(2, 1), A[:2] * 2], {}),
    "scatter elements of rows": ("ScatterND", [A, i(0, 1, 2, -1).reshape(2, 2), f(5, 6)], {}),
    "scatter by adding": ("ScatterND", [A, i(1, 1).reshape(2, 1), A[:2]], {"reduction": "add"}),
    "scatter by multiplying": ("ScatterND", [A, i(1, 1).reshape(2, 1), A[:2]], {"reduction": "mul"}),
    "scatter the largest": ("ScatterND", [A, i(1, 0).reshape(2, 1), A[:2]], {"reduction": "max"}),
    "scatter the smallest": ("ScatterND", [A, i(1, 0).reshape(2, 1), A[:2]], {"reduction": "min"}),
    "scatter along rows": ("ScatterElements", [A, i(0, -1, 1, 0).reshape(2, 2), A[:2, :2]], {"axis": 1}),
    "scatter along columns": (
        "ScatterElements", [A, i(0, 0, 1, 0).reshape(2, 2), A[:2, :2]], {"reduction": "add"},
    ),
    "gather by positions": ("GatherND", [B, i(0, 2, 1, 0).reshape(2, 2)], {}),
    "gather by positions of each": ("GatherND", [B, i(2, -1).reshape(2, 1)], {"batch_dims": 1}),
    "gather elements": ("GatherElements", [A, i(0, 3, -1, 1).reshape(2, 2)], {"axis": 1}),
    "gather elements of columns": ("GatherElements", [A, i(0, 2, 1, 1, -1, 0).reshape(3, 2)], {}),
    "split evenly": ("Split", [B], {"axis": 2, "num_outputs": 2, "outputs": 2, "used": 1}),
    "split unevenly": ("Split", [B], {"axis": 1, "num_outputs": 2, "outputs": 2, "used": 1}),
    "split by sizes": ("Split", [B, i(1, 3)], {"axis": -1, "outputs": 2, "used": 1}),
    "split by an attribute": ("Split", [B], {"axis": 1, "split": [1, 2], "outputs": 2, "opset": 11}),
    "upper triangle": ("Trilu", [B], {}),
    "upper triangle, shifted": ("Trilu", [A, np.int64(1)], {}),
    "lower triangle": ("Trilu", [A, np.int64(-1)], {"upper": 0}),
    "identity matrix": ("EyeLike", [A], {}),
    "identity matrix, shifted": ("EyeLike", [A], {"k": 1, "dtype": TensorProto.INT64}),
    "one hot": ("OneHot", [N[0], np.int64(4), f(-1, 1)], {}),
    "one hot in front": ("OneHot", [i(0, 3, 1), i(4), f(0, 2)], {"axis": 0}),
    "one hot inside": ("OneHot", [N, np.int64(6), f(0, 1)], {"axis": -2}),
    "product of matrices": ("MatMul", [A, A.T.copy()], {}),
    "product of many": ("MatMul", [B, A.T.copy()], {}),
    "product with a vector": ("MatMul", [B, A[0]], {}),
    "clip": ("Clip", [A, np.float32(-0.5), np.float32(0.25)], {}),
    "clip from below": ("Clip", [A, np.float32(0.1)], {}),
    "dequantize": ("DequantizeLinear", [BYTES, np.float32(0.25), np.uint8(128)], {}),
    "dequantize without a zero": ("DequantizeLinear", [BYTES, np.float32(0.5)], {}),
    "dequantize rows": ("DequantizeLinear", [BYTES, f(0.5, 2), np.array([3, 200], np.uint8)], {"axis": 0}),
    "dequantize blocks": (
        "DequantizeLinear", [BYTES, f(0.5, 2, 3, 4).reshape(2, 2)], {"axis": 1, "block_size": 2, "opset": 21},
    ),
    "quantize": ("QuantizeLinear", [A * 100, np.float32(0.5), np.uint8(100)], {}),
    "quantize to signed": ("QuantizeLinear", [A * 100, np.float32(1.5), np.int8(-3)], {}),
    "quantize without a zero": ("QuantizeLinear", [A * 100, np.float32(1.5)], {}),
    "quantize columns": ("QuantizeLinear", [A * 9, f(0.5, 1, 2, 4), np.zeros(4, np.int8)], {"axis": 1}),
    "places of what is not 0": ("NonZero", [np.array([[0, 1.5], [2, 0]], np.float32)], {}),
    "place of the largest": ("ArgMax", [B], {"axis": 1}),
    "place of the last": ("ArgMax", [i(1, 3, 3, 0).reshape(1, 4)], {"axis": -1, "select_last_index": 1}),
    "place of the smallest": ("ArgMin", [B], {"axis": 2, "keepdims": 0}),
    "flat rows": ("Flatten", [B], {}),
    "flat rows of the last axis": ("Flatten", [B], {"axis": -1}),
    "one row": ("Flatten", [B], {"axis": 0}),
}  # fmt: skip

REFUSED = {
    "an unknown padding": ("Pad", [A, i(1, 0, 2, 3)], {"mode": "around"}, "in mode 'around'"),
    "cropping": ("Pad", [A, i(-1, 0, 0, 0)], {}, r"cannot pad by \[-1, 0, 0, 0\]"),
    "too few repeats": ("Tile", [A, i(2)], {}, r"cannot repeat an array of shape \(3, 4\)"),
    "an identity of a vector": ("EyeLike", [A[0]], {}, "expected a matrix"),
    "matrices that do not fit": ("MatMul", [A, A], {}, r"shapes \(3, 4\) and \(3, 4\)"),
    "an unknown reduction": (
        "ScatterND", [A, i(0).reshape(1, 1), A[:1]], {"reduction": "mean"}, "reduction 'mean'",
    ),
    "an axis that is not there": ("DequantizeLinear", [BYTES, f(1, 2)], {"axis": 5}, "no axis 5"),
}  # fmt: skip


def built(op, constants, attributes):
    """Make a model that adds what an operator gives, in one row, to its input."""
    attributes = dict(attributes)
    opset, outputs, used = (attributes.pop(*each) for each in (("opset", 18), ("outputs", 1), ("used", 0)))
    held = {f"c{k}": c for k, c in enumerate(constants)}
    results = [f"r{k}" for k in range(outputs)]
    nodes = [
        helper.make_node(op, list(held), results, **attributes),
        helper.make_node("Cast", [results[used]], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["wide", "row"], ["flat"]),
        helper.make_node("Add", ["x", "flat"], ["y"]),
    ]
    return model(nodes, [("x", (2, 1))], [("y", None)], held | {"row": i(1, -1)}, opset)


@pytest.mark.parametrize("name", CASES)
def test_a_fold_is_what_onnx_runtime_computes(name, tmp_path):
    x = f(10, 20).reshape(2, 1)
    net, params = read(built(*CASES[name]), tmp_path)
    (expected,) = by_runtime(tmp_path / "net.onnx", {"x": x})
    np.testing.assert_allclose(net.apply(params, x), expected, 1e-6, 1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_folded_is_refused_by_name(name, tmp_path):
    op, constants, attributes, message = REFUSED[name]
    with pytest.raises(ValueError, match=rf"{op}.*{message}"):
        read(built(op, constants, attributes), tmp_path)
