"""ONNX files that make much of few bytes: each is refused soon, in little memory, or read in linear time."""

from __future__ import annotations

import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

import fconv as fc
from tests.spending import processor_time

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

Node = helper.make_node


def write(path, nodes, constants=None, output="y", shape=(1, 4)):
    graph = helper.make_graph(
        nodes, "bomb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(x, name) for name, x in (constants or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def chain(op, count, start, *others, **attributes):
    """Apply an operator again and again; the last result is r<count>."""
    names = [start, *(f"r{i + 1}" for i in range(count))]
    return [Node(op, [a, *others], [b], **attributes) for a, b in pairwise(names)]


def looping(inner):
    """Make the body of a loop, which does nothing, or turns another loop."""
    state = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    nodes = [Node("Identity", ["v"], ["w"])] if inner is None else [
        Node("Loop", ["m", "", "v"], ["w"], body=inner)
    ]  # fmt: skip
    turn = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    after = helper.make_tensor_value_info("w", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "body", [turn, go, state], [go, after])


ONE, MILLION = np.ones(4, np.float32), 1 << 20
WIDE = [Node("ConstantOfShape", ["a"], ["c"]), Node("ConstantOfShape", ["b"], ["d"])]
SIZES = {"a": np.array([MILLION, 1]), "b": np.array([1, MILLION])}
C = [f"c{i}" for i in range(40)]
LARGE = [Node("ConstantOfShape", ["s"], ["c"])]
BOMBS = {
    "Concat": ([Node("Concat", [a, a], [b], axis=0) for a, b in pairwise(C)], {"c0": ONE}),
    **{op: ([*WIDE, Node(op, ["c", "d"], ["y"])], SIZES) for op in ("Pow", "Add", "Equal", "Max", "Min")},
    "Where": ([*WIDE, Node("Cast", ["c"], ["e"], to=9), Node("Where", ["e", "c", "d"], ["y"])], SIZES),
    "Expand": ([Node("Expand", ["c", "s"], ["y"])], {"c": ONE, "s": np.array([1 << 40, 4])}),
    "ConstantOfShape": ([Node("ConstantOfShape", ["s"], ["y"])], {"s": np.array([1 << 40])}),
    "Range": (
        [Node("Range", ["a", "b", "c"], ["y"])],
        {"a": np.array(0), "b": np.array(1 << 40), "c": np.array(1)}),
    "Gather": (
        [*LARGE, Node("Gather", ["c", "i"], ["y"])],
        {"s": np.array([1, MILLION]), "i": np.zeros(9999, np.int64)}),
    "many sums": ([*LARGE, *chain("Add", 500, "c", "c")], {"s": np.array([MILLION])}),
    "many casts": ([*LARGE, *chain("Cast", 500, "c", to=1)], {"s": np.array([MILLION])}),
    "many copies": ([*LARGE, *chain("Expand", 500, "c", "s")], {"s": np.array([MILLION])}),
    "many products": (
        [*LARGE, *(Node("ReduceProd", ["c"], [f"r{i}"]) for i in range(500)),
         Node("Sum", [f"r{i}" for i in range(500)], ["y"])],
        {"s": np.array([8 * MILLION])}),
    "a scale that is stretched": (
        [Node("LayerNormalization", ["x", "c"], ["y"], axis=1)], {"c": np.full(1, 2, np.float32)}),
    "a scale for each group": (
        [Node("GroupNormalization", ["x", "c", "c"], ["y"], num_groups=1)], {"c": np.full(1, 2, np.float32)}),
    "layers": (chain("Relu", 30_000, "x"), {}),
    "Tile": ([Node("Tile", ["c", "s"], ["y"])], {"c": ONE, "s": np.array([1 << 40])}),
    "Pad": ([Node("Pad", ["c", "s"], ["y"])], {"c": ONE, "s": np.array([0, 1 << 40])}),
    "OneHot": (
        [Node("OneHot", ["i", "s", "c"], ["y"])],
        {"i": np.arange(4), "s": np.array(1 << 40), "c": ONE[:2]}),
    "MatMul": ([*WIDE, Node("MatMul", ["c", "d"], ["y"])], SIZES),
    "many products of matrices": (
        [*WIDE, *(Node("MatMul", ["d", "c"], [f"r{i}"]) for i in range(500)),
         Node("Sum", [f"r{i}" for i in range(500)], ["y"])], SIZES),
    "many places": (
        [*LARGE, *(Node("ArgMax", ["c"], [f"r{i}"]) for i in range(500)),
         *(Node("Cast", [f"r{i}"], [f"f{i}"], to=1) for i in range(500)),
         Node("Sum", [f"f{i}" for i in range(500)], ["y"])], {"s": np.array([8 * MILLION])}),
    "loops in loops": (
        [Node("Loop", ["m", "", "c"], ["y"], body=looping(looping(None)))],
        {"m": np.array(4000), "c": ONE}),
    "Resize": (
        [Node("Unsqueeze", ["x", "a"], ["p"]),
         Node("Resize", ["p", "", "", "s"], ["q"], mode="cubic", cubic_coeff_a=-0.5),
         Node("Squeeze", ["q", "a"], ["y"])],
        {"a": np.array([0]), "s": np.array([1, 1, 1 << 26])}),
    "an average over a long axis": (
        [Node("AveragePool", ["c"], ["y"], kernel_shape=[1 << 20], dilations=[2])],
        {"c": np.ones((1, 1, 1 << 22), np.float32)}),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(name, tmp_path):
    nodes, constants = BOMBS[name]
    shape = (1, 1 << 40) if name.startswith("a scale") else (1, 4)
    last = nodes[-1].output[0]
    if not name.startswith("a scale") and name != "layers":
        nodes, last = [*nodes, Node("Add", ["x", last], ["end"])], "end"
    if name.startswith("a scale for"):
        constants = {"c": np.full(1, 2, np.float32)}
    path = write(tmp_path / "net.onnx", nodes, constants, last, shape)
    if name.startswith("a scale for"):  # before opset 21 a scale has one element a group
        model = onnx.load(path)
        model.opset_import[0].version = 18
        onnx.save(model, path)
    size = path.stat().st_size
    reading_seconds(tmp_path / "small.onnx", *CHAINS["layers"](3))  # what is imported is not the file's
    tracemalloc.start()
    message = rf"net\.onnx: .*its {size:,} bytes would come to more than"
    try:
        with processor_time() as spent, pytest.raises(ValueError, match=message):
            fc.from_onnx(path)
        assert tracemalloc.get_traced_memory()[1] < 64e6 + 20 * size
    finally:
        tracemalloc.stop()
    assert spent.seconds < 120  # tracing memory takes most of it


def reading_seconds(path, nodes, constants=None, output="y"):
    write(path, nodes, constants, output)
    with processor_time() as spent:
        fc.from_onnx(path)
    return spent.seconds


def reading_calls(path, nodes, constants=None, output="y"):
    """Count the calls of Python's functions and of those that are built in: the same on every machine."""
    write(path, nodes, constants, output)
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    usual = sys.getprofile()
    sys.setprofile(count)
    try:
        fc.from_onnx(path)
    finally:
        sys.setprofile(usual)
    return calls


CHAINS = {
    "layers": lambda n: (chain("Relu", n, "x"), {}, f"r{n}"),
    "sums of sizes": lambda n: (
        [Node("Shape", ["x"], ["s"]), *chain("Add", n, "s", "c"), Node("Reshape", ["x", f"r{n}"], ["y"])],
        {"c": np.zeros(2, np.int64)}, "y"),
    "constants": lambda n: (
        [*chain("Mul", n, "c", "c"), Node("Add", ["x", f"r{n}"], ["y"])], {"c": ONE}, "y"),
    "one name": lambda n: (chain("Relu", n, "x", name="a"), {}, f"r{n}"),
    "inputs of one node": lambda n: ([Node("Sum", ["x", *["c"] * n], ["y"])], {"c": ONE}, "y"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_calls_grow_with_the_file_and_no_faster(name, tmp_path):
    few, many = 250, 2000
    path = tmp_path / "net.onnx"
    reading_seconds(path, *CHAINS[name](few))  # imports what reading needs
    calls = [reading_calls(path, *CHAINS[name](count)) for count in (few, many)]
    assert calls[1] < 1.1 * many / few * calls[0]


@pytest.mark.parametrize("name", CHAINS)
def test_time_grows_with_the_file_and_no_faster(name, tmp_path):
    """Bound what C functions take: 16 times the nodes would take a quadratic one 256 times the seconds."""
    few, many = 250, 4000
    path = tmp_path / "net.onnx"
    reading_seconds(path, *CHAINS[name](few))
    slow = min(reading_seconds(path, *CHAINS[name](many)) for _ in range(2))
    quick = min(reading_seconds(path, *CHAINS[name](few)) for _ in range(5))
    assert slow < 4 * many / few * max(quick, 0.005)


def test_several_tensors_over_one_file_of_data_are_one_budget(tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(4 << 20))
    tensors = []
    for i in range(40):
        tensor = TensorProto(name=f"c{i}", dims=[1 << 20], data_type=1, data_location=1)
        tensor.external_data.add(key="location", value="w.bin")
        tensors.append(tensor)
    names = [tensor.name for tensor in tensors]
    path = write(tmp_path / "net.onnx", [Node("Sum", ["x", *names], ["y"])], shape=(1, 1 << 20))
    model = onnx.load(path)
    model.graph.initializer.extend(tensors)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="would come to more than 48 MB"):
        fc.from_onnx(path)
    del model.graph.initializer[2:]
    model.graph.node[0].input[:] = ["x", *names[:2]]
    path.write_bytes(model.SerializeToString())
    assert set(fc.from_onnx(path)[1]) == {"c0", "c1", "y"}


def test_a_constant_does_not_read_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "w.bin").write_bytes(ONE.tobytes())
    monkeypatch.chdir(tmp_path / "secret")
    value = TensorProto(dims=[4], data_type=1, data_location=1)
    value.external_data.add(key="location", value="w.bin")
    nodes = [Node("Constant", [], ["c"], value=value), Node("Add", ["x", "c"], ["y"])]
    (tmp_path / "model").mkdir()
    path = write(tmp_path / "model" / "net.onnx", nodes)
    with pytest.raises(ValueError, match=r"external data 'w\.bin' cannot be read"):
        fc.from_onnx(path)


def test_two_initializers_of_one_name_lose_none(tmp_path):
    from fconv.tools.inspection import describe
    from fconv.tools.weights import read_weights

    path = write(tmp_path / "net.onnx", [Node("Add", ["x", "c"], ["y"])], {"c": ONE})
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(2 * ONE, "c"))
    path.write_bytes(model.SerializeToString())
    for read in (fc.from_onnx, describe, read_weights):
        with pytest.raises(ValueError, match=r"net\.onnx: two initializers are named 'c'"):
            read(path)


def test_two_parameters_of_one_name_lose_none(tmp_path):
    net = fc.graph({"a.b": (fc.linear(3), "x"), "a": (fc.compose(b=fc.linear(3)), "a.b")})
    params = net.init(fc.random.key(0), (2, 3))
    with pytest.raises(
        ValueError, match=r"graph: two layers or inputs are named 'a\.b' once the dots are joined"
    ):
        fc.to_onnx(net, params, (2, 3), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_is_called_what_it_is(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:01\n")
    with pytest.raises(ValueError, match=r"net\.onnx: expected an ONNX model, got a Git LFS pointer"):
        fc.from_onnx(path)


@pytest.mark.parametrize(
    ("a", "b"), [((4, 5), (5,)), ((5,), (5, 3)), ((5,), (5,)), ((2, 4, 5), (5,))], ids=str
)
@pytest.mark.parametrize("fixed", ["a", "b", "neither"])
def test_matmul_takes_vectors_as_numpys(a, b, fixed, tmp_path):
    draw = np.random.default_rng(0)
    x, y = draw.random(a, np.float32), draw.random(b, np.float32)
    constants = {"a": {"a": x}, "b": {"b": y}, "neither": {}}[fixed]
    inputs = {name: v for name, v in (("a", x), ("b", y)) if name not in constants}
    graph = helper.make_graph(
        [Node("MatMul", ["a", "b"], ["y"])], "product",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, v.shape) for name, v in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, name) for name, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    net, params = fc.from_onnx(tmp_path / "net.onnx")
    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    np.testing.assert_allclose(net.apply(params, given), x @ y, rtol=1e-5)
